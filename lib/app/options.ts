import { boolean, check, type Check, func, plainOptions, wrong } from '../common/check.ts'
import { kinds } from '../common/option-names.ts'
import type { OnRun } from '../run/index.ts'
import type { Store } from '../store/index.ts'
import { type Duration, positiveDuration } from '../time/index.ts'

/** Options of the plugin. */
export interface BackgroundTasksOptions {
  /** `false`: nothing starts until `fastify.backgroundTasks.start()` or `task.start()`; for unit tests. Default `true`. */
  autostart?: boolean | undefined
  /**
   * How long close waits for tasks, from the start of `close()`; above 0. Default `'8s'`, which is below the 10 s that close-with-grace gives the
   * process.
   */
  shutdownTimeout?: Duration | undefined
  /**
   * Stores by name. A queue that names no store uses `default`. Without `stores`, and with the name `'memory'`, runs wait in memory. Default: none.
   */
  stores?: Record<string, Store> | undefined
  /** Wraps every attempt of every task, queue and background run: the place for a scope, a transaction, AsyncLocalStorage, or error reporting. */
  onRun?: OnRun | undefined
}

/** The plugin's options, checked and complete. */
export interface PluginOptions { autostart: boolean, shutdownTimeout: number, onRun: OnRun | undefined, stores: Record<string, Store> }

const stores: Check<Record<string, Store>> = value => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong('an object of stores by name', value)
  for (const [name, store] of Object.entries(value) as Array<[string, Partial<Store> | undefined]>) {
    if (name === 'memory') throw wrong('stores by names other than "memory", which is always there', value)
    if (typeof store?.open !== 'function' || typeof store.stop !== 'function') throw wrong('an object of stores by name', { [name]: store })
  }
  return { ...value } as Record<string, Store>
}
const pluginChecks = { autostart: boolean, shutdownTimeout: positiveDuration, onRun: func<OnRun>, stores }

const NAME = 'fastify-background-tasks'

/** Options of `register` itself, which Fastify passes to the plugin, too. */
const ofRegister = ['prefix', 'logLevel', 'logSerializers']

/** Checks the options of the plugin. Throws `FST_BG_INVALID_OPTION`. */
export function pluginOptions (given: unknown): PluginOptions {
  const all = plainOptions(NAME, given, Object.keys(pluginChecks)) as object
  const own = Object.fromEntries(Object.entries(all).filter(([key]) => !ofRegister.includes(key)))
  const options = check(NAME, own, pluginChecks, kinds)
  return { autostart: true, shutdownTimeout: 8_000, onRun: undefined, stores: {}, ...options }
}
