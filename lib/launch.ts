import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import type { Attempt } from './attempt.ts'
import type { RetryOptions } from './execution.ts'
import type { Progress, QueueHandler, RunResult } from './run.ts'

/** How a run is launched, and who hears of it. */
export interface Launch {
  /** Whatever payload it was declared with. */
  readonly handler: QueueHandler<never, FastifyInstance>
  /** The run's id, where it was given out before. */
  readonly id?: string | undefined
  /** Name of the run's task, where that is not its runner's. */
  readonly task?: string | undefined
  /** Which attempt of its run the first is. Default `1`. */
  readonly number?: number | undefined
  readonly payload?: unknown
  readonly dueAt?: Date | undefined
  readonly missed?: number | undefined
  /** The logger that the run's is a child of, where that is not the owner's. */
  readonly parent?: FastifyBaseLogger | undefined
  /** Id of the request that asked for the run, bound in its log. */
  readonly reqId?: string | undefined
  /** When it began, in milliseconds since the epoch, where somebody has looked: to look takes longer than much else. */
  readonly startedAt?: number | undefined
  /** Limit of one attempt, in milliseconds. */
  readonly timeout?: number | undefined
  readonly retry?: RetryOptions | undefined
  /** In a later macrotask; else at once. */
  readonly later?: boolean
  /** Not before that has happened. */
  readonly after?: Promise<unknown> | undefined
  /** Even if it is cancelled before it has begun. */
  readonly always?: boolean
  /** As last work: only the deadline aborts it. */
  readonly last?: boolean

  /** Hears that an attempt begins. */
  started? (attempt: Attempt): void
  /** Hears that an attempt failed, and that another follows in `delay` milliseconds. */
  retrying? (attempt: Attempt, result: RunResult, delay: number): void
  /** Hears that the next attempt begins. */
  resumed? (): void
  /** Hears how far the run is. */
  progressed? (value: Progress): void
  /** Whether that is how the run ends. Else it is neither counted nor remembered: it will be run again. */
  isFinal? (result: RunResult): boolean
  /** Hears how the run ended, before anyone who waits for it. */
  settled (attempt: Attempt, result: RunResult): void
}
