import { boolean, check, type Check, wrong } from '../common/check.ts'
import { duration, type Duration } from './duration.ts'

/** The wait before a further attempt or a restart: `delay` × `factor`^n, at most `maxDelay`, times 0.5 to 1 at random with `jitter`. */
export interface BackoffOptions {
  /** The first wait. Default `'1s'`. */
  delay?: Duration | undefined
  /** How many times longer each wait is than the one before; at least 1. Default `2`. */
  factor?: number | undefined
  /** The longest wait; at least `delay`. Default `'30s'` for restarts, `'1m'` for retries. */
  maxDelay?: Duration | undefined
  /** Whether a random factor from 0.5 to 1 shortens each wait. Default `true`. */
  jitter?: boolean | undefined
}

/** Backoff options, checked and complete. Times are milliseconds. */
export interface Backoff {
  delay: number
  factor: number
  maxDelay: number
  /** Spreads the waits, so that what failed together does not come back together. */
  jitter: boolean
}

/** The wait before try `n` in milliseconds, where 0 is the first further try. */
export function backoff (n: number, { delay, factor, maxDelay, jitter }: Backoff, random: () => number = Math.random): number {
  // Keep the power finite: 0 times Infinity is NaN, which no timer can wait for.
  const ms = Math.min(delay * Math.min(factor ** n, Number.MAX_VALUE), maxDelay)
  return jitter ? ms * (0.5 + random() / 2) : ms
}

const factor: Check<number> = value => {
  if (typeof value !== 'number' || !(value >= 1 && value < Infinity)) throw wrong('a number from 1', value)
  return value
}
const backoffChecks = { delay: duration, factor, maxDelay: duration, jitter: boolean }

/** Checks an option that is a backoff policy with further keys, such as `retry`, and completes it with `defaults`. */
export function checkBackoff<C extends Record<string, Check<unknown>>, T extends Backoff> (key: string, value: object, checks: C, defaults: T): T {
  const given = check(key, value, { ...checks, ...backoffChecks }) as Partial<T>
  const options = { ...defaults, ...given }
  if (options.maxDelay >= options.delay) return options
  // The user gave only one of the two: it wins over the default of the other.
  if (given.maxDelay === undefined) return { ...options, maxDelay: options.delay }
  if (given.delay === undefined) return { ...options, delay: options.maxDelay }
  throw wrong(`an object whose maxDelay is not below its delay (${options.delay} ms)`, { maxDelay: options.maxDelay })
}

/** Limit of a policy: a whole number, or Infinity. */
export const limit: Check<number> = value => {
  if (value !== Infinity && !(Number.isSafeInteger(value) && Number(value) >= 0)) throw wrong('a whole number from 0, or Infinity', value)
  return value as number
}
