import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import type { BlockWatch, Clock, Deadline } from '../time/index.ts'
import type { Activity } from './past/activity.ts'
import type { OnRun, RunOutcome } from './run.ts'

/** What a run uses of its application. */
export interface RunHost {
  /** The clock of limits and waits. */
  readonly clock: Clock
  /** The shutdown deadline. */
  readonly deadline: Deadline
  /** Finds the handler that blocks the event loop. */
  readonly blocks: BlockWatch
  /** Counts the runs of all tasks. */
  readonly activity: Activity
  readonly onRun: OnRun | undefined
  /** Hears what happens to runs. */
  readonly observer: RunObserver | undefined
}

/** Hears what happens to runs, as it happens: for metrics. Its methods throw nothing. */
export interface RunObserver {
  /** So many runs of the task have ended, each after `duration` milliseconds; 0 if it never began. */
  runsEnded (task: ObservedTask, outcome: RunOutcome, duration: number, count: number): void
  /** An attempt has failed, whether or not another one follows. */
  attemptFailed (task: ObservedTask): void
  /** A service begins another life by itself. */
  restarted (task: ObservedTask): void
  /** The run of a tick begins, so many milliseconds after it could have. */
  tickBegan (task: ObservedTask, lateness: number): void
}

/** What an observer sees of a task. */
export interface ObservedTask { readonly name: string, readonly kind: string }

/** What a handler may use of its application that needs more than a run, such as one that runs in threads. */
export interface HandlerHost {
  /** The clock of limits and waits. */
  readonly clock: Clock
  /** Stops `resource` when the application closes, after the last run has ended. */
  stopLast (resource: Resource): void
  /** Hears what happens to runs. Whoever sets it finds it undefined. */
  observer: RunObserver | undefined
  /** The number of active background runs. */
  readonly activeInBackground: number
}

/** Something that an application stops when it closes. */
export interface Resource { stop (): Promise<void> | void }

// Handlers of worker() come from another export path, and perhaps from another copy of the package. So the two sides meet by symbols that every copy
// has: the application never imports the code of threads.
/** Key of the host in every instance of an application. */
export const hostKey: unique symbol = Symbol.for('fastify-background-tasks.host') as never
/** Key of the method of a handler that is called when somebody declares a task with it. It throws what is wrong with it. */
export const declaredKey: unique symbol = Symbol.for('fastify-background-tasks.declared') as never
/** Key of the method of a run that calls back when the run is aborted: to make the signal costs more than the rest of a short run. */
export const onAbortKey: unique symbol = Symbol.for('fastify-background-tasks.onAbort') as never

/** A handler that hears of its declaration. */
export interface DeclaredHandler { [declaredKey]? (where: string, host: HandlerHost): void }

/** What a run knows of the task it belongs to. */
export interface TaskContext {
  readonly name: string
  /** What kind of task it is. */
  readonly kind: string
  readonly owner: FastifyInstance
  readonly options: { logLevel: string | undefined }
  readonly host: RunHost
  readonly log: FastifyBaseLogger
  /** Called when a run of the task has ended. */
  runEnded (): void
}
