import type { RetryOptions } from '../../run/index.ts'
import { Aligned, ByCron, Every, type Misfire, parseCron, type Schedule } from '../../time/index.ts'
import { decode, type Stored } from '../codec.ts'

/** A schedule as data, checked and complete. */
export interface ScheduleDefinition {
  /** The period in milliseconds, or undefined. */
  every: number | undefined
  /** Or a cron expression, in an IANA zone; only in memory the zone may be undefined, for that of the process. */
  cron: string | undefined
  /** The zone of the cron expression. */
  timezone: string | undefined
  /** What each tick enqueues. */
  payload: Stored
  /** Delays each tick by a random time below this, in milliseconds. */
  jitter: number
  /** What becomes of ticks that were missed. */
  misfire: Misfire
  /** Whether a tick enqueues nothing while a run of the schedule waits or runs. */
  overlap: 'skip' | 'allow'
  /** The priority of its runs. */
  priority: number
  /** The policy of its runs, instead of the queue's own. */
  retry: RetryOptions | undefined
}

/** The due times of a definition. `shared`: a period counts from the epoch, the same in all processes. */
export function scheduleOf ({ every, cron, timezone }: ScheduleDefinition, shared: boolean, now: number): Schedule {
  if (cron !== undefined) return new ByCron(parseCron(cron, timezone, now))
  return shared ? new Aligned(every as number) : new Every(every as number)
}

/** Version of the form in which a definition stands in a store. */
const VERSION = 1

/** A definition as text, the same for equal ones. */
export function encodeDefinition ({ every, cron, timezone, payload, jitter, misfire, overlap, priority, retry }: ScheduleDefinition): string {
  const policy = retry && { ...retry, limit: retry.limit === Infinity ? null : retry.limit }
  return JSON.stringify({ v: VERSION, every, cron, timezone, payload: decode(payload), jitter, misfire, overlap, priority, retry: policy })
}

/** Reads a definition. Throws an Error if it is none of ours, or of a newer version. */
export function decodeDefinition (text: string): ScheduleDefinition {
  const { v, every, cron, timezone, payload, jitter = 0, misfire = 'once', overlap = 'skip', priority = 0, retry } = JSON.parse(text) as Partial<ScheduleDefinition> & { v?: number, payload?: unknown, retry?: RetryOptions & { limit: number | null } }
  if (v !== VERSION) throw new Error(`it was stored in version ${String(v)} of the form of schedules, and this process knows version ${VERSION}`)
  if ((typeof every !== 'number' || !(every >= 1)) && (typeof cron !== 'string' || typeof timezone !== 'string')) throw new Error('it has neither a period nor a cron expression with its zone')
  return { every, cron, timezone, payload: payload === undefined ? undefined : JSON.stringify(payload), jitter, misfire, overlap, priority, retry: retry && { ...retry, limit: retry.limit ?? Infinity } }
}
