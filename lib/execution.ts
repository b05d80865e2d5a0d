import { Attempt, type AttemptOptions } from './attempt.ts'
import { backoff, type Backoff } from './backoff.ts'
import { now, soon, type Clock, type Timer } from './clock.ts'
import { formatDuration } from './duration.ts'
import { errorCodes, isGiveUp } from './errors.ts'
import type { RunResult } from './run.ts'

/** Why a signal aborts. */
export type Reason = Error & { code: string }

/** Further attempts of a run that failed. */
export interface RetryOptions extends Backoff {
  /** How many there are at most. */
  limit: number
}

/** How a run is executed. */
export interface ExecutionOptions extends Omit<AttemptOptions, 'number'> {
  clock: Clock
  /** Limit of one attempt, in milliseconds. */
  timeout?: number | undefined
  retry?: RetryOptions | undefined
  /** In a later macrotask; else at once. */
  later?: boolean
  /** Even if it is cancelled before that macrotask. */
  always?: boolean
  /** Hears that an attempt failed, and that another follows in `delay` milliseconds. */
  retrying?: ((attempt: Attempt, result: RunResult, delay: number) => void) | undefined
  /** Hears that the next attempt begins. */
  resumed?: (() => void) | undefined
}

/** How a run ends that never began. */
export const skipped: RunResult = { outcome: 'skipped', value: undefined, error: undefined, duration: 0 }

/** One run: an attempt, and further ones as long as they fail and more are due. An attempt begins only after the one before it has ended. */
export class Execution {
  readonly startedAt: number
  readonly #options: ExecutionOptions
  #attempt: Attempt
  #reason: Reason | undefined
  /** Ends the wait between two attempts. */
  #wake: (() => void) | undefined
  #limit: Timer | undefined
  #stuck = false

  constructor (options: ExecutionOptions) {
    this.#options = options
    this.#attempt = new Attempt(options)
    this.startedAt = options.clock.wall()
  }

  /** The attempt that runs now, or was the last. */
  get attempt (): Attempt { return this.#attempt }

  /** Whether it goes on past its time limit. */
  get stuck (): boolean { return this.#stuck }

  /** Aborts it: the attempt that runs, or the wait for the next. The first reason stays. */
  abort (reason: Reason): void {
    this.#reason ??= reason
    this.#attempt.abort(reason)
    this.#wake?.()
    // Of no more use, and it would outlive the close of a server whose handler hangs.
    if (reason.code === 'FST_BG_SHUTDOWN') this.#limit?.cancel()
  }

  /** Runs it to its end; never rejects. */
  async execute (): Promise<RunResult> {
    const { later = false, always = false } = this.#options
    if (later) await new Promise<void>(resolve => { soon(resolve) })
    if (later && !always && this.#reason !== undefined) return this.#cancelled(0)
    const began = now()
    let result = await this.#once()
    for (let tries = 0; this.#isRetried(result, tries); tries++) {
      await this.#backOff(result, tries)
      if (this.#reason !== undefined) return this.#cancelled(now() - began)
      this.#attempt = new Attempt({ ...this.#options, id: this.#attempt.id, number: tries + 2 })
      this.#options.resumed?.()
      result = await this.#once()
    }
    // Asked to end, and past its time limit before: that it rejects is no failure any more.
    const outcome = result.outcome === 'failed' && this.#reason !== undefined ? 'cancelled' : result.outcome
    return { ...result, outcome, duration: now() - began }
  }

  #isRetried ({ outcome, error }: RunResult, tries: number): boolean {
    const { retry } = this.#options
    return retry !== undefined && tries < retry.limit && outcome === 'failed' && this.#reason === undefined && !isGiveUp(error)
  }

  async #once (): Promise<RunResult> {
    const { timeout, clock, task } = this.#options
    const attempt = this.#attempt
    if (timeout !== undefined) {
      this.#limit = clock.after(timeout, () => {
        this.#stuck = true
        attempt.abort(new errorCodes.FST_BG_TIMEOUT(task, formatDuration(timeout)))
      })
    }
    const result = await attempt.execute()
    this.#limit?.cancel()
    this.#stuck = false
    return result
  }

  /** Waits for the time of the next attempt, or until it is aborted. */
  async #backOff (result: RunResult, tries: number): Promise<void> {
    const { clock, retry, retrying } = this.#options
    const delay = backoff(tries, retry as RetryOptions)
    retrying?.(this.#attempt, result, delay)
    await new Promise<void>(resolve => {
      const timer = clock.after(delay, resolve)
      this.#wake = () => {
        timer.cancel()
        resolve()
      }
    })
    this.#wake = undefined
  }

  #cancelled (duration: number): RunResult {
    return { ...skipped, outcome: 'cancelled', error: this.#reason, duration }
  }
}
