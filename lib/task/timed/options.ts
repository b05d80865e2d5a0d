import type { FastifyInstance } from 'fastify'
import { boolean, check, type Check, func, invalid, oneOf, text, wrong } from '../../common/check.ts'
import { kinds, type timedKeys } from '../../common/option-names.ts'
import { retry, type RetryOptions, type RetryPolicy } from '../../run/index.ts'
import { Aligned, ByCron, cronOf, duration, type Duration, Every, type Misfire, period } from '../../time/index.ts'
import { checkLevel, handlerChecks, type HandlerOptions, sharedDefaults, type SharedHandlerOptions } from '../options.ts'
import { Ticker, type TickerOptions } from './ticker.ts'

/** Options of a timed task besides its schedule. */
export interface TimedTaskOptions extends HandlerOptions {
  /** Further attempts of a failed run: their number, or a policy. Default `0`. */
  retry?: number | RetryPolicy | undefined
  /** Belongs to a service: a timed task has `retry`. */
  restart?: undefined
  /** Whether the task also runs once when it starts. Default `false`. */
  immediate?: boolean | undefined
  /**
   * What happens with a tick that falls due while a run is active. Default `'skip'`: it is left out. `'wait'`: it runs when the active run has ended;
   * at most one tick waits. `'allow'`: it runs at the same time.
   */
  overlap?: Overlap | undefined
  /**
   * What happens with missed ticks, which fell due more than a second ago while the process could not run them. Default `'once'`: one run for all of
   * them. `'skip'`: they are left out. `'all'`: one run each for the latest 100, oldest first.
   */
  misfire?: Misfire | undefined
  /** Delays each tick by a random time in [0, jitter). Default `0`. */
  jitter?: Duration | undefined
  /** Returns `true` for a due time to leave out, such as a holiday. If it throws, that tick is a failed run. */
  exclude?: ((due: Date) => boolean) | undefined
  /**
   * `true`, or the name of a store: each tick runs in only one of the processes that share the store. Then `every` counts from the epoch, and `cron`
   * needs a `timezone`. Default `false`: each process runs every tick.
   */
  cluster?: boolean | string | undefined
}

/** Options of a task that runs at a fixed period. */
export interface PeriodicTaskOptions extends TimedTaskOptions {
  /** The period, 1 ms or more. The ticks are on a fixed grid from the start of the task, which no slow run shifts. */
  every: Duration
  /** Replaces `every`. */
  cron?: undefined
  /** Only with `cron`. */
  timezone?: undefined
}

/** Options of a task that runs at the wall times of a cron expression. */
export interface CronTaskOptions extends TimedTaskOptions {
  /** Five fields, or six with the seconds first, with `L`, `W` and `#`; or a nickname such as `@daily`. */
  cron: string
  /** The IANA zone of the wall times, such as `'Europe/Berlin'`. Default: the zone of the process. */
  timezone?: string | undefined
  /** Replaces `cron`. */
  every?: undefined
}

/** What happens with a tick that falls due while a run is active. */
export type Overlap = 'skip' | 'wait' | 'allow'

/** Options of a timed task, checked and complete. */
export type TimedOptions = SharedHandlerOptions & { immediate: boolean, overlap: Overlap, retry: RetryOptions | undefined, cluster: string | undefined, ticker: Ticker }

const cluster: Check<string | undefined> = value => {
  if (typeof value === 'boolean') return value ? 'default' : undefined
  if (typeof value !== 'string' || value === '') throw wrong('true, false, or the name of a store', value)
  return value
}
const timedChecks = {
  ...handlerChecks,
  retry,
  every: period,
  cron: text,
  timezone: text,
  immediate: boolean,
  overlap: oneOf('skip', 'wait', 'allow'),
  misfire: oneOf('skip', 'once', 'all'),
  jitter: duration,
  exclude: func<(due: Date) => boolean>,
  cluster
} satisfies Record<typeof timedKeys[number] | keyof typeof handlerChecks, Check<unknown>>

/** Whether the options are those of a timed task. */
export function isTimed (given: unknown): boolean {
  const { every, cron } = Object(given) as { every?: unknown, cron?: unknown }
  return every !== undefined || cron !== undefined
}

/** Checks the options of a timed task. Throws `FST_BG_INVALID_OPTION`. */
export function timedOptions (where: string, given: unknown, owner: FastifyInstance, now: number): TimedOptions {
  const options = check(where, given, timedChecks, kinds)
  const { every = 0, cron, timezone, cluster } = options
  if (every > 0 && cron !== undefined) throw invalid(`${where}: "every" and "cron" exclude each other. Pass one of them.`)
  if (timezone !== undefined && cron === undefined) throw invalid(`${where}: "timezone" goes with "cron"; a period has none.`)
  if (cluster !== undefined && cron !== undefined && timezone === undefined) {
    throw invalid(`${where}: a cluster task must name its "timezone", as the processes that share it may be in several. Pass one, such as 'UTC'.`)
  }
  if (cluster !== undefined && options.immediate === true) throw invalid(`${where}: "immediate" and "cluster" exclude each other: each process starts at a time of its own. Leave one out.`)
  checkLevel(where, options.logLevel, owner)
  const ticker = tickerOf({
    schedule: cron !== undefined ? cronOption(where, cron, timezone, now) : cluster === undefined ? everyOption(every) : new Aligned(every),
    misfire: options.misfire ?? 'once',
    jitter: options.jitter ?? 0,
    exclude: options.exclude
  })
  return shared({
    enabled: options.enabled ?? sharedDefaults.enabled,
    grace: options.grace ?? sharedDefaults.grace,
    logLevel: options.logLevel,
    timeout: options.timeout,
    onGiveUp: options.onGiveUp ?? 'log',
    retry: options.retry,
    immediate: options.immediate ?? false,
    overlap: options.overlap ?? 'skip',
    cluster,
    ticker
  })
}

// Applications declare tasks by the thousand with the same options: such tasks share the checked options and the ticker of the one before.
let last: TimedOptions | undefined

/** The options of the task before if they are equal, else the given ones. */
function shared (options: TimedOptions): TimedOptions {
  if (last === undefined || !areEqual(options, last)) last = options
  return last
}

function tickerOf (options: TickerOptions): Ticker {
  return last !== undefined && areEqual(options, last.ticker.options) ? last.ticker : new Ticker(options)
}

function areEqual<T extends object> (one: T, other: T): boolean {
  for (const key in one) {
    if (one[key] !== other[key]) return false
  }
  return true
}

function everyOption (period: number): Every {
  const before = last?.ticker.options.schedule
  return before instanceof Every && before.period === period ? before : new Every(period)
}

function cronOption (where: string, cron: string, timezone: string | undefined, now: number): ByCron {
  const pattern = cronOf(where, cron, timezone, now)
  const before = last?.ticker.options.schedule
  return before instanceof ByCron && before.pattern === pattern ? before : new ByCron(pattern)
}
