import type { Progress, RetryOptions, TraceCarrier } from '../../run/index.ts'
import type { Alarm } from '../../time/index.ts'
import { decode, type Stored } from '../codec.ts'
import type { ListedState, QueuedRun, RunEnd } from '../queued-run.ts'
import type { ClaimedRun, NewRun, RunOptions, Tick } from '../store.ts'
import type { StoredError } from '../stored-error.ts'
import type { Prioritised } from './priority-queue.ts'

/** The fields that few waiting runs need. */
export interface Details {
  error?: StoredError
  progress?: Progress
  finishedAt?: number
  /** What the handler returned, as JSON. */
  value?: string | undefined
  runAt?: number
  /** Whether the last attempt was interrupted, and none has begun since. */
  interrupted?: boolean
  alarm?: Alarm
  /** Callbacks for the end of the run. */
  ended?: Array<() => void>
}

/** A run in memory, in any state. A million may wait, so rare fields are in `details`. */
export class Entry implements Prioritised, ClaimedRun {
  readonly id: string
  readonly stored: Stored
  readonly options: Readonly<RunOptions>
  readonly enqueuedAt: number
  state: ListedState = 'waiting'
  attempt = 1
  /** Grows with each run that comes into a state, of all runs of the queue: the place among those that came into the same state. */
  order = 0
  previous: this | undefined = undefined
  next: this | undefined = undefined
  startedAt: number | undefined = undefined
  more: Details | undefined = undefined

  constructor ({ id, payload, options }: NewRun, enqueuedAt: number) {
    this.id = id
    this.stored = payload
    this.options = options
    this.enqueuedAt = enqueuedAt
  }

  get priority (): number { return this.options.priority }

  get retry (): RetryOptions | undefined { return this.options.retry }

  get reqId (): string | undefined { return this.options.reqId }

  get key (): string | undefined { return this.options.key }

  get tick (): Tick | undefined { return this.options.tick }

  get trace (): TraceCarrier | undefined { return this.options.trace }

  get details (): Details {
    this.more ??= {}
    return this.more
  }

  /** A new copy at each read. */
  get payload (): unknown { return decode(this.stored) }

  /** Since when a waiting run waits: since it was enqueued, its delay was over, it was interrupted, or it failed and somebody has retried it. */
  get waitingSince (): number {
    const { runAt = 0, finishedAt = 0 } = this.more ?? {}
    return Math.max(this.enqueuedAt, this.startedAt ?? 0, runAt, finishedAt)
  }

  /** When the run ended; only for one that has. FinishedRuns writes it. */
  get finishedAt (): number { return this.more?.finishedAt as number }
  set finishedAt (time: number) { this.details.finishedAt = time }
}

/** How a run ended that succeeded or failed. */
export function endOf ({ state, more }: Entry): RunEnd {
  if (state === 'failed') return { outcome: 'failed', value: undefined, error: more?.error }
  return { outcome: 'succeeded', value: valueOf(more?.value), error: undefined }
}

/** A run as `list` shows it. */
export function recordOf (entry: Entry): QueuedRun {
  const { id, state, payload, attempt, options: { priority, key, reqId, tick }, enqueuedAt, startedAt } = entry
  const { progress, runAt, finishedAt, error, value } = entry.more ?? {}
  return {
    id,
    state,
    payload,
    attempt,
    priority,
    key,
    reqId,
    progress,
    enqueuedAt: new Date(enqueuedAt),
    runAt: state === 'delayed' ? dateOf(runAt) : undefined,
    startedAt: dateOf(startedAt),
    finishedAt: state === 'succeeded' || state === 'failed' ? dateOf(finishedAt) : undefined,
    error,
    value: valueOf(value),
    ...tick !== undefined && { schedule: tick.schedule, dueAt: new Date(tick.dueAt) }
  }
}

function valueOf (json: string | undefined): unknown {
  return json === undefined ? undefined : JSON.parse(json)
}

function dateOf (time: number | undefined): Date | undefined {
  return time === undefined ? undefined : new Date(time)
}
