import type { Job, JobsOptions } from 'bullmq'
import type { Progress, RetryOptions } from '../../run/index.ts'
import type { ListedState, QueuedRun } from '../queued-run.ts'
import type { ClaimedRun, NewRun } from '../store.ts'
import type { StoredError } from '../stored-error.ts'

/** The data of a job. */
export interface JobData {
  payload?: unknown
  reqId?: string | undefined
  /** The run's own retry policy. A limit of null is Infinity, which JSON does not have. */
  retry?: Omit<RetryOptions, 'limit'> & { limit: number | null } | undefined
  /** Set if the key is free again when the run begins. */
  keyUntil?: 'started' | undefined
}

export type RunJob = Job<JobData, void>

/** BullMQ's reason for failing a job under which too many processes have died. */
const CRASHED = 'job stalled more than allowable limit'

/** The BullMQ job of a new run. */
export function jobOf ({ id, payload, options: { delay, runAt, priority, key, keyUntil, retry, reqId } }: NewRun, now: number): { data: JobData, opts: JobsOptions } {
  const data: JobData = {}
  if (payload !== undefined) data.payload = typeof payload === 'string' ? JSON.parse(payload) : payload
  if (reqId !== undefined) data.reqId = reqId
  if (retry !== undefined) data.retry = { ...retry, limit: retry.limit === Infinity ? null : retry.limit }
  if (key !== undefined && keyUntil === 'started') data.keyUntil = keyUntil
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

/** The run of a job that a worker has fetched. */
export function claimedRunOf ({ id, data: { payload, reqId, retry }, attemptsMade, deduplicationId }: RunJob): ClaimedRun {
  return { id: id as string, payload, attempt: attemptsMade + 1, retry: retry && { ...retry, limit: retry.limit ?? Infinity }, reqId, key: deduplicationId }
}

/** The run of a job as `list` shows it. `dueAt`: when a delayed one may begin. */
export function recordOf (job: RunJob, state: ListedState, dueAt: number | undefined, maxCrashes: number): QueuedRun {
  const { id, data: { payload, reqId }, attemptsMade, priority, deduplicationId, progress, timestamp, processedOn, finishedOn } = job
  const over = state === 'succeeded' || state === 'failed'
  return {
    id: id as string,
    state,
    payload,
    attempt: over ? Math.max(1, attemptsMade) : attemptsMade + 1,
    priority,
    key: deduplicationId,
    reqId,
    // BullMQ starts with 0.
    progress: progress === 0 ? undefined : progress as Progress,
    enqueuedAt: new Date(timestamp),
    runAt: dateOf(dueAt),
    startedAt: dateOf(processedOn),
    finishedAt: dateOf(finishedOn),
    error: errorOf(job, maxCrashes)
  }
}

/** An error for BullMQ, which keeps only message and stack: the code goes into the stack, where Node puts it, too. */
export function errorFor ({ name, message, code, stack = '' }: StoredError): Error {
  const error = new Error(message)
  const trace = /\n {4}at [^]*$/.exec(stack)?.[0] ?? ''
  error.stack = `${name}${code === undefined ? '' : ` [${code}]`}: ${message}${trace}`
  return error
}

function errorOf ({ failedReason, stacktrace }: RunJob, maxCrashes: number): StoredError | undefined {
  if (failedReason === CRASHED) return { name: 'Error', message: crashed(maxCrashes), code: undefined, stack: undefined }
  // Of a job that was retried by hand, BullMQ keeps only the stack.
  const stack = stacktrace?.at(-1)
  const message = failedReason ?? undefined
  if (stack === undefined && message === undefined) return undefined
  const [, name = 'Error', code, inStack = ''] = /^([^\n:[\]]+?)(?: \[([^\]\n]+)\])?: ([^]*?)(?=\n {4}at |$)/.exec(stack ?? '') ?? []
  return { name, message: message ?? inStack, code, stack }
}

export function crashed (times: number): string {
  return `the process that ran it has died ${times} ${times === 1 ? 'time' : 'times'}: it is not run again`
}

function dateOf (time: number | undefined): Date | undefined {
  return time === undefined ? undefined : new Date(time)
}
