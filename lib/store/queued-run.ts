import type { Progress } from '../run/index.ts'
import type { StoredError } from './stored-error.ts'

/** State of a queue's run. It is `delayed` until its time, or until its next attempt. */
export type ListedState = 'waiting' | 'delayed' | 'active' | 'succeeded' | 'failed'

/** The number of a queue's runs in each state. Of ended runs, only those that the store keeps. */
export type Counts = Record<ListedState, number>

/** A run of a queue, as `get` and `list` show it. */
export interface QueuedRun<Payload = unknown> {
  /** Id of the run, as `enqueue` returned it. */
  id: string
  /** State of the run. */
  state: ListedState
  /** A copy of the enqueued payload, before the schema changes it. */
  payload: Payload
  /** Number of the active, the last, or the next attempt; from 1. */
  attempt: number
  /** From 0 to 2,097,151: the lower number runs first. */
  priority: number
  /** The `key` it was enqueued with. */
  key: string | undefined
  /** Id of the request that enqueued it, if one was given. */
  reqId: string | undefined
  /** The last `run.progress()`; undefined if there was none. */
  progress: Progress | undefined
  /** When it was enqueued. */
  enqueuedAt: Date
  /** When a delayed run may begin. */
  runAt: Date | undefined
  /** When its last attempt began. */
  startedAt: Date | undefined
  /** When it succeeded, or failed for good. */
  finishedAt: Date | undefined
  /** Error of its last failed attempt; of a stored run that cannot be read, why. */
  error: StoredError | undefined
  /** Key of the schedule whose tick enqueued it; only of such a run. */
  schedule?: string
  /** When that tick was due; only of such a run. */
  dueAt?: Date
  /** What the handler returned, as JSON carries it; only of a run that succeeded. More than 64 kB, and what JSON cannot carry, is left out. */
  value: unknown
}

/** How a run ended, as `finished` tells it. */
export interface RunEnd {
  /** How it ended. */
  outcome: 'succeeded' | 'failed' | 'cancelled'
  /** What the handler returned, as JSON carries it; undefined if the run did not succeed. */
  value: unknown
  /** Error of its last attempt; of a cancelled run, one with the code `FST_BG_CANCELLED`; undefined if it succeeded. */
  error: StoredError | undefined
}

/** A page of runs. */
export interface RunPage<Payload = unknown> {
  /** Waiting runs in the order in which they will run; ended ones, the newest first. */
  runs: Array<QueuedRun<Payload>>
  /** Pass it to `list` for the next page; undefined on the last one. A run that is in the state from the first page to the last is on one of them, once. */
  cursor: string | undefined
}

/** Result of `enqueue`. */
export interface Enqueued {
  /** Id of the run; for a duplicate, of the earlier run with the key. */
  id: string
  /** Whether a run with the same `key` exists, so that nothing was enqueued. */
  duplicate: boolean
}
