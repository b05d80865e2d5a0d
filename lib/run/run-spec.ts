import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import type { RetryOptions } from './retry.ts'
import type { Progress, QueueHandler } from './run.ts'
import type { TraceCarrier } from './trace/index.ts'

/** What a run is made of: its handler, its data and its limits. Execution adds who hears of it. */
export interface RunSpec {
  /** The handler, whatever payload it declares. */
  readonly handler: QueueHandler<never, FastifyInstance>
  /** The run's id, where somebody knows it already. */
  readonly id?: string | undefined
  /** Name of the run's task, where the context has another. */
  readonly task?: string | undefined
  /** Number of the first attempt. Default `1`. */
  readonly number?: number | undefined
  readonly payload?: unknown
  readonly dueAt?: Date | undefined
  readonly missed?: number | undefined
  /** Key of the schedule whose tick enqueued it. */
  readonly schedule?: string | undefined
  /** When it was enqueued, in milliseconds since the epoch. */
  readonly enqueuedAt?: number | undefined
  /** Parent of the run's logger. Default: the owner's logger. */
  readonly parent?: FastifyBaseLogger | undefined
  /** Id of the request that asked for the run, bound in its log. */
  readonly reqId?: string | undefined
  /** The key that it was enqueued with. */
  readonly key?: string | undefined
  /** The trace context in which it was enqueued. */
  readonly trace?: TraceCarrier | undefined
  /** When the run began, in milliseconds since the epoch, where the caller has read the clock already: a read costs more than most steps of a short run. */
  readonly startedAt?: number | undefined
  /** The monotonic time at which the run is handed over, where the caller has just read the clock. */
  readonly begunAt?: number | undefined
  /** Limit of one attempt, in milliseconds. */
  readonly timeout?: number | undefined
  readonly retry?: RetryOptions | undefined
  /** Whether the handler is called in a later macrotask, and not at once. */
  readonly later?: boolean
  /** The handler is called only after this promise has settled. */
  readonly after?: Promise<unknown> | undefined
  /** Whether the handler is called even if the run is cancelled before. */
  readonly always?: boolean
  /** Whether only the shutdown deadline aborts the run, as for a `stop`. */
  readonly last?: boolean

  /** Called with each progress that the handler reports. */
  progressed? (value: Progress): void
}
