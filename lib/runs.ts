import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import type { Attempt } from './attempt.ts'
import type { Clock, Timer } from './clock.ts'
import type { Deadline } from './deadline.ts'
import { errorCodes } from './errors.ts'
import { Execution, type ExecutionOptions, type Reason } from './execution.ts'
import type { RunRecord, TaskKind } from './handle.ts'
import type { OnGiveUp, OnRun, RunResult, TaskHandler } from './run.ts'

/** What a task is told of the server it lives in. */
export interface Surroundings {
  /** Whether nothing new may start. */
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

/** Hears how a run ended, before anyone who waits for it. */
export type Settled = (attempt: Attempt, result: RunResult) => void

/** How a run is launched. */
export interface Launch extends Pick<ExecutionOptions, 'id' | 'dueAt' | 'missed' | 'later' | 'always' | 'timeout' | 'retry' | 'retrying' | 'resumed'> {
  /** As last work: only the deadline aborts it. */
  last?: boolean
}

/** How many runs are remembered. */
const REMEMBERED = 30

/** The runs of one task: those that have been accepted and have not ended, how many have ended in which way, and the last of them. */
export class Runs {
  succeeded = 0
  failed = 0
  cancelled = 0
  skipped = 0
  readonly #of: Runner
  #active: Map<Execution, { ended: Promise<RunResult>, last: boolean }> | undefined
  /** The oldest first. */
  #history: RunRecord[] | undefined
  #grace: Timer | undefined

  constructor (of: Runner) {
    this.#of = of
  }

  get size (): number { return this.#active?.size ?? 0 }

  /** The one that has been active for longest. */
  get oldest (): Execution | undefined {
    return this.#active?.keys().next().value
  }

  /** Those that have ended, the newest first. */
  get history (): RunRecord[] { return this.#history?.toReversed() ?? [] }

  /** The last one that has ended, and was not skipped. */
  get newest (): RunRecord | undefined { return this.#history?.findLast(({ outcome }) => outcome !== 'skipped') }

  /** The first that goes on past its time limit. */
  get stuck (): Execution | undefined {
    for (const execution of this.#active?.keys() ?? []) {
      if (execution.stuck) return execution
    }
    return undefined
  }

  /** Runs `handler` to the end of its last attempt. `settled` hears how it ended before anyone who waits for that. */
  launch (handler: TaskHandler, settled: Settled, { last = false, ...launch }: Launch): { execution: Execution, ended: Promise<RunResult> } {
    const { name, owner, options, surroundings } = this.#of
    const { clock, onRun, deadline } = surroundings
    const execution = new Execution({ task: name, server: owner, logLevel: options.logLevel, handler, onRun, clock, ...launch })
    if (last && deadline.passed) execution.abort(new errorCodes.FST_BG_SHUTDOWN())
    const execute = async (): Promise<void> => {
      const result = await execution.execute()
      this.#active?.delete(execution)
      if (this.size === 0) this.#forgetGrace()
      this.record(execution.attempt.id, result, execution.startedAt, launch.dueAt)
      settled(execution.attempt, result)
      this.#of.runEnded()
      end(result)
    }
    // Active before it begins: the handler may ask for a run, or a stop, in its first line.
    let end!: (result: RunResult) => void
    const ended = new Promise<RunResult>(resolve => { end = resolve })
    this.#active ??= new Map()
    this.#active.set(execution, { ended, last })
    void execute()
    return { execution, ended }
  }

  /** Counts a run that has ended, and remembers it. */
  record (id: string, { outcome, duration, error }: RunResult, startedAt: number, dueAt: Date | undefined): void {
    this[outcome]++
    this.#history ??= []
    this.#history.push({ id, outcome, dueAt, startedAt: new Date(startedAt), duration, error })
    if (this.#history.length > REMEMBERED) this.#history.shift()
  }

  /** Aborts one run, and resolves when it has ended; undefined if none of that id is active. */
  cancelOne (id: string, reason: Reason): Promise<RunResult> | undefined {
    for (const [execution, { ended }] of this.#active ?? []) {
      if (execution.attempt.id !== id) continue
      execution.abort(reason)
      return ended
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
  async ended (): Promise<void> {
    await Promise.all([...this.#active?.values() ?? []].map(({ ended }) => ended))
  }

  #abort (reason: Reason, lastToo: boolean): void {
    this.#forgetGrace()
    for (const [execution, { last }] of this.#active ?? []) {
      if (!last || lastToo) execution.abort(reason)
    }
  }

  #forgetGrace (): void {
    this.#grace?.cancel()
    this.#grace = undefined
  }
}
