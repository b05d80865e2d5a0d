import type { Job, JobsOptions } from 'bullmq'
import type { RetryOptions } from '../../execution.ts'
import type { ListedState, QueuedRun, StoredError } from '../../queue-handle.ts'
import type { Progress } from '../../run.ts'
import type { ClaimedRun, NewRun } from '../../store.ts'

/** What stands in the data of a job. */
export interface JobData {
  payload?: unknown
  reqId?: string | undefined
  /** A retry policy of the run's own. Infinity is no JSON. */
  retry?: Omit<RetryOptions, 'limit'> & { limit: number | null } | undefined
  /** Where the key is given up when the run begins. */
  keyUntil?: 'started' | undefined
}

export type RunJob = Job<JobData, void>

/** What BullMQ says of a job under which too many processes have died. */
const CRASHED = 'job stalled more than allowable limit'

/** A run, as it is given to BullMQ. */
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
    // From the moment from which the wait was reckoned, so that it ends when it was to.
    opts.timestamp = now
  }
  if (priority > 0) opts.priority = priority
  if (key !== undefined) opts.deduplication = { id: key }
  return { data, opts }
}

/** A job that a worker has taken. */
export function claimedRunOf ({ id, data: { payload, reqId, retry }, attemptsMade }: RunJob): ClaimedRun {
  return { id: id as string, payload, attempt: attemptsMade + 1, retry: retry && { ...retry, limit: retry.limit ?? Infinity }, reqId }
}

/** A job, as the user of a queue sees it. `dueAt`: when a delayed one may run. */
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
    // 0 is what BullMQ begins with.
    progress: progress === 0 ? undefined : progress as Progress,
    enqueuedAt: new Date(timestamp),
    runAt: dateOf(dueAt),
    startedAt: dateOf(processedOn),
    finishedAt: dateOf(finishedOn),
    error: errorOf(job, maxCrashes)
  }
}

/** An error for BullMQ to keep. It keeps a message and a stack: the code goes where Node puts it, too. */
export function errorFor ({ name, message, code, stack = '' }: StoredError): Error {
  const error = new Error(message)
  const trace = /\n {4}at [^]*$/.exec(stack)?.[0] ?? ''
  error.stack = `${name}${code === undefined ? '' : ` [${code}]`}: ${message}${trace}`
  return error
}

function errorOf ({ failedReason, stacktrace }: RunJob, maxCrashes: number): StoredError | undefined {
  if (failedReason === CRASHED) return { name: 'Error', message: crashed(maxCrashes), code: undefined, stack: undefined }
  // What is retried by hand keeps its stack only.
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
