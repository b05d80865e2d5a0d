import type { FastifyBaseLogger, FastifyInstance } from 'fastify'

// Everything in this file is public: index.ts re-exports it whole.

/** Any Fastify instance, whatever its server, logger or type provider, so that a handler in a file of its own fits all of them. */
export type AnyInstance = FastifyInstance<any, any, any, any, any>

/**
 * One execution of a task, as its handler sees it. `id`, `log`, `signal` and `server` mean what they mean on a Fastify
 * `request`.
 *
 * Augment it to type what your `onRun` puts on a run:
 * `declare module 'fastify-background-tasks' { interface Run { tenant: string } }`.
 */
export interface Run<Payload = unknown, Server = AnyInstance> {
  /** Unique id of this run. */
  readonly id: string
  /** Name of the task that runs. */
  readonly task: string
  /** Number of this attempt, from 1. */
  readonly attempt: number
  /**
   * Aborts when this run should end. `signal.reason` says why: an Error whose `code` is `FST_BG_SHUTDOWN` (the application
   * closes), `FST_BG_CANCELLED` (the task was stopped) or `FST_BG_TIMEOUT`. Takes any number of listeners.
   */
  readonly signal: AbortSignal
  /** Child of the owner's logger, with the bindings `task` and `run`. */
  readonly log: FastifyBaseLogger
  /** The Fastify instance on which the task was declared, with its decorators; also the handler's `this`. */
  readonly server: Server
  /** The payload of a queue's run; `undefined` for a task. */
  readonly payload: Payload
  /** Key of the schedule (`queue.schedule`) whose tick enqueued the run; `undefined` for every other run. */
  readonly schedule: string | undefined
  /** When the run was due, without jitter; for an `immediate` or triggered run, when it was requested. `undefined` for a task without a schedule. */
  readonly dueAt: Date | undefined
  /** How many earlier missed ticks this run stands for (`misfire`), up to 1,000. */
  readonly missed: number
  /** When a queue's run was enqueued; `undefined` for a task. */
  readonly enqueuedAt: Date | undefined
  /**
   * Reports the progress of the run: a fraction from 0 to 1, or an object of your own that JSON can carry. The run keeps the last one.
   *
   * Throws `FST_BG_INVALID_OPTION`.
   */
  progress (value: Progress): void
}

/** Progress of a run: a fraction from 0 to 1, or an object of your own. */
export type Progress = number | object

/** A run that has not ended. */
export interface ActiveRun {
  /** The run's id. */
  id: string
  /** Name of its task; of a background run, its own name. */
  task: string
  /** Number of the active attempt, or of the last one while the run waits for the next; from 1. */
  attempt: number
  /** When its first attempt began to wait or to run; of a queue's run, when this attempt began. */
  startedAt: Date
  /** When it was due; undefined for a task without a schedule. */
  dueAt: Date | undefined
  /** The `key` that it was enqueued with. */
  key: string | undefined
  /** Id of the request that asked for it. */
  reqId: string | undefined
  /** The last progress that the handler has reported. */
  progress: Progress | undefined
}

/** How a run ended. `skipped`: it never began, because another run was active (`overlap`), or `exclude` left it out. */
export type RunOutcome = 'succeeded' | 'failed' | 'cancelled' | 'skipped'

/** Result of a run. */
export interface RunResult {
  /** How it ended. */
  outcome: RunOutcome
  /** What the handler returned, if it succeeded. */
  value: unknown
  /** What it threw, if it failed or was cancelled. */
  error: unknown
  /** How long it took, in milliseconds. */
  duration: number
}

/** Handle of a run that somebody has triggered. */
export interface RunHandle {
  /** The run's id. */
  readonly id: string
  /** Resolves when the run has ended, in whatever way; never rejects. */
  readonly finished: Promise<RunResult>
  /** What `JSON.stringify` writes of the handle. */
  toJSON (): Pick<RunHandle, 'id'>
}

/** Handler of a task: an async function that takes a run, with the owning Fastify instance as `this`. */
export type TaskHandler<Server = AnyInstance> = (this: Server, run: Run<undefined, Server>) => unknown

/** A run of a timed task, which always has a due time. */
export interface TimedRun<Server = AnyInstance> extends Run<undefined, Server> {
  /** When the run was due, without jitter; for an `immediate` or triggered run, when it was requested. */
  readonly dueAt: Date
}

/** Handler of a timed task, with the owning Fastify instance as `this`. */
export type TimedHandler<Server = AnyInstance> = (this: Server, run: TimedRun<Server>) => unknown

/** Handler of a queue: an async function that takes a run with its payload, with the owning Fastify instance as `this`. */
export type QueueHandler<Payload, Server = AnyInstance> = (this: Server, run: Run<Payload, Server>) => unknown

/**
 * Wraps every attempt of every task, queue and background run: do your work before and after, and `return next()` in between. `next` calls the
 * handler once, and returns a promise of its result.
 */
export type OnRun = (run: Run<unknown, FastifyInstance>, next: () => Promise<unknown>) => unknown

/**
 * What the plugin does when a task has failed for good: `'log'` the error, `'close'` the application and exit with 1, or call your function
 * with the error and the owner.
 */
export type OnGiveUp = 'log' | 'close' | ((error: Error, server: AnyInstance) => unknown)
