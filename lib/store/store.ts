import type { FastifyBaseLogger } from 'fastify'
import type { Condition } from '../common/health.ts'
import type { Progress, RetryOptions, TraceCarrier } from '../run/index.ts'
import type { Clock } from '../time/index.ts'
import type { Stored } from './codec.ts'
import type { Counts, Enqueued, ListedState, QueuedRun, RunEnd, RunPage } from './queued-run.ts'
import type { ScheduleDefinition, SchedulePage } from './schedules/index.ts'
import type { StoredError } from './stored-error.ts'

/** After this part of `shutdownTimeout` the queue gives its active runs back to a durable store. */
export const RELEASE: number = 7 / 8

/**
 * A place where the runs of queues wait: in memory, or in an engine behind an adapter. This file is the contract between a queue and its
 * store. `lib/store-tests/` is the other half of it: every store must pass that suite.
 *
 * The queue checks payloads, runs the handler with a timeout, decides whether and when to retry a failed attempt, logs, and counts. The store
 * keeps runs in order, hands each to one worker at a time, and moves it when the queue says how the attempt ended. Neither keeps what the
 * other keeps.
 */
export interface Store {
  /**
   * Opens a queue. Must neither wait nor throw while the engine is unreachable: the store connects by itself, and until then its methods
   * reject with `FST_BG_STORE_UNAVAILABLE` within 5 s; only an engine that this process starts may take longer for its first start. Throws `FST_BG_INVALID_OPTION` for an option that the engine cannot do.
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
  /**
   * Runs one attempt; the store calls it for at most `concurrency` runs at a time. Calls `settle` once, when the attempt has ended. Never throws. `readAt`: the
   * monotonic time, where somebody has just read the clock.
   */
  execute (run: ClaimedRun, settle: (settlement: Settlement) => void, readAt?: number): void
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
  /** The tick that enqueues it. The store returns it when it hands the run to a worker, and lists it. */
  tick?: Tick | undefined
  /** The trace context in which the run was enqueued: a few short texts by name. The store returns it when it hands the run to a worker. */
  trace?: TraceCarrier | undefined
}

/** The tick of a schedule that has enqueued a run. */
export interface Tick {
  /** When it was due, without jitter, in milliseconds since the epoch. */
  dueAt: number
  /** How many earlier missed ticks the run stands for. */
  missed: number
  /** Key of the schedule. */
  schedule: string
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
  /** The tick that enqueued it, if one has. */
  tick?: Tick | undefined
  /** The trace context in which it was enqueued, if there was one. What other programs may have written goes through `readTrace`. */
  trace?: TraceCarrier | undefined
  /** When it was enqueued, in milliseconds since the epoch. */
  enqueuedAt?: number | undefined
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
 * - `succeeded`: keeps it as `keep` says, with its value.
 * - `failed`: delays it by `retryIn` milliseconds for another attempt; without `retryIn`, keeps it as `keep` says.
 * - `cancelled`: removes it.
 * - `interrupted`: puts it back to the front of its priority, with the same attempt number.
 */
export type Settlement =
  | {
    /** How the attempt ended. */
    outcome: 'cancelled' | 'interrupted'
  }
  | {
    /** How the attempt ended. */
    outcome: 'succeeded'
    /** What the handler returned, as JSON; without it, nothing. A function, as a store that does not keep the run need not write it as JSON. */
    value?: (() => string | undefined) | undefined
  }
  | {
    /** How the attempt ended. */
    outcome: 'failed'
    /** The error. */
    error: StoredError
    /** Milliseconds until the next attempt; undefined if the run has failed for good. */
    retryIn: number | undefined
  }

/** Waits for the end of a run. The store calls one of its methods, once. */
export interface EndListener {
  /** The run has ended. */
  ended (end: RunEnd): void
  /** The store has no such run, or somebody has removed it before its end. */
  gone (): void
  /** The store could not look for the run. */
  failed (error: Error): void
}

/** Named numbers that all processes of a queue share. */
export interface Shared {
  /** The number with that name; undefined if there is none. */
  recall (name: string): Promise<number | undefined>
  /** Raises the number to `value`, unless it is as high already. */
  raise (name: string, value: number): Promise<void>
}

/**
 * Schedules of a queue, each with a key: data that the application changes at run time. While the queue hands over runs (from `work` to `halt`), each tick enqueues
 * the payload; `lib/store/schedules` has the form of a definition, and `passedTicks` of `lib/time` says which ticks fire and when the next one is due.
 *
 * On a store that processes share they run the schedules together: every tick is enqueued exactly once, whichever process dies when. A change that one
 * process makes holds in all within 2 s. However many there are, they cost a process no memory, and at most one request a second while none is due.
 */
export interface ScheduleStore {
  /** Adds or replaces a schedule; an equal one changes nothing. Resolves to when its next tick is due. */
  set (key: string, definition: ScheduleDefinition): Promise<Date | undefined>
  /** Removes a schedule. Resolves to whether there was one. */
  delete (key: string): Promise<boolean>
  /** A page of the schedules whose key begins with `prefix`, in the order of the bytes of their keys. Rejects with `FST_BG_INVALID_OPTION` for a cursor that is none of it. */
  list (prefix: string, cursor: string | undefined, limit: number): Promise<SchedulePage>
}

/** A queue in its store. Methods that take an id resolve to whether there was such a run. */
export interface StoreQueue {
  /** Whether runs outlive the process. A durable queue hands over no run once the application closes; another one finishes waiting runs within `grace`. */
  readonly durable: boolean
  /** The numbers that cluster tasks need; undefined if processes share nothing. Such a store also ignores a new run whose id it knows. */
  readonly shared: Shared | undefined
  /** The schedules of the queue. */
  readonly schedules: ScheduleStore
  /** Whether the queue is paused in all processes. */
  readonly paused: boolean
  /** Whether the store answers now. */
  readonly reachable: boolean
  /** Health of the queue in its store: whether that is reachable, how full the queue is, and whatever else its operator has to know. */
  readonly condition: Condition

  /** How many runs wait here that the queue begins before it ends, while the application closes; a durable queue has none. */
  readonly backlog?: number

  /** Whether runs can be enqueued in a transaction of the application's. */
  readonly transactional?: boolean

  /**
   * Adds a run. Rejects with `FST_BG_QUEUE_FULL`, or with `FST_BG_CLOSING` if the store could only lose the run. `tx`, which only a transactional store is given, is the transaction to do
   * it in: rolled back, nothing was added.
   */
  enqueue (run: NewRun, tx?: unknown): Promise<Enqueued> | Enqueued
  /**
   * Adds runs in the given order, all of them or none, and resolves to what became of each. A run whose key an earlier one of them has is a duplicate
   * like any. Rejects as `enqueue` does, with `FST_BG_QUEUE_FULL` if there is no room for all.
   */
  enqueueMany (runs: NewRun[], tx?: unknown): Promise<Enqueued[]> | Enqueued[]
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
   * Since when the run waits that has waited longest, in milliseconds since the epoch; undefined if none waits. A delayed run waits from its time on. Metrics ask for it every
   * few seconds: an engine may look at the runs that would run first and last alone.
   */
  waitingSince (): Promise<number | undefined>
  /**
   * A page of the runs in a state: waiting runs in the order in which they will run, ended ones the newest first. A cursor is a position, not an
   * offset: a run that is in the state from the first page to the last is on one of them, once, whatever comes and goes meanwhile. Rejects with
   * `FST_BG_INVALID_OPTION` for a cursor that is none of this state.
   */
  list (state: ListedState, cursor: string | undefined, limit: number): Promise<RunPage>
  /** The run with an id, in whatever state, as `list` shows it; undefined if the store has none. */
  get (id: string): Promise<QueuedRun | undefined>
  /** Makes a failed run wait again, with the next attempt number. */
  retry (id: string): Promise<boolean>
  /** Makes all failed runs wait again, except those whose key another run has. Resolves to their number. */
  retryFailed (): Promise<number>
  /**
   * Removes a waiting or delayed run; aborts an active one, in whatever process, and resolves when it has ended. Resolves to the state in which it
   * found the run: the process that runs an active one counts it. Undefined if the run has ended, or does not exist.
   */
  cancel (id: string): Promise<'waiting' | 'active' | undefined>
  /**
   * Removes a run that waits, is delayed or has ended; who waits for its end hears that it is gone. Resolves to what it was; undefined if it is active, or
   * does not exist.
   */
  remove (id: string): Promise<'waiting' | 'ended' | undefined>
  /**
   * Tells `listener` how the run ends, or has ended, in whatever process, whatever happens to that and to the engine meanwhile. A thousand listeners
   * must not make as many requests again and again. It looks at the run only once it listens, so that no end falls between the two. A run that
   * the close of this application drops has no end: the listener fails with `FST_BG_CLOSING`. Returns a function that ends the wait.
   */
  onEnd (id: string, listener: EndListener): () => void
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
