import { type Check, isObject, oneOf, wrong } from '../../common/check.ts'
import { backoff, type Backoff, type BackoffOptions, checkBackoff, type Duration, limit, positiveDuration } from '../../time/index.ts'

/** When a service is started again: never, after a failure, or also after its handler returned. */
export type RestartWhen = 'never' | 'on-failure' | 'always'

/** When and how a service is started again. */
export interface RestartPolicy extends BackoffOptions {
  /** Default `'on-failure'`. */
  when?: RestartWhen | undefined
  /** The most restarts `within` the window; one more, and the plugin gives the service up. Default `Infinity`. */
  limit?: number | undefined
  /** The window of `limit`. A life that lasts as long resets the backoff. Default `'1m'`. */
  within?: Duration | undefined
}

/** A restart policy, checked and complete. Times are milliseconds. */
export interface RestartOptions extends Backoff {
  when: RestartWhen
  limit: number
  within: number
}

/** No limit by default: five restarts in a minute would end a service for good in a one-minute failover of its database. */
export const defaultRestart: RestartOptions = { when: 'on-failure', limit: Infinity, within: 60_000, delay: 1_000, factor: 2, maxDelay: 30_000, jitter: true }

const when = oneOf('never', 'on-failure', 'always')

/** Checks the option `restart`. */
export const restart: Check<RestartOptions> = value => {
  if (typeof value === 'string') return { ...defaultRestart, when: when(value) }
  if (!isObject(value)) throw wrong("'never', 'on-failure', 'always', or an object with when, limit, within, delay, factor, maxDelay, jitter", value)
  return checkBackoff('restart', value, { when, limit, within: positiveDuration }, defaultRestart)
}

/** Decides whether to restart, and after how long a wait. The caller passes the time. */
export class Restarts {
  readonly #options: RestartOptions
  /** Times of the restarts within the window. */
  #times: number[] = []
  /** The number of restarts since a life has lasted as long as the window. */
  #count = 0
  /** The number of failed lives in a row. */
  #failures = 0

  constructor (options: RestartOptions) {
    this.#options = options
  }

  /** The number of failed lives in a row, none of which has lasted as long as the window. */
  get failures (): number { return this.#failures }

  /** Records the end of a life after `lasted` milliseconds. */
  ended (lasted: number, failed: boolean): void {
    if (lasted >= this.#options.within) {
      this.#count = 0
      this.#failures = 0
    }
    this.#failures = failed ? this.#failures + 1 : 0
  }

  /** Milliseconds to wait before the next life; undefined if the service is given up. */
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

  /** Resets all counters: somebody has started the task by hand. */
  reset (): void {
    this.#times = []
    this.#count = 0
    this.#failures = 0
  }
}
