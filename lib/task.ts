import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import { randomUUID } from 'node:crypto'
import { Attempt } from './attempt.ts'
import { soon, type Clock, type Timer } from './clock.ts'
import type { Deadline } from './deadline.ts'
import { errorCodes } from './errors.ts'
import type { BackgroundTask, TaskKind, TaskStats } from './handle.ts'
import { invalid, show } from './check.ts'
import type { SharedOptions } from './options.ts'
import { report } from './report.ts'
import type { OnRun, RunHandle, RunOutcome, RunResult, TaskHandler } from './run.ts'
import { transitions, type TaskState } from './states.ts'

/** What a task is told of the server it lives in. */
export interface Surroundings {
  /** Whether nothing new may start. */
  readonly closing: boolean
  readonly clock: Clock
  /** The moment after which close waits for nobody. */
  readonly deadline: Deadline
  readonly onRun: OnRun | undefined
}

/** Why a signal aborts. */
export type Reason = Error & { code: string }

/** Hears how an attempt ended, before anyone who waits for it. */
type Settled = (attempt: Attempt, result: RunResult) => void

/** What an attempt is launched with. */
interface Launch {
  /** The run's id, where it was given out before. */
  id?: string | undefined
  dueAt?: Date
  missed?: number
  /** In a later macrotask; else at once. */
  later?: boolean
  /** Even if it is cancelled before that macrotask. */
  always?: boolean
  /** As last work: `cancel` leaves it alone, the deadline does not. */
  last?: boolean
}

export const skipped: RunResult = { outcome: 'skipped', value: undefined, error: undefined, duration: 0 }

/** What is known of an attempt that has been accepted, and has not ended yet. */
interface Active {
  ended: Promise<RunResult>
  /** Whether `cancel` aborts it. The `stop` of a hosted service goes on until the deadline. */
  cancellable: boolean
}

/**
 * What all kinds of task share: the state and the one way to change it, the runs that are active, and the way down.
 *
 * A life begins with `start` and goes down in two steps. `cancel` aborts what runs, at once or after a grace, and waits for
 * nothing: it is called in `preClose`. `end` waits for what runs, bounded by the deadline, then lets the kind do its last
 * work: it is called in the owner's `onClose`. There is one way down for a life; who comes second gets the same promise.
 */
export abstract class Task implements BackgroundTask {
  abstract readonly kind: TaskKind
  readonly name: string
  readonly owner: FastifyInstance
  readonly options: SharedOptions
  protected readonly surroundings: Surroundings
  readonly #active = new Map<Attempt, Active>()
  #state: TaskState = 'idle'
  /** Where the way down ends. */
  #rest: 'stopped' | 'paused' = 'stopped'
  /** Whether a start was asked for while it was paused, or it ran when it was paused. */
  #resumable = false
  #launched: Promise<RunResult> | undefined
  readonly #counts: Record<RunOutcome, number> = { succeeded: 0, failed: 0, cancelled: 0, skipped: 0 }
  /** What was asked for last: start or stop. A start that had to wait for the life before looks here again. */
  #wanted = false
  #starting: Promise<void> | undefined
  #ending: Promise<Error | undefined> | undefined
  #grace: Timer | undefined
  #log: FastifyBaseLogger | undefined

  constructor (name: string, owner: FastifyInstance, options: SharedOptions, surroundings: Surroundings) {
    this.name = name
    this.owner = owner
    this.options = options
    this.surroundings = surroundings
  }

  get state (): TaskState { return this.#state }

  get stats (): TaskStats { return { ...this.#counts, active: this.#active.size } }

  get nextRunAt (): Date | undefined { return undefined }

  nextRuns (count: number): Date[] {
    if (!Number.isInteger(count) || count < 0 || count > 1_000) {
      throw invalid(`Background task "${this.name}": nextRuns() takes a whole number from 0 to 1000; received ${show(count)}.`)
    }
    return []
  }

  /** Whether a run of it has not ended. */
  get active (): boolean { return this.#active.size > 0 }

  /** Whether nothing of it is left that must end. */
  get down (): boolean {
    return this.#active.size === 0 && !this.holding && this.#state !== 'running' && this.#state !== 'stopping'
  }

  /** Whether the app starts it when it becomes ready: it has not been started, nor stopped. */
  get startable (): boolean {
    return !this.live && this.#starting === undefined && (this.#state === 'idle' || this.#state === 'paused')
  }

  start (): Promise<void> {
    return this.#startAs(undefined)
  }

  async stop (): Promise<void> {
    await this.#goDown('stopped', 'the task was stopped')
  }

  async pause (): Promise<void> {
    if (this.surroundings.closing) return
    if (this.#state === 'idle' && this.#starting === undefined) {
      this.enter('paused')
    } else if (this.live || this.#starting !== undefined) {
      this.#resumable = true
      await this.#goDown('paused', 'the task was paused')
    }
  }

  async resume (): Promise<void> {
    if (this.#state === 'stopping' && this.#rest === 'paused') await this.#ending
    if (this.#state !== 'paused' || this.surroundings.closing) return
    this.enter('idle')
    if (!this.#resumable) return
    this.#resumable = false
    await this.start()
  }

  trigger (): RunHandle {
    this.refuseWhileClosing('triggered')
    if (this.live || this.#starting !== undefined) {
      this.count('skipped')
      return { id: randomUUID(), finished: Promise.resolve(skipped) }
    }
    if (this.#state === 'paused') this.enter('idle')
    return this.handle((id, settle) => {
      this.#launched = undefined
      const started = this.#startAs(id)
      const ended = async (error?: unknown): Promise<RunResult> => await this.#launched ?? { ...skipped, outcome: 'cancelled', error }
      void started.then(() => ended(), ended).then(settle)
    })
  }

  /** Aborts what runs with `reason`, after `grace` milliseconds; waits for nothing. */
  cancel (reason: Reason, grace: number): void {
    this.#wanted = false
    if (this.#state === 'running' || (this.#state === 'paused' && this.active)) this.enter('stopping')
    if (grace > 0 && this.#active.size > 0) {
      this.#grace ??= this.surroundings.clock.after(grace, () => { this.#abort(reason, false) })
    } else {
      this.#abort(reason, false)
    }
  }

  /** Aborts whatever still runs, the last work too: the deadline has passed. */
  expire (reason: Reason): void {
    this.#abort(reason, true)
  }

  /** Waits for what runs, then does the last work. Resolves with the error of that, if there was one; never rejects. */
  end (): Promise<Error | undefined> {
    this.#ending ??= this.#end()
    return this.#ending
  }

  /** Whether it holds something that only its last work lets go. */
  protected get holding (): boolean { return false }

  /** Whether a life has begun, and has not been asked to end. */
  protected abstract get live (): boolean

  /** Begins a life; its first run has the given id. */
  protected abstract begin (id?: string): Promise<void>

  /** The last work of a life: what runs has ended, or the deadline has passed. Resolves with its error; never rejects. */
  protected abstract finish (): Promise<Error | undefined>

  /** The one way to change the state. */
  protected enter (next: TaskState): void {
    const allowed: readonly TaskState[] = transitions[this.#state]
    if (!allowed.includes(next)) throw new Error(`task "${this.name}" cannot go from ${this.#state} to ${next}`)
    this.#state = next
  }

  /** The owner's logger, at the level of this task. */
  get log (): FastifyBaseLogger {
    const { logLevel } = this.options
    this.#log ??= logLevel === undefined ? this.owner.log : this.owner.log.child({}, { level: logLevel })
    return this.#log
  }

  /** The attempt that has been active for longest. */
  protected get oldest (): Attempt | undefined {
    const [oldest] = this.#active.keys()
    return oldest
  }

  protected count (outcome: RunOutcome): void {
    this.#counts[outcome]++
  }

  /** A handle for the run that `ask` asks for. */
  protected handle (ask: (id: string, settle: (result: RunResult) => void) => void): RunHandle {
    const id = randomUUID()
    return { id, finished: new Promise(resolve => { ask(id, resolve) }) }
  }

  protected refuseWhileClosing (what: string): void {
    if (this.surroundings.closing) throw new errorCodes.FST_BG_CLOSING(`Background task "${this.name}" cannot be ${what}`)
  }

  /** Runs `handler` once. `settled` hears how it ended before anyone who waits for that. */
  protected launch (handler: TaskHandler, settled: Settled, { later = false, always = false, last = false, ...run }: Launch): { attempt: Attempt, ended: Promise<RunResult> } {
    const { onRun, deadline } = this.surroundings
    const attempt = new Attempt({ task: this.name, server: this.owner, logLevel: this.options.logLevel, handler, onRun, ...run })
    if (last && deadline.passed) attempt.abort(new errorCodes.FST_BG_SHUTDOWN())
    const execute = async (): Promise<void> => {
      if (later) await new Promise<void>(resolve => { soon(resolve) })
      const result = later && !always && attempt.reason !== undefined
        ? { ...skipped, outcome: 'cancelled', error: attempt.reason } as const
        : await attempt.execute()
      this.#active.delete(attempt)
      this.count(result.outcome)
      settled(attempt, result)
      this.#settle()
      end(result)
    }
    // Active before it begins: the handler may ask for a run, or a stop, in its first line.
    let end!: (result: RunResult) => void
    const ended = new Promise<RunResult>(resolve => { end = resolve })
    this.#active.set(attempt, { ended, cancellable: !last })
    this.#launched = ended
    void execute()
    return { attempt, ended }
  }

  async #startAs (id: string | undefined): Promise<void> {
    this.refuseWhileClosing('started')
    if (this.#state === 'paused') {
      this.#resumable = true
      return
    }
    this.#wanted = true
    this.#starting ??= this.#start(id).finally(() => { this.#starting = undefined })
    await this.#starting
  }

  async #start (id: string | undefined): Promise<void> {
    if (this.live) return
    if (this.#ending !== undefined || this.#active.size > 0) {
      // A life begins only after the one before it has ended, even where that ignores its signal.
      await this.#ending
      await this.#idle()
      if (!this.#wanted) return
      this.refuseWhileClosing('started')
    }
    await this.begin(id)
  }

  async #goDown (rest: 'stopped' | 'paused', why: string): Promise<void> {
    this.#rest = rest
    this.cancel(new errorCodes.FST_BG_CANCELLED(this.name, why), 0)
    const error = await this.end()
    if (error !== undefined) throw error
  }

  async #end (): Promise<Error | undefined> {
    if (this.#state === 'idle' || this.#state === 'paused') this.enter('stopped')
    await this.surroundings.deadline.until(this.#idle())
    const error = await this.finish()
    this.#ending = undefined
    if (this.#state === 'stopping' && error !== undefined) this.enter('failed')
    this.#settle()
    return error
  }

  /** Resolves when the runs that are active now have ended. */
  async #idle (): Promise<void> {
    await Promise.all([...this.#active.values()].map(({ ended }) => ended))
  }

  /** What is to do when a run, or the last work, has ended. */
  #settle (): void {
    if (this.#active.size > 0 || this.holding) return
    this.#grace?.cancel()
    this.#grace = undefined
    if (this.#state !== 'stopping' || this.#ending !== undefined) return
    this.enter(this.#rest)
    this.#rest = 'stopped'
    if (this.surroundings.deadline.passed) report.stoppedLate(this.log, this.name)
  }

  #abort (reason: Reason, all: boolean): void {
    this.#grace?.cancel()
    this.#grace = undefined
    for (const [attempt, { cancellable }] of this.#active) {
      if (cancellable || all) attempt.abort(reason)
    }
  }
}
