import { errorCodes, isGiveUp, type Reason } from '../common/errors.ts'
import { backoff, BLOCKED, defer, formatDuration, now, type Timer } from '../time/index.ts'
import { Attempt } from './attempt.ts'
import { Result } from './past/history.ts'
import type { TaskContext } from './host.ts'
import type { LinkedItem } from './linked-list.ts'
import type { RetryOptions } from './retry.ts'
import type { RunSpec } from './run-spec.ts'
import type { RunResult } from './run.ts'

const { then } = Promise.prototype

/** A run, with callbacks for its steps. */
export interface ExecutionSpec extends RunSpec {
  /** Called when an attempt begins. */
  started? (attempt: Attempt): void
  /** Called when an attempt has failed and another follows in `delay` milliseconds. */
  retrying? (attempt: Attempt, result: RunResult, delay: number): void
  /** Called when the next attempt begins. */
  resumed? (): void
  /** Whether the run ends with this result. If not, it is neither counted nor kept in the history: it will run again. */
  isFinal? (result: RunResult): boolean
  /** Called with the end of the run, before anyone who waits for it. */
  settled (attempt: Attempt, result: RunResult): void
}

/** Hears of the end of every run. */
export interface EndListener {
  /** A run has ended. Called before anyone who waits for it hears of it. */
  ended (execution: Execution, result: RunResult): void
}

/** Result of a run that never began. */
export const skipped: Readonly<RunResult> = Object.freeze({ outcome: 'skipped', value: undefined, error: undefined, duration: 0 })

/** One run: an attempt, and further ones while they fail and `retry` allows more. An attempt begins only after the one before has ended. */
export class Execution implements LinkedItem {
  previous: this | undefined = undefined
  next: this | undefined = undefined
  readonly spec: ExecutionSpec
  readonly #context: TaskContext
  #attempt: Attempt
  #listener: EndListener | undefined
  /** Monotonic time at which the first attempt began, where there may be more than one. */
  #began = 0
  #startedAt = 0
  #reason: Reason | undefined
  /** Ends the wait for an attempt. */
  #wake: (() => void) | undefined
  #limit: Timer | undefined
  #stuck = false
  #result: RunResult | undefined
  #ended: { promise: Promise<RunResult>, resolve: (result: RunResult) => void } | undefined

  constructor (context: TaskContext, spec: ExecutionSpec) {
    this.#context = context
    this.spec = spec
    this.#attempt = new Attempt(context, spec, spec.id, spec.number ?? 1)
  }

  /** The active attempt, or the last one. */
  get attempt (): Attempt { return this.#attempt }

  /** When the run began, in milliseconds since the epoch. */
  get startedAt (): number { return this.#startedAt }

  /** Whether the active attempt is past its `timeout`. */
  get stuck (): boolean { return this.#stuck }

  /** Resolves when the run has ended, after `settled` was called. */
  get ended (): Promise<RunResult> {
    if (this.#result !== undefined) return Promise.resolve(this.#result)
    if (this.#ended === undefined) {
      let resolve!: (result: RunResult) => void
      const promise = new Promise<RunResult>(_resolve => { resolve = _resolve })
      this.#ended = { promise, resolve }
    }
    return this.#ended.promise
  }

  /** Aborts the active attempt, or the wait for the next one. The first reason stays. */
  abort (reason: Reason): void {
    this.#reason ??= reason
    this.#attempt.abort(reason)
    this.#wake?.()
    // The limit is of no more use, and its timer would outlive the close of a server whose handler hangs.
    if (reason.code === 'FST_BG_SHUTDOWN') this.#limit?.cancel()
  }

  /**
   * Runs to the end, then tells `listener`; never throws.
   *
   * Callbacks, not one async function that awaits each step: that would be shorter, but cost a twentieth of the time of a
   * queue's run that does nothing.
   */
  execute (listener: EndListener): void {
    const { later = false, after, startedAt, begunAt, retry } = this.spec
    this.#listener = listener
    this.#startedAt = startedAt ?? this.#context.host.clock.wall()
    if (retry !== undefined) this.#began = now()
    if (later || after !== undefined) void this.#wait(later, after).then(() => { this.#try(0) })
    else this.#try(0, begunAt)
  }

  /** The first attempt, or a further one. */
  #try (tries: number, begunAt?: number): void {
    if (this.#isCancelled(tries)) {
      this.#end(this.#cancelledResult(tries === 0 ? 0 : now() - this.#began))
      return
    }
    const attempt = this.#beginAttempt(tries)
    let work: Promise<unknown>
    try {
      work = Promise.resolve(attempt.execute(begunAt))
    } catch (error) {
      this.#tried(attempt.failed(error), tries)
      return
    }
    // As await does, not by the promise's own `then`, which the handler may have replaced.
    void then.call(
      work,
      value => { this.#tried(attempt.succeeded(value), tries) },
      error => { this.#tried(attempt.failed(error), tries) }
    )
  }

  /** Handles the end of an attempt. */
  #tried (result: RunResult, tries: number): void {
    this.#limit?.cancel()
    this.#stuck = false
    // The run was aborted after its timeout had passed: a rejection now is a cancellation, not a failure.
    if (result.outcome === 'failed' && this.#reason !== undefined && this.#reason.code !== 'FST_BG_TIMEOUT') result.outcome = 'cancelled'
    if (result.outcome === 'failed') this.#context.host.observer?.attemptFailed(this.#context)
    if (result.duration >= BLOCKED) this.#context.host.blocks.longAttemptEnded(this.#context, this.#attempt)
    if (this.#isRetried(result, tries)) {
      void this.#backOff(result, tries).then(() => { this.#try(tries + 1) })
    } else {
      if (tries > 0) result.duration = now() - this.#began
      this.#end(result)
    }
  }

  #end (result: RunResult): void {
    this.#listener?.ended(this, result)
    this.#result = result
    this.#ended?.resolve(result)
  }

  /** Whether the run is cancelled before its next attempt begins. */
  #isCancelled (tries: number): boolean {
    const { later = false, after, always = false } = this.spec
    if (this.#reason === undefined) return false
    return tries > 0 || ((later || after !== undefined) && !always)
  }

  async #wait (later: boolean, after: Promise<unknown> | undefined): Promise<void> {
    if (after !== undefined) await this.#unlessAborted(after)
    if (later) await new Promise<void>(resolve => { defer(resolve) })
  }

  /** Begins the first attempt, or a further one, and limits its time. */
  #beginAttempt (tries: number): Attempt {
    const { spec } = this
    const { timeout } = spec
    if (tries > 0) {
      this.#attempt = new Attempt(this.#context, spec, this.#attempt.id, this.#attempt.number + 1)
      spec.resumed?.()
    }
    const attempt = this.#attempt
    spec.started?.(attempt)
    if (timeout !== undefined) {
      this.#limit = this.#context.host.clock.after(timeout, () => {
        this.#stuck = true
        attempt.abort(new errorCodes.FST_BG_TIMEOUT(attempt.task, formatDuration(timeout)))
      })
    }
    return attempt
  }

  #isRetried ({ outcome, error }: RunResult, tries: number): boolean {
    const { retry } = this.spec
    return retry !== undefined && tries < retry.limit && outcome === 'failed' && this.#reason === undefined && !isGiveUp(error)
  }

  /** Waits until the next attempt is due, or the run is aborted. */
  async #backOff (result: RunResult, tries: number): Promise<void> {
    const delay = backoff(tries, this.spec.retry as RetryOptions)
    this.spec.retrying?.(this.#attempt, result, delay)
    await new Promise<void>(resolve => {
      const timer = this.#context.host.clock.after(delay, resolve)
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

  #cancelledResult (duration: number): RunResult {
    return new Result('cancelled', undefined, this.#reason, duration)
  }
}
