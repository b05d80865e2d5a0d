import { readableCopy, toError } from '../errors.ts'

/** An error as a store keeps it. */
export interface StoredError {
  /** Its `name`, such as `'TypeError'`. */
  name: string
  /** Its message. */
  message: string
  /** Its `code`, where that is a string. */
  code: string | undefined
  /** Its stack, where one is known. */
  stack: string | undefined
}

/** The stored form of a thrown value. */
export function storedError (thrown: unknown): StoredError {
  const { name, message, stack } = readableCopy(toError(thrown))
  return { name, message, code: codeOf(thrown), stack }
}

function codeOf (thrown: unknown): string | undefined {
  try {
    const { code } = Object(thrown) as { code?: unknown }
    return typeof code === 'string' ? code : undefined
  } catch {
    return undefined
  }
}
