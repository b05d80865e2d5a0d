import { inspect } from 'node:util'
import type { FastifyInstance } from 'fastify'
import { closestMatch } from 'leven'
import { parseDuration, type Duration } from './duration.ts'
import { errorCodes } from './errors.ts'
import type { AnyInstance, OnRun, Run, TaskHandler } from './run.ts'

/** Options of the plugin. */
export interface BackgroundTasksOptions {
  /** `false`: nothing starts until `fastify.backgroundTasks.start()` or `task.start()`, as unit tests want it. Default `true`. */
  autostart?: boolean | undefined
  /**
   * The whole time, from the start of `close()`, until close waits no longer for tasks; above 0. Default `'8s'`, which is below
   * the 10 s that close-with-grace gives the process.
   */
  shutdownTimeout?: Duration | undefined
  /** Wraps every attempt of every task: the place for a scope, a transaction, AsyncLocalStorage, or error reporting. */
  onRun?: OnRun | undefined
}

/** Options of every task. */
export interface TaskOptions {
  /** `false`: declared and shown, but nothing starts by itself; `task.start()` starts it. Default `true`. */
  enabled?: boolean | undefined
  /**
   * How long what runs may go on after `close()` has begun, before its signal aborts. Default `0`: it aborts at once. Never
   * longer than three quarters of `shutdownTimeout`.
   */
  grace?: Duration | undefined
  /** Level of this task's log lines and of `run.log`. Default: that of the owner's logger. */
  logLevel?: string | undefined
}

/** The `start` or `stop` of a hosted service, which is given a run, and the owner as `this`. */
type HostedFunction<Server> = (this: Server, run: Run<undefined, Server>) => unknown

interface StartTimeout {
  /**
   * Limit of `start`; above 0, and below Fastify's `pluginTimeout`. Default: `pluginTimeout` less 500 ms, or half of it where
   * that is more; none where that is 0.
   */
  startTimeout?: Duration | undefined
}

interface Start<Server> {
  /** Awaited before the app is ready, and so before it listens. What it throws, `ready()` and `listen()` reject with. */
  start: HostedFunction<Server>
}

interface Stop<Server> {
  /** Awaited on close, if `start` had succeeded. Its signal aborts at the shutdown deadline. */
  stop: HostedFunction<Server>
}

type Optional<T> = { [K in keyof T]?: T[K] | undefined }

/** A service that is started and stopped by hand, as one object with its options: at least one of `start` and `stop` is given. */
export type HostedServiceOptions<Server = AnyInstance> = TaskOptions & StartTimeout &
  ((Start<Server> & Optional<Stop<Server>>) | (Optional<Start<Server>> & Stop<Server>))

/** The plugin's options, checked and complete. */
export interface PluginOptions { autostart: boolean, shutdownTimeout: number, onRun: OnRun | undefined }
/** What all kinds of task take, checked and complete. */
export interface SharedOptions { enabled: boolean, grace: number, logLevel: string | undefined }
export type ServiceOptions = SharedOptions
export type HostedOptions = SharedOptions & { start: TaskHandler | undefined, stop: TaskHandler | undefined, startTimeout: number }

/** Throws what is wrong with a value, or returns what is kept of it. */
type Check<T> = (value: unknown) => T

const boolean: Check<boolean> = value => {
  if (typeof value !== 'boolean') throw wrong('true or false', value)
  return value
}
const func = <T>(value: unknown): T => {
  if (typeof value !== 'function') throw wrong('a function', value)
  return value as T
}
const duration: Check<number> = value => {
  const ms = parseDuration(value)
  if (ms === undefined) throw wrong(durationText, value)
  return ms
}
const positiveDuration: Check<number> = value => {
  const ms = parseDuration(value)
  if (ms === undefined || ms === 0) throw wrong(`${durationText}, above 0`, value)
  return ms
}
const text: Check<string> = value => {
  if (typeof value !== 'string' || value === '') throw wrong('a text', value)
  return value
}
const durationText = "a duration: milliseconds, or a text such as '500ms', '30s' or '1h30m' (units w d h m s ms, descending, once each)"

const pluginChecks = { autostart: boolean, shutdownTimeout: positiveDuration, onRun: func<OnRun> }
const sharedChecks = { enabled: boolean, grace: duration, logLevel: text }
const hostedChecks = { ...sharedChecks, start: func<TaskHandler>, stop: func<TaskHandler>, startTimeout: positiveDuration }
/** Fastify hands a plugin what `register` was given for itself, too. */
const ofRegister = ['prefix', 'logLevel', 'logSerializers']

/** Checks what `register` was given. Throws `FST_BG_INVALID_OPTION`. */
export function pluginOptions (given: unknown): PluginOptions {
  const own = Object.fromEntries(Object.entries(given as object).filter(([key]) => !ofRegister.includes(key)))
  const options = check('fastify-background-tasks', own, pluginChecks)
  return { autostart: true, shutdownTimeout: 8_000, onRun: undefined, ...options }
}

/** Checks the options of a service. Throws `FST_BG_INVALID_OPTION`. */
export function serviceOptions (where: string, given: unknown, owner: FastifyInstance): ServiceOptions {
  const options = { ...defaults, ...check(where, given, sharedChecks, hostedChecks) }
  checkLevel(where, options.logLevel, owner)
  return options
}

/** Checks a hosted service. Throws `FST_BG_INVALID_OPTION`. */
export function hostedOptions (where: string, given: unknown, owner: FastifyInstance): HostedOptions {
  const { pluginTimeout = 0 } = owner.initialConfig
  const limit = pluginTimeout === 0 ? Infinity : Math.max(pluginTimeout - 500, pluginTimeout / 2)
  const options = { ...defaults, start: undefined, stop: undefined, startTimeout: limit, ...check(where, given, hostedChecks) }
  if (options.start === undefined && options.stop === undefined) {
    throw invalid(`${where} has no handler, and neither "start" nor "stop". Pass a function last, or an object with at least one of the two.`)
  }
  if (pluginTimeout !== 0 && options.startTimeout >= pluginTimeout) {
    throw invalid(`${where}: "startTimeout" must be below Fastify's "pluginTimeout" (${pluginTimeout} ms), which ends the start of the server first; received ${options.startTimeout} ms. Lower it, or raise "pluginTimeout".`)
  }
  checkLevel(where, options.logLevel, owner)
  return options
}

/** Which levels there are is the logger's business: it is asked. */
function checkLevel (where: string, level: string | undefined, owner: FastifyInstance): void {
  if (level === undefined) return
  try {
    owner.log.child({}, { level })
  } catch (error) {
    throw invalid(`${where}: option "logLevel" must be a level of the logger; received ${show(level)}, which it refuses: ${(error as Error).message}.`)
  }
}

const defaults = { enabled: true, grace: 0, logLevel: undefined }

/** An `FST_BG_INVALID_OPTION` that says what is wrong. */
export function invalid (what: string): Error {
  return new errorCodes.FST_BG_INVALID_OPTION(what)
}

/** How a value stands in an error message. */
export function show (value: unknown): string {
  return inspect(value, { depth: 0, breakLength: Infinity, maxStringLength: 80 })
}

class Wrong extends Error {}

function wrong (expected: string, received: unknown): Wrong {
  return new Wrong(`must be ${expected}; received ${show(received)}`)
}

/**
 * Copies the keys that `checks` knows from `given`, each through its check. An unknown key is refused, with a suggestion from
 * all keys there are; one that is undefined counts as not given. The object itself is neither kept nor changed.
 */
function check<C extends Record<string, Check<unknown>>> (where: string, given: unknown, checks: C, others: object = checks): { [K in keyof C]?: ReturnType<C[K]> } {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw invalid(`${where}: options must be an object; received ${show(given)}.`)
  }
  const checked: Record<string, unknown> = {}
  for (const key of Object.keys(given)) {
    const checkOf = Object.hasOwn(checks, key) ? checks[key] : undefined
    if (checkOf === undefined) throw unknownOption(where, key, Object.keys(checks), Object.keys(others))
    const value = (given as Record<string, unknown>)[key]
    if (value === undefined) continue
    try {
      checked[key] = checkOf(value)
    } catch (error) {
      if (error instanceof Wrong) throw invalid(`${where}: option "${key}" ${error.message}.`)
      throw error
    }
  }
  return checked as { [K in keyof C]?: ReturnType<C[K]> }
}

function unknownOption (where: string, key: string, known: string[], all: string[]): Error {
  if (all.includes(key)) return invalid(`${where}: option "${key}" belongs to a hosted service, which is declared without a handler: (name, { start, stop }).`)
  const near = closestMatch(key, all, { maxDistance: Math.max(1, Math.floor(key.length / 2.5)) })
  return invalid(`${where}: unknown option "${key}". ${near === undefined ? '' : `Did you mean "${near}"? `}It takes ${known.join(', ')}.`)
}
