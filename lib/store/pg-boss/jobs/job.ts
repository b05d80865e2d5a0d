import { isObject, show } from '../../../common/check.ts'
import type { Progress } from '../../../run/index.ts'
import { decode } from '../../codec.ts'
import { type JobData, readData, type ReadData, unreadable, VERSION } from '../../engines/index.ts'
import type { ListedState, QueuedRun, RunEnd } from '../../queued-run.ts'
import type { ClaimedRun, NewRun } from '../../store.ts'
import type { StoredError } from '../../stored-error.ts'
import { engineId, engineKey, keyOf } from './names.ts'

/** A new job, as the statements read it from JSON. */
export interface NewJob {
  /** Its place among those that are added together. */
  n: number
  id: string
  /** JSON of a JobData. */
  data: string
  priority: number
  wait: number
  at: number | undefined
  key: string | undefined
  tier: 'started' | undefined
  schedule?: string
}

/** A job, as the statements return it. Times are microseconds since the epoch. */
export interface JobRow {
  id: string
  state: string
  data: unknown
  output: unknown
  priority: number
  key: string | null
  starts: number
  created: string
  due: string
  started: string | null
  completed: string | null
  /** Whether it is delayed. */
  later?: boolean
}

/** What stands in `output`: numbers, and texts of JSON. */
interface Output { attempts?: unknown, crashes?: unknown, error?: unknown, progress?: unknown, value?: unknown }

/** The job of a new run. */
export function jobOf ({ id, payload, options: { delay, runAt, priority, key, keyUntil, retry, reqId, tick, trace } }: NewRun, n: number): NewJob {
  const data: JobData & { key?: string } = { v: VERSION }
  if (payload !== undefined) data.payload = decode(payload)
  if (reqId !== undefined) data.reqId = reqId
  if (retry !== undefined) data.retry = { ...retry, limit: retry.limit === Infinity ? null : retry.limit }
  if (key !== undefined) data.key = key
  if (key !== undefined && keyUntil === 'started') data.keyUntil = keyUntil
  if (tick !== undefined) Object.assign(data, tick)
  if (trace !== undefined) data.trace = trace
  return {
    n,
    id: engineId(id),
    data: JSON.stringify(data),
    priority,
    wait: delay,
    at: runAt,
    key: key === undefined ? undefined : engineKey(key),
    tier: data.keyUntil
  }
}

/** The run of a job that this process has claimed. */
export function claimedRunOf (row: JobRow): ClaimedRun {
  const { payload, reqId, retry, tick, trace, damage, key } = dataOf(row)
  const { attempts } = outputOf(row)
  return { id: row.id, payload, attempt: attempts + 1, retry, reqId, key, tick, trace, damage, enqueuedAt: millis(row.created), startedAt: millis(row.started) }
}

/** The run of a job, as `list` and `get` show it. Undefined for a job of pg-boss that is none of a run, as one that was cancelled there. */
export function recordOf (row: JobRow): QueuedRun | undefined {
  const state = stateOf(row)
  if (state === undefined) return undefined
  const { payload, reqId, tick, damage, key } = dataOf(row)
  const { attempts, error, progress, value } = outputOf(row)
  const over = state === 'succeeded' || state === 'failed'
  return {
    id: row.id,
    state,
    payload,
    attempt: over ? Math.max(1, attempts) : attempts + 1,
    priority: Math.max(0, -row.priority),
    key,
    reqId,
    progress: progress as Progress | undefined,
    enqueuedAt: dateOf(row.created) ?? new Date(0),
    runAt: state === 'delayed' ? dateOf(row.due) : undefined,
    startedAt: dateOf(row.started),
    finishedAt: over ? dateOf(row.completed) : undefined,
    error: error ?? (damage && { name: 'Error', message: `The payload ${damage.why}.`, code: 'FST_BG_INVALID_PAYLOAD', stack: undefined }),
    value: state === 'succeeded' ? value : undefined,
    ...tick !== undefined && { schedule: tick.schedule, dueAt: new Date(tick.dueAt) }
  }
}

/** How a run has ended, by its job; undefined if it has not. */
export function endOf (row: Pick<JobRow, 'state' | 'output'>): RunEnd | undefined {
  const { error, value } = outputOf(row)
  if (row.state === 'completed') return { outcome: 'succeeded', value, error: undefined }
  return row.state === 'failed' ? { outcome: 'failed', value: undefined, error } : undefined
}

/** An error as a text in `output`. */
export function errorText (error: StoredError): string {
  return JSON.stringify(error)
}

/** The error of a text in `output`; undefined if it is none. */
export function errorOf (text: unknown): StoredError | undefined {
  const error = parsed(text)
  if (!isObject(error)) return undefined
  const { name, message, code, stack } = error as Record<string, unknown>
  const textOf = (value: unknown): string | undefined => typeof value === 'string' ? value : undefined
  return { name: textOf(name) ?? 'Error', message: textOf(message) ?? '', code: textOf(code), stack: textOf(stack) }
}

/** What a text says as JSON; undefined if it is none. */
export function parsed (text: unknown): unknown {
  if (typeof text !== 'string') return undefined
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** How many processes have died under a run. */
export function crashesOf (row: JobRow): number { return outputOf(row).crashes }

export function crashed (times: number): StoredError {
  const message = `the process that ran it has died, or lost its lease, ${times} ${times === 1 ? 'time' : 'times'}: it is not run again`
  return { name: 'Error', message, code: undefined, stack: undefined }
}

function stateOf ({ state, later }: JobRow): ListedState | undefined {
  switch (state) {
    case 'created':
    case 'retry':
      return later === true ? 'delayed' : 'waiting'
    case 'active':
      return 'active'
    case 'completed':
      return 'succeeded'
    case 'failed':
      return 'failed'
    default:
      return undefined
  }
}

/** Reads the data of a job: ours is a text of JSON, that of another producer may be an object of the same form. */
function dataOf ({ data, key }: JobRow): ReadData & { key: string | undefined } {
  const read = typeof data === 'string' ? parsed(data) : data
  const own = isObject(read) ? (read as { key?: unknown }).key : undefined
  const shownKey = typeof own === 'string' ? own : key === null ? undefined : keyOf(key)
  if (read === undefined) return { ...unreadable(`is no job of this package: its data is ${show(data)}, and no JSON. Write { "v": 1, "payload": … }, as docs/stores.md describes, or remove the run`), key: shownKey }
  return { ...readData(read), key: shownKey }
}

function outputOf ({ output }: Pick<JobRow, 'output'>): { attempts: number, crashes: number, error: StoredError | undefined, progress: unknown, value: unknown } {
  const { attempts, crashes, error, progress, value } = (isObject(output) ? output : {}) as Output
  const number = (given: unknown): number => typeof given === 'number' && given > 0 ? given : 0
  return { attempts: number(attempts), crashes: number(crashes), error: errorOf(error), progress: parsed(progress), value: parsed(value) }
}

/** A time in milliseconds since the epoch. */
export function millis (text: string | null): number | undefined {
  const time = text === null ? NaN : Math.floor(Number(text) / 1_000)
  return Number.isFinite(time) ? time : undefined
}

function dateOf (text: string | null): Date | undefined {
  const date = new Date(millis(text) ?? NaN)
  return Number.isNaN(date.getTime()) ? undefined : date
}
