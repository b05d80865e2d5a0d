import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { BackgroundQueue, BackgroundTask } from '../../index.ts'
import { errorCodes } from '../../common/errors.ts'
import { report } from '../../common/log.ts'
import type { Clock } from '../../time/index.ts'
import type { Door } from '../access.ts'
import { type Viewers, VIEWERS } from '../stream.ts'
import { cut, type Payloads } from '../view/content.ts'
import type { Overviews } from '../view/overview.ts'
import type { ProcessView } from '../view/process.ts'
import { isQueue, type QueueLoads } from '../view/queues.ts'
import { runDetails, type RunFilter, runsOf, schedulesOf } from '../view/runs.ts'
import { detailsOf, pageOf, type TaskFilter } from '../view/tasks.ts'
import { type ClearedState, type Done, queueActions, runActions, taskActions } from './actions.ts'
import { Refused, sentenceOf } from './errors.ts'
import { schemas } from './schemas.ts'

/** What the routes use. */
export interface ApiParts {
  clock: Clock
  door: Door
  loads: QueueLoads
  overviews: Overviews
  payloads: Payloads
  process: ProcessView
  viewers: Viewers
}

interface Named { name: string }
interface OfRun extends Named { id: string }
interface Action extends Named { action: string }

/** How long an action waits for its effect, in milliseconds: a store that has started answers or fails within 5 s, and a handler may take its time to end. */
const PATIENCE = 6_000
/** The most bytes of a body. */
const BODY = 4_096

/** The routes under `/api`. */
export function addApi (fastify: FastifyInstance, parts: ApiParts): void {
  const { door, loads, overviews, payloads, process, viewers } = parts
  const tasks = fastify.backgroundTasks
  const bodyLimit = BODY

  fastify.get('/api/overview', { schema: schemas.overview }, async request => ({ ...await overviews.read(), visitor: door.visitor(request) }))

  fastify.get<{ Querystring: TaskFilter }>('/api/tasks', { schema: schemas.tasks }, async ({ query }) => ({ process: process.read(), ...await pageOf(tasks, query) }))

  fastify.get<{ Params: Named }>('/api/tasks/:name', { schema: schemas.task }, async ({ params }) => ({ process: process.read(), ...await detailsOf(taskOf(params), loads) }))

  fastify.get<{ Params: Named, Querystring: RunFilter }>('/api/queues/:name/runs', { schema: schemas.runs }, async ({ params, query }) => ({ process: process.read(), ...await runsOf(queueOf(params), query) }))

  fastify.get<{ Params: OfRun }>('/api/queues/:name/runs/:id', { schema: schemas.run }, async ({ params, log }) => {
    const queue = queueOf(params)
    const run = await queue.get(params.id)
    if (run === undefined) throw new errorCodes.FST_BG_NOT_FOUND(`Background queue "${cut(queue.name, 100)}" has no run "${cut(params.id, 100)}". It may have ended, and is not kept any longer.`)
    return { process: process.read(), run: await runDetails(queue, run, payloads, log) }
  })

  fastify.get<{ Params: Named, Querystring: { limit?: number, cursor?: string, prefix?: string } }>('/api/queues/:name/schedules', { schema: schemas.schedules }, async ({ params, query, log }) => (
    { process: process.read(), ...await schedulesOf(queueOf(params), query, payloads, log) }
  ))

  fastify.get('/api/events', { schema: schemas.events, exposeHeadRoute: false }, async (request, reply) => {
    const stream = viewers.add()
    if (stream === undefined) {
      return await reply.code(503).header('retry-after', '5').send({ statusCode: 503, poll: true, message: `${VIEWERS} viewers watch already: poll api/overview instead.` })
    }
    // Else the connection, idle again after the stream has ended, would hold up the close of the server.
    if (request.raw.httpVersionMajor === 1) reply.header('connection', 'close')
    return await reply.type('text/event-stream').header('x-accel-buffering', 'no').send(stream)
  })

  fastify.post<{ Params: Action }>('/api/tasks/:name/actions/:action', { schema: schemas.action, bodyLimit }, async (request, reply) => {
    const { params: { action } } = request
    const act = own(taskActions, action)
    const task = taskOf(request.params)
    return await perform(request, reply, action, task, undefined, () => act(task))
  })

  fastify.post<{ Params: OfRun & Action }>('/api/tasks/:name/runs/:id/actions/:action', { schema: schemas.action, bodyLimit }, async (request, reply) => {
    const { params: { action, id } } = request
    const act = own(runActions, action)
    const task = taskOf(request.params)
    return await perform(request, reply, action, task, id, () => act(task, id))
  })

  fastify.post<{ Params: Action, Body: { state?: ClearedState } }>('/api/queues/:name/actions/:action', { schema: schemas.clear, bodyLimit }, async (request, reply) => {
    const { params: { action }, body: { state } } = request
    const act = own(queueActions, action)
    const queue = queueOf(request.params)
    return await perform(request, reply, action, queue, undefined, () => act(queue, state))
  })

  /** Performs an action, and writes one line about it. Does not wait for a handler that takes long to end. */
  async function perform (request: FastifyRequest, reply: FastifyReply, action: string, task: BackgroundTask, run: string | undefined, act: () => Promise<Done>): Promise<Done | FastifyReply> {
    const actor = door.visitor(request).name
    let passed!: (done: Done) => void
    const timer = parts.clock.after(PATIENCE, () => { passed({ message: `"${cut(task.name, 100)}" has been told: ${action}. It has not ended yet.` }) })
    const acting = act()
    // Somebody waits for it only until the time has passed.
    acting.catch(() => {})
    try {
      const done = await Promise.race([acting, new Promise<Done>(resolve => { passed = resolve })])
      report.acted(request.log, { actor, action, task: task.name, run: done.run ?? run })
      return done
    } catch (error) {
      report.actionRefused(request.log, { actor, action, task: task.name, run }, error)
      const { code, statusCode } = error as { code?: unknown, statusCode?: unknown }
      if (error instanceof Refused || (typeof code === 'string' && code in errorCodes && statusCode !== 500)) throw error
      return await reply.code(409).send({ statusCode: 409, message: sentenceOf(error) })
    } finally {
      timer.cancel()
    }
  }

  function taskOf ({ name }: Named): BackgroundTask {
    const task = tasks.get(name)
    if (task === undefined) throw new errorCodes.FST_BG_NOT_FOUND(`There is no background task "${cut(name, 100)}".`)
    return task
  }

  function queueOf (params: Named): BackgroundQueue {
    const task = taskOf(params)
    if (!isQueue(task)) throw new errorCodes.FST_BG_NOT_FOUND(`Background task "${cut(task.name, 100)}" is no queue.`)
    return task
  }
}

/** The action with that name. */
function own<A> (actions: Record<string, A>, action: string): A {
  if (!Object.hasOwn(actions, action)) throw new errorCodes.FST_BG_NOT_FOUND(`There is no action "${cut(action, 100)}". There are ${Object.keys(actions).join(', ')}.`)
  return actions[action] as A
}
