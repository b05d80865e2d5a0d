import type { Duration } from './duration.ts'
import type { BackgroundTask } from './handle.ts'
import type { RetryPolicy } from './options.ts'
import type { Progress } from './run.ts'

/** In what state a run of a queue is: `delayed` until its time, or until its next attempt. */
export type ListedState = 'waiting' | 'delayed' | 'active' | 'succeeded' | 'failed'

/** How many runs of a queue are in which state. Of those that have ended, the ones that are kept. */
export type Counts = Record<ListedState, number>

/** An error, as a store keeps it. */
export interface StoredError {
  /** Its `name`, such as `'TypeError'`. */
  name: string
  /** Its message. */
  message: string
  /** Its `code`, where that is a string. */
  code: string | undefined
  /** Its stack, where one is known. */
  stack: string | undefined
}

/** A run of a queue, as its store knows it. */
export interface QueuedRun {
  /** Id of the run, as `enqueue` gave it. */
  id: string
  /** In what state it is. */
  state: ListedState
  /** A copy of what was enqueued, before the schema changes anything in it. */
  payload: unknown
  /** The attempt that runs, was the last, or will be the next; from 1. */
  attempt: number
  /** From 0 to 2,097,151: the lower number runs first. */
  priority: number
  /** The `key` it was enqueued with. */
  key: string | undefined
  /** Id of the request that asked for it, where one was given. */
  reqId: string | undefined
  /** How far it is, by the last `run.progress()`; undefined where there was none. */
  progress: Progress | undefined
  /** When it was enqueued. */
  enqueuedAt: Date
  /** When a delayed run may begin. */
  runAt: Date | undefined
  /** When its last attempt began. */
  startedAt: Date | undefined
  /** When it succeeded, or failed for good. */
  finishedAt: Date | undefined
  /** What its last attempt failed with. */
  error: StoredError | undefined
}

/** What became of a payload. */
export interface Enqueued {
  /** Id of the run; of the one before, if it is a duplicate. */
  id: string
  /** Whether a run with the same `key` was there already: nothing was enqueued. */
  duplicate: boolean
}

/** How a payload is enqueued. */
export interface EnqueueOptions {
  /** How long it waits before it may run. Default `0`. */
  delay?: Duration | undefined
  /** Or when it may run. One that is past runs now. */
  runAt?: Date | undefined
  /** From 0 to 2,097,151: the lower number runs first. Default `0`. First in, first out within one. */
  priority?: number | undefined
  /** At most one run with that key waits or runs; a second `enqueue` gives the first's id, with `duplicate: true`. */
  key?: string | undefined
  /** Until when the key is taken. Default `'finished'`. `'started'`: for an update that may arrive during a run. */
  keyUntil?: 'started' | 'finished' | undefined
  /** Further attempts of this run, where the queue's own policy does not fit. */
  retry?: number | RetryPolicy | undefined
  /** Id of the request that asks for it, bound in the run's log as `reqId`. */
  reqId?: string | undefined
}

/** Which runs to list. */
export interface ListOptions {
  /** In what state they are. */
  state: ListedState
  /** How many at most, from 1 to 1,000. Default `100`. */
  limit?: number | undefined
  /** Where the page before has ended. */
  cursor?: string | undefined
}

/** A page of runs. */
export interface RunPage {
  /** Those that wait in the order in which they will run; those that ended, the newest first. */
  runs: QueuedRun[]
  /** To be given to `list` for the next page; undefined after the last. A page may miss or repeat a run that has moved meanwhile. */
  cursor: string | undefined
}

/**
 * A declared queue, as its user holds it. Its runs are in `state` `'running'` while it takes them.
 *
 * Of what it shares with a task: `pause` and `resume` hold for the whole queue, wherever its runs wait; `stop` and `start` for this process, and
 * a run that a `stop` interrupts goes back with no attempt used; `stats` and `history` are of this process; `trigger` throws
 * `FST_BG_INVALID_OPTION`, as a queue runs what it is given.
 */
export interface BackgroundQueue<Payload = unknown> extends BackgroundTask {
  readonly kind: 'queue'
  /**
   * Adds a payload, and resolves once it has been accepted: the handler will be called with a copy of it. Accepted from the declaration of
   * the queue until its owner's onClose.
   *
   * Rejects with `FST_BG_INVALID_PAYLOAD` if the schema or JSON refuses it, `FST_BG_INVALID_OPTION`, `FST_BG_QUEUE_FULL`, and `FST_BG_CLOSING`.
   */
  enqueue (payload: Payload, options?: EnqueueOptions): Promise<Enqueued>
  /** How many runs are in which state. */
  counts (): Promise<Counts>
  /** The runs in a state. Rejects with `FST_BG_INVALID_OPTION`. */
  list (options: ListOptions): Promise<RunPage>
  /** Makes a failed run wait again; its attempt number goes on, and so do the retries it has left. Rejects with `FST_BG_NOT_FOUND`. */
  retry (runId: string): Promise<void>
  /** Makes all failed runs wait again. Resolves to how many there were. */
  retryFailed (): Promise<number>
  /** Takes a waiting or delayed run out, or aborts an active one with `FST_BG_CANCELLED` and resolves when it has ended. Rejects with `FST_BG_NOT_FOUND`. */
  cancel (runId: string): Promise<void>
  /** Without an id, stops the queue and takes it out of the server, with all that waits. With one, forgets that run; cancels it first if it has not ended. Rejects with `FST_BG_NOT_FOUND`. */
  remove (runId?: string): Promise<void>
  /** Forgets all runs in a state. Resolves to how many there were. Rejects with `FST_BG_INVALID_OPTION`. */
  clear (state: Exclude<ListedState, 'active'>): Promise<number>
  /** Resolves when nothing runs, waits or is delayed; while the queue is paused or not started, when nothing runs. */
  drain (): Promise<void>
}
