// GET /metrics, for the application that `npm start` runs: of its background tasks and of Node.
import type { FastifyInstance } from 'fastify'
import metrics from 'fastify-background-tasks/metrics'
import { collectDefaultMetrics, Registry } from 'prom-client'

export default async (app: FastifyInstance): Promise<void> => {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  await app.register(metrics, { registry })
  app.get('/metrics', async (_request, reply) => await reply.type(registry.contentType).send(await registry.metrics()))
}
