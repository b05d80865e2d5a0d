// Compile-only: the metrics plugin takes a registry of prom-client, and nothing else.
import Fastify from 'fastify'
import { AggregatorRegistry, register, Registry } from 'prom-client'
import backgroundTasks from '../../lib/index.ts'
import metrics, { metrics as named, type MetricsOptions } from '../../lib/metrics/index.ts'

const app = Fastify()
app.register(backgroundTasks)
app.register(metrics, { registry: register })
app.register(named, { registry: new Registry(), logLevel: 'warn' })
app.register(metrics, { registry: new AggregatorRegistry() })
const openMetrics = new Registry<'application/openmetrics-text; version=1.0.0; charset=utf-8'>()
app.register(metrics, { registry: openMetrics })
export const options: MetricsOptions = { registry: register }

// @ts-expect-error: a registry is needed
app.register(metrics)
// @ts-expect-error: a registry is needed
app.register(metrics, {})
// @ts-expect-error: no registry
app.register(metrics, { registry: 'default' })
// @ts-expect-error: a typo
app.register(metrics, { registry: register, registri: register })
