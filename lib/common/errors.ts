import { createError } from '@fastify/error'
import { inspect } from 'node:util'

/**
 * Every error of this plugin: its code, its message, and the HTTP status of a route that throws it.
 *
 * @example
 * ```ts
 * import { errorCodes } from 'fastify-background-tasks'
 * if (signal.reason instanceof errorCodes.FST_BG_SHUTDOWN) await saveCheckpoint()
 * ```
 */
export const errorCodes = {
  /** The call got an option, a name or a handler that it does not take. */
  FST_BG_INVALID_OPTION: createError<'FST_BG_INVALID_OPTION', 500, [what: string, cause?: { cause: unknown }]>(
    'FST_BG_INVALID_OPTION', '%s', 500
  ),
  /** A decorator was called without its Fastify instance as `this`. */
  FST_BG_INVALID_THIS: createError<'FST_BG_INVALID_THIS', 500, [method: string, received: string]>(
    'FST_BG_INVALID_THIS',
    '%s was called with %s as "this". The instance on which you call it owns the task: call it as a method of that instance ("fastify.addBackgroundTask(…)") and do not destructure it.',
    500
  ),
  /** Another task has the name. */
  FST_BG_DUPLICATE_NAME: createError<'FST_BG_DUPLICATE_NAME', 500, [name: string, owner: string]>(
    'FST_BG_DUPLICATE_NAME',
    'A background task named "%s" was already declared by plugin "%s". Names are unique in the whole server: choose another.',
    500
  ),
  /** The plugin was registered a second time on one server. */
  FST_BG_ALREADY_REGISTERED: createError<'FST_BG_ALREADY_REGISTERED', 500, []>(
    'FST_BG_ALREADY_REGISTERED',
    'fastify-background-tasks is already registered in this application. Register it once, on the root instance: every child instance then has its decorators.',
    500
  ),
  /** A call would have started something new while the application closes. */
  FST_BG_CLOSING: createError<'FST_BG_CLOSING', 503, [what: string]>(
    'FST_BG_CLOSING',
    '%s: the application is closing, or has failed to start, and starts nothing new.',
    503
  ),
  /** The `start` of a hosted service took too long. */
  FST_BG_START_TIMEOUT: createError<'FST_BG_START_TIMEOUT', 500, [name: string, limit: string]>(
    'FST_BG_START_TIMEOUT',
    'The start of background task "%s" did not end within %s. Give "start" only what must be done before the server listens, or raise the task\'s "startTimeout" (and Fastify\'s "pluginTimeout", which must be above it).',
    500
  ),
  /** Reason of a signal: the attempt ran longer than its limit. */
  FST_BG_TIMEOUT: createError<'FST_BG_TIMEOUT', 500, [name: string, limit: string]>(
    'FST_BG_TIMEOUT',
    'Background task "%s" did not end within %s.',
    500
  ),
  /** Reason of a signal: the application closes. */
  FST_BG_SHUTDOWN: createError<'FST_BG_SHUTDOWN', 503, []>(
    'FST_BG_SHUTDOWN',
    'The application is closing.',
    503
  ),
  /** The shutdown deadline passed before every task had stopped. */
  FST_BG_SHUTDOWN_TIMEOUT: createError<'FST_BG_SHUTDOWN_TIMEOUT', 500, [limit: string, tasks: string]>(
    'FST_BG_SHUTDOWN_TIMEOUT',
    'Not every background task stopped within %s of close(): %s. Close goes on without them. Pass run.signal to what a handler awaits, or raise "shutdownTimeout".',
    500
  ),
  /** Reason of a signal: somebody cancelled the run, or stopped its task. */
  FST_BG_CANCELLED: createError<'FST_BG_CANCELLED', 500, [name: string, why: string]>(
    'FST_BG_CANCELLED',
    'Background task "%s" was cancelled: %s.',
    500
  ),
  /** A task has failed for good; the thrown value is the `cause`. */
  FST_BG_GAVE_UP: createError<'FST_BG_GAVE_UP', 500, [name: string, why: string, cause?: { cause: unknown }]>(
    'FST_BG_GAVE_UP',
    'Background task "%s" was given up: %s.',
    500
  ),
  /** A queue in memory has reached its `maxSize`. */
  FST_BG_QUEUE_FULL: createError<'FST_BG_QUEUE_FULL', 503, [name: string, size: number]>(
    'FST_BG_QUEUE_FULL',
    'Background queue "%s" is full: %s runs wait. Try again later, raise "maxSize" or "concurrency", or pass onFull: \'wait\'.',
    503
  ),
  /** The schema or JSON refuses the payload, or it is too large; `validation` lists what the schema found. */
  FST_BG_INVALID_PAYLOAD: createError<'FST_BG_INVALID_PAYLOAD', 500, [name: string, why: string, cause?: { cause: unknown }]>(
    'FST_BG_INVALID_PAYLOAD',
    'The payload for background queue "%s" %s.',
    500
  ),
  /** A queue or a cluster task names a store that the plugin was not given. */
  FST_BG_UNKNOWN_STORE: createError<'FST_BG_UNKNOWN_STORE', 500, [name: string, store: string, known: string]>(
    'FST_BG_UNKNOWN_STORE',
    '"%s" has no store "%s". Known stores: %s. Add it to "stores" when you register the plugin.',
    500
  ),
  /** The engine behind a store is unreachable, or does not answer. */
  FST_BG_STORE_UNAVAILABLE: createError<'FST_BG_STORE_UNAVAILABLE', 503, [why: string, cause?: { cause: unknown }]>(
    'FST_BG_STORE_UNAVAILABLE',
    'The store of background runs cannot be reached: %s. It reconnects by itself: try again later.',
    503
  ),
  /** Another process, or another store of this one, uses the folder of an embedded store. */
  FST_BG_STORE_LOCKED: createError<'FST_BG_STORE_LOCKED', 500, [what: string]>(
    'FST_BG_STORE_LOCKED', '%s', 500
  ),
  /** The run does not exist, or the task was removed. */
  FST_BG_NOT_FOUND: createError<'FST_BG_NOT_FOUND', 404, [what: string]>(
    'FST_BG_NOT_FOUND', '%s', 404
  )
} as const

/** Marks `GiveUp` for every copy of this package in the process: `instanceof` knows only the class of one copy, and a minifier changes its name. */
const giveUpMark: unique symbol = Symbol.for('fastify-background-tasks.GiveUp') as never

/**
 * A handler throws this when a further attempt is of no use: the plugin neither retries nor restarts.
 *
 * @example
 * ```ts
 * if (response.status === 410) throw new GiveUp('the feed is gone', { cause: response })
 * ```
 */
export class GiveUp extends Error {
  /** Always `'GiveUp'`. */
  override readonly name = 'GiveUp'

  /** Says that this is a `GiveUp`, whichever copy of the package it is from. */
  get [giveUpMark] (): true { return true }
}

/** Whether a handler threw `GiveUp`. It may have thrown anything, even an object that throws when it is inspected. */
export function isGiveUp (thrown: unknown): boolean {
  try {
    return Object(thrown)[giveUpMark] === true
  } catch {
    return false
  }
}

/** Why a signal aborts. */
export type Reason = Error & { code: string }

/** The thrown value if it is an Error; otherwise an Error with that value as its `cause`, so that pino serialises it. */
export function toError (thrown: unknown): Error {
  try {
    if (thrown instanceof Error || Object.prototype.toString.call(thrown) === '[object Error]') return thrown as Error
    return new Error(`a value that is not an Error was thrown: ${inspect(thrown, { depth: 1 })}`, { cause: thrown })
  } catch {
    return new Error('a value that is not an Error was thrown, and it throws when it is inspected', { cause: thrown })
  }
}

/** The message of a thrown value. */
export function messageOf (thrown: unknown): string {
  return readableCopy(toError(thrown)).message
}

/** A copy of an error with every property that can be read: each getter may throw. */
export function readableCopy (error: Error): Error {
  const read = (key: 'message' | 'name' | 'stack'): string => {
    try { return String(error[key]) } catch { return `(its ${key} throws)` }
  }
  return Object.assign(new Error(read('message')), { name: read('name'), stack: read('stack') })
}
