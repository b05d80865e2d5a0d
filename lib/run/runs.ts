import { errorCodes, type Reason } from '../common/errors.ts'
import type { Timer } from '../time/index.ts'
import type { Attempt } from './attempt.ts'
import { type EndListener, Execution, type ExecutionSpec } from './execution.ts'
import { History, type RunRecord } from './past/history.ts'
import type { TaskContext } from './host.ts'
import { LinkedList } from './linked-list.ts'
import type { ActiveRun, RunResult } from './run.ts'

/** The runs of one task: the active ones, the number of each outcome, and the history. */
export class Runs implements EndListener {
  succeeded = 0
  failed = 0
  cancelled = 0
  skipped = 0
  readonly #context: TaskContext
  #active: LinkedList<Execution> | undefined
  #history: History | undefined
  #grace: Timer | undefined

  constructor (context: TaskContext) {
    this.#context = context
  }

  get size (): number { return this.#active?.size ?? 0 }

  /** The run that has been active for longest. */
  get oldest (): Execution | undefined {
    return this.#active?.first
  }

  /** Task names of the active runs; there must be some. */
  get names (): string[] { return [...new Set([...this.#active as LinkedList<Execution>].map(({ attempt }) => attempt.task))] }

  /** Runs that have ended, the newest first. */
  get history (): RunRecord[] { return this.#history?.records ?? [] }

  /** The last run that has ended and was not skipped. */
  get newest (): RunRecord | undefined { return this.#history?.newest }

  /** The first active run that is past its timeout. */
  get stuck (): Execution | undefined {
    for (const execution of this.#active ?? []) {
      if (execution.stuck) return execution
    }
    return undefined
  }

  /** Starts a run. */
  start (spec: ExecutionSpec): Execution {
    const { deadline, blocks } = this.#context.host
    const execution = new Execution(this.#context, spec)
    if (spec.last === true && deadline.passed) execution.abort(new errorCodes.FST_BG_SHUTDOWN())
    // The run is active before it begins: in its first line the handler may trigger another run, or stop the task.
    this.#active ??= new LinkedList()
    this.#active.add(execution)
    blocks.begin()
    execution.execute(this)
    return execution
  }

  ended (execution: Execution, result: RunResult): void {
    const { spec, attempt, startedAt } = execution
    this.#active?.remove(execution)
    this.#context.host.blocks.end()
    if (this.size === 0) this.#clearGrace()
    if (spec.isFinal === undefined || spec.isFinal(result)) this.record(attempt.id, result, startedAt, spec.dueAt, attempt.begun ? attempt.number : attempt.number - 1, attempt.task)
    spec.settled(attempt, result)
    this.#context.runEnded()
  }

  /** Counts a run that has ended, and adds it to the history. */
  record (id: string, { outcome, duration, error }: RunResult, startedAt: number, dueAt: Date | undefined, attempts = 0, task = this.#context.name): void {
    this[outcome]++
    this.#context.host.observer?.runsEnded(this.#context, outcome, duration, 1)
    this.#history ??= new History()
    this.#history.add({ id, outcome, dueAt: dueAt?.getTime(), startedAt, duration, attempts, error })
    this.#context.host.activity.ended(outcome, startedAt + duration)
    if (outcome === 'failed') this.#context.host.activity.failed(task, id, startedAt + duration, error)
  }

  /** Counts runs that were cancelled before they began, and that the history does not have. */
  countCancelled (count: number): void {
    this.cancelled += count
    if (count > 0) this.#context.host.observer?.runsEnded(this.#context, 'cancelled', 0, count)
  }

  /** Whether a run with that id is active. */
  has (id: string): boolean {
    for (const { attempt } of this.#active ?? []) {
      if (attempt.id === id) return true
    }
    return false
  }

  /** Aborts one run, and resolves when it has ended; undefined if no run with that id is active. */
  cancelOne (id: string, reason: Reason): Promise<RunResult> | undefined {
    for (const execution of this.#active ?? []) {
      if (execution.attempt.id !== id) continue
      execution.abort(reason)
      return execution.ended
    }
    return undefined
  }

  /** Aborts the active runs after `grace` milliseconds, except a `stop`. */
  cancel (reason: Reason, grace: number): void {
    if (grace > 0 && this.size > 0) {
      this.#grace ??= this.#context.host.clock.after(grace, () => { this.#abort(reason, false) })
    } else {
      this.#abort(reason, false)
    }
  }

  /** Aborts every active run, a `stop` too. */
  expire (reason: Reason): void {
    this.#abort(reason, true)
  }

  /** The active runs, as they are shown. */
  get active (): ActiveRun[] {
    return [...this.#active ?? []].map(({ spec, attempt, startedAt }) => {
      const { id, task, number, key, reqId, progress } = attempt
      return { id, task, attempt: number, startedAt: new Date(startedAt), dueAt: spec.dueAt, key, reqId, progress }
    })
  }

  /** The attempts that are active. */
  get attempts (): Attempt[] { return [...this.#active ?? []].map(({ attempt }) => attempt) }

  /** Resolves when the runs that are active now have ended. */
  async idle (): Promise<void> {
    await Promise.all([...this.#active ?? []].map(({ ended }) => ended))
  }

  #abort (reason: Reason, includeLast: boolean): void {
    this.#clearGrace()
    // Over a copy: an abort listener may begin a run, which may end at once.
    for (const execution of [...this.#active ?? []]) {
      if (execution.spec.last !== true || includeLast) execution.abort(reason)
    }
  }

  #clearGrace (): void {
    this.#grace?.cancel()
    this.#grace = undefined
  }
}
