import type { RetryPolicy } from '../run/index.ts'
import type { Counts, Enqueued, ListedState, RunPage } from '../store/index.ts'
import type { BackgroundTask } from '../task/index.ts'
import type { Duration } from '../time/index.ts'

/** Options of `enqueue`. */
export interface EnqueueOptions {
  /** How long the run waits before it may begin. Default `0`. */
  delay?: Duration | undefined
  /** Or the time at which it may begin. A time in the past means now. */
  runAt?: Date | undefined
  /** From 0 to 2,097,151: the lower number runs first. Default `0`. First in, first out within one priority. */
  priority?: number | undefined
  /** At most one run with this key waits or runs; a second `enqueue` resolves to the id of the first, with `duplicate: true`. */
  key?: string | undefined
  /** When the key is free again. Default `'finished'`: when the run has ended. `'started'`: when it begins, for an update that may arrive during a run. */
  keyUntil?: 'started' | 'finished' | undefined
  /** Further attempts of this run, instead of the queue's own policy. */
  retry?: number | RetryPolicy | undefined
  /** Id of the request that enqueues it, bound in the run's log as `reqId`. */
  reqId?: string | undefined
}

/** Options of `list`. */
export interface ListOptions {
  /** State of the runs. */
  state: ListedState
  /** The most runs of a page, from 1 to 1,000. Default `100`. */
  limit?: number | undefined
  /** `cursor` of the page before. */
  cursor?: string | undefined
}

/**
 * Handle of a declared queue. Its `state` is `'running'` while it takes runs.
 *
 * `pause` and `resume` concern the whole queue, in all processes; `stop` and `start` only this process. A run that a `stop` interrupts goes back
 * with the same attempt number. `stats` and `history` are of this process. `trigger` throws `FST_BG_INVALID_OPTION`: a queue runs only payloads.
 */
export interface BackgroundQueue<Payload = unknown> extends BackgroundTask {
  readonly kind: 'queue'
  /**
   * Adds a payload, and resolves once the store has accepted it. The queue will call the handler with a copy of it. A queue accepts payloads from
   * its declaration until its owner's onClose.
   *
   * Rejects with `FST_BG_INVALID_PAYLOAD` if the schema or JSON refuses it, `FST_BG_INVALID_OPTION`, `FST_BG_QUEUE_FULL`, and `FST_BG_CLOSING`.
   */
  enqueue (payload: Payload, options?: EnqueueOptions): Promise<Enqueued>
  /** The number of runs in each state. */
  counts (): Promise<Counts>
  /** A page of the runs in a state. Rejects with `FST_BG_INVALID_OPTION`. */
  list (options: ListOptions): Promise<RunPage>
  /** Makes a failed run wait again, with the next attempt number. If that exceeds its `retry`, the run gets one attempt. Rejects with `FST_BG_NOT_FOUND`. */
  retry (runId: string): Promise<void>
  /** Makes all failed runs wait again. Resolves to their number. */
  retryFailed (): Promise<number>
  /** Removes a waiting or delayed run, or aborts an active one with `FST_BG_CANCELLED` and resolves when it has ended. Rejects with `FST_BG_NOT_FOUND`. */
  cancel (runId: string): Promise<void>
  /** Without an id, stops the queue and removes it from the application, with its waiting runs. With an id, removes that run, and cancels it first if it has not ended. Rejects with `FST_BG_NOT_FOUND`. */
  remove (runId?: string): Promise<void>
  /** Removes all runs in a state. Resolves to their number. Rejects with `FST_BG_INVALID_OPTION`. */
  clear (state: Exclude<ListedState, 'active'>): Promise<number>
  /** Resolves when no run is active, waiting or delayed; while the queue is paused or not started, when none is active. */
  drain (): Promise<void>
}
