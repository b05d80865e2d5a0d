import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import { Attempt, type Result } from './attempt.ts'
import { after, soon, type Timer } from './clock.ts'
import type { Deadline } from './deadline.ts'
import { errorCodes } from './errors.ts'
import type { SharedOptions } from './options.ts'
import { report } from './report.ts'
import type { OnRun, TaskHandler } from './run.ts'
import { transitions, type TaskState } from './states.ts'

/** What kind of task it is: a `service` is one run from ready to close, a `hosted` service is started and stopped by hand. */
export type TaskKind = 'service' | 'hosted'

/** A declared task, as its user holds it. */
export interface BackgroundTask {
  /** Its name, unique in the server. */
  readonly name: string
  /** What kind of task it is. */
  readonly kind: TaskKind
  /** Where it is in its life. */
  readonly state: TaskState
  /**
   * Starts the task unless it runs, also where `autostart` or `enabled` is false. Resolves when it has been started: for a
   * hosted service, when its `start` has ended.
   *
   * Rejects with what `start` threw, with `FST_BG_START_TIMEOUT`, or with `FST_BG_CLOSING` once the application closes.
   */
  start (): Promise<void>
  /**
   * Stops the task: aborts its signal with `FST_BG_CANCELLED`, waits for the handler to end, and calls the `stop` of a hosted
   * service. Resolves when all that is done, or when the application closes meanwhile and runs out of time.
   *
   * Rejects with what `stop` threw.
   */
  stop (): Promise<void>
}

/** What a task is told of the server it lives in. */
export interface Surroundings {
  /** Whether nothing new may start. */
  readonly closing: boolean
  /** The moment after which close waits for nobody. */
  readonly deadline: Deadline
  readonly onRun: OnRun | undefined
}

/** Why a signal aborts. */
export type Reason = Error & { code: string }

/** Hears how an attempt ended, before anyone who waits for it. */
type Settled = (attempt: Attempt, result: Result) => void

/** What is known of an attempt that has been accepted, and has not ended yet. */
interface Active {
  ended: Promise<Result>
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

  /** Whether a run of it has not ended. */
  get active (): boolean { return this.#active.size > 0 }

  /** Whether nothing of it is left that must end. */
  get down (): boolean {
    return this.#active.size === 0 && !this.holding && this.#state !== 'running' && this.#state !== 'stopping'
  }

  start (): Promise<void> {
    if (this.surroundings.closing) return Promise.reject(this.#refusal())
    this.#wanted = true
    this.#starting ??= this.#start().finally(() => { this.#starting = undefined })
    return this.#starting
  }

  async stop (): Promise<void> {
    this.cancel(new errorCodes.FST_BG_CANCELLED(this.name, 'the task was stopped'), 0)
    const error = await this.end()
    if (error !== undefined) throw error
  }

  /** Aborts what runs with `reason`, after `grace` milliseconds; waits for nothing. */
  cancel (reason: Reason, grace: number): void {
    this.#wanted = false
    if (this.#state === 'running') this.enter('stopping')
    if (grace > 0 && this.#active.size > 0) {
      this.#grace ??= after(grace, () => { this.#abort(reason, false) })
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

  /** Begins a life. */
  protected abstract begin (): Promise<void>

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

  /** Runs `handler` once, in a later macrotask. */
  protected launch (handler: TaskHandler, settled: Settled): { attempt: Attempt, ended: Promise<Result> } {
    return this.#track(handler, settled, true)
  }

  /** Runs `handler` once, at once, as last work: its signal aborts at the deadline. */
  protected async launchLast (handler: TaskHandler, settled: Settled): Promise<Result> {
    return await this.#track(handler, settled, false).ended
  }

  async #start (): Promise<void> {
    if (this.#state === 'running') return
    if (this.#ending !== undefined || this.#active.size > 0) {
      // A life begins only after the one before it has ended, even where that ignores its signal.
      await this.#ending
      await this.#idle()
      if (!this.#wanted) return
      if (this.surroundings.closing) throw this.#refusal()
    }
    this.enter('running')
    await this.begin()
  }

  async #end (): Promise<Error | undefined> {
    if (this.#state === 'idle') this.enter('stopped')
    await this.surroundings.deadline.until(this.#idle())
    const error = await this.finish()
    this.#ending = undefined
    if (this.#state === 'stopping' && error !== undefined) this.enter('failed')
    this.#settle()
    return error
  }

  #track (handler: TaskHandler, settled: Settled, cancellable: boolean): { attempt: Attempt, ended: Promise<Result> } {
    const { onRun, deadline } = this.surroundings
    const attempt = new Attempt({ task: this.name, server: this.owner, logLevel: this.options.logLevel, handler, onRun })
    const run = async (): Promise<Result> => {
      if (cancellable) await new Promise<void>(resolve => { soon(resolve) })
      const result = await attempt.execute()
      this.#active.delete(attempt)
      settled(attempt, result)
      this.#settle()
      return result
    }
    if (!cancellable && deadline.passed) attempt.abort(new errorCodes.FST_BG_SHUTDOWN())
    const ended = run()
    this.#active.set(attempt, { ended, cancellable })
    return { attempt, ended }
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
    this.enter('stopped')
    if (this.surroundings.deadline.passed) report.stoppedLate(this.log, this.name)
  }

  #abort (reason: Reason, all: boolean): void {
    this.#grace?.cancel()
    this.#grace = undefined
    for (const [attempt, { cancellable }] of this.#active) {
      if (cancellable || all) attempt.abort(reason)
    }
  }

  #refusal (): Reason {
    return new errorCodes.FST_BG_CLOSING(`Background task "${this.name}" cannot be started`)
  }
}
