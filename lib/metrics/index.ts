// Metrics for Prometheus. An export path of its own, so that an application without metrics loads none of it.
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import fastifyPlugin from 'fastify-plugin'
import { invalid } from '../common/check.ts'
import { type HandlerHost, hostKey } from '../run/index.ts'
import { metricsOf } from './metrics.ts'
import { type MetricsOptions, registryOf } from './options.ts'
import type { ObservedApp } from './sample.ts'

export type { MetricsOptions } from './options.ts'

const NAME = 'fastify-background-tasks/metrics'

/**
 * Plugin that keeps metrics of all background tasks of the application in a registry of prom-client. Register it after `fastify-background-tasks`. Applications
 * that are given the same registry share its metrics. When one of them has closed, its gauges are gone.
 *
 * Rejects `ready()` with `FST_BG_INVALID_OPTION`.
 *
 * @example
 * ```ts
 * await app.register(backgroundTasks)
 * await app.register(metrics, { registry: register })
 * app.get('/metrics', async (_request, reply) => reply.type(register.contentType).send(await register.metrics()))
 * ```
 */
export const metrics: FastifyPluginAsync<MetricsOptions> = fastifyPlugin(async (fastify: FastifyInstance, given: MetricsOptions) => {
  const registry = registryOf(NAME, given)
  const host = (fastify as { [hostKey]?: HandlerHost })[hostKey]
  if (host === undefined) throw invalid(`${NAME}: this application has no background tasks yet. Register fastify-background-tasks before it.`)
  if (host.observer !== undefined) throw invalid(`${NAME} is registered already in this application. Register it once: one registry has the metrics of all its tasks.`)
  const found = metricsOf(NAME, registry)
  const app = { tasks: fastify.backgroundTasks, host } as ObservedApp
  host.observer = found
  found.add(app)
  host.stopLast({ stop () { found.remove(app) } })
}, { name: NAME, fastify: '5.x' })

export default metrics
