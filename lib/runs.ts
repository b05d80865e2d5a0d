import type { FastifyInstance } from 'fastify'
import { Attempt } from './attempt.ts'
import { soon, type Clock, type Timer } from './clock.ts'
import type { Deadline } from './deadline.ts'
import { errorCodes } from './errors.ts'
import type { OnRun, RunResult, TaskHandler } from './run.ts'

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
  readonly onRun: OnRun | undefined
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

/** Why a signal aborts. */
export type Reason = Error & { code: string }

/** Hears how an attempt ended, before anyone who waits for it. */
export type Settled = (attempt: Attempt, result: RunResult) => void

/** How an attempt is launched. */
export interface Launch {
  /** The run's id, where it was given out before. */
  id?: string | undefined
  dueAt?: Date
  missed?: number
  /** In a later macrotask; else at once. */
  later?: boolean
  /** Even if it is cancelled before that macrotask. */
  always?: boolean
  /** As last work: only the deadline aborts it. */
  last?: boolean
}

/** How a run ends that never began. */
export const skipped: RunResult = { outcome: 'skipped', value: undefined, error: undefined, duration: 0 }

/** The runs of one task that have been accepted and have not ended, and how many have ended in which way. */
export class Runs {
  succeeded = 0
  failed = 0
  cancelled = 0
  skipped = 0
  readonly #of: Runner
  #active: Map<Attempt, { ended: Promise<RunResult>, last: boolean }> | undefined
  #grace: Timer | undefined

  constructor (of: Runner) {
    this.#of = of
  }

  get size (): number { return this.#active?.size ?? 0 }

  /** The one that has been active for longest. */
  get oldest (): Attempt | undefined {
    const [oldest] = this.#active?.keys() ?? []
    return oldest
  }

  /** Runs `handler` once. `settled` hears how it ended before anyone who waits for that. */
  launch (handler: TaskHandler, settled: Settled, { later = false, always = false, last = false, ...run }: Launch): { attempt: Attempt, ended: Promise<RunResult> } {
    const { name, owner, options, surroundings } = this.#of
    const attempt = new Attempt({ task: name, server: owner, logLevel: options.logLevel, handler, onRun: surroundings.onRun, ...run })
    if (last && surroundings.deadline.passed) attempt.abort(new errorCodes.FST_BG_SHUTDOWN())
    const execute = async (): Promise<void> => {
      if (later) await new Promise<void>(resolve => { soon(resolve) })
      const never = later && !always && attempt.reason !== undefined
      const result: RunResult = never ? { ...skipped, outcome: 'cancelled', error: attempt.reason } : await attempt.execute()
      this.#active?.delete(attempt)
      this[result.outcome]++
      if (this.size === 0) this.#forgetGrace()
      settled(attempt, result)
      this.#of.runEnded()
      end(result)
    }
    // Active before it begins: the handler may ask for a run, or a stop, in its first line.
    let end!: (result: RunResult) => void
    const ended = new Promise<RunResult>(resolve => { end = resolve })
    this.#active ??= new Map()
    this.#active.set(attempt, { ended, last })
    void execute()
    return { attempt, ended }
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
    for (const [attempt, { last }] of this.#active ?? []) {
      if (!last || lastToo) attempt.abort(reason)
    }
  }

  #forgetGrace (): void {
    this.#grace?.cancel()
    this.#grace = undefined
  }
}
