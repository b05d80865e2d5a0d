import AjvCompiler from '@fastify/ajv-compiler'
import type { FastifyPluginAsync } from 'fastify'
import { invalid } from '../common/check.ts'
import { report } from '../common/log.ts'
import { Clock } from '../time/index.ts'
import { Door } from './access.ts'
import { answerError } from './api/errors.ts'
import { addApi } from './api/index.ts'
import { addAssets } from './assets.ts'
import { type DashboardOptions, dashboardOptions } from './options.ts'
import { Viewers } from './stream.ts'
import { Payloads } from './view/content.ts'
import { Overviews } from './view/overview.ts'
import { ProcessView } from './view/process.ts'
import { QueueLoads } from './view/queues.ts'

export type { Authorization, Authorize, DashboardAccess, DashboardOptions } from './options.ts'

/**
 * The dashboard: pages and a JSON API about all background tasks of the application, and actions on them. Register it with a `prefix`, after
 * `fastify-background-tasks`.
 *
 * Rejects `ready()` with `FST_BG_INVALID_OPTION`, also without `authorize`.
 */
export const dashboard: FastifyPluginAsync<DashboardOptions> = async (fastify, given) => {
  const { authorize, redact } = dashboardOptions(given)
  if (!fastify.hasDecorator('backgroundTasks')) throw invalid('fastify-background-tasks/dashboard: register fastify-background-tasks before it, and on the same instance or one above.')

  const clock = new Clock()
  const door = new Door(authorize, clock)
  const process = new ProcessView(() => clock.wall())
  const loads = new QueueLoads(clock)
  const overviews = new Overviews(fastify.backgroundTasks, process, loads)
  const viewers = new Viewers(clock, async () => await overviews.read())

  // What the application has set for its own routes does not fit these: a validator for zod, say, or a parser of bodies.
  fastify.setValidatorCompiler(AjvCompiler()({}, { customOptions: { coerceTypes: 'array', useDefaults: true, removeAdditional: false, allErrors: false } }) as never)
  fastify.setSerializerCompiler(() => data => JSON.stringify(data))
  fastify.removeAllContentTypeParsers()
  fastify.addContentTypeParser('application/json', { parseAs: 'string' }, fastify.getDefaultJsonParser('error', 'error'))
  fastify.setErrorHandler(answerError)

  fastify.addHook('onRequest', async (request, reply) => await door.enter(request, reply))
  addAssets(fastify)
  addApi(fastify, { clock, door, loads, overviews, payloads: new Payloads(redact), process, viewers })

  if (authorize === false) fastify.addHook('onReady', async () => { report.dashboardOpen(fastify.log, fastify.prefix) })
  fastify.addHook('preClose', async () => {
    door.close()
    process.close()
    await viewers.end()
  })
  fastify.addHook('onClose', async () => { process.close() })
}

Object.assign(dashboard, { [Symbol.for('fastify.display-name')]: 'fastify-background-tasks/dashboard' })

export default dashboard
