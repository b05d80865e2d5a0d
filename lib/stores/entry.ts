import type { Alarm } from '../clock.ts'
import type { RetryOptions } from '../execution.ts'
import { decode } from '../payload.ts'
import type { ListedState, QueuedRun, StoredError } from '../queue-handle.ts'
import type { Progress } from '../run.ts'
import type { ClaimedRun, NewRun, RunOptions, Stored } from '../store.ts'
import type { Prioritised } from './lanes.ts'

/** What few of the runs have that wait. */
export interface Details {
  error?: StoredError
  progress?: Progress
  finishedAt?: number
  runAt?: number
  /** Whether its last attempt was interrupted, and it has not begun since. */
  interrupted?: boolean
  alarm?: Alarm
  /** Those who wait for its end. */
  ended?: Array<() => void>
}

/** A run, wherever it stands, and as it is handed over. A million may wait: what is rare is in the details. */
export class Entry implements Prioritised, ClaimedRun {
  readonly id: string
  readonly stored: Stored
  readonly options: Readonly<RunOptions>
  readonly enqueuedAt: number
  state: ListedState = 'waiting'
  attempt = 1
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

  get details (): Details {
    this.more ??= {}
    return this.more
  }

  /** A copy, each time. */
  get payload (): unknown { return decode(this.stored) }

  /** Of one that has ended. */
  get finishedAt (): number { return this.more?.finishedAt as number }
}

/** A run as its queue's user sees it. */
export function recordOf (entry: Entry): QueuedRun {
  const { id, state, payload, attempt, options: { priority, key, reqId }, enqueuedAt, startedAt } = entry
  const { progress, runAt, finishedAt, error } = entry.more ?? {}
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
    error
  }
}

function dateOf (time: number | undefined): Date | undefined {
  return time === undefined ? undefined : new Date(time)
}
