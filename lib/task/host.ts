import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import type { Attempt, OnGiveUp, RunHost, RunResult, TaskContext } from '../run/index.ts'
import type { Clock } from '../time/index.ts'
import type { TaskKind } from './handle.ts'

/** What a task uses of its application. */
export interface TaskHost extends RunHost {
  readonly phase: 'open' | 'failed' | 'closing'
  /** Whether nothing new may start, because the application closes or its start has failed. */
  readonly closing: boolean
  /** The clock of schedules. Close clears it. */
  readonly scheduleClock: Clock
  /** How long close, and `task.stop()`, wait; in milliseconds. */
  readonly shutdownTimeout: number
  /** The tasks that close must stop: all but timed tasks between two runs. */
  readonly closeable: { add (task: object): void, delete (task: object): void }
  /** Does what the task's `onGiveUp` says: it has failed for good. */
  giveUp (task: GivenUp, attempt: Attempt, result: RunResult): void
  /** Whether the plugins of the server have loaded, so that an onReady hook added now would never run. */
  isBooted (owner: FastifyInstance): boolean
  /** Frees the name of a removed task. */
  removed (task: object): void
}

/** A task that has failed for good. */
export interface GivenUp extends TaskContext {
  readonly host: TaskHost
  readonly options: { logLevel: string | undefined, onGiveUp: OnGiveUp }
  readonly kind: TaskKind
  readonly log: FastifyBaseLogger
}
