import type { FastifyInstance } from 'fastify'
import { boolean, type Check, func, invalid, show, text, wrong } from '../common/check.ts'
import type { handlerKeys, sharedKeys } from '../common/option-names.ts'
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
  if (typeof value === 'function') return func<OnGiveUp>(value)
  if (value !== 'log' && value !== 'close') throw wrong("'log', 'close', or a function", value)
  return value
}

// Each table of checks must have the keys that `option-names.ts` lists for its kind: other kinds have their hints from there.
export const sharedChecks = { enabled: boolean, grace: duration, logLevel: text } satisfies Record<typeof sharedKeys[number], Check<unknown>>
export const handlerChecks = { ...sharedChecks, timeout: positiveDuration, onGiveUp } satisfies Record<typeof sharedKeys[number] | typeof handlerKeys[number], Check<unknown>>
export const sharedDefaults = { enabled: true, grace: 0, logLevel: undefined }

/** Checks a level by asking the logger, as each logger has levels of its own. Throws `FST_BG_INVALID_OPTION`. */
export function checkLevel (where: string, level: string | undefined, owner: FastifyInstance): void {
  if (level === undefined) return
  try {
    owner.log.child({}, { level })
  } catch (error) {
    throw invalid(`${where}: option "logLevel" must be a level of the logger; received ${show(level)}, which it refuses: ${(error as Error).message}.`)
  }
}

/** The checked options of a task as plain data, for somebody who looks at it: without those that are not set, and `true` for a function, a schema, or whatever else is no data. */
export function settingsOf (options: object): Record<string, unknown> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined).map(([key, value]) => [key, key === 'schema' ? true : settingOf(value)]))
}

function settingOf (value: unknown): unknown {
  if (typeof value === 'function') return true
  // JSON has no infinity.
  if (value === Infinity) return 'unlimited'
  if (typeof value !== 'object' || value === null) return value
  return Object.getPrototypeOf(value) === Object.prototype ? settingsOf(value) : true
}
