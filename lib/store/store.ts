import type { FastifyBaseLogger } from 'fastify'
import type { Condition } from '../health.ts'
import type { Progress, RetryOptions } from '../run/index.ts'
import type { Clock } from '../time/index.ts'
import type { Stored } from './codec.ts'
import type { Counts, Enqueued, ListedState, RunPage } from './queued-run.ts'
import type { StoredError } from './stored-error.ts'

/** After this part of `shutdownTimeout` the queue gives its active runs back to a durable store. */
export const RELEASE: number = 7 / 8

/**
 * A place where the runs of queues wait: in memory, or in an engine behind an adapter. This file is the contract between a queue and its
 * store. `test/store/conformance.ts` is the other half of it: every store must pass that suite.
 *
 * The queue checks payloads, runs the handler with a timeout, decides whether and when to retry a failed attempt, logs, and counts. The store
 * keeps runs in order, hands each to one worker at a time, and moves it when the queue says how the attempt ended. Neither keeps what the
 * other keeps.
 */
export interface Store {
  /**
   * Opens a queue. Must neither wait nor throw while the engine is unreachable: the store connects by itself, and until then its methods
   * reject with `FST_BG_STORE_UNAVAILABLE` within 5 s. Throws `FST_BG_INVALID_OPTION` for an option that the engine cannot do.
   */
  open (options: OpenOptions, worker: StoreWorker): StoreQueue
  /** Closes its connections, after all its queues. The plugin calls it once, in its own onClose. */
  stop (): Promise<void>
}

/** Options with which a queue opens its store. */
export interface OpenOptions {
  /** Name of the queue, unique in the server. */
  name: string
  /** The most active runs of this process. */
  concurrency: number
  /** The most waiting and delayed runs; undefined if the queue does not say. */
  maxSize: number | undefined
  /** If the queue is full, `enqueue` rejects with `FST_BG_QUEUE_FULL` or waits for room; undefined if the queue does not say. */
  onFull: 'reject' | 'wait' | undefined
  /** At most `limit` attempts begin within `per` milliseconds. */
  rate: {
    /** How many attempts, 1 or more. */
    limit: number
    /** In how many milliseconds. */
    per: number
  } | undefined
  /** How many ended runs the store keeps. The store has defaults of its own. */
  keep: {
    /** Runs that succeeded. */
    succeeded: Keep
    /** Runs that failed for good. */
    failed: Keep
  }
  /** `true`: one active run in all processes together. `false`: no such limit. Undefined: leave the engine's setting alone. */
  exclusive?: boolean | undefined
  /** The clock of the store's timers. */
  clock: Clock
  /** Logger for trouble with the engine: the owner's, so that the `logLevel` of one queue does not hide it. */
  log: FastifyBaseLogger
}

/** How many ended runs a store keeps, and for how long. */
export interface Keep {
  /** The most runs; undefined if the queue does not say. */
  count: number | undefined
  /** Milliseconds after their end; undefined if the queue does not say. */
  age: number | undefined
}

/** A queue, as its store sees it. */
export interface StoreWorker {
  /** Runs one attempt; the store calls it for at most `concurrency` runs at a time. Calls `settle` once, when the attempt has ended. Never throws. */
  execute (run: ClaimedRun, settle: (settlement: Settlement) => void): void
  /** Aborts an active run: somebody has cancelled it, or its lease is lost and another process may run it. */
  abort (id: string, why: 'cancelled' | 'lost'): void
  /** Another process has paused the queue, or resumed it. */
  pauseChanged (paused: boolean): void
  /** Logs and counts a run that the store has failed for good, because processes keep dying under it. */
  crashed (run: ClaimedRun, error: Error): void
}

/** A new run. */
export interface NewRun {
  /** The engine uses it as the job's id: a UUID of ours; for a cluster task, its name and the due time. */
  id: string
  /** Every attempt gets a copy of its own. */
  payload: Stored
  /** Shared by many runs: never change it. */
  options: Readonly<RunOptions>
}

/** Options of `enqueue`, checked and complete. */
export interface RunOptions {
  /** Milliseconds until the run may begin. */
  delay: number
  /** Or the time at which it may begin, in milliseconds since the epoch. */
  runAt: number | undefined
  /** The lower number runs first; 0 before all. First in, first out within one priority. */
  priority: number
  /** While a run with this key waits or runs (with `keyUntil: 'started'`: waits), another one is a duplicate. */
  key: string | undefined
  /** Whether the key is free again when its run begins, or when it has ended. */
  keyUntil: 'started' | 'finished'
  /** The run's own retry policy. The store returns it when it hands the run to a worker. */
  retry: RetryOptions | undefined
  /** Id of the request that enqueued the run. The store returns it when it hands the run to a worker, and lists it. */
  reqId: string | undefined
}

/** A run that the store hands to a worker, for one attempt. */
export interface ClaimedRun {
  /** Id of the run. */
  id: string
  /** The parsed payload: a copy that the worker may change. */
  payload: unknown
  /** Number of the attempt, from 1. Interrupted attempts do not count. */
  attempt: number
  /** The run's own retry policy, if it has one. */
  retry: RetryOptions | undefined
  /** Id of the request that enqueued it, if there is one. */
  reqId: string | undefined
  /** The `key` it was enqueued with. */
  key: string | undefined
  /** When the attempt began, in milliseconds since the epoch, if the store has read the clock. */
  startedAt?: number | undefined
  /** Set if the stored run cannot be read: the attempt fails before the handler. */
  damage?: Damage | undefined
}

/** Why a stored run cannot be read. */
export interface Damage {
  /** What was found and what to do, as the rest of a sentence about the payload. */
  why: string
  /** Whether another attempt, by another process, would find the same. */
  final: boolean
}

/**
 * How an attempt ended, which decides what the store does with the run.
 *
 * - `succeeded`: keeps it as `keep` says.
 * - `failed`: delays it by `retryIn` milliseconds for another attempt; without `retryIn`, keeps it as `keep` says.
 * - `cancelled`: removes it.
 * - `interrupted`: puts it back to the front of its priority, with the same attempt number.
 */
export type Settlement =
  | {
    /** How the attempt ended. */
    outcome: 'succeeded' | 'cancelled' | 'interrupted'
  }
  | {
    /** How the attempt ended. */
    outcome: 'failed'
    /** The error. */
    error: StoredError
    /** Milliseconds until the next attempt; undefined if the run has failed for good. */
    retryIn: number | undefined
  }

/** Named numbers that all processes of a queue share. */
export interface Shared {
  /** The number with that name; undefined if there is none. */
  recall (name: string): Promise<number | undefined>
  /** Raises the number to `value`, unless it is as high already. */
  raise (name: string, value: number): Promise<void>
}

/** A queue in its store. Methods that take an id resolve to whether there was such a run. */
export interface StoreQueue {
  /** Whether runs outlive the process. A durable queue hands over no run once the application closes; another one finishes waiting runs within `grace`. */
  readonly durable: boolean
  /** The numbers that cluster tasks need; undefined if processes share nothing. Such a store also ignores a new run whose id it knows. */
  readonly shared: Shared | undefined
  /** Whether the queue is paused in all processes. */
  readonly paused: boolean
  /** Whether the store is reachable, and how full the queue is. */
  readonly condition: Condition

  /** Adds a run. Rejects with `FST_BG_QUEUE_FULL`, or with `FST_BG_CLOSING` if the store could only lose the run. */
  enqueue (run: NewRun): Promise<Enqueued> | Enqueued
  /** Begins to hand runs to the worker. */
  work (): void
  /** Hands over no more runs until `work`. Active runs go on. */
  halt (): void
  /** Pauses the queue in all processes until `resume`. Active runs go on. */
  pause (): Promise<void>
  /** Ends a pause in all processes. */
  resume (): Promise<void>

  /** The number of runs in each state. */
  counts (): Promise<Counts>
  /**
   * A page of the runs in a state: waiting runs in the order in which they will run, ended ones the newest first. A cursor is a position, not an
   * offset: a run that is in the state from the first page to the last is on one of them, once, whatever comes and goes meanwhile. Rejects with
   * `FST_BG_INVALID_OPTION` for a cursor that is none of this state.
   */
  list (state: ListedState, cursor: string | undefined, limit: number): Promise<RunPage>
  /** Makes a failed run wait again, with the next attempt number. */
  retry (id: string): Promise<boolean>
  /** Makes all failed runs wait again, except those whose key another run has. Resolves to their number. */
  retryFailed (): Promise<number>
  /**
   * Removes a waiting or delayed run; aborts an active one, in whatever process, and resolves when it has ended. Resolves to the state in which it
   * found the run: the process that runs an active one counts it. Undefined if the run has ended, or does not exist.
   */
  cancel (id: string): Promise<'waiting' | 'active' | undefined>
  /** Removes a run that has ended. The queue cancels one that has not before it calls this. */
  remove (id: string): Promise<boolean>
  /** Removes all runs in a state. Resolves to their number. */
  clear (state: Exclude<ListedState, 'active'>): Promise<number>
  /** Keeps the progress of an active run. */
  progress (id: string, value: Progress): void

  /** Resolves when no run is active and, while the queue hands over runs, none waits or is delayed. Resolves to whether it had to wait. */
  drained (): Promise<boolean>
  /**
   * The application closes. A queue in memory drops the runs that it could only lose (all, if it does not work; delayed ones, if it does), refuses
   * further ones, and finishes the rest. Returns the number of dropped runs.
   */
  shutDown (): number
  /** The shutdown deadline is near: gives active runs back as interrupted, whatever their handlers do. */
  release (): void
  /** Accepts no more runs, and drops those that it cannot keep. Returns the number of dropped runs, without the active ones. */
  close (): number
}
