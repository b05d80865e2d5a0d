import type { Registry } from 'prom-client'
import { check, type Check, invalid, plainOptions, wrong } from '../common/check.ts'
import { kinds } from '../common/option-names.ts'

/** Options of the metrics. */
export interface MetricsOptions {
  /** The registry of prom-client that has the metrics: its global one, `register`, or one of your own. */
  registry: Pick<Registry, 'registerMetric' | 'getSingleMetric' | 'metrics'>
}

const registry: Check<Registry> = value => {
  const { registerMetric, getSingleMetric, metrics, register } = Object(value) as Record<string, unknown>
  if ([registerMetric, getSingleMetric, metrics].every(one => typeof one === 'function')) return value as Registry
  const hint = typeof register === 'object' ? ': this is prom-client itself, pass its "register"' : ', such as its "register", or new Registry()'
  throw wrong(`a registry of prom-client${hint}`, value)
}

/** Options of `register` itself, which Fastify passes to the plugin, too. */
const ofRegister = ['prefix', 'logLevel', 'logSerializers']

/** Checks the options, and returns the registry. Throws `FST_BG_INVALID_OPTION`. */
export function registryOf (where: string, given: unknown): Registry {
  const own = Object.fromEntries(Object.entries(plainOptions(where, given, ['registry']) as object).filter(([key]) => !ofRegister.includes(key)))
  const checked = check(where, own, { registry }, kinds)
  if (checked.registry === undefined) throw invalid(`${where}: pass the registry that is to have the metrics: { registry: register }, with the "register" of prom-client; received none.`)
  return checked.registry
}
