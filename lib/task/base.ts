import assert from 'node:assert'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import { type Condition, worst } from '../common/health.ts'
import { seconds } from '../common/log.ts'
import { type ActiveRun, type Attempt, Handle, type RunHandle, type RunRecord, type RunResult, Runs, skipped, type TaskContext, uuid } from '../run/index.ts'
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

  get activeRuns (): ActiveRun[] { return this.#runs?.active ?? [] }

  /** Whether a run has not ended. */
  get active (): boolean { return this.#runs !== undefined && this.#runs.size > 0 }

  /** Whether the task has run, or does. */
  get hasRun (): boolean { return this.active || this.state !== 'idle' || this.lastRun !== undefined }

  /** The active attempts. */
  get attempts (): Attempt[] { return this.#runs?.attempts ?? [] }

  /** By how many milliseconds the tick that waits behind a run is late; undefined if none waits. */
  get overdue (): number | undefined { return undefined }

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
    const blocked = this.host.blocks.blockOf(this)
    if (blocked !== undefined) yield { status: 'degraded', reason: `the event loop was blocked for ${seconds(blocked)} s while it ran: a worker() computes in a thread` }
    if (this.state === 'backoff') yield { status: 'degraded', reason: 'failed, and waits for the next attempt' }
    const { failures } = this
    if (failures !== undefined) yield { status: 'degraded', reason: failures }
  }

  /** Why the ended runs of the task are a cause for worry; undefined if they are not. */
  protected get failures (): string | undefined {
    return this.lastRun?.outcome === 'failed' ? 'the last run failed' : undefined
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
    return new Handle(id, new Promise(resolve => { ask(id, resolve) }))
  }

  /** A handle of a run that is skipped. */
  protected skip (): RunHandle {
    const id = uuid()
    this.runs.record(id, skipped, this.host.clock.wall(), undefined)
    return new Handle(id, Promise.resolve({ ...skipped }))
  }
}
