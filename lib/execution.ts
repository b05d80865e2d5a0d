import { Attempt } from './attempt.ts'
import { backoff, type Backoff } from './backoff.ts'
import { now, soon, type Timer } from './clock.ts'
import { formatDuration } from './duration.ts'
import { errorCodes, isGiveUp } from './errors.ts'
import type { Launch } from './launch.ts'
import type { Linked } from './list.ts'
import type { RunResult } from './run.ts'
import type { Runner } from './runs.ts'

/** Why a signal aborts. */
export type Reason = Error & { code: string }

/** Further attempts of a run that failed. */
export interface RetryOptions extends Backoff {
  /** How many there are at most. */
  limit: number
}

const { then } = Promise.prototype

/** Who keeps account of runs. */
export interface Ledger {
  /** A run has ended. Called before anyone who waits for it hears of it. */
  ended (execution: Execution, result: RunResult): void
}

/** How a run ends that never began. */
export const skipped: Readonly<RunResult> = Object.freeze({ outcome: 'skipped', value: undefined, error: undefined, duration: 0 })

/** One run: an attempt, and further ones as long as they fail and more are due. An attempt begins only after the one before it has ended. */
export class Execution implements Linked {
  previous: this | undefined = undefined
  next: this | undefined = undefined
  readonly launch: Launch
  readonly #of: Runner
  #attempt: Attempt
  #ledger: Ledger | undefined
  /** When the first attempt began, on the clock that is never set, where there may be more. */
  #began = 0
  #startedAt = 0
  #reason: Reason | undefined
  /** Ends the wait for an attempt. */
  #wake: (() => void) | undefined
  #limit: Timer | undefined
  #stuck = false
  #result: RunResult | undefined
  #ended: { promise: Promise<RunResult>, resolve: (result: RunResult) => void } | undefined

  constructor (of: Runner, launch: Launch) {
    this.#of = of
    this.launch = launch
    this.#attempt = new Attempt(of, launch, launch.id, launch.number ?? 1)
  }

  /** The attempt that runs now, or was the last. */
  get attempt (): Attempt { return this.#attempt }

  /** When it was launched, or its attempt began, in milliseconds since the epoch. */
  get startedAt (): number { return this.#startedAt }

  /** Whether it goes on past its time limit. */
  get stuck (): boolean { return this.#stuck }

  /** Resolves when it has ended, and everybody who is to hear of it before has. */
  get ended (): Promise<RunResult> {
    if (this.#result !== undefined) return Promise.resolve(this.#result)
    if (this.#ended === undefined) {
      let resolve!: (result: RunResult) => void
      const promise = new Promise<RunResult>(_resolve => { resolve = _resolve })
      this.#ended = { promise, resolve }
    }
    return this.#ended.promise
  }

  /** Aborts it: the attempt that runs, or the wait for the next. The first reason stays. */
  abort (reason: Reason): void {
    this.#reason ??= reason
    this.#attempt.abort(reason)
    this.#wake?.()
    // Of no more use, and it would outlive the close of a server whose handler hangs.
    if (reason.code === 'FST_BG_SHUTDOWN') this.#limit?.cancel()
  }

  /**
   * Runs it to its end, and tells `ledger`; never throws.
   *
   * Step by step, and not as one async function that awaits each: that would be shorter, and for a run of a queue
   * that does nothing take a twentieth of its time.
   */
  execute (ledger: Ledger): void {
    const { later = false, after, startedAt, retry } = this.launch
    this.#ledger = ledger
    this.#startedAt = startedAt ?? this.#of.surroundings.clock.wall()
    if (retry !== undefined) this.#began = now()
    if (later || after !== undefined) void this.#wait(later, after).then(() => { this.#try(0) })
    else this.#try(0)
  }

  /** The first attempt, or a further one. */
  #try (tries: number): void {
    if (this.#isOff(tries)) {
      this.#end(this.#cancelled(tries === 0 ? 0 : now() - this.#began))
      return
    }
    const attempt = this.#beginAttempt(tries)
    let work: Promise<unknown>
    try {
      work = Promise.resolve(attempt.execute())
    } catch (error) {
      this.#tried(attempt.failed(error), tries)
      return
    }
    // As await does: whatever `then` the handler's promise may have of its own.
    void then.call(
      work,
      value => { this.#tried(attempt.succeeded(value), tries) },
      error => { this.#tried(attempt.failed(error), tries) }
    )
  }

  /** An attempt has ended. */
  #tried (result: RunResult, tries: number): void {
    this.#limit?.cancel()
    this.#stuck = false
    if (this.#isRetried(result, tries)) {
      void this.#backOff(result, tries).then(() => { this.#try(tries + 1) })
    } else {
      if (tries > 0) result.duration = now() - this.#began
      this.#end(result)
    }
  }

  #end (result: RunResult): void {
    // Asked to end, and past its time limit before: that it rejects is no failure any more.
    if (result.outcome === 'failed' && this.#reason !== undefined && this.#reason.code !== 'FST_BG_TIMEOUT') result.outcome = 'cancelled'
    this.#ledger?.ended(this, result)
    this.#result = result
    this.#ended?.resolve(result)
  }

  /** Whether no attempt is to begin any more. */
  #isOff (tries: number): boolean {
    const { later = false, after, always = false } = this.launch
    if (this.#reason === undefined) return false
    return tries > 0 || ((later || after !== undefined) && !always)
  }

  async #wait (later: boolean, after: Promise<unknown> | undefined): Promise<void> {
    if (after !== undefined) await this.#unlessAborted(after)
    if (later) await new Promise<void>(resolve => { soon(resolve) })
  }

  /** The first attempt, or another. Its time is limited. */
  #beginAttempt (tries: number): Attempt {
    const { launch } = this
    const { timeout } = launch
    if (tries > 0) {
      this.#attempt = new Attempt(this.#of, launch, this.#attempt.id, this.#attempt.number + 1)
      launch.resumed?.()
    }
    const attempt = this.#attempt
    launch.started?.(attempt)
    if (timeout !== undefined) {
      this.#limit = this.#of.surroundings.clock.after(timeout, () => {
        this.#stuck = true
        attempt.abort(new errorCodes.FST_BG_TIMEOUT(attempt.task, formatDuration(timeout)))
      })
    }
    return attempt
  }

  #isRetried ({ outcome, error }: RunResult, tries: number): boolean {
    const { retry } = this.launch
    return retry !== undefined && tries < retry.limit && outcome === 'failed' && this.#reason === undefined && !isGiveUp(error)
  }

  /** Waits for the time of the next attempt, or until it is aborted. */
  async #backOff (result: RunResult, tries: number): Promise<void> {
    const delay = backoff(tries, this.launch.retry as RetryOptions)
    this.launch.retrying?.(this.#attempt, result, delay)
    await new Promise<void>(resolve => {
      const timer = this.#of.surroundings.clock.after(delay, resolve)
      this.#wake = () => {
        timer.cancel()
        resolve()
      }
    })
    this.#wake = undefined
  }

  async #unlessAborted (work: Promise<unknown>): Promise<void> {
    await new Promise<void>(resolve => {
      this.#wake = resolve
      void work.then(() => { resolve() })
    })
    this.#wake = undefined
  }

  #cancelled (duration: number): RunResult {
    return { ...skipped, outcome: 'cancelled', error: this.#reason, duration }
  }
}
