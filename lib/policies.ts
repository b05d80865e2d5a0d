import { boolean, check, duration, oneOf, positiveDuration, wrong, type Check } from './check.ts'
import type { RetryOptions } from './execution.ts'
import type { RestartOptions } from './restarts.ts'
import type { OnGiveUp } from './run.ts'

// The options that are objects themselves: restart and retry.

/** How a service is restarted, unless it says otherwise. No limit: five in a minute would kill a service for good in a one-minute failover. */
export const restarts: RestartOptions = { when: 'on-failure', limit: Infinity, within: 60_000, delay: 1_000, factor: 2, maxDelay: 30_000, jitter: true }
const retries = { delay: 1_000, factor: 2, maxDelay: 60_000, jitter: true }

const when = oneOf('never', 'on-failure', 'always')
const limit: Check<number> = value => {
  if (value !== Infinity && !(Number.isSafeInteger(value) && Number(value) >= 0)) throw wrong('a whole number from 0, or Infinity', value)
  return value as number
}
const factor: Check<number> = value => {
  if (typeof value !== 'number' || !(value >= 1 && value < Infinity)) throw wrong('a number from 1', value)
  return value
}
const backoffChecks = { delay: duration, factor, maxDelay: duration, jitter: boolean }

export const restart: Check<RestartOptions> = value => {
  if (typeof value === 'string') return { ...restarts, when: when(value) }
  if (!isObject(value)) throw wrong("'never', 'on-failure', 'always', or an object with when, limit, within, delay, factor, maxDelay, jitter", value)
  return ordered(restarts, check('restart', value, { when, limit, within: positiveDuration, ...backoffChecks }))
}

export const retry: Check<RetryOptions | undefined> = value => {
  if (typeof value === 'number') return limit(value) === 0 ? undefined : { ...retries, limit: value }
  if (!isObject(value)) throw wrong('a number of further attempts, or an object with limit, delay, factor, maxDelay, jitter', value)
  const { limit: given, ...options } = check('retry', value, { limit, ...backoffChecks })
  if (given === undefined) throw wrong('an object with a limit, the number of further attempts', value)
  return ordered({ ...retries, limit: given }, options)
}

export const givenUp: Check<OnGiveUp> = value => {
  if (typeof value === 'function') return value as OnGiveUp
  if (value !== 'log' && value !== 'close') throw wrong("'log', 'close', or a function", value)
  return value
}

function isObject (value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The defaults with what is given. Where only one of `delay` and `maxDelay` is given, it rules; both are a mistake if they contradict. */
function ordered<T extends { delay: number, maxDelay: number }> (defaults: T, given: Partial<T>): T {
  const options = { ...defaults, ...given }
  if (options.maxDelay >= options.delay) return options
  if (given.maxDelay === undefined) return { ...options, maxDelay: options.delay }
  if (given.delay === undefined) return { ...options, delay: options.maxDelay }
  throw wrong(`an object whose maxDelay is not below its delay (${options.delay} ms)`, { maxDelay: options.maxDelay })
}
