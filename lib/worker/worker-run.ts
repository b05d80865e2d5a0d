import type { FastifyBaseLogger } from 'fastify'
import type { Progress } from '../run/index.ts'

/**
 * The run as the module of a worker sees it, in its thread. It is a copy: there is no `server`.
 *
 * @example
 * ```ts
 * import type { WorkerRun } from 'fastify-background-tasks/worker'
 * export default ({ payload }: WorkerRun<{ path: string }>) => hashOf(payload.path)
 * ```
 */
export interface WorkerRun<Payload = unknown> {
  /** Unique id of this run. */
  readonly id: string
  /** Name of the task that runs. */
  readonly task: string
  /** Number of this attempt, from 1. */
  readonly attempt: number
  /** The payload of a queue's run, a copy; `undefined` for a task. */
  readonly payload: Payload
  /** When the run was due; `undefined` for a task without a schedule. */
  readonly dueAt: Date | undefined
  /** How many earlier missed ticks this run stands for. */
  readonly missed: number
  /**
   * Aborts when the run should end, with the reason of the server's signal: an Error with the same `code`. A loop that never awaits sees it too, by
   * `signal.aborted` or `signal.throwIfAborted()`.
   */
  readonly signal: AbortSignal
  /** Writes through the server's own logger, with the bindings of the run. What cannot be copied to the server is written as text. */
  readonly log: WorkerLog
  /**
   * Reports the progress of the run: a fraction from 0 to 1, or an object that JSON can carry. The server gets at most twenty reports a second, and the last
   * one in any case.
   *
   * Throws `FST_BG_INVALID_OPTION`.
   */
  progress (value: Progress): void
}

/** The logger of a run in its thread. Each method takes what pino's do. */
export interface WorkerLog {
  /** Writes a line at fatal. */
  fatal: FastifyBaseLogger['fatal']
  /** Writes a line at error. */
  error: FastifyBaseLogger['error']
  /** Writes a line at warn. */
  warn: FastifyBaseLogger['warn']
  /** Writes a line at info. */
  info: FastifyBaseLogger['info']
  /** Writes a line at debug. */
  debug: FastifyBaseLogger['debug']
  /** Writes a line at trace. */
  trace: FastifyBaseLogger['trace']
  /** Level of the server's logger when the run began. */
  readonly level: string
  /** Whether a line of that level would be written. */
  isLevelEnabled (level: string): boolean
  /** A logger whose lines have these bindings, too. */
  child (bindings: object): WorkerLog
}

/** The levels of a logger, but for `silent`. */
export type Level = 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace'
