import type { FastifyInstance } from 'fastify'
import { boolean, type Check, invalid, type OtherKinds, show, text, wrong } from '../check.ts'
import type { OnGiveUp } from '../run/index.ts'
import { duration, type Duration, positiveDuration } from '../time/index.ts'

/** Options of every task. */
export interface TaskOptions {
  /** `false`: the plugin declares and shows the task, but only `task.start()` starts it. Default `true`. */
  enabled?: boolean | undefined
  /**
   * How long active runs may go on after `close()` has begun, before their signals abort. Default `0`: they abort at once. Never longer than
   * three quarters of `shutdownTimeout`.
   */
  grace?: Duration | undefined
  /** Level of this task's log lines and of `run.log`. Default: the level of the owner's logger. */
  logLevel?: string | undefined
}

/** Options of every task with a handler. */
export interface HandlerOptions extends TaskOptions {
  /** Limit of one attempt, above 0. When it has passed, the signal aborts with `FST_BG_TIMEOUT`; a handler that rejects then has failed. Default: none. */
  timeout?: Duration | undefined
  /**
   * What the plugin does after the last attempt or restart has failed, or the handler threw `GiveUp`. Default: `'close'` for a service, else `'log'`.
   * `'close'` closes the application, and the process exits with 1.
   */
  onGiveUp?: OnGiveUp | undefined
}

/** Options of every task, checked and complete. */
export interface SharedOptions { enabled: boolean, grace: number, logLevel: string | undefined }
/** Options of every task with a handler, checked and complete. */
export interface SharedHandlerOptions extends SharedOptions { timeout: number | undefined, onGiveUp: OnGiveUp }

const onGiveUp: Check<OnGiveUp> = value => {
  if (typeof value === 'function') return value as OnGiveUp
  if (value !== 'log' && value !== 'close') throw wrong("'log', 'close', or a function", value)
  return value
}

export const sharedChecks = { enabled: boolean, grace: duration, logLevel: text }
export const handlerChecks = { ...sharedChecks, timeout: positiveDuration, onGiveUp }
export const sharedDefaults = { enabled: true, grace: 0, logLevel: undefined }

// The options of each kind, so that an option of another kind gets a hint. The table of checks of each kind must have the same keys.
/** Options that only a queue takes. */
export const queueKeys = ['schema', 'store', 'concurrency', 'maxSize', 'onFull', 'rate', 'maxPayload', 'keep'] as const
/** Options that a timed task takes. */
export const timedKeys = ['retry', 'every', 'cron', 'timezone', 'immediate', 'overlap', 'misfire', 'jitter', 'exclude', 'cluster'] as const
/** Options that a hosted service takes. */
export const hostedKeys = ['start', 'stop', 'startTimeout'] as const

/** The kind that each option belongs to, for the error if another kind gets it. */
export const otherKinds: OtherKinds = {
  ...allTo(queueKeys, 'a queue, which is declared with addBackgroundQueue()'),
  restart: 'a service; a timed task and a queue have "retry"',
  ...allTo(Object.keys(sharedChecks), 'a task'),
  ...allTo(['timeout', 'onGiveUp'], 'a task with a handler'),
  ...allTo(timedKeys, 'a timed task, which has "every" or "cron"'),
  retry: 'a timed task or a queue; a service has "restart"',
  ...allTo(hostedKeys, 'a hosted service, which is declared without a handler: (name, { start, stop })')
}

function allTo (keys: readonly string[], kind: string): OtherKinds {
  return Object.fromEntries(keys.map(key => [key, kind]))
}

/** Every option of every kind. */
export const allKeys: string[] = Object.keys(otherKinds)

/** Checks a level by asking the logger, as each logger has levels of its own. Throws `FST_BG_INVALID_OPTION`. */
export function checkLevel (where: string, level: string | undefined, owner: FastifyInstance): void {
  if (level === undefined) return
  try {
    owner.log.child({}, { level })
  } catch (error) {
    throw invalid(`${where}: option "logLevel" must be a level of the logger; received ${show(level)}, which it refuses: ${(error as Error).message}.`)
  }
}
