import type { FastifyBaseLogger, FastifyInstance } from 'fastify'

// Everything in this file is public: index.ts re-exports it whole.

/** Any Fastify instance, whatever its server, logger or type provider: so that a handler written apart fits all of them. */
export type AnyInstance = FastifyInstance<any, any, any, any, any>

/**
 * One execution of a task, as its handler sees it. `id`, `log`, `signal` and `server` mean what they mean on a Fastify
 * `request`.
 *
 * Augment it to type what your `onRun` puts on a run:
 * `declare module 'fastify-background-tasks' { interface Run { tenant: string } }`.
 */
export interface Run<Payload = unknown, Server = AnyInstance> {
  /** Unique name of this run (a UUID). */
  readonly id: string
  /** Name of the task that runs. */
  readonly task: string
  /** Which try of this run it is, from 1. */
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
  /** What a queue was given for this run; `undefined` for a task. */
  readonly payload: Payload
  /** When the run was due, without jitter; of an `immediate` or triggered run, when it was asked for. `undefined` where no schedule is. */
  readonly dueAt: Date | undefined
  /** How many earlier ticks this run stands for, which were due while the process could not run them; counted to 1,000. */
  readonly missed: number
  /**
   * Says how far the run is: a fraction from 0 to 1, or an object of your own that JSON can carry. The last one is kept with the run.
   *
   * Throws `FST_BG_INVALID_OPTION`.
   */
  progress (value: Progress): void
}

/** How far a run is: a fraction from 0 to 1, or an object of your own. */
export type Progress = number | object

/** How a run ended. `skipped`: it never began, as another run was active (`overlap`). */
export type RunOutcome = 'succeeded' | 'failed' | 'cancelled' | 'skipped'

/** What is known of a run that has ended. */
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

/** A run that was asked for. */
export interface RunHandle {
  /** The run's id. */
  readonly id: string
  /** Resolves when the run has ended, however it did; never rejects. */
  readonly finished: Promise<RunResult>
}

/** What a task does: an async function that is given a run, with the owning Fastify instance as `this`. */
export type TaskHandler<Server = AnyInstance> = (this: Server, run: Run<undefined, Server>) => unknown

/** What a queue does with a payload: an async function that is given a run, with the owning Fastify instance as `this`. */
export type QueueHandler<Payload, Server = AnyInstance> = (this: Server, run: Run<Payload, Server>) => unknown

/**
 * Wraps every attempt of every task, queue and background run: do what you need before and after, and `return next()` in between. `next` calls the
 * handler, once, and returns a promise of what it returned.
 */
export type OnRun = (run: Run<unknown, FastifyInstance>, next: () => Promise<unknown>) => unknown

/**
 * What happens when a task has failed for good: `'log'` it, `'close'` the application and exit with 1, or a function of yours,
 * called with the error and the owner.
 */
export type OnGiveUp = 'log' | 'close' | ((error: Error, server: AnyInstance) => unknown)
