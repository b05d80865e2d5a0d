import assert from 'node:assert'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import { type Condition, worst } from '../health.ts'
import { type RunHandle, type RunRecord, type RunResult, Runs, skipped, type TaskContext, uuid } from '../run/index.ts'
import type { TaskKind, TaskStats } from './handle.ts'
import type { TaskHost } from './host.ts'
import type { SharedOptions } from './options.ts'
import { loggers } from './rare-fields.ts'
import { type TaskState, transitions } from './states.ts'

/** What every task is and has: a name, an owner, a state, runs and a log. */
export abstract class TaskBase implements TaskContext {
  abstract get kind (): TaskKind
  readonly name: string
  readonly owner: FastifyInstance
  readonly options: SharedOptions
  readonly host: TaskHost
  #state: TaskState = 'idle'
  #runs: Runs | undefined

  constructor (name: string, owner: FastifyInstance, options: SharedOptions, host: TaskHost) {
    this.name = name
    this.owner = owner
    this.options = options
    this.host = host
  }

  get state (): TaskState { return this.#state }

  get stats (): TaskStats {
    const { succeeded = 0, failed = 0, cancelled = 0, skipped = 0, size: active = 0 }: Partial<Runs> = this.#runs ?? {}
    return { succeeded, failed, cancelled, skipped, active }
  }

  get history (): RunRecord[] { return this.#runs?.history ?? [] }

  get lastRun (): RunRecord | undefined { return this.#runs?.newest }

  /** Whether a run has not ended. */
  get active (): boolean { return this.#runs !== undefined && this.#runs.size > 0 }

  /** The owner's logger, at the task's own level. */
  get log (): FastifyBaseLogger {
    const { owner, options: { logLevel } } = this
    if (logLevel === undefined) return owner.log
    const log = loggers.get(this) ?? owner.log.child({}, { level: logLevel })
    loggers.set(this, log)
    return log
  }

  /** The task's worst condition. */
  get condition (): Condition {
    return worst(this.conditions())
  }

  /** Resolves when the runs that are active now have ended. */
  async idle (): Promise<void> {
    await this.#runs?.idle()
  }

  abstract runEnded (): void

  /** Every reason why the task is not well. */
  protected * conditions (): Iterable<Condition> {
    if (this.state === 'failed') yield { status: 'failing', reason: 'failed for good' }
    const stuck = this.#runs?.stuck
    if (stuck !== undefined) yield { status: 'failing', reason: `run ${stuck.attempt.id} goes on past its timeout` }
    if (this.state === 'backoff') yield { status: 'degraded', reason: 'failed, and waits for the next attempt' }
    if (this.lastRun?.outcome === 'failed') yield { status: 'degraded', reason: 'the last run failed' }
  }

  protected get runs (): Runs {
    this.#runs ??= new Runs(this)
    return this.#runs
  }

  /** The one way to change the state. */
  protected enter (next: TaskState): void {
    const allowed: readonly TaskState[] = transitions[this.#state]
    assert(allowed.includes(next), 'states.ts does not allow this transition')
    this.#state = next
  }

  /** A handle of the run that `ask` asks for. */
  protected handle (ask: (id: string, settle: (result: RunResult) => void) => void): RunHandle {
    const id = uuid()
    return { id, finished: new Promise(resolve => { ask(id, resolve) }) }
  }

  /** A handle of a run that is skipped. */
  protected skip (): RunHandle {
    const id = uuid()
    this.runs.record(id, skipped, this.host.clock.wall(), undefined)
    return { id, finished: Promise.resolve({ ...skipped }) }
  }
}
