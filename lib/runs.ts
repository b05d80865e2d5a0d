import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import type { Attempt } from './attempt.ts'
import type { Clock, Timer } from './clock.ts'
import type { Deadline } from './deadline.ts'
import { errorCodes } from './errors.ts'
import { Execution, type Ledger, type Reason } from './execution.ts'
import type { RunRecord, TaskKind } from './handle.ts'
import { History } from './history.ts'
import type { Launch } from './launch.ts'
import { List } from './list.ts'
import type { OnGiveUp, OnRun, RunResult } from './run.ts'

/** What a task is told of the server it lives in. */
export interface Surroundings {
  readonly phase: 'open' | 'failed' | 'closing'
  /** Whether nothing new may start: the application closes, or its start has failed. */
  readonly closing: boolean
  /** For limits and waits. */
  readonly clock: Clock
  /** For schedules: it is cleared when the application closes. */
  readonly scheduleClock: Clock
  /** The moment after which close waits for nobody. */
  readonly deadline: Deadline
  /** How long a stop by hand waits, in milliseconds. */
  readonly patience: number
  readonly onRun: OnRun | undefined
  /** The tasks that have something to end when the application closes: all but timed ones between their runs. */
  readonly up: { add (task: object): void, delete (task: object): void }
  /** A task has failed for good: does what its `onGiveUp` says. */
  giveUp (task: GivenUp, attempt: Attempt, result: RunResult): void
  /** A task was removed: its name is free. */
  removed (task: object): void
}

/** Whose runs they are. */
export interface Runner {
  readonly name: string
  readonly owner: FastifyInstance
  readonly options: { logLevel: string | undefined }
  readonly surroundings: Surroundings
  /** Called when a run of it has ended. */
  runEnded (): void
}

/** What is to be known of a task that has failed for good. */
export interface GivenUp extends Runner {
  readonly options: { logLevel: string | undefined, onGiveUp: OnGiveUp }
  readonly kind: TaskKind
  readonly log: FastifyBaseLogger
}

/** The runs of one task: those that have been accepted and have not ended, how many have ended in which way, and the last of them. */
export class Runs implements Ledger {
  succeeded = 0
  failed = 0
  cancelled = 0
  skipped = 0
  readonly #of: Runner
  #active: List<Execution> | undefined
  #history: History | undefined
  #grace: Timer | undefined

  constructor (of: Runner) {
    this.#of = of
  }

  get size (): number { return this.#active?.size ?? 0 }

  /** The one that has been active for longest. */
  get oldest (): Execution | undefined {
    return this.#active?.first
  }

  /** What those that are active are called; there are some. */
  get names (): string[] { return [...new Set([...this.#active as List<Execution>].map(({ attempt }) => attempt.task))] }

  /** Those that have ended, the newest first. */
  get history (): RunRecord[] { return this.#history?.records ?? [] }

  /** The last one that has ended, and was not skipped. */
  get newest (): RunRecord | undefined { return this.#history?.newest }

  /** The first that goes on past its time limit. */
  get stuck (): Execution | undefined {
    for (const execution of this.#active ?? []) {
      if (execution.stuck) return execution
    }
    return undefined
  }

  /** Runs a handler to the end of its last attempt. */
  launch (launch: Launch): Execution {
    const { deadline } = this.#of.surroundings
    const execution = new Execution(this.#of, launch)
    if (launch.last === true && deadline.passed) execution.abort(new errorCodes.FST_BG_SHUTDOWN())
    // Active before it begins: the handler may ask for a run, or a stop, in its first line.
    this.#active ??= new List()
    this.#active.add(execution)
    execution.execute(this)
    return execution
  }

  ended (execution: Execution, result: RunResult): void {
    const { launch, attempt, startedAt } = execution
    this.#active?.remove(execution)
    if (this.size === 0) this.#forgetGrace()
    if (launch.isFinal === undefined || launch.isFinal(result)) this.record(attempt.id, result, startedAt, launch.dueAt)
    launch.settled(attempt, result)
    this.#of.runEnded()
  }

  /** Counts a run that has ended, and remembers it. */
  record (id: string, { outcome, duration, error }: RunResult, startedAt: number, dueAt: Date | undefined): void {
    this[outcome]++
    this.#history ??= new History()
    this.#history.add({ id, outcome, dueAt: dueAt?.getTime(), startedAt, duration, error })
  }

  /** Whether a run of that id is active. */
  has (id: string): boolean {
    for (const { attempt } of this.#active ?? []) {
      if (attempt.id === id) return true
    }
    return false
  }

  /** Aborts one run, and resolves when it has ended; undefined if none of that id is active. */
  cancelOne (id: string, reason: Reason): Promise<RunResult> | undefined {
    for (const execution of this.#active ?? []) {
      if (execution.attempt.id !== id) continue
      execution.abort(reason)
      return execution.ended
    }
    return undefined
  }

  /** Aborts what runs, after `grace` milliseconds, but for last work. */
  cancel (reason: Reason, grace: number): void {
    if (grace > 0 && this.size > 0) {
      this.#grace ??= this.#of.surroundings.clock.after(grace, () => { this.#abort(reason, false) })
    } else {
      this.#abort(reason, false)
    }
  }

  /** Aborts whatever runs, last work too. */
  expire (reason: Reason): void {
    this.#abort(reason, true)
  }

  /** Resolves when those that are active now have ended. */
  async idle (): Promise<void> {
    await Promise.all([...this.#active ?? []].map(({ ended }) => ended))
  }

  #abort (reason: Reason, lastToo: boolean): void {
    this.#forgetGrace()
    // Of a copy: who hears of it may begin a run, and that may end at once.
    for (const execution of [...this.#active ?? []]) {
      if (execution.launch.last !== true || lastToo) execution.abort(reason)
    }
  }

  #forgetGrace (): void {
    this.#grace?.cancel()
    this.#grace = undefined
  }
}
