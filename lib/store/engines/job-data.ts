import { isObject, show } from '../../common/check.ts'
import { readTrace, retry as retryCheck, type RetryOptions, type TraceCarrier } from '../../run/index.ts'
import type { Damage, Tick } from '../store.ts'

/** Version of the form in which a job's data stands in an engine. `docs/stores.md` describes it: producers in other languages write it. */
export const VERSION = 1

/** The data of a job. */
export interface JobData {
  /** Version of this form. A job without one is of a producer that has written the payload only. */
  v?: number
  payload?: unknown
  reqId?: string | undefined
  /** The run's own retry policy. A limit of null is Infinity, which JSON does not have. */
  retry?: Omit<RetryOptions, 'limit'> & { limit: number | null } | undefined
  /** Set if the key is free again when the run begins. */
  keyUntil?: 'started' | undefined
  /** The tick that enqueued it: key of the schedule, due time in milliseconds since the epoch, and how many earlier ticks it stands for. */
  schedule?: string | undefined
  dueAt?: number | undefined
  missed?: number | undefined
  /** The trace context in which it was enqueued, as the headers of a request would carry it. */
  trace?: TraceCarrier | undefined
}

/** What the data of a job says. */
export interface ReadData {
  payload: unknown
  reqId: string | undefined
  retry: RetryOptions | undefined
  tick?: Tick | undefined
  trace?: TraceCarrier | undefined
  /** Why it cannot be run; undefined if it can. */
  damage: Damage | undefined
}

const HELP = 'Write { "v": 1, "payload": … }, as docs/stores.md describes, or remove the run'

/** Reads the data of a job, and checks every field, because another program may have written it. */
export function readData (data: unknown): ReadData {
  if (!isObject(data) || Array.isArray(data)) return unreadable(`is no job of this package: its data is ${show(data)}, and no object. ${HELP}`)
  const { v, payload, reqId, retry, keyUntil, schedule, dueAt, missed = 0, trace } = data as Record<string, unknown>
  if (v !== undefined && v !== VERSION) {
    if (typeof v === 'number' && v > VERSION) return { ...unreadable(`was stored in version ${v} of the form of jobs, and this process knows version ${VERSION}: deploy the newer version here, too`, false), payload }
    return unreadable(`is no job of this package: its "v" is ${show(v)}, and not ${VERSION}. ${HELP}`)
  }
  if (v === undefined && !Object.hasOwn(data, 'payload')) {
    const keys = Object.keys(data)
    return unreadable(`is no job of this package: its data has no "payload"${keys.length === 0 ? '' : `, but ${keys.slice(0, 5).map(key => show(key)).join(', ')}`}. ${HELP}`)
  }
  if (reqId === undefined && retry === undefined && keyUntil === undefined && schedule === undefined && trace === undefined) return { payload, reqId: undefined, retry: undefined, damage: undefined }
  if (reqId !== undefined && typeof reqId !== 'string') return { ...unreadable(`cannot be run: its "reqId" must be a text; received ${show(reqId)}`), payload }
  if (keyUntil !== undefined && keyUntil !== 'started' && keyUntil !== 'finished') {
    return { ...unreadable(`cannot be run: its "keyUntil" must be 'started' or 'finished'; received ${show(keyUntil)}`), payload }
  }
  if (schedule !== undefined && (typeof schedule !== 'string' || !Number.isFinite(dueAt) || !Number.isFinite(missed))) {
    return { ...unreadable(`cannot be run: its "schedule" must be a text, with numbers as "dueAt" and "missed"; received ${show(schedule)}, ${show(dueAt)} and ${show(missed)}`), payload }
  }
  const tick = schedule === undefined ? undefined : { schedule: schedule as string, dueAt: dueAt as number, missed: missed as number }
  try {
    // A trace that nobody can read is no damage: the run has no link, and that is all.
    return { payload, reqId, retry: retryOf(retry), tick, trace: readTrace(trace), damage: undefined }
  } catch (error) {
    return { ...unreadable(`cannot be run: its "retry" ${(error as Error).message}`), payload }
  }
}

/** The data of a job that has none that could be read. */
export function unreadable (why: string, final = true): ReadData {
  return { payload: undefined, reqId: undefined, retry: undefined, damage: { why, final } }
}

/** Reads a policy as `enqueue` would: a producer may leave out all but its limit. */
function retryOf (retry: unknown): RetryOptions | undefined {
  if (retry === undefined) return undefined
  const limited = isObject(retry) && (retry as { limit?: unknown }).limit === null ? { ...retry, limit: Infinity } : retry
  return retryCheck(limited) ?? never
}

/** No further attempt: a policy, too, so that the queue's own does not apply. */
const never = { ...retryCheck(1) as RetryOptions, limit: 0 }
