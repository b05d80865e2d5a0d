import { isMap, isNativeError, isPromise, isRegExp, isSet, isWeakMap, isWeakSet } from 'node:util/types'
import { show } from '../common/check.ts'
import { messageOf } from '../common/errors.ts'

/** Writes a value as JSON. Throws an Error that says why, as the rest of a sentence, where JSON cannot carry it, or would lose a part of it. */
export function jsonOf (value: unknown, name: string): string {
  let json: string | undefined
  let lost: string | undefined
  try {
    json = JSON.stringify(value)
    lost = typeof value === 'object' ? lostIn(value, name) : json === undefined ? show(value) : undefined
  } catch (error) {
    throw new Error(`cannot be written as JSON: ${firstLine(messageOf(error))}`, { cause: error })
  }
  if (json === undefined || lost !== undefined) throw new Error(`cannot be written as JSON: it would lose ${lost ?? 'all of it'}`)
  return json
}

/** Types that JSON turns into an empty object, such as a promise that nobody has awaited, or an error. */
const opaque = { Map: isMap, Set: isSet, WeakMap: isWeakMap, WeakSet: isWeakSet, Promise: isPromise, Error: isError, RegExp: isRegExp }

/** The first value that JSON would silently leave out; undefined if there is none. A value with `toJSON` is fine. */
function lostIn (value: object | null, path: string): string | undefined {
  if (value === null || typeof (value as { toJSON?: unknown }).toJSON === 'function') return undefined
  // Not instanceof: the object may come from another realm.
  const [kind] = Object.entries(opaque).find(([, is]) => is(value)) ?? []
  if (kind !== undefined) return `${path}, which is ${/^[AE]/.test(kind) ? 'an' : 'a'} ${kind}`
  // Not Object.keys: it would allocate an array for each object of each payload.
  for (const key in value) {
    const one = (value as Record<string, unknown>)[key]
    if ((typeof one !== 'object' && typeof one !== 'function' && typeof one !== 'symbol') || !Object.hasOwn(value, key)) continue
    const lost = typeof one === 'object' ? lostIn(one, `${path}.${key}`) : `${path}.${key}, which is a ${typeof one}`
    if (lost !== undefined) return lost
  }
  return undefined
}

/** An error of any realm, or an instance of a class that is not native, such as DOMException. */
function isError (value: unknown): boolean {
  return isNativeError(value) || value instanceof Error
}

export function firstLine (text: string): string {
  return text.split('\n', 1)[0] as string
}
