import type { FastifyBaseLogger } from 'fastify'
import type { Clock } from './clock.ts'
import type { Condition } from './health.ts'
import type { RetryOptions } from './execution.ts'
import type { Counts, Enqueued, ListedState, QueuedRun, StoredError } from './queue-handle.ts'
import type { Progress } from './run.ts'

/** After what part of `shutdownTimeout` runs in hand are given back to a store that outlives the process. */
export const RELEASE: number = 7 / 8

/**
 * Where runs of queues wait: in memory, or in an engine behind an adapter. This file is the contract between a queue and its
 * store; `test/conformance.ts` is its other half, and every store must pass it.
 *
 * The queue is ours: it checks payloads, runs the handler with a timeout, decides whether a failed attempt is tried again and when, logs, and
 * counts. The store is the engine's: it keeps runs in order, hands each to one worker at a time, and moves it when told how it
 * ended. Nothing of a run is in both places.
 */
export interface Store {
  /**
   * Opens a queue. Must neither wait nor throw because the engine is away: the store connects by itself, and its methods
   * reject with `FST_BG_STORE_UNAVAILABLE` within 5 s while it cannot. Throws `FST_BG_INVALID_OPTION` for what the engine cannot do.
   */
  open (options: OpenOptions, worker: StoreWorker): StoreQueue
  /** Lets go of what it holds, after all its queues were closed. Called once, in the plugin's own onClose. */
  stop (): Promise<void>
}

/** What a store is told of a queue. */
export interface OpenOptions {
  /** Name of the queue, unique in the server. */
  name: string
  /** How many runs this process has in hand at most. */
  concurrency: number
  /** How many runs wait or are delayed at most; undefined where the queue does not say. */
  maxSize: number | undefined
  /** What becomes of one too many: `FST_BG_QUEUE_FULL`, or `enqueue` waits for room; undefined where the queue does not say. */
  onFull: 'reject' | 'wait' | undefined
  /** At most `limit` attempts begin within `per` milliseconds. */
  rate: {
    /** How many attempts, 1 or more. */
    limit: number
    /** In how many milliseconds. */
    per: number
  } | undefined
  /** Which ended runs are kept; what is undefined is the store's to decide. */
  keep: {
    /** Those that succeeded. */
    succeeded: Keep
    /** Those that failed for good. */
    failed: Keep
  }
  /** Whether one run at a time is in hand in all processes together, or as many as there may be; undefined where that is not the queue's business. */
  exclusive?: boolean | undefined
  /** The time that the store goes by, as far as it is the store's. */
  clock: Clock
  /** Where it tells what befalls the engine: the owner's, as a queue that is to be quiet must not hide it. */
  log: FastifyBaseLogger
}

/** How many ended runs are kept, and for how many milliseconds. */
export interface Keep {
  /** How many at most; undefined where the queue does not say. */
  count: number | undefined
  /** For how many milliseconds after their end; undefined where the queue does not say. */
  age: number | undefined
}

/** The queue, as its store sees it. */
export interface StoreWorker {
  /** Runs one attempt, for no more than `concurrency` runs at a time. Calls `settle` once, when it has ended. Throws nothing. */
  execute (run: ClaimedRun, settle: (settlement: Settlement) => void): void
  /** Aborts a run that is in hand: somebody has cancelled it, or its lease is lost and another process may run it. */
  abort (id: string, why: 'cancelled' | 'lost'): void
  /** Somebody else has paused the queue, or resumed it. */
  pauseChanged (paused: boolean): void
  /** Logs and counts a run that the store has failed for good, as processes keep dying under it. */
  crashed (run: ClaimedRun, error: Error): void
}

/**
 * A payload as it is stored: plain data that is nobody else's and never changed, JSON text where it takes that to say what becomes of it,
 * or undefined for none. `decode` makes a payload of it.
 */
export type Stored = string | object | undefined

/** A run as it is enqueued. */
export interface NewRun {
  /** The engine uses it as the job's id: a UUID of ours, or of a cluster task its name and the time of the tick. */
  id: string
  /** Of which every attempt is given a copy of its own. */
  payload: Stored
  /** One object for many runs: not to be changed. */
  options: Readonly<RunOptions>
}

/** What a run is enqueued with, checked and complete. */
export interface RunOptions {
  /** Milliseconds until it may run. */
  delay: number
  /** Or the time at which it may, in milliseconds since the epoch. */
  runAt: number | undefined
  /** The lower number first; 0 before all. First in, first out within one. */
  priority: number
  /** While a run with that key waits or runs (or, until it was `'started'`, waits), another is a duplicate. */
  key: string | undefined
  /** Until when the key is taken: its run begins, or has ended. */
  keyUntil: 'started' | 'finished'
  /** Where the run has a retry policy of its own: to be handed back when it is claimed. */
  retry: RetryOptions | undefined
  /** Id of the request that asks for it, where one was given: to be handed back when it is claimed, and listed. */
  reqId: string | undefined
}

/** A run that the store hands to a worker. */
export interface ClaimedRun {
  /** The id it was enqueued with. */
  id: string
  /** The payload, parsed: a copy that is the worker's. */
  payload: unknown
  /** From 1. An attempt that was interrupted is not counted. */
  attempt: number
  /** The retry policy it was enqueued with, where it has its own. */
  retry: RetryOptions | undefined
  /** Id of the request that asked for it, where one was given. */
  reqId: string | undefined
  /** When it was handed over, in milliseconds since the epoch, where the store has looked. */
  startedAt?: number | undefined
}

/**
 * How an attempt ended, and so what becomes of the run.
 *
 * - `succeeded`: kept as `keep` says.
 * - `failed`: delayed by `retryIn` milliseconds for another attempt; without it, failed for good, and kept as `keep` says.
 * - `cancelled`: gone.
 * - `interrupted`: back to the front of its place, with no attempt used, and without anybody seeing a failure.
 */
export type Settlement =
  | {
    /** How the attempt ended. */
    outcome: 'succeeded' | 'cancelled' | 'interrupted'
  }
  | {
    /** How the attempt ended. */
    outcome: 'failed'
    /** What it failed with. */
    error: StoredError
    /** Milliseconds until the next attempt; undefined if there is none. */
    retryIn: number | undefined
  }

/** Numbers that all processes which share a queue keep together, each under a name. */
export interface Shared {
  /** The number under that name; undefined if there is none. */
  recall (name: string): Promise<number | undefined>
  /** Sets it, unless it is as high already. */
  raise (name: string, value: number): Promise<void>
}

/** A queue in its store. What takes an id resolves to whether there was such a run. */
export interface StoreQueue {
  /** Whether its runs outlive the process. If so, it hands over nothing once the application closes; if not, what waits is finished within `grace`. */
  readonly durable: boolean
  /** What a cluster task needs, besides that a run with an id that is known is not taken in again; undefined where processes share nothing. */
  readonly shared: Shared | undefined
  /** Whether it hands over nothing, in no process, until `resume`. */
  readonly paused: boolean
  /** Whether the store can be reached, and how full the queue is. */
  readonly condition: Condition

  /** Takes a run in. Rejects with `FST_BG_QUEUE_FULL`, or `FST_BG_CLOSING` if it could only be lost. */
  enqueue (run: NewRun): Promise<Enqueued> | Enqueued
  /** Hands runs to the worker from now on. */
  work (): void
  /** Hands over no more, until `work`. What is in hand goes on. */
  halt (): void
  /** Hands over no more, in no process, until `resume`. What is in hand goes on. */
  pause (): Promise<void>
  /** Ends a pause, in all processes. */
  resume (): Promise<void>

  /** How many runs are in which state. */
  counts (): Promise<Counts>
  /** Runs in a state, from the `offset`th on. Those that wait stand in the order in which they will run; those that ended, the newest first. */
  list (state: ListedState, offset: number, limit: number): Promise<QueuedRun[]>
  /** Makes a failed run wait again; its attempt number goes on. */
  retry (id: string): Promise<boolean>
  /** Makes all failed runs wait again, but for those whose key is taken. Resolves to how many it did. */
  retryFailed (): Promise<number>
  /**
   * Takes a run out that waits or is delayed; has the worker that runs it abort, wherever that is, and resolves when it has ended. Resolves to which
   * of both it did: who runs it counts it. Undefined for one that has ended, or that there is not.
   */
  cancel (id: string): Promise<'waiting' | 'active' | undefined>
  /** Forgets a run that has ended. One that has not was cancelled before this is called. */
  remove (id: string): Promise<boolean>
  /** Forgets all runs in a state. Resolves to how many there were. */
  clear (state: Exclude<ListedState, 'active'>): Promise<number>
  /** Keeps how far a run in hand is. */
  progress (id: string, value: Progress): void

  /** Resolves when it has nothing to do: nothing in hand, and, as long as it hands over, nothing that waits or is delayed. To whether it had to wait for that. */
  drained (): Promise<boolean>
  /**
   * The application closes. One in memory drops what could only be lost (everything, if it does not work; what is delayed, if
   * it does), refuses more of that, and finishes the rest. Returns how many runs were dropped.
   */
  shutDown (): number
  /** The deadline of the close is near: gives what is in hand back, as if it were interrupted, whatever its handler does. */
  release (): void
  /** Takes in nothing any more; drops what it cannot keep. Returns how many runs were dropped; those in hand count once their attempt has been interrupted. */
  close (): number
}
