import type { FastifyInstance } from 'fastify'
import { boolean, check, duration, func, invalid, oneOf, period as periodCheck, positiveDuration, show, text, wrong, type Check, type Elsewhere } from './check.ts'
import { parseCron, UnknownZone } from './cron.ts'
import type { Duration } from './duration.ts'
import type { RetryOptions } from './execution.ts'
import { givenUp, restart, restarts, retry } from './policies.ts'
import type { RestartOptions } from './restarts.ts'
import type { AnyInstance, OnGiveUp, Run, TaskHandler } from './run.ts'
import { Aligned, ByCron, Every } from './schedule.ts'
import { Ticker, type Misfire, type TickerOptions } from './ticker.ts'

/** Options of every task. */
export interface TaskOptions {
  /** `false`: declared and shown, but nothing starts by itself; `task.start()` starts it. Default `true`. */
  enabled?: boolean | undefined
  /**
   * How long what runs may go on after `close()` has begun, before its signal aborts. Default `0`: it aborts at once. Never
   * longer than three quarters of `shutdownTimeout`.
   */
  grace?: Duration | undefined
  /** Level of this task's log lines and of `run.log`. Default: that of the owner's logger. */
  logLevel?: string | undefined
}

/** What the tasks with a handler take. */
export interface HandlerOptions extends TaskOptions {
  /** Limit of one attempt, above 0: then its signal aborts with `FST_BG_TIMEOUT`, and if the handler rejects, it has failed. Default: none. */
  timeout?: Duration | undefined
  /**
   * What happens after the last attempt or restart failed, or the handler threw `GiveUp`. Default: `'close'` for a service, `'log'` for a timed
   * task. `'close'` closes the application, and the process exits with 1.
   */
  onGiveUp?: OnGiveUp | undefined
}

/** How long to wait before a further try: `delay` × `factor`^n, at most `maxDelay`, times 0.5 to 1 at random with `jitter`. */
interface BackoffOptions {
  /** Before the first. Default `'1s'`. */
  delay?: Duration | undefined
  /** At least 1. Default `2`. */
  factor?: number | undefined
  /** At least `delay`. Default `'30s'` for restarts, `'1m'` for retries. */
  maxDelay?: Duration | undefined
  /** Default `true`. */
  jitter?: boolean | undefined
}

/** When a service is started again. */
export interface RestartPolicy extends BackoffOptions {
  /** Default `'on-failure'`. */
  when?: RestartWhen | undefined
  /** How many restarts there may be `within` the window; with one more, the service is given up. Default `Infinity`. */
  limit?: number | undefined
  /** The window of `limit`; a life that lasts as long makes the waits begin anew. Default `'1m'`. */
  within?: Duration | undefined
}

/** When a service is started again: never, after a failure, or also when its handler returns. */
export type RestartWhen = 'never' | 'on-failure' | 'always'

/** Further attempts of a run that failed. */
export interface RetryPolicy extends BackoffOptions {
  /** How many there are at most. */
  limit: number
}

/** Options of a service. */
export interface ServiceTaskOptions extends HandlerOptions {
  /** When the service is started again. Default `'on-failure'`. */
  restart?: RestartWhen | RestartPolicy | undefined
  /** Of a timed task or a queue: a service has `restart`. */
  retry?: undefined
  /** Of a timed task. */
  every?: undefined
  /** Of a timed task. */
  cron?: undefined
}

/** The `start` or `stop` of a hosted service, which is given a run, and the owner as `this`. */
type HostedFunction<Server> = (this: Server, run: Run<undefined, Server>) => unknown

interface StartTimeout {
  /**
   * Limit of `start`; above 0, and below Fastify's `pluginTimeout`. Default: `pluginTimeout` less 500 ms, or half of it where
   * that is more; none where that is 0.
   */
  startTimeout?: Duration | undefined
}

interface Start<Server> {
  /** Awaited before the app is ready, and so before it listens. What it throws, `ready()` and `listen()` reject with. */
  start: HostedFunction<Server>
}

interface Stop<Server> {
  /** Awaited on close, if `start` had succeeded. Its signal aborts at the shutdown deadline. */
  stop: HostedFunction<Server>
}

type Optional<T> = { [K in keyof T]?: T[K] | undefined }

/** A service that is started and stopped by hand, as one object with its options: at least one of `start` and `stop` is given. */
export type HostedServiceOptions<Server = AnyInstance> = TaskOptions & StartTimeout &
  ((Start<Server> & Optional<Stop<Server>>) | (Optional<Start<Server>> & Stop<Server>))

/** What a timed task takes besides its schedule. */
export interface TimedTaskOptions extends HandlerOptions {
  /** Further attempts of a run that failed: how many, or how. Default `0`. */
  retry?: number | RetryPolicy | undefined
  /** Of a service: a timed task has `retry`. */
  restart?: undefined
  /** Also run once at the start. Default `false`. */
  immediate?: boolean | undefined
  /**
   * What becomes of a tick that falls due while a run is active. Default `'skip'`: nothing. `'wait'`: it runs as soon as the active one has
   * ended, and at most one waits. `'allow'`: it runs beside it.
   */
  overlap?: Overlap | undefined
  /**
   * What becomes of ticks that fell due more than a second ago, while the process could not run them. Default `'once'`: one run for them
   * all. `'skip'`: nothing. `'all'`: one run each for the latest 100, oldest first.
   */
  misfire?: Misfire | undefined
  /** Each tick is put off by a random time in [0, jitter). Default `0`. */
  jitter?: Duration | undefined
  /** Ticks to leave out, such as holidays: return `true` for those. When it throws, that tick is a failed run. */
  exclude?: ((due: Date) => boolean) | undefined
  /**
   * `true`, or the name of a store: each tick runs in one of the processes that share the store, whichever is free first. `every` is counted
   * from the epoch then, and `cron` needs its `timezone`. Default `false`: each process runs every tick.
   */
  cluster?: boolean | string | undefined
}

/** A task that runs every so often. */
export interface PeriodicTaskOptions extends TimedTaskOptions {
  /** The period, 1 ms or more. Ticks stand on a fixed grid from the moment the task starts; a slow run never shifts it. */
  every: Duration
  /** In place of `every`. */
  cron?: undefined
  /** Goes with `cron`. */
  timezone?: undefined
}

/** A task that runs at the wall times of a cron expression. */
export interface CronTaskOptions extends TimedTaskOptions {
  /** Five fields, or six with the seconds first, with `L`, `W` and `#`; or a nickname such as `@daily`. */
  cron: string
  /** The IANA zone of the wall times, such as `'Europe/Berlin'`. Default: that of the process. */
  timezone?: string | undefined
  /** In place of `cron`. */
  every?: undefined
}

/** What becomes of a tick that falls due while a run is active. */
export type Overlap = 'skip' | 'wait' | 'allow'

/** What all kinds of task take, checked and complete. */
export interface SharedOptions { enabled: boolean, grace: number, logLevel: string | undefined }
export interface SharedHandlerOptions extends SharedOptions { timeout: number | undefined, onGiveUp: OnGiveUp }
export interface ServiceOptions extends SharedHandlerOptions { restart: RestartOptions }
export type HostedOptions = SharedOptions & { start: TaskHandler | undefined, stop: TaskHandler | undefined, startTimeout: number }

export type TimedOptions = SharedHandlerOptions & { immediate: boolean, overlap: Overlap, retry: RetryOptions | undefined, cluster: string | undefined, ticker: Ticker }

/** What only a queue takes; queue-options.ts has their checks. */
export const queueKeys = ['schema', 'store', 'concurrency', 'maxSize', 'onFull', 'rate', 'maxPayload', 'keep'] as const

const sharedChecks = { enabled: boolean, grace: duration, logLevel: text }
const hostedChecks = { ...sharedChecks, start: func<TaskHandler>, stop: func<TaskHandler>, startTimeout: positiveDuration }
export const handlerChecks = { ...sharedChecks, timeout: positiveDuration, onGiveUp: givenUp }
const serviceChecks = { ...handlerChecks, restart }
const cluster: Check<string | undefined> = value => {
  if (typeof value === 'boolean') return value ? 'default' : undefined
  if (typeof value !== 'string' || value === '') throw wrong('true, false, or the name of a store', value)
  return value
}
const timedChecks = {
  ...handlerChecks,
  retry,
  every: periodCheck,
  cron: text,
  timezone: text,
  immediate: boolean,
  overlap: oneOf('skip', 'wait', 'allow'),
  misfire: oneOf('skip', 'once', 'all'),
  jitter: duration,
  exclude: func<(due: Date) => boolean>,
  cluster
}
/** The keys of all kinds, and what to say of one that is of another kind. */
export const elsewhere: Elsewhere = {
  ...Object.fromEntries(queueKeys.map(key => [key, 'a queue, which is declared with addBackgroundQueue()'])),
  restart: 'a service; a timed task and a queue have "retry"',
  ...Object.fromEntries(Object.keys(timedChecks).map(key => [key, key === 'retry' ? 'a timed task or a queue; a service has "restart"' : 'a timed task, which has "every" or "cron"'])),
  ...Object.fromEntries(['timeout', 'onGiveUp'].map(key => [key, 'a task with a handler'])),
  ...Object.fromEntries(Object.keys(hostedChecks).map(key => [key, 'a hosted service, which is declared without a handler: (name, { start, stop })']))
}
/** Checks the options of a service. Throws `FST_BG_INVALID_OPTION`. */
export function serviceOptions (where: string, given: unknown, owner: FastifyInstance): ServiceOptions {
  // From a configuration that lacks it: a task that runs once, and not every so often, is not what was meant.
  const schedule = ['every', 'cron'].find(key => Object.hasOwn(Object(given), key))
  if (schedule !== undefined) throw invalid(`${where}: option "${schedule}" is undefined. Pass ${schedule === 'every' ? 'a period' : 'a cron expression'}, or leave it out for a service.`)
  const options = { ...defaults, timeout: undefined, onGiveUp: 'close' as const, restart: restarts, ...check(where, given, serviceChecks, elsewhere) }
  checkLevel(where, options.logLevel, owner)
  return options
}

/** Whether options are those of a timed task. */
export function isTimed (given: unknown): boolean {
  const { every, cron } = Object(given) as { every?: unknown, cron?: unknown }
  return every !== undefined || cron !== undefined
}

/** Checks the options of a timed task. Throws `FST_BG_INVALID_OPTION`. */
export function timedOptions (where: string, given: unknown, owner: FastifyInstance, now: number): TimedOptions {
  const options = check(where, given, timedChecks, elsewhere)
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
  return alike({
    enabled: options.enabled ?? defaults.enabled,
    grace: options.grace ?? defaults.grace,
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

// Tasks that come by the thousand are declared alike: what is made of the options of one serves for those that follow.
let last: TimedOptions | undefined

/** The same object for options that say the same as those before. */
function alike (options: TimedOptions): TimedOptions {
  if (last === undefined || !isAlike(options, last)) last = options
  return last
}

function tickerOf (options: TickerOptions): Ticker {
  return last !== undefined && isAlike(options, last.ticker.options) ? last.ticker : new Ticker(options)
}

function isAlike<T extends object> (one: T, other: T): boolean {
  for (const key in one) {
    if (one[key] !== other[key]) return false
  }
  return true
}

/** Checks a hosted service. Throws `FST_BG_INVALID_OPTION`. */
export function hostedOptions (where: string, given: unknown, owner: FastifyInstance): HostedOptions {
  const { pluginTimeout = 0 } = owner.initialConfig
  const limit = pluginTimeout === 0 ? Infinity : Math.max(pluginTimeout - 500, pluginTimeout / 2)
  const options = { ...defaults, start: undefined, stop: undefined, startTimeout: limit, ...check(where, given, hostedChecks, elsewhere) }
  if (options.start === undefined && options.stop === undefined) {
    throw invalid(`${where} has no handler, and neither "start" nor "stop". Pass a function last, or an object with at least one of the two.`)
  }
  if (pluginTimeout !== 0 && options.startTimeout >= pluginTimeout) {
    throw invalid(`${where}: "startTimeout" must be below Fastify's "pluginTimeout" (${pluginTimeout} ms), which ends the start of the server first; received ${options.startTimeout} ms. Lower it, or raise "pluginTimeout".`)
  }
  checkLevel(where, options.logLevel, owner)
  return options
}

function everyOption (period: number): Every {
  const before = last?.ticker.options.schedule
  return before instanceof Every && before.period === period ? before : new Every(period)
}

function cronOption (where: string, cron: string, timezone: string | undefined, now: number): ByCron {
  try {
    const pattern = parseCron(cron, timezone, now)
    const before = last?.ticker.options.schedule
    return before instanceof ByCron && before.pattern === pattern ? before : new ByCron(pattern)
  } catch (error) {
    if (error instanceof UnknownZone) {
      throw invalid(`${where}: option "timezone" must be an IANA time zone, such as 'Europe/Berlin' or 'UTC'; received ${show(timezone)}.`)
    }
    throw invalid(`${where}: option "cron" must be a cron expression, such as '0 2 * * *' or '@daily'; received ${show(cron)}: ${(error as Error).message}.`)
  }
}

/** Which levels there are is the logger's business: it is asked. */
export function checkLevel (where: string, level: string | undefined, owner: FastifyInstance): void {
  if (level === undefined) return
  try {
    owner.log.child({}, { level })
  } catch (error) {
    throw invalid(`${where}: option "logLevel" must be a level of the logger; received ${show(level)}, which it refuses: ${(error as Error).message}.`)
  }
}

const defaults = { enabled: true, grace: 0, logLevel: undefined }
