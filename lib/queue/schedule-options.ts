import { check, type Check, invalid, oneOf, text, whole } from '../common/check.ts'
import { kinds } from '../common/option-names.ts'
import type { RetryPolicy } from '../run/index.ts'
import type { ScheduleDefinition } from '../store/index.ts'
import { cronOf, duration, type Duration, type Misfire, period } from '../time/index.ts'
import { ownRetry, priority } from './run-checks.ts'

/** A schedule of a queue, with `every` or `cron`. */
export interface ScheduleOptions<Payload = unknown> {
  /** The period, 1 ms or more. In memory it counts from this call; on a store that processes share, from the epoch. */
  every?: Duration | undefined
  /** Or a cron expression: five fields, or six with the seconds first, with `L`, `W` and `#`; or a nickname such as `@daily`. */
  cron?: string | undefined
  /** The IANA zone of `cron`, such as `'Europe/Berlin'`. A store that processes share needs one; in memory the default is the zone of the process. */
  timezone?: string | undefined
  /** What each tick enqueues. */
  payload?: Payload | undefined
  /** Delays each tick by a random time in [0, jitter). Default `0`. */
  jitter?: Duration | undefined
  /** What happens with ticks that fell due more than a second ago while no process could run them. Default `'once'`: one run for all of them; `'skip'`: none; `'all'`: one each for the latest 100. */
  misfire?: Misfire | undefined
  /** What happens with a tick while a run of this schedule waits or runs. Default `'skip'`: it enqueues nothing. `'allow'`: it enqueues one more. */
  overlap?: 'skip' | 'allow' | undefined
  /** From 0 to 2,097,151: the lower number runs first. Default `0`. */
  priority?: number | undefined
  /** Further attempts of its runs, instead of the queue's own policy. */
  retry?: number | RetryPolicy | undefined
}

/** What `schedule` resolves to. */
export interface Scheduled {
  /** When the next tick is due, without jitter. */
  nextRunAt: Date | undefined
}

/** Options of `schedules`. */
export interface SchedulesOptions {
  /** The most schedules of a page, from 1 to 1,000. Default `100`. */
  limit?: number | undefined
  /** `cursor` of the page before. */
  cursor?: string | undefined
  /** Only the schedules whose key begins with this. Default: all. */
  prefix?: string | undefined
}

const checks = {
  every: period,
  cron: text,
  timezone: text,
  payload: (payload: unknown) => payload,
  jitter: duration,
  misfire: oneOf('skip', 'once', 'all'),
  overlap: oneOf('skip', 'allow'),
  priority,
  retry: ownRetry
} satisfies Record<keyof ScheduleOptions, Check<unknown>>

/** What a schedule does not take, with where it belongs. */
const elsewhere = {
  ...kinds,
  immediate: 'a timed task; enqueue the payload yourself',
  exclude: 'a timed task; a stored schedule has no functions',
  cluster: 'a timed task; the schedules of a stored queue are run by all processes together'
}

/** Checks a key of a schedule. Throws `FST_BG_INVALID_OPTION`. */
export function scheduleKey (method: string, queue: string, key: unknown): string {
  try {
    return text(key)
  } catch (error) {
    throw invalid(`${method}() of background queue "${queue}": the key ${(error as Error).message}.`)
  }
}

/** Checks a schedule, but for its payload. Throws `FST_BG_INVALID_OPTION`. */
export function scheduleOptions (queue: string, key: string, given: unknown, shared: boolean, now: number): Omit<ScheduleDefinition, 'payload'> & { payload: unknown } {
  const where = `schedule(${JSON.stringify(key.slice(0, 80))}) of background queue "${queue}"`
  const { every, cron, timezone, payload, jitter = 0, misfire = 'once', overlap = 'skip', priority = 0, retry } = check(where, given, checks, elsewhere)
  if ((every === undefined) === (cron === undefined)) throw invalid(`${where}: pass either "every" or "cron"; received ${every === undefined ? 'none' : 'both'}.`)
  if (timezone !== undefined && cron === undefined) throw invalid(`${where}: "timezone" goes with "cron"; a period has none.`)
  if (shared && cron !== undefined && timezone === undefined) throw invalid(`${where}: a stored schedule must name its "timezone", as the processes that share it may be in several. Pass one, such as 'UTC'.`)
  if (cron !== undefined) cronOf(where, cron, timezone, now)
  return { every, cron, timezone, payload, jitter, misfire, overlap, priority, retry }
}

/** A text that may be empty. */
const anyText: Check<string> = value => value === '' ? '' : text(value)

/** Checks the options of `schedules`. Throws `FST_BG_INVALID_OPTION`. */
export function schedulesOptions (queue: string, given: unknown): { limit: number, cursor: string | undefined, prefix: string } {
  const { limit = 100, cursor, prefix = '' } = check(`schedules() of background queue "${queue}"`, given ?? {}, { limit: whole(1, 1_000), cursor: text, prefix: anyText }, kinds)
  return { limit, cursor, prefix }
}
