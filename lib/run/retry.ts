import { type Check, isObject, wrong } from '../common/check.ts'
import { type Backoff, type BackoffOptions, checkBackoff, limit } from '../time/index.ts'

/** Further attempts of a run that failed. */
export interface RetryPolicy extends BackoffOptions {
  /** The most further attempts. */
  limit: number
}

/** A retry policy, checked and complete. */
export interface RetryOptions extends Backoff {
  limit: number
}

const defaults = { delay: 1_000, factor: 2, maxDelay: 60_000, jitter: true }

/** Checks the option `retry`: a number of further attempts, or a policy. Undefined where it allows none. */
export const retry: Check<RetryOptions | undefined> = value => {
  if (typeof value === 'number') return limit(value) === 0 ? undefined : { ...defaults, limit: value }
  if (!isObject(value)) throw wrong('a number of further attempts, or an object with limit, delay, factor, maxDelay, jitter', value)
  const options = checkBackoff<{ limit: Check<number> }, Backoff & { limit: number | undefined }>('retry', value, { limit }, { ...defaults, limit: undefined })
  if (options.limit === undefined) throw wrong('an object with a limit, the number of further attempts', value)
  return options as RetryOptions
}
