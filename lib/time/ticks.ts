import { abortSignal, check, invalid, isAbortSignal } from '../common/check.ts'
import { errorCodes } from '../common/errors.ts'
import { type Alarm, Clock } from './clock.ts'
import { type Duration, durationText, period as periodCheck } from './duration.ts'
import { Every } from './schedule.ts'

/** What `ticks` takes besides the period. */
export interface TicksOptions {
  /** When it aborts, the iteration ends without an error. */
  signal?: AbortSignal | undefined
}

/**
 * Ticks every `period`, for a loop inside a service: `for await (const _ of ticks('5s', { signal })) …`.
 *
 * The first tick comes one period after the call, the others on a fixed grid from there. If one turn of the loop takes longer than a
 * period, one tick waits for the next turn, never more. The iteration ends when the signal aborts, or with `break`.
 *
 * Throws `FST_BG_INVALID_OPTION` for a period below 1 ms; `next()` rejects with it while another `next()` waits.
 */
export function ticks (period: Duration, options: TicksOptions = {}): AsyncIterableIterator<void> {
  const { every, signal } = ticksOptions(period, options)
  return new Ticks(every, signal)
}

type Step = IteratorResult<void, undefined>

class Ticks implements AsyncIterableIterator<void, undefined> {
  readonly #clock = new Clock()
  readonly #origin: number
  readonly #grid: Every
  readonly #signal: AbortSignal | undefined
  readonly #alarm: Alarm
  #due: number
  #over = false
  /** Resolves the pending `next()`. While none is pending, no timer is armed. */
  #waiting: ((step: Step) => void) | undefined

  constructor (period: number, signal: AbortSignal | undefined) {
    this.#origin = this.#clock.now()
    this.#grid = new Every(period)
    this.#signal = signal
    this.#due = this.#next(this.#origin)
    this.#alarm = { place: 0, ring: now => { this.#tick(now) } }
  }

  [Symbol.asyncIterator] (): this { return this }

  async next (): Promise<Step> {
    if (this.#waiting !== undefined) {
      throw new errorCodes.FST_BG_INVALID_OPTION('ticks(): next() was called while another next() waits. Only one consumer may take the ticks: call ticks() once for each.')
    }
    if (this.#over || this.#signal?.aborted === true) return this.#end()
    const now = this.#clock.now()
    if (now >= this.#due) {
      this.#due = this.#next(now)
      return { done: false, value: undefined }
    }
    return await new Promise<Step>(resolve => {
      this.#waiting = resolve
      this.#clock.set(this.#alarm, this.#due)
      this.#signal?.addEventListener('abort', this.#abort)
    })
  }

  async return (): Promise<Step> {
    return this.#end()
  }

  #next (now: number): number { return this.#grid.next(now, this.#origin) }

  readonly #abort = (): void => { this.#end() }

  #tick (now: number): void {
    this.#due = this.#next(now)
    this.#resolve({ done: false, value: undefined })
  }

  #end (): Step {
    this.#over = true
    const step: Step = { done: true, value: undefined }
    this.#resolve(step)
    return step
  }

  #resolve (step: Step): void {
    this.#clock.cancel(this.#alarm)
    this.#signal?.removeEventListener('abort', this.#abort)
    this.#waiting?.(step)
    this.#waiting = undefined
  }
}

/** Checks the arguments of `ticks()`. Throws `FST_BG_INVALID_OPTION`. */
function ticksOptions (period: unknown, given: unknown): { every: number, signal: AbortSignal | undefined } {
  if (isAbortSignal(given)) throw invalid('ticks(): the second argument must be an object with the signal: { signal }.')
  const { signal } = check('ticks()', given, { signal: abortSignal })
  const { every } = check('ticks()', { every: period }, { every: periodCheck })
  if (every === undefined) throw invalid(`ticks(): the period must be ${durationText}, 1 ms or more; received undefined.`)
  return { every, signal }
}
