import { inspect } from 'node:util'
import { closestMatch } from 'leven'
import { errorCodes } from './errors.ts'
import { namesFor, type OtherKinds } from './option-names.ts'

export type { OtherKinds } from './option-names.ts'

/** Checks a value and returns it in the form that the plugin keeps. Throws `wrong()`. */
export type Check<T> = (value: unknown) => T

export const abortSignal: Check<AbortSignal> = value => {
  if (!isAbortSignal(value)) throw wrong('an AbortSignal', value)
  return value
}
export const boolean: Check<boolean> = value => {
  if (typeof value !== 'boolean') throw wrong('true or false', value)
  return value
}
export const func = <T>(value: unknown): T => {
  if (typeof value !== 'function') throw wrong('a function', value)
  if (isClass(value)) throw wrong(`a function, which a class is not: write run => ${callOn(value)}`, value)
  return value as T
}
export const text: Check<string> = value => {
  if (typeof value !== 'string' || value === '') throw wrong('a non-empty string', value)
  return value
}
export const whole = (from: number, to = Number.MAX_SAFE_INTEGER): Check<number> => value => {
  if (!Number.isSafeInteger(value) || Number(value) < from || Number(value) > to) throw wrong(`a whole number from ${from}${to === Number.MAX_SAFE_INTEGER ? '' : ` to ${to}`}`, value)
  return value as number
}
/** Check of an option that is an object with keys of its own. */
export const object = <C extends Record<string, Check<unknown>>>(key: string, checks: C): Check<Checked<C>> => value => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong(`an object with ${Object.keys(checks).join(', ')}`, value)
  return check(key, value, checks)
}
export const oneOf = <T extends string>(...all: T[]): Check<T> => value => {
  if (!all.includes(value as T)) throw wrong(`one of ${all.map(show).join(', ')}`, value)
  return value as T
}
/** Whether a value is an AbortSignal, also one of another realm, or of a DOM such as happy-dom: these are no instances of Node's class. */
export function isAbortSignal (value: unknown): value is AbortSignal {
  const { aborted, addEventListener } = Object(value) as Record<string, unknown>
  return typeof aborted === 'boolean' && typeof addEventListener === 'function'
}

/** Whether a function is a class, also one that a compiler has turned into a function with methods. */
export function isClass (value: unknown): value is Function {
  if (typeof value !== 'function') return false
  const { writable, value: prototype } = Object.getOwnPropertyDescriptor(value, 'prototype') ?? { writable: true }
  return writable === false || Object.getOwnPropertyNames(Object(prototype)).some(key => key !== 'constructor')
}

/** How a method of an instance of that class is called with a run. */
export function callOn ({ name, prototype }: Function): string {
  const method = Object.getOwnPropertyNames(Object(prototype)).find(key => key !== 'constructor') ?? 'handle'
  return `${name === '' ? 'instance' : `${name[0]?.toLowerCase() ?? ''}${name.slice(1)}`}.${method}(run)`
}

/** Refuses a handler that is no function, or a class. Throws `FST_BG_INVALID_OPTION`. */
export function checkHandler (where: string, handler: unknown): void {
  if (typeof handler !== 'function') throw invalid(`${where}: the handler must be a function, and the last argument; received ${show(handler)}.`)
  if (isClass(handler)) throw invalid(`${where}: the handler must be a function; received the class ${handler.name === '' ? '(without a name)' : handler.name}. Make an instance, and pass a function that calls it: run => ${callOn(handler)}.`)
}

/** An `FST_BG_INVALID_OPTION` with the given message. */
export function invalid (what: string, options?: { cause: unknown }): Error {
  return options === undefined ? new errorCodes.FST_BG_INVALID_OPTION(what) : new errorCodes.FST_BG_INVALID_OPTION(what, options)
}

/** A value as error messages show it. */
export function show (value: unknown): string {
  try {
    return inspect(value, { depth: 0, breakLength: Infinity, maxStringLength: 80 })
  } catch {
    return `${typeof value === 'object' ? 'an' : 'a'} ${typeof value} that throws when it is inspected`
  }
}

/** Whether a value is an object with keys, and no array. */
export function isObject (value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

class Wrong extends Error {}

/** The error that a check throws: what it expected and what it received. */
export function wrong (expected: string, received: unknown): Wrong {
  return new Wrong(`must be ${expected}; received ${show(received)}`)
}

/** Result of `check`. */
type Checked<C extends Record<string, Check<unknown>>> = { [K in keyof C]?: ReturnType<C[K]> }

/**
 * A copy of the given options, which reads each option once. Refuses options that come from a class or a prototype: the plugin would call a
 * method with another `this`, and a getter may return something else next time.
 */
export function plainOptions (where: string, given: unknown, known: string[]): unknown {
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
    throw invalid(`${where}: the options cannot be read: ${error instanceof Error ? error.message : show(error)}. Pass a plain object.`, { cause: error })
  }
  if (inherited === undefined) return own
  const [key, value] = inherited
  const plain = typeof value === 'function' ? `{ ${key}: run => object.${key}(run) }` : `{ ${key}: object.${key} }`
  throw invalid(`${where}: option "${key}" is not an ordinary property of the object, but comes from its class or prototype. Pass a plain object, such as ${plain}.`)
}

/**
 * Checks options and returns a checked copy. Refuses an unknown key, and suggests one from the keys of all kinds. A known key with the value
 * undefined counts as not given. The plugin neither keeps nor changes the given object.
 */
export function check<C extends Record<string, Check<unknown>>> (where: string, options: unknown, checks: C, otherKinds: OtherKinds = {}): Checked<C> {
  const known = Object.keys(checks)
  const given = plainOptions(where, options, known)
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw invalid(`${where}: options must be an object; received ${show(given)}.`)
  }
  const checked: Record<string, unknown> = {}
  for (const key of Object.keys(given)) {
    const checkOf = Object.hasOwn(checks, key) ? checks[key] : undefined
    const value = (given as Record<string, unknown>)[key]
    if (value === undefined && (checkOf !== undefined || Object.hasOwn(otherKinds, key))) continue
    if (checkOf === undefined) throw unknownOption(where, key, known, otherKinds)
    try {
      checked[key] = checkOf(value)
    } catch (error) {
      const { message } = error as Error
      // Any other error comes from the check of a nested object, and names the nested key.
      throw invalid(error instanceof Wrong ? `${where}: option "${key}" ${message}.` : `${where}: ${message}`)
    }
  }
  return checked as Checked<C>
}

function unknownOption (where: string, key: string, known: string[], otherKinds: OtherKinds): Error {
  const takes = `It takes ${known.join(', ')}.`
  const here = namesFor(key).filter(name => name !== key && known.includes(name))
  if (here.length > 0) return invalid(`${where}: unknown option "${key}". ${didYouMean(here)} ${takes}`)
  if (Object.hasOwn(otherKinds, key)) return invalid(`${where}: option "${key}" belongs to ${otherKinds[key]}.`)
  const near = nearestOf(key, known, otherKinds)
  const [first] = near
  const elsewhere = first === undefined || known.includes(first) ? '' : `That belongs to ${otherKinds[first]}. `
  return invalid(`${where}: unknown option "${key}". ${first === undefined ? '' : `${didYouMean(near)} `}${elsewhere}${takes}`)
}

/** The options that somebody who wrote `key` may have meant: what another library calls so, or else the one with the most similar name. */
function nearestOf (key: string, known: string[], otherKinds: OtherKinds): string[] {
  const named = namesFor(key).filter(name => Object.hasOwn(otherKinds, name))
  // All of one kind: the error says which.
  if (named.length > 0) return named.filter(name => otherKinds[name] === otherKinds[named[0] as string])
  const keys = [...known, ...Object.keys(otherKinds)]
  const near = keys.find(one => one.toLowerCase() === key.toLowerCase()) ?? closestMatch(key, keys, { maxDistance: Math.max(1, Math.floor(key.length / 2.5)) })
  return near === undefined ? [] : [near]
}

function didYouMean (names: string[]): string {
  return `Did you mean ${names.map(name => `"${name}"`).join(' or ')}?`
}
