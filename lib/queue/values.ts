import { show } from '../common/check.ts'
import type { LoggedRun } from './claimed-attempt.ts'
import { jsonOf } from './json.ts'

/** The most bytes of a value as JSON. */
const LARGEST = 64_000

/** Writes what handlers return as JSON. A value that the store cannot keep is left out: its run has succeeded all the same. */
export class Values {
  /** Called for the first value that is left out, with its run and why. */
  readonly #leftOut: (run: LoggedRun, why: string) => void
  #told = false

  constructor (leftOut: (run: LoggedRun, why: string) => void) {
    this.#leftOut = leftOut
  }

  /** What the handler of a run returned, as JSON; undefined if that is left out. */
  encode (run: LoggedRun, value: unknown): string | undefined {
    const [json, why] = encode(value)
    if (why !== undefined && !this.#told) {
      this.#told = true
      this.#leftOut(run, why)
    }
    return json
  }
}

/** The JSON of a value, or why there is none. */
function encode (value: unknown): [json: string, why: undefined] | [json: undefined, why: string] {
  try {
    if (isStream(value)) return [undefined, `cannot be written as JSON: it is a stream (${show(value)})`]
    const json = jsonOf(value, 'value')
    // A character takes at most three bytes, so most values need no count.
    const bytes = json.length * 3 > LARGEST ? Buffer.byteLength(json) : 0
    return bytes > LARGEST ? [undefined, `is ${bytes} bytes of JSON, of at most ${LARGEST}`] : [json, undefined]
  } catch (error) {
    return [undefined, (error as Error).message]
  }
}

/** JSON would make an object of the inner state of a stream. */
function isStream (value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false
  const { pipe, getReader } = value as { pipe?: unknown, getReader?: unknown }
  return typeof pipe === 'function' || typeof getReader === 'function'
}
