import { createError } from '@fastify/error'

/**
 * Every error of this plugin: its code, what it says, and the HTTP status a route answers with when it is thrown there.
 *
 * @example
 * ```ts
 * import { errorCodes } from 'fastify-background-tasks'
 * if (signal.reason instanceof errorCodes.FST_BG_SHUTDOWN) await saveCheckpoint()
 * ```
 */
export const errorCodes = {
  /** An option, a name or a handler is not what the call takes. */
  FST_BG_INVALID_OPTION: createError<'FST_BG_INVALID_OPTION', 500, [what: string, cause?: { cause: unknown }]>(
    'FST_BG_INVALID_OPTION', '%s', 500
  ),
  /** A decorator was called without the Fastify instance it belongs to. */
  FST_BG_INVALID_THIS: createError<'FST_BG_INVALID_THIS', 500, [method: string, received: string]>(
    'FST_BG_INVALID_THIS',
    '%s was called with %s as "this". The instance it is called on owns the task, so call it as a method of that instance ("fastify.addBackgroundTask(…)") and do not destructure it.',
    500
  ),
  /** The name is taken. */
  FST_BG_DUPLICATE_NAME: createError<'FST_BG_DUPLICATE_NAME', 500, [name: string, owner: string]>(
    'FST_BG_DUPLICATE_NAME',
    'A background task named "%s" was already declared by plugin "%s". Names are unique in the whole server: choose another.',
    500
  ),
  /** The plugin was registered a second time on one server. */
  FST_BG_ALREADY_REGISTERED: createError<'FST_BG_ALREADY_REGISTERED', 500, []>(
    'FST_BG_ALREADY_REGISTERED',
    'fastify-background-tasks is already registered on this server. Register it once, on the root instance: every child instance then has its decorators.',
    500
  ),
  /** Something new was asked for while the application closes. */
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
  /** Reason of a signal: the run was cancelled by hand, or its task stopped. */
  FST_BG_CANCELLED: createError<'FST_BG_CANCELLED', 500, [name: string, why: string]>(
    'FST_BG_CANCELLED',
    'Background task "%s" was cancelled: %s.',
    500
  ),
  /** A task was given up; what was thrown is the `cause`. */
  FST_BG_GAVE_UP: createError<'FST_BG_GAVE_UP', 500, [name: string, why: string, cause?: { cause: unknown }]>(
    'FST_BG_GAVE_UP',
    'Background task "%s" was given up: %s.',
    500
  ),
  /** A queue in memory holds all that it may. */
  FST_BG_QUEUE_FULL: createError<'FST_BG_QUEUE_FULL', 503, [name: string, size: number]>(
    'FST_BG_QUEUE_FULL',
    'Background queue "%s" is full: %s runs wait. Try again later, raise "maxSize" or "concurrency", or pass onFull: \'wait\'.',
    503
  ),
  /** A payload that the schema or JSON refuses, or that is too large; `validation` says what the schema found. */
  FST_BG_INVALID_PAYLOAD: createError<'FST_BG_INVALID_PAYLOAD', 500, [name: string, why: string, cause?: { cause: unknown }]>(
    'FST_BG_INVALID_PAYLOAD',
    'The payload for background queue "%s" %s.',
    500
  ),
  /** A queue or a cluster task names a store that the plugin was not given. */
  FST_BG_UNKNOWN_STORE: createError<'FST_BG_UNKNOWN_STORE', 500, [name: string, store: string, known: string]>(
    'FST_BG_UNKNOWN_STORE',
    '"%s" is to use the store "%s", which there is not. There are: %s. Pass it when you register the plugin: { stores: { … } }.',
    500
  ),
  /** The engine behind a store is away, or does not answer. */
  FST_BG_STORE_UNAVAILABLE: createError<'FST_BG_STORE_UNAVAILABLE', 503, [why: string, cause?: { cause: unknown }]>(
    'FST_BG_STORE_UNAVAILABLE',
    'The store of background runs cannot be reached: %s. It is connected to again by itself: try again later.',
    503
  ),
  /** There is no such run, or the task was removed. */
  FST_BG_NOT_FOUND: createError<'FST_BG_NOT_FOUND', 404, [what: string]>(
    'FST_BG_NOT_FOUND', '%s', 404
  )
} as const

/**
 * Thrown by a handler that knows that another try is of no use: no retry, no restart.
 *
 * @example
 * ```ts
 * if (response.status === 410) throw new GiveUp('the feed is gone', { cause: response })
 * ```
 */
export class GiveUp extends Error {
  /** Always `'GiveUp'`. */
  override readonly name = 'GiveUp'
}

/** Whether a handler has given up. What it threw may be anything, even something that cannot be looked at. */
export function isGiveUp (thrown: unknown): boolean {
  try {
    return thrown instanceof GiveUp
  } catch {
    return false
  }
}
