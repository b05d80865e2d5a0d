import type { RetryPolicy } from '../run/index.ts'
import type { Counts, Enqueued, ListedState, QueuedRun, RunEnd, RunPage, SchedulePage } from '../store/index.ts'
import type { BackgroundTask } from '../task/index.ts'
import type { Duration } from '../time/index.ts'
import type { Scheduled, ScheduleOptions, SchedulesOptions } from './schedule-options.ts'

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
  /**
   * A transaction of the application's in which to enqueue: a client of `pg` between BEGIN and COMMIT, anything with `query(text, values)`, or an adapter of pg-boss, such as
   * `fromKnex(trx)`. The run begins after the commit; rolled back, nothing was enqueued. Only on a store of `pgBoss()`, and on the same database.
   */
  tx?: Transaction | undefined
}

/** A transaction of the application's on PostgreSQL. */
export type Transaction =
  /** An adapter of pg-boss: `fromKnex(trx)`, `fromKysely(trx)`, `fromDrizzle(tx, sql)`, `fromPrisma(tx)`, or what `store.transaction()` gives. */
  | { executeSql (text: string, values?: unknown[]): Promise<{ rows: unknown[] }> }
  /** A client of `pg`, or anything like it. */
  | { query (text: string, values?: unknown[]): Promise<{ rows: unknown[] }> }

/** One run of `enqueueMany`: its payload, with the options that `enqueue` takes. */
export interface EnqueueItem<Payload = unknown> extends Omit<EnqueueOptions, 'tx'> {
  /** The payload. */
  payload: Payload
}

/** Options of `enqueueMany`. */
export interface EnqueueManyOptions {
  /** The transaction in which to enqueue them all, as for `enqueue`. */
  tx?: Transaction | undefined
}

/** Options of `finished`. */
export interface FinishedOptions {
  /** When it aborts, the wait rejects with its reason. */
  signal?: AbortSignal | undefined
  /** How long to wait. Default: for as long as it takes. */
  timeout?: Duration | undefined
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
  /**
   * Adds up to 10,000 payloads, all of them or none, and resolves to what became of each, in the same order.
   *
   * Rejects as `enqueue` does. The error of a payload or an option has the `index` of its item.
   */
  enqueueMany (items: ReadonlyArray<EnqueueItem<Payload>>, options?: EnqueueManyOptions): Promise<Enqueued[]>
  /**
   * Adds a schedule: from now on each tick enqueues the payload. The same key again replaces it; an equal schedule changes nothing, so that this can be called at every
   * start. In memory schedules end with the process; on a durable store they stay until `unschedule`, and all processes run them together.
   *
   * Rejects with `FST_BG_INVALID_OPTION`, and with `FST_BG_INVALID_PAYLOAD` as `enqueue` does.
   */
  schedule (key: string, options: ScheduleOptions<Payload>): Promise<Scheduled>
  /** Removes a schedule; its runs stay. Resolves to whether there was one. */
  unschedule (key: string): Promise<boolean>
  /** A page of the schedules, by their keys. Rejects with `FST_BG_INVALID_OPTION`. */
  schedules (options?: SchedulesOptions): Promise<SchedulePage<Payload>>
  /** The number of runs in each state. */
  counts (): Promise<Counts>
  /**
   * Since when the run waits that has waited longest; undefined if none waits. A delayed run waits from its time on. On a durable store it is the longest of those that
   * would run first and last, and a run that waits for its next attempt may seem to have waited since the one before.
   */
  waitingSince (): Promise<Date | undefined>
  /** A page of the runs in a state. Rejects with `FST_BG_INVALID_OPTION`. */
  list (options: ListOptions): Promise<RunPage<Payload>>
  /** The run with an id, in whatever state, also if it has ended and is kept; undefined if there is none. */
  get (runId: string): Promise<QueuedRun<Payload> | undefined>
  /**
   * Resolves when a run has ended, in whatever process, also if that was before and the store keeps the run. The wait costs the engine no further requests.
   *
   * Rejects with `FST_BG_NOT_FOUND` if the store has no such run, or somebody removes it before its end; with `FST_BG_TIMEOUT` after `timeout`; with
   * the reason of `signal`; with `FST_BG_CLOSING` when the application closes and the run cannot end here within the queue's `grace`; and with `FST_BG_INVALID_OPTION`.
   */
  finished (runId: string, options?: FinishedOptions): Promise<RunEnd>
  /** Makes a failed run wait again. Its attempts go on counting: it makes those that its `retry` has left, and always at least one. Rejects with `FST_BG_NOT_FOUND`. */
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
