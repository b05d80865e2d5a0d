import type { RunHandle, RunOutcome } from './run.ts'
import type { TaskState } from './states.ts'

/** What kind of task it is: a `service` is one run from ready to close, a `hosted` service is started and stopped by hand, a `timed` task runs on a schedule, a `queue` runs what it is given. */
export type TaskKind = 'service' | 'hosted' | 'timed' | 'queue'

/** How many runs of a task have ended in which way since it was declared, and how many have not ended. */
export type TaskStats = Record<RunOutcome | 'active', number>

/** What is remembered of a run that has ended. */
export interface RunRecord {
  /** The run's id. */
  id: string
  /** How it ended. */
  outcome: RunOutcome
  /** When it was due; undefined where no schedule is. */
  dueAt: Date | undefined
  /** When its first attempt was asked for. */
  startedAt: Date
  /** How long it took, in milliseconds. */
  duration: number
  /** What it threw, if it failed or was cancelled. */
  error: unknown
}

/** A declared task, as its user holds it. */
export interface BackgroundTask {
  /** Its name, unique in the server. */
  readonly name: string
  /** What kind of task it is. */
  readonly kind: TaskKind
  /** Where it is in its life. */
  readonly state: TaskState
  /** When a timed task is due next, without jitter; undefined while it is not started or paused, and for other kinds. */
  readonly nextRunAt: Date | undefined
  /** How its runs have ended. */
  readonly stats: TaskStats
  /** The last run that has ended, skipped ones apart; undefined if none has. */
  readonly lastRun: RunRecord | undefined
  /** The last 30 runs, the newest first. */
  readonly history: RunRecord[]
  /**
   * The next `count` times (0 to 1,000) at which a timed task is due; fewer where fewer can be found. Empty where `nextRunAt` is undefined.
   *
   * Throws `FST_BG_INVALID_OPTION`.
   */
  nextRuns (count: number): Date[]
  /**
   * Asks for a run now. A timed task runs under its `overlap`, also while it is paused, stopped or not started. Another kind is
   * started, a service in backoff at once; if it runs already, the outcome is `skipped`.
   *
   * Throws `FST_BG_CLOSING` once the application closes.
   */
  trigger (): RunHandle
  /**
   * Starts nothing new until `resume`. The active runs of a timed task finish; a service or hosted service is stopped. Resolves when the
   * task is paused; rejects with what `stop` threw.
   */
  pause (): Promise<void>
  /**
   * Goes on after `pause`. Ticks that were due meanwhile are left out; a service or hosted service starts anew. Does nothing if
   * the task is not paused. Rejects as `start` does.
   */
  resume (): Promise<void>
  /**
   * Starts the task unless it runs, also where `autostart` or `enabled` is false. Resolves when it has been started: for a
   * hosted service, when its `start` has ended.
   *
   * Rejects with what `start` threw, with `FST_BG_START_TIMEOUT`, or with `FST_BG_CLOSING` once the application closes.
   */
  start (): Promise<void>
  /**
   * Stops the task: aborts its signal with `FST_BG_CANCELLED`, waits for the handler to end, and calls the `stop` of a hosted
   * service. Resolves when all that is done; or, with an error in the log, after `shutdownTimeout`, so that a handler that waits
   * for its own task's stop does not wait for ever.
   *
   * Rejects with what `stop` threw.
   */
  stop (): Promise<void>
  /**
   * Aborts one run with `FST_BG_CANCELLED`, or calls off one that was triggered and waits. Resolves when it has ended; rejects with
   * `FST_BG_NOT_FOUND` if no run of that id is active or waits.
   */
  cancel (runId: string): Promise<void>
  /**
   * Stops the task and takes it out of the server, so that its name is free: for tasks that come and go with a tenant. Its handle then
   * refuses to start or trigger, with `FST_BG_NOT_FOUND`. Rejects as `stop` does.
   */
  remove (): Promise<void>
}
