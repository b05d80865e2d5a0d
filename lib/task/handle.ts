import type { Condition } from '../common/health.ts'
import type { ActiveRun, RunHandle, RunOutcome, RunRecord } from '../run/index.ts'
import type { StoredError } from '../store/index.ts'
import type { TaskState } from './states.ts'

/** Kind of a task: a `service` is one run from ready to close, a `hosted` service has a `start` and a `stop`, a `timed` task runs on a schedule, a `queue` runs the payloads that you enqueue. */
export type TaskKind = 'service' | 'hosted' | 'timed' | 'queue'

/** The number of a task's runs by outcome since its declaration, and of its active runs. */
export type TaskStats = Record<RunOutcome | 'active', number>

/** When a timed task runs: at a period, or at the wall times of a cron expression. */
export interface TaskTiming {
  /** The period in milliseconds; undefined with `cron`. */
  every: number | undefined
  /** The cron expression; undefined with `every`. */
  cron: string | undefined
  /** The zone of the cron expression: the one of the process, if the options name none. */
  timezone: string | undefined
}

/** What `JSON.stringify` writes of a task's handle. */
export interface TaskJson extends Pick<BackgroundTask, 'name' | 'kind' | 'state' | 'condition' | 'timing' | 'nextRunAt' | 'stats'> {
  /** The last run, with its error as a store would keep it. */
  lastRun: Omit<RunRecord, 'error'> & { error: StoredError | undefined } | undefined
  /** The last 30 runs in short, the newest first. */
  history: Array<Pick<RunRecord, 'outcome' | 'startedAt' | 'duration'>>
}

/** Handle of a declared task. */
export interface BackgroundTask {
  /** Name, unique in the application. */
  readonly name: string
  /** Kind of the task. */
  readonly kind: TaskKind
  /** State of the task. */
  readonly state: TaskState
  /** Health of the task. */
  readonly condition: Condition
  /** When a timed task runs; undefined for other kinds. */
  readonly timing: TaskTiming | undefined
  /** The options that are in effect, as plain data: times in milliseconds, `true` for a function or a schema. */
  readonly settings: Record<string, unknown>
  /** When a timed task is due next, without jitter; undefined while it is paused or not started, and for other kinds. */
  readonly nextRunAt: Date | undefined
  /** The number of runs by outcome. */
  readonly stats: TaskStats
  /** The last run that has ended and was not skipped; undefined if there is none. */
  readonly lastRun: RunRecord | undefined
  /** The last 30 runs, the newest first. */
  readonly history: RunRecord[]
  /** The runs that are active in this process, the oldest first. */
  readonly activeRuns: ActiveRun[]
  /**
   * The next `count` due times (0 to 1,000) of a timed task; fewer if the search finds fewer. Empty if `nextRunAt` is undefined.
   *
   * Throws `FST_BG_INVALID_OPTION`.
   */
  nextRuns (count: number): Date[]
  /** What `JSON.stringify` writes of the handle. */
  toJSON (): TaskJson
  /**
   * Runs the task now. A timed task runs under its `overlap`, also while it is paused, stopped or not started. A service or hosted service is
   * started, also out of its backoff; if it runs already, the outcome is `skipped`.
   *
   * Throws `FST_BG_CLOSING` once the application closes.
   */
  trigger (): RunHandle
  /**
   * Pauses the task: nothing new starts until `resume`. The active runs of a timed task finish; a service or hosted service stops. Resolves when
   * the task is paused; rejects with the error of `stop`.
   */
  pause (): Promise<void>
  /**
   * Ends a pause. The ticks that fell due meanwhile are left out; a service or hosted service starts anew. Does nothing if the task is not
   * paused. Rejects as `start` does.
   */
  resume (): Promise<void>
  /**
   * Starts the task unless it runs, even if `autostart` or `enabled` is false. Resolves when the task has started; for a hosted service, when
   * its `start` has ended.
   *
   * Rejects with the error of `start`, with `FST_BG_START_TIMEOUT`, or with `FST_BG_CLOSING` once the application closes.
   */
  start (): Promise<void>
  /**
   * Stops the task: aborts its signal with `FST_BG_CANCELLED`, waits for the handler to end, and calls the `stop` of a hosted
   * service. Resolves when the task has stopped; or, with an error in the log, after `shutdownTimeout`, so that a handler which awaits the stop
   * of its own task does not wait for ever.
   *
   * Rejects with the error of `stop`.
   */
  stop (): Promise<void>
  /**
   * Aborts one run with `FST_BG_CANCELLED`; a triggered run that waits never begins. Resolves when the run has ended; rejects with
   * `FST_BG_NOT_FOUND` if no run with that id is active or waits.
   */
  cancel (runId: string): Promise<void>
  /**
   * Stops the task and removes it from the application, so that its name is free again: for tasks that come and go with a tenant. After that its
   * handle refuses to start or trigger, with `FST_BG_NOT_FOUND`. Rejects as `stop` does.
   */
  remove (): Promise<void>
}
