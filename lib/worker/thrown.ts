import { type Reason, GiveUp } from '../common/errors.ts'
import type { Thrown, ThrownError } from './messages.ts'

const constructors: Record<string, new (message: string) => Error> = { Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError }

/** What was thrown in a thread, made anew. */
export function decodeThrown (thrown: Thrown): unknown {
  return 'value' in thrown ? thrown.value : decodeError(thrown.error)
}

function decodeError ({ name, message, stack, own, cause, errors, givesUp }: ThrownError): Error {
  const error = givesUp === true ? new GiveUp(message) : errors !== undefined ? new AggregateError(errors.map(decodeThrown), message) : new (constructors[name] ?? Error)(message)
  set(error, 'stack', stack)
  if (error.name !== name) set(error, 'name', name)
  if (cause !== undefined) set(error, 'cause', decodeThrown(cause))
  for (const [key, value] of Object.entries(own)) {
    try {
      (error as unknown as Record<string, unknown>)[key] = value
    } catch {
      // GiveUp's own name cannot be set.
    }
  }
  return error
}

/** Sets a property that is not enumerable, like those of an Error itself. */
function set (error: Error, key: string, value: unknown): void {
  Object.defineProperty(error, key, { value, configurable: true, writable: true })
}

/** The reason of a signal, for a thread. */
export function encodeReason ({ name, message, stack, code }: Reason): ThrownError {
  return { name, message, stack, own: { code } }
}

const mark = 'fastify-background-tasks'

/** An argument of a log call in a thread, with its errors made anew. */
export function decodeLogged (value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (mark in value) return decodeThrown(value[mark] as Thrown)
  if ('err' in value && typeof value.err === 'object' && value.err !== null && mark in value.err) return { ...value, err: decodeThrown(value.err[mark] as Thrown) }
  return value
}
