import { backoff, type Backoff } from './backoff.ts'

/** When a service is started again. */
export interface RestartOptions extends Backoff {
  when: 'never' | 'on-failure' | 'always'
  /** How many restarts there may be `within` that many milliseconds; one more, and the service is given up. */
  limit: number
  within: number
}

/** The arithmetic of restarts: how long to wait for the next, or that there is none. Time is the caller's. */
export class Restarts {
  readonly #options: RestartOptions
  /** When the restarts within the window were. */
  #times: number[] = []
  /** How many restarts there were since a life has lasted. */
  #count = 0
  /** How many lives have failed in a row. */
  #failures = 0

  constructor (options: RestartOptions) {
    this.#options = options
  }

  /** How many lives have failed in a row, none of which has lasted. */
  get failures (): number { return this.#failures }

  /** Takes note that a life has ended after `lasted` milliseconds. */
  ended (lasted: number, failed: boolean): void {
    if (lasted >= this.#options.within) {
      this.#count = 0
      this.#failures = 0
    }
    this.#failures = failed ? this.#failures + 1 : 0
  }

  /** The milliseconds to wait before the next life; undefined if there is to be none. */
  next (now: number): number | undefined {
    const { when, limit, within } = this.#options
    if (when === 'never') return undefined
    if (limit !== Infinity) {
      this.#times = this.#times.filter(time => now - time < within)
      if (this.#times.length >= limit) return undefined
      this.#times.push(now)
    }
    return backoff(this.#count++, this.#options)
  }

  /** Forgets everything: the task was started by hand. */
  reset (): void {
    this.#times = []
    this.#count = 0
    this.#failures = 0
  }
}
