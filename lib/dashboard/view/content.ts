import type { FastifyBaseLogger } from 'fastify'
import { report } from '../../common/log.ts'
import type { StoredError } from '../../store/index.ts'

/** Data of a user as text, for display. */
export interface Content {
  /** As JSON; undefined if it is hidden. */
  text?: string
  /** Its whole size as JSON, in bytes. */
  bytes?: number
  /** Whether the text is only the beginning. */
  cut?: boolean
  /** Why there is no text. */
  hidden?: string
}

/** The most bytes of a text that is shown. */
const LIMIT = 10_000
/** The most bytes of an error in a list. */
const SHORT = 1_000

/** A value as JSON text, cut at 10 kB; undefined for no value. */
export function contentOf (value: unknown): Content | undefined {
  if (value === undefined) return undefined
  try {
    const text = JSON.stringify(value, null, 2) as string | undefined
    if (text === undefined) return { hidden: 'It cannot be shown as JSON.' }
    const bytes = Buffer.byteLength(text)
    return { text: cut(text), bytes, cut: bytes > LIMIT }
  } catch {
    return { hidden: 'It cannot be shown as JSON.' }
  }
}

/** Shows payloads, as the option `redact` says. */
export class Payloads {
  readonly #redact: (payload: unknown, task: string) => unknown

  constructor (redact: (payload: unknown, task: string) => unknown) {
    this.#redact = redact
  }

  async show (payload: unknown, task: string, log: FastifyBaseLogger): Promise<Content | undefined> {
    try {
      return contentOf(await this.#redact(payload, task))
    } catch (error) {
      report.redactFailed(log, task, error)
      return { hidden: 'The option "redact" failed: nothing is shown.' }
    }
  }
}

/** An error for display, without its stack. */
export function shortError ({ name, message, code }: StoredError): StoredError {
  return { name: cut(name, SHORT), message: cut(message, SHORT), code: code === undefined ? undefined : cut(code, SHORT), stack: undefined }
}

/** An error for display, with its stack. */
export function wholeError ({ name, message, code, stack }: StoredError): StoredError {
  return { name: cut(name, SHORT), message: cut(message), code: code === undefined ? undefined : cut(code, SHORT), stack: stack === undefined ? undefined : cut(stack) }
}

/** Progress for display: the fraction, or a short text of the object. */
export function progressOf (progress: number | object | undefined): number | string | undefined {
  if (progress === undefined || typeof progress === 'number') return progress
  return cut(JSON.stringify(progress), SHORT)
}

/** The first bytes of a text, without half a character at the end. */
export function cut (text: string, limit = LIMIT): string {
  if (text.length * 3 <= limit || Buffer.byteLength(text) <= limit) return text
  // A cut character decodes as a replacement character.
  return `${Buffer.from(text.slice(0, limit)).subarray(0, limit).toString().replace(/\uFFFD$/, '')}…`
}
