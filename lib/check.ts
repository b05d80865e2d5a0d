import { inspect } from 'node:util'
import { closestMatch } from 'leven'
import { parseDuration } from './duration.ts'
import { errorCodes } from './errors.ts'

/** Throws what is wrong with a value, or returns what is kept of it. */
export type Check<T> = (value: unknown) => T

export const abortSignal: Check<AbortSignal> = value => {
  if (!(value instanceof AbortSignal)) throw wrong('an AbortSignal', value)
  return value
}
export const boolean: Check<boolean> = value => {
  if (typeof value !== 'boolean') throw wrong('true or false', value)
  return value
}
export const func = <T>(value: unknown): T => {
  if (typeof value !== 'function') throw wrong('a function', value)
  return value as T
}
export const duration: Check<number> = value => {
  const ms = parseDuration(value)
  if (ms === undefined) throw wrong(durationText, value)
  return ms
}
export const positiveDuration: Check<number> = value => {
  const ms = parseDuration(value)
  if (ms === undefined || ms === 0) throw wrong(`${durationText}, above 0`, value)
  return ms
}
/** setTimeout knows no part of a millisecond. */
export const period: Check<number> = value => {
  const ms = parseDuration(value)
  if (ms === undefined || ms < 1) throw wrong(`${durationText}, 1 ms or more`, value)
  return ms
}
export const text: Check<string> = value => {
  if (typeof value !== 'string' || value === '') throw wrong('a text', value)
  return value
}
export const whole = (from: number, to = Number.MAX_SAFE_INTEGER): Check<number> => value => {
  if (!Number.isSafeInteger(value) || Number(value) < from || Number(value) > to) throw wrong(`a whole number from ${from}${to === Number.MAX_SAFE_INTEGER ? '' : ` to ${to}`}`, value)
  return value as number
}
/** An option that is an object itself, with the checks of its own keys. */
export const object = <C extends Record<string, Check<unknown>>>(key: string, checks: C): Check<Checked<C>> => value => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong(`an object with ${Object.keys(checks).join(', ')}`, value)
  return check(key, value, checks)
}
export const oneOf = <T extends string>(...all: T[]): Check<T> => value => {
  if (!all.includes(value as T)) throw wrong(`one of ${all.map(show).join(', ')}`, value)
  return value as T
}
export const durationText = "a duration: milliseconds, or a text such as '500ms', '30s' or '1h30m' (units w d h m s ms, descending, once each)"

/** An `FST_BG_INVALID_OPTION` that says what is wrong. */
export function invalid (what: string, options?: { cause: unknown }): Error {
  return options === undefined ? new errorCodes.FST_BG_INVALID_OPTION(what) : new errorCodes.FST_BG_INVALID_OPTION(what, options)
}

/** How a value stands in an error message. */
export function show (value: unknown): string {
  try {
    return inspect(value, { depth: 0, breakLength: Infinity, maxStringLength: 80 })
  } catch {
    return `${typeof value === 'object' ? 'an' : 'a'} ${typeof value} that cannot be looked at`
  }
}

class Wrong extends Error {}

/** What a check throws: what was expected, and what came instead. */
export function wrong (expected: string, received: unknown): Wrong {
  return new Wrong(`must be ${expected}; received ${show(received)}`)
}

/** What comes out of `check`. */
type Checked<C extends Record<string, Check<unknown>>> = { [K in keyof C]?: ReturnType<C[K]> }

/** The keys that belong to another kind, and what that is. */
export type Elsewhere = Record<string, string>

/**
 * The options as they are given, each looked at once. What a class or a prototype brings along is refused: a method would be called
 * with another `this`, and a getter may say something else next time.
 */
export function optionsOf (where: string, given: unknown, known: string[]): unknown {
  let inherited: [key: string, value: unknown] | undefined
  let own: unknown = given
  try {
    if (typeof given === 'object' && given !== null && !Array.isArray(given)) {
      own = { ...given }
      for (const key of known) {
        if (Object.hasOwn(own as object, key) || !(key in given)) continue
        const value = (given as Record<string, unknown>)[key]
        if (value !== undefined) inherited ??= [key, value]
      }
    }
  } catch (error) {
    throw invalid(`${where}: the options cannot be looked at: ${error instanceof Error ? error.message : show(error)}. Pass a plain object.`, { cause: error })
  }
  if (inherited === undefined) return own
  const [key, value] = inherited
  const plain = typeof value === 'function' ? `{ ${key}: run => object.${key}(run) }` : `{ ${key}: object.${key} }`
  throw invalid(`${where}: option "${key}" is not an ordinary property of the object, but comes from its class or prototype. Pass a plain object, such as ${plain}.`)
}

/**
 * Copies the keys that `checks` knows from options, each through its check. An unknown key is refused, with a suggestion from
 * the keys of all kinds; a known one that is undefined counts as not given. The object itself is neither kept nor changed.
 */
export function check<C extends Record<string, Check<unknown>>> (where: string, options: unknown, checks: C, elsewhere: Elsewhere = {}): Checked<C> {
  const known = Object.keys(checks)
  const given = optionsOf(where, options, known)
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw invalid(`${where}: options must be an object; received ${show(given)}.`)
  }
  const checked: Record<string, unknown> = {}
  for (const key of Object.keys(given)) {
    const checkOf = Object.hasOwn(checks, key) ? checks[key] : undefined
    const value = (given as Record<string, unknown>)[key]
    if (value === undefined && (checkOf !== undefined || Object.hasOwn(elsewhere, key))) continue
    if (checkOf === undefined) throw unknownOption(where, key, known, elsewhere)
    try {
      checked[key] = checkOf(value)
    } catch (error) {
      const { message } = error as Error
      // Else it is of an option that is an object itself, and says which of its own.
      throw invalid(error instanceof Wrong ? `${where}: option "${key}" ${message}.` : `${where}: ${message}`)
    }
  }
  return checked as Checked<C>
}

function unknownOption (where: string, key: string, known: string[], elsewhere: Elsewhere): Error {
  if (Object.hasOwn(elsewhere, key)) return invalid(`${where}: option "${key}" belongs to ${elsewhere[key]}.`)
  const keys = [...known, ...Object.keys(elsewhere)]
  const near = keys.find(one => one.toLowerCase() === key.toLowerCase()) ?? closestMatch(key, keys, { maxDistance: Math.max(1, Math.floor(key.length / 2.5)) })
  return invalid(`${where}: unknown option "${key}". ${near === undefined ? '' : `Did you mean "${near}"? `}It takes ${known.join(', ')}.`)
}
