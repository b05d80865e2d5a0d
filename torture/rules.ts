// What the monkey, the workers and the checks have to agree on.

/** How long a run belongs to a process without a sign of life, in milliseconds. Short, so that much happens in a minute. */
export const LEASE = 2_000
/** The workers' `shutdownTimeout`, in milliseconds. */
export const SHUTDOWN = 4_000
/** How much later a process may have exited: a second that a hanging store may take, and what a busy machine adds. */
export const SLACK = 3_000
export const MAX_CRASHES = 5
/** Runs that begin in a second in the queue `rated`. */
export const RATE = 20
/** Period of the cluster task `grid`, in milliseconds. */
export const GRID = 500
/** The most missed ticks that `misfire: 'all'` runs: the last ones. */
export const CAUGHT_UP = 100
/** How far the clock of a process is turned at most, forward or back, in milliseconds. */
export const TURN = 5_000
/** Keys of the queue `keyed`. */
export const KEYS = 8

/** The queues, and how often a run of each is tried. */
export const queues = { plain: 1, keyed: 3, retrying: 5, delayed: 1, rated: 1, prioritised: 1 }
export type QueueName = keyof typeof queues
/** The queue of the schedules, each of which ticks with the period of the grid; and how many there are. */
export const SCHEDULED = 'scheduled'
export const SCHEDULES = 5

/** What a run is told to do. */
export interface Work {
  /** How long it takes, in milliseconds. */
  ms: number
  /** How many attempts fail. */
  fails: number
  /** How long it blocks the event loop, in milliseconds. */
  block: number
  /** Whether it ignores its signal. */
  deaf: boolean
}

/** What the monkey tells a worker. */
export type Order =
  | { do: 'block' | 'turn', ms: number }
  | { do: 'cancel' | 'remove' | 'retryFailed' | 'pause' }
  | { do: 'quiet' | 'unschedule' | 'counts' | 'list' }

/** The runs of a queue that have ended, by the store. */
export interface Listed { queue: string, state: 'succeeded' | 'failed', id: string, message: string | undefined }

/** What a worker answers to `quiet`, `unschedule`, `counts` and `list`. */
export type Answer = { done: true } | { pending: number } | { listed: Listed[] }
