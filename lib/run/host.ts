import type { FastifyInstance } from 'fastify'
import type { Clock, Deadline } from '../time/index.ts'
import type { OnRun } from './run.ts'

/** What a run uses of its application. */
export interface RunHost {
  /** The clock of limits and waits. */
  readonly clock: Clock
  /** The shutdown deadline. */
  readonly deadline: Deadline
  readonly onRun: OnRun | undefined
}

/** What a run knows of the task it belongs to. */
export interface TaskContext {
  readonly name: string
  readonly owner: FastifyInstance
  readonly options: { logLevel: string | undefined }
  readonly host: RunHost
  /** Called when a run of the task has ended. */
  runEnded (): void
}
