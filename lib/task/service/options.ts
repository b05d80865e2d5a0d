import type { FastifyInstance } from 'fastify'
import { check, type Check, func, invalid } from '../../common/check.ts'
import { type hostedKeys, kinds } from '../../common/option-names.ts'
import type { AnyInstance, Run, TaskHandler } from '../../run/index.ts'
import { type Duration, positiveDuration } from '../../time/index.ts'
import { checkLevel, handlerChecks, type HandlerOptions, sharedChecks, sharedDefaults, type SharedHandlerOptions, type SharedOptions, type TaskOptions } from '../options.ts'
import { defaultRestart, restart, type RestartOptions, type RestartPolicy, type RestartWhen } from './restart.ts'

/** Options of a service. */
export interface ServiceTaskOptions extends HandlerOptions {
  /** When the plugin restarts the service. Default `'on-failure'`. */
  restart?: RestartWhen | RestartPolicy | undefined
  /** Belongs to a timed task or a queue: a service has `restart`. */
  retry?: undefined
  /** Belongs to a timed task. */
  every?: undefined
  /** Belongs to a timed task. */
  cron?: undefined
}

/** The `start` or `stop` of a hosted service. It takes a run, with the owner as `this`. */
type HostedFunction<Server> = (this: Server, run: Run<undefined, Server>) => unknown

interface StartTimeout {
  /**
   * Limit of `start`, above 0 and below Fastify's `pluginTimeout`. Default: `pluginTimeout` less 500 ms, or half of it if that is more; none if
   * `pluginTimeout` is 0.
   */
  startTimeout?: Duration | undefined
}

interface Start<Server> {
  /** The plugin awaits it before the app is ready, and so before it listens. If it throws, `ready()` and `listen()` reject with its error. */
  start: HostedFunction<Server>
}

interface Stop<Server> {
  /** The plugin awaits it on close, if `start` has succeeded. Its signal aborts at the shutdown deadline. */
  stop: HostedFunction<Server>
}

/** No class instance fits it: its `start` would be called with the owner as `this`, and it comes from a prototype. TypeScript gives an index signature only to plain objects. */
interface Plain { [symbol: symbol]: never }

type Optional<T> = { [K in keyof T]?: T[K] | undefined }

/** A hosted service and its options, as one object with `start`, `stop` or both. */
export type HostedServiceOptions<Server = AnyInstance> = Plain & TaskOptions & StartTimeout &
  ((Start<Server> & Optional<Stop<Server>>) | (Optional<Start<Server>> & Stop<Server>))

/** Options of a service, checked and complete. */
export interface ServiceOptions extends SharedHandlerOptions { restart: RestartOptions }
/** Options of a hosted service, checked and complete. */
export type HostedOptions = SharedOptions & { start: TaskHandler | undefined, stop: TaskHandler | undefined, startTimeout: number }

const serviceChecks = { ...handlerChecks, restart }
const hostedChecks = {
  ...sharedChecks, start: func<TaskHandler>, stop: func<TaskHandler>, startTimeout: positiveDuration
} satisfies Record<typeof hostedKeys[number] | keyof typeof sharedChecks, Check<unknown>>

/** Checks the options of a service. Throws `FST_BG_INVALID_OPTION`. */
export function serviceOptions (where: string, given: unknown, owner: FastifyInstance): ServiceOptions {
  // The value of a missing configuration: the user meant a timed task, not a service that runs once.
  const schedule = ['every', 'cron'].find(key => Object.hasOwn(Object(given), key))
  if (schedule !== undefined) throw invalid(`${where}: option "${schedule}" is undefined. Pass ${schedule === 'every' ? 'a period' : 'a cron expression'}, or leave it out for a service.`)
  const options = { ...sharedDefaults, timeout: undefined, onGiveUp: 'close' as const, restart: defaultRestart, ...check(where, given, serviceChecks, kinds) }
  checkLevel(where, options.logLevel, owner)
  return options
}

/** Checks a hosted service. Throws `FST_BG_INVALID_OPTION`. */
export function hostedOptions (where: string, given: unknown, owner: FastifyInstance): HostedOptions {
  const { pluginTimeout = 0 } = owner.initialConfig
  const limit = pluginTimeout === 0 ? Infinity : Math.max(pluginTimeout - 500, pluginTimeout / 2)
  const options = { ...sharedDefaults, start: undefined, stop: undefined, startTimeout: limit, ...check(where, given, hostedChecks, kinds) }
  if (options.start === undefined && options.stop === undefined) {
    throw invalid(`${where} has no handler, and neither "start" nor "stop". Pass a function last, or an object with at least one of the two.`)
  }
  if (pluginTimeout !== 0 && options.startTimeout >= pluginTimeout) {
    throw invalid(`${where}: "startTimeout" must be below Fastify's "pluginTimeout" (${pluginTimeout} ms), which ends the start of the server first; received ${options.startTimeout} ms. Lower it, or raise "pluginTimeout".`)
  }
  checkLevel(where, options.logLevel, owner)
  return options
}
