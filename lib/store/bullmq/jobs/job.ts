import type { Job, JobsOptions } from 'bullmq'
import type { Progress } from '../../../run/index.ts'
import type { ListedState, QueuedRun } from '../../queued-run.ts'
import type { ClaimedRun, NewRun } from '../../store.ts'
import type { StoredError } from '../../stored-error.ts'
import { type JobData, readData, type ReadData, unreadable, VERSION } from '../../engines/index.ts'
import type { Fields } from '../redis/fields.ts'
import { valueOf } from './value.ts'

export type RunJob = Job<JobData, unknown>

/** BullMQ's reason for failing a job under which too many processes have died. */
const CRASHED = 'job stalled more than allowable limit'

/** The BullMQ job of a new run. */
export function jobOf ({ id, payload, options: { delay, runAt, priority, key, keyUntil, retry, reqId, tick, trace } }: NewRun, now: number): { data: JobData, opts: JobsOptions } {
  const data: JobData = { v: VERSION }
  if (payload !== undefined) data.payload = typeof payload === 'string' ? JSON.parse(payload) : payload
  if (reqId !== undefined) data.reqId = reqId
  if (retry !== undefined) data.retry = { ...retry, limit: retry.limit === Infinity ? null : retry.limit }
  if (key !== undefined && keyUntil === 'started') data.keyUntil = keyUntil
  if (tick !== undefined) Object.assign(data, tick)
  if (trace !== undefined) data.trace = trace
  const opts: JobsOptions = { jobId: id }
  const wait = Math.ceil(runAt === undefined ? delay : runAt - now)
  if (wait > 0) {
    opts.delay = wait
    // BullMQ adds the delay to this timestamp: use the time from which the delay was computed.
    opts.timestamp = now
  }
  if (priority > 0) opts.priority = priority
  if (key !== undefined) opts.deduplication = { id: key }
  return { data, opts }
}

/** The data of a new run without delay, priority and key, as JSON: such a job is added by a few plain commands. Undefined for any other run. */
export function plainDataOf (run: NewRun, now: number): string | undefined {
  const { data, opts: { delay, priority, deduplication } } = jobOf(run, now)
  return delay === undefined && priority === undefined && deduplication === undefined ? JSON.stringify(data) : undefined
}

/** The run of a job that a worker has fetched; `lost`: what JobReader could not read. */
export function claimedRunOf ({ id, data, attemptsMade, deduplicationId, timestamp }: RunJob, lost?: string): ClaimedRun {
  const { payload, reqId, retry, tick, trace, damage } = lost === undefined ? readData(data) : unreadable(lost)
  return { id: id as string, payload, attempt: attemptsMade + 1, retry, reqId, key: deduplicationId, enqueuedAt: timestamp, tick, trace, damage }
}

/** The fields that BullMQ reads as JSON, besides the data. */
const written = ['opts', 'progress', 'parent'] as const

/** Why the fields of a job say nothing that could be run; undefined if they do. */
export function lossIn (fields: Fields): string | undefined {
  const { data, atm } = fields
  if (data === undefined) return 'is lost: Redis has no data of the run any more, as after an eviction. Set maxmemory-policy to noeviction, and enqueue it again'
  for (const name of written) {
    const text = fields[name]
    // What most jobs have is not parsed: each fetched job comes through here.
    if (text !== undefined && text !== '' && text !== '0' && parsed(text) === undefined) return `is no job of this package: its "${name}" in Redis is no JSON. Remove the run`
  }
  if (atm !== undefined && !/^\d{1,15}$/.test(atm)) return 'is no job of this package: its "atm", the number of its attempts in Redis, is no number. Remove the run'
  return undefined
}

export const NO_JSON = 'is no job of this package: its "data" in Redis is no JSON. Write JSON, as docs/stores.md describes, or remove the run'

/** The run of a job as `list` shows it, whatever is left of it. `dueAt`: when a delayed one may begin. */
export function recordOf (id: string, fields: Fields, state: ListedState, dueAt: number | undefined, maxCrashes: number): QueuedRun {
  const { payload, reqId, tick, damage } = dataOf(fields)
  const attemptsMade = numberOf(fields['atm'] ?? fields['attemptsMade']) ?? 0
  const over = state === 'succeeded' || state === 'failed'
  const startedAt = dateOf(numberOf(fields['processedOn']))
  return {
    id,
    state,
    payload,
    attempt: over ? Math.max(1, attemptsMade) : attemptsMade + 1,
    priority: numberOf(fields['priority']) ?? 0,
    key: fields['deid'],
    reqId,
    progress: progressOf(fields['progress']),
    // Nothing but the time of its attempts is left of a job whose data is lost.
    enqueuedAt: dateOf(numberOf(fields['timestamp'])) ?? startedAt ?? new Date(0),
    runAt: dateOf(dueAt),
    startedAt,
    finishedAt: over ? dateOf(numberOf(fields['finishedOn'])) : undefined,
    error: errorOf(fields, maxCrashes) ?? (damage && { name: 'Error', message: `The payload ${damage.why}.`, code: 'FST_BG_INVALID_PAYLOAD', stack: undefined }),
    value: state === 'succeeded' ? valueOf(fields['returnvalue']) : undefined,
    ...tick !== undefined && { schedule: tick.schedule, dueAt: new Date(tick.dueAt) }
  }
}

/** Since when a waiting job waits. Of one that waits for its next attempt nothing is left but the time of the one before. */
export function waitingSince ({ timestamp, opts, atm, processedOn }: Fields): number | undefined {
  const enqueuedAt = numberOf(timestamp)
  const delay = Number((parsed(opts ?? '') as { delay?: unknown } | null | undefined)?.delay)
  const times = [enqueuedAt === undefined || (numberOf(atm) ?? 0) > 0 || !(delay > 0) ? enqueuedAt : enqueuedAt + delay, numberOf(processedOn)].filter(time => time !== undefined)
  return times.length === 0 ? undefined : Math.max(...times)
}

function dataOf (fields: Fields): ReadData {
  const lost = lossIn(fields)
  if (lost !== undefined) return unreadable(lost)
  const data = parsed(fields['data'] ?? '')
  return data === undefined ? unreadable(NO_JSON) : readData(data)
}

/** An error for BullMQ, which keeps only message and stack: the code goes into the stack, where Node puts it, too. */
export function errorFor ({ name, message, code, stack = '' }: StoredError): Error {
  const error = new Error(message)
  const trace = /\n {4}at [^]*$/.exec(stack)?.[0] ?? ''
  error.stack = `${name}${code === undefined ? '' : ` [${code}]`}: ${message}${trace}`
  return error
}

/** The error of a job that has failed, or whose last attempt has. */
export function errorOf ({ failedReason, stacktrace }: Fields, maxCrashes: number): StoredError | undefined {
  if (failedReason === CRASHED) return { name: 'Error', message: crashed(maxCrashes), code: undefined, stack: undefined }
  // Of a job that was retried by hand, BullMQ keeps only the stack.
  const traces = parsed(stacktrace ?? '')
  const last: unknown = Array.isArray(traces) ? traces.at(-1) : undefined
  const stack = typeof last === 'string' ? last : undefined
  if (stack === undefined && failedReason === undefined) return undefined
  const [, name = 'Error', code, inStack = ''] = /^([^\n:[\]]+?)(?: \[([^\]\n]+)\])?: ([^]*?)(?=\n {4}at |$)/.exec(stack ?? '') ?? []
  return { name, message: failedReason ?? inStack, code, stack }
}

/** What the log says of a job that was taken from a process that had died; undefined if Redis has not counted it. */
export function crashOf ({ crash, data, key }: { crash: number, data: string | null, key: string | null }, maxCrashes: number): { crash: number, maxCrashes: number, reqId?: string, key?: string } | undefined {
  if (!(crash > 0)) return undefined
  const reqId = (parsed(data ?? '') as { reqId?: unknown } | undefined | null)?.reqId
  return { crash, maxCrashes, ...typeof reqId === 'string' && { reqId }, ...key !== null && { key } }
}

export function crashed (times: number): string {
  return `the process that ran it has died, or lost its lease, ${times} ${times === 1 ? 'time' : 'times'}: it is not run again`
}

/** BullMQ starts with 0. */
function progressOf (text: string | undefined): Progress | undefined {
  const progress = parsed(text ?? '')
  return progress === 0 || progress === null ? undefined : progress as Progress | undefined
}

/** What a text says as JSON; undefined if it is none. */
function parsed (text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function numberOf (text: string | undefined): number | undefined {
  const value = parseInt(text ?? '', 10)
  return Number.isFinite(value) ? value : undefined
}

function dateOf (time: number | undefined): Date | undefined {
  const date = new Date(time ?? NaN)
  return Number.isNaN(date.getTime()) ? undefined : date
}
