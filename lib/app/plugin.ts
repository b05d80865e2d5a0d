import type { FastifyPluginAsync, FastifyRequest } from 'fastify'
import fastifyPlugin from 'fastify-plugin'
import { errorCodes } from '../common/errors.ts'
import { calledBy } from '../common/readable.ts'
import type { BackgroundQueue, EnqueuedOf, PayloadOf, QueueOptions } from '../queue/index.ts'
import { type ActivityReport, hostKey, type QueueHandler, type RunHandle, type TaskHandler, type TimedHandler } from '../run/index.ts'
import type { BackgroundTask, CronTaskOptions, HostedServiceOptions, PeriodicTaskOptions, ServiceTaskOptions } from '../task/index.ts'
import type { Duration } from '../time/index.ts'
import { RunInBackground } from './background.ts'
import { declareQueue, declareTask } from './declare.ts'
import { rootOf } from './events.ts'
import type { Health } from './health.ts'
import { Lifecycle } from './lifecycle.ts'
import { type BackgroundTasksOptions, pluginOptions } from './options.ts'

/** All background tasks of an application, in the order of their declaration. */
export interface BackgroundTasks extends Iterable<BackgroundTask> {
  /** The task with that name, or undefined. */
  get (name: string): BackgroundTask | undefined
  /**
   * Starts every enabled task that has not started, in the order of declaration; for `autostart: false`. Makes the app ready first, so await it
   * neither in a plugin nor in an onReady hook.
   *
   * Rejects with the error of a `start`, after stopping the tasks that had started; with `FST_BG_CLOSING` once the app closes.
   */
  start (): Promise<void>
  /** Resolves when no run is active or queued, except those of services, and of queues that are paused or not started. For tests, and before a deploy. */
  drain (): Promise<void>
  /**
   * Health of all tasks. `failing`: a task has failed for good, a service failed three times in a row, a run is past its timeout, ticks wait or
   * are skipped behind a run. `degraded`: a task waits for a retry or restart, or its last run failed. A success clears it.
   *
   * For alerts and readiness. Never for liveness: a restart of the process mends neither a broken handler nor the database behind it.
   */
  health (): Promise<Health>
  /** What the tasks of this process do now, and have done in the last hour. It only reads memory. */
  activity (): ActivityReport
}

/** The schedule of a task, whose types say whether there is one. */
interface Schedule<Every, Cron> {
  every?: Every
  cron?: Cron
}

/** The handler of a task: of a timed one, if it has a schedule. */
type HandlerOf<Server, Every, Cron> = [Every, Cron] extends [undefined, undefined] ? TaskHandler<Server> : TimedHandler<Server>

/** An instance with the plugin, as `this` of the decorators. */
interface Owner { readonly backgroundTasks: BackgroundTasks }

declare module 'fastify' {
  interface FastifyInstance {
    /** All background tasks of this application. */
    readonly backgroundTasks: BackgroundTasks
    /**
     * Declares a service, whose handler runs from ready to close; or a hosted service, whose `start` the plugin awaits before the app is ready, and
     * whose `stop` it awaits on close. The instance on which you call it is the owner: `this` and `run.server`.
     *
     * Throws `FST_BG_INVALID_OPTION`, `FST_BG_INVALID_THIS`, `FST_BG_DUPLICATE_NAME`, and `FST_BG_CLOSING` once the app closes.
     */
    addBackgroundTask<Server extends Owner> (this: Server, name: string, handler: TaskHandler<Server> | HostedServiceOptions<Server>): BackgroundTask
    /**
     * Declares a service with options, or a timed task: with `every`, its handler runs on a fixed grid once the app is ready; with `cron`, at the
     * wall times of the expression.
     *
     * Throws `FST_BG_INVALID_OPTION`, `FST_BG_INVALID_THIS`, `FST_BG_DUPLICATE_NAME`, and `FST_BG_CLOSING` once the app closes.
     */
    addBackgroundTask<Server extends Owner, Every extends Duration | undefined = undefined, Cron extends string | undefined = undefined> (
      this: Server, name: string, options: (ServiceTaskOptions | PeriodicTaskOptions | CronTaskOptions) & Schedule<Every, Cron>, handler: HandlerOf<Server, Every, Cron>
    ): BackgroundTask
    /**
     * Declares a queue: `enqueue` adds a payload, and the queue calls the handler with each. The type of the payload comes from the schema, by the
     * type provider of the instance, or from the handler (`run: Run<Payload>`); without either it is `unknown`.
     *
     * Throws `FST_BG_INVALID_OPTION`, `FST_BG_INVALID_THIS`, `FST_BG_DUPLICATE_NAME`, `FST_BG_UNKNOWN_STORE`, and `FST_BG_CLOSING` once the app closes.
     */
    addBackgroundQueue<Server extends Owner, Payload = unknown> (this: Server, name: string, handler: QueueHandler<Payload, Server>): BackgroundQueue<Payload>
    addBackgroundQueue<Server extends Owner, const Schema = undefined, Payload = PayloadOf<Server, Schema>> (this: Server, name: string, options: QueueOptions<Schema>, handler: QueueHandler<Payload, Server>): BackgroundQueue<EnqueuedOf<Schema, Payload>>
    /**
     * Runs a handler once in the background, from a later macrotask. A failure is logged, and never an unhandled rejection. Close awaits the run.
     * Without a name the task is `background`.
     *
     * Throws `FST_BG_INVALID_OPTION`, `FST_BG_INVALID_THIS`, and `FST_BG_CLOSING` once the owner is closed.
     */
    runInBackground<Server extends Owner> (this: Server, handler: TaskHandler<Server>): RunHandle
    runInBackground<Server extends Owner> (this: Server, name: string, handler: TaskHandler<Server>): RunHandle
  }

  interface FastifyRequest {
    /**
     * Runs a handler once, after the response has been sent or the client has gone; `run.log` is a child of `request.log`. Close awaits the run
     * before it closes what had been opened before the declaration of this route.
     *
     * Throws `FST_BG_INVALID_OPTION`, and `FST_BG_CLOSING` once the route's instance is closed.
     */
    runInBackground (handler: TaskHandler<FastifyInstance>): RunHandle
    runInBackground (name: string, handler: TaskHandler<FastifyInstance>): RunHandle
  }
}

/** Calls `work`, and makes the stack of what it throws begin with whoever called `method`. */
function fromCaller<T> (method: (...given: never[]) => unknown, work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw calledBy(error, method)
  }
}

/** The root instances with the plugin: a child cannot see the decorators of another one, and an application takes the plugin once. */
const registered = new WeakSet<object>()

/**
 * The plugin. Adds `addBackgroundTask`, `addBackgroundQueue`, `runInBackground` and `backgroundTasks` to the instance and its children, and
 * `runInBackground` to their requests.
 *
 * Rejects `ready()` with `FST_BG_ALREADY_REGISTERED` or `FST_BG_INVALID_OPTION`.
 */
export const backgroundTasks: FastifyPluginAsync<BackgroundTasksOptions> = fastifyPlugin(async (fastify, given) => {
  const root = rootOf(fastify)
  if (registered.has(root) || fastify.hasDecorator('addBackgroundTask')) throw new errorCodes.FST_BG_ALREADY_REGISTERED()
  const options = pluginOptions(given)
  registered.add(root)
  const lifecycle = new Lifecycle(fastify, options)
  fastify.decorate(hostKey, lifecycle)

  fastify.decorate('addBackgroundTask', function addBackgroundTask (this: unknown, ...given: unknown[]) {
    return fromCaller(addBackgroundTask, () => declareTask(lifecycle, this, given))
  })
  fastify.decorate('addBackgroundQueue', function addBackgroundQueue (this: unknown, ...given: unknown[]) {
    return fromCaller(addBackgroundQueue, () => declareQueue(lifecycle, this, given))
  })
  const backgrounds = new RunInBackground(fastify, lifecycle)
  fastify.decorate('runInBackground', function runInBackground (this: unknown, ...given: unknown[]) {
    return fromCaller(runInBackground, () => backgrounds.run(this, given))
  })
  fastify.decorateRequest('runInBackground', function runInBackground (this: FastifyRequest, ...given: unknown[]) {
    return fromCaller(runInBackground, () => backgrounds.runAfter(this, given))
  })
  fastify.decorate('backgroundTasks', {
    get: (name: string) => lifecycle.tasks.get(name),
    start: async () => { await lifecycle.start() },
    drain: async () => { await lifecycle.drain() },
    health: async () => lifecycle.health(),
    activity: () => lifecycle.report(),
    [Symbol.iterator]: () => lifecycle.tasks.values()
  })
}, { name: 'fastify-background-tasks', fastify: '5.x' })
