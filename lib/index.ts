import type { FastifyPluginAsync, FastifyRequest } from 'fastify'
import fastifyPlugin from 'fastify-plugin'
import { Backgrounds } from './background.ts'
import { declareQueue, declareTask } from './declare.ts'
import { errorCodes } from './errors.ts'
import type { BackgroundTask } from './handle.ts'
import type { Health } from './health.ts'
import type { CronTaskOptions, HostedServiceOptions, PeriodicTaskOptions, ServiceTaskOptions } from './options.ts'
import { pluginOptions, type BackgroundTasksOptions } from './plugin-options.ts'
import type { BackgroundQueue } from './queue-handle.ts'
import type { EnqueuedOf, PayloadOf, QueueOptions } from './queue-options.ts'
import type { QueueHandler, RunHandle, TaskHandler } from './run.ts'
import { Runtime } from './runtime.ts'

export { errorCodes, GiveUp } from './errors.ts'
export type { Duration } from './duration.ts'
export type { BackgroundTask, RunRecord, TaskKind, TaskStats } from './handle.ts'
export type { Health, HealthStatus, TaskHealth } from './health.ts'
export type { BackgroundTasksOptions } from './plugin-options.ts'
export type { CronTaskOptions, HandlerOptions, HostedServiceOptions, Overlap, PeriodicTaskOptions, RestartPolicy, RestartWhen, RetryPolicy, ServiceTaskOptions, TaskOptions, TimedTaskOptions } from './options.ts'
export type { BackgroundQueue, Counts, Enqueued, EnqueueOptions, ListedState, ListOptions, QueuedRun, RunPage, StoredError } from './queue-handle.ts'
export type { EnqueuedOf, KeepPolicy, PayloadOf, QueueOptions } from './queue-options.ts'
export type * from './run.ts'
export type { ClaimedRun, Keep, NewRun, OpenOptions, RunOptions, Settlement, Shared, Store, StoreQueue, StoreWorker } from './store.ts'
export type { TaskState } from './states.ts'
export type { RunTrace } from './tracing.ts'
export type { Misfire } from './ticker.ts'
export { ticks, type TicksOptions } from './ticks.ts'

/** All background tasks of a server, in the order of their declaration. */
export interface BackgroundTasks extends Iterable<BackgroundTask> {
  /** The task of that name, or undefined. */
  get (name: string): BackgroundTask | undefined
  /**
   * Starts every enabled task that has not been started yet, in the order of declaration: what `autostart: false` put off.
   * Makes the app ready first, so await it neither in a plugin nor in an onReady hook.
   *
   * Rejects with what a `start` threw, after the tasks already started were stopped; with `FST_BG_CLOSING` once the app closes.
   */
  start (): Promise<void>
  /** Resolves when no run is active or queued, but for those of services, and of queues that are paused or not started: for tests, and before a deploy. */
  drain (): Promise<void>
  /**
   * How the tasks are. `failing`: one has failed for good, a service failed three times in a row, a run goes on past its timeout, ticks
   * wait or are skipped behind a run. `degraded`: one waits for another try, or its last run failed. A success clears it.
   *
   * For alerts and readiness. Never for liveness: a restart of the process mends neither a broken handler nor the database behind it.
   */
  health (): Promise<Health>
}

/** An instance that has the plugin: what a decorator takes as `this`. */
interface Owner { readonly backgroundTasks: BackgroundTasks }

declare module 'fastify' {
  interface FastifyInstance {
    /** All background tasks of this server. */
    readonly backgroundTasks: BackgroundTasks
    /**
     * Declares a service, whose handler runs from the time the app is ready until it closes; or a hosted service, whose `start` is
     * awaited before the app is ready, and whose `stop` is awaited when it closes. The instance it is called on is the owner:
     * `this` and `run.server`.
     *
     * Throws `FST_BG_INVALID_OPTION`, `FST_BG_INVALID_THIS`, `FST_BG_DUPLICATE_NAME`, and `FST_BG_CLOSING` once the app closes.
     */
    addBackgroundTask<Server extends Owner> (this: Server, name: string, handler: TaskHandler<Server> | HostedServiceOptions<Server>): BackgroundTask
    /**
     * Declares a service with options, or a timed task: with `every`, its handler runs on a fixed grid from the time the app is ready; with
     * `cron`, at the wall times of the expression.
     *
     * Throws `FST_BG_INVALID_OPTION`, `FST_BG_INVALID_THIS`, `FST_BG_DUPLICATE_NAME`, and `FST_BG_CLOSING` once the app closes.
     */
    addBackgroundTask<Server extends Owner> (this: Server, name: string, options: ServiceTaskOptions | PeriodicTaskOptions | CronTaskOptions, handler: TaskHandler<Server>): BackgroundTask
    /**
     * Declares a queue: `enqueue` adds a payload, and the handler is called with each. The type of the payload is that of the schema, by the type
     * provider of the instance, or what the handler says it takes (`run: Run<Payload>`); without either it is `unknown`.
     *
     * Throws `FST_BG_INVALID_OPTION`, `FST_BG_INVALID_THIS`, `FST_BG_DUPLICATE_NAME`, `FST_BG_UNKNOWN_STORE`, and `FST_BG_CLOSING` once the app closes.
     */
    addBackgroundQueue<Server extends Owner, Payload = unknown> (this: Server, name: string, handler: QueueHandler<Payload, Server>): BackgroundQueue<Payload>
    addBackgroundQueue<Server extends Owner, const Schema = undefined, Payload = PayloadOf<Server, Schema>> (this: Server, name: string, options: QueueOptions<Schema>, handler: QueueHandler<Payload, Server>): BackgroundQueue<EnqueuedOf<Schema, Payload>>
    /**
     * Runs a handler once, in the background: logged if it fails, never an unhandled rejection, awaited when the app closes. It begins in a later
     * macrotask. Without a name the task is `background`.
     *
     * Throws `FST_BG_INVALID_OPTION`, `FST_BG_INVALID_THIS`, and `FST_BG_CLOSING` once the owner is closed.
     */
    runInBackground<Server extends Owner> (this: Server, handler: TaskHandler<Server>): RunHandle
    runInBackground<Server extends Owner> (this: Server, name: string, handler: TaskHandler<Server>): RunHandle
  }

  interface FastifyRequest {
    /**
     * Runs a handler once, after the response has been sent or the client has gone; `run.log` is a child of `request.log`. Awaited when the app
     * closes, before what was opened before this route was declared is closed.
     *
     * Throws `FST_BG_INVALID_OPTION`, and `FST_BG_CLOSING` once the route's instance is closed.
     */
    runInBackground (handler: TaskHandler<FastifyInstance>): RunHandle
    runInBackground (name: string, handler: TaskHandler<FastifyInstance>): RunHandle
  }
}

/** The servers that have the plugin: children cannot see each other's decorators, and one server takes it once. */
const registered = new WeakSet<object>()

/**
 * The plugin: adds `addBackgroundTask`, `addBackgroundQueue`, `runInBackground` and `backgroundTasks` to the instance it is registered on, and to its
 * children, and `runInBackground` to their requests.
 *
 * Rejects `ready()` with `FST_BG_ALREADY_REGISTERED` or `FST_BG_INVALID_OPTION`.
 */
export const backgroundTasks: FastifyPluginAsync<BackgroundTasksOptions> = fastifyPlugin(async (fastify, given) => {
  if (registered.has(fastify.server) || fastify.hasDecorator('addBackgroundTask')) throw new errorCodes.FST_BG_ALREADY_REGISTERED()
  const options = pluginOptions(given)
  registered.add(fastify.server)
  const runtime = new Runtime(fastify, options)

  fastify.decorate('addBackgroundTask', function addBackgroundTask (this: unknown, ...given: unknown[]) {
    return declareTask(runtime, this, given)
  })
  fastify.decorate('addBackgroundQueue', function addBackgroundQueue (this: unknown, ...given: unknown[]) {
    return declareQueue(runtime, this, given)
  })
  const backgrounds = new Backgrounds(fastify, runtime)
  fastify.decorate('runInBackground', function runInBackground (this: unknown, ...given: unknown[]) {
    return backgrounds.run(this, given)
  })
  fastify.decorateRequest('runInBackground', function runInBackground (this: FastifyRequest, ...given: unknown[]) {
    return backgrounds.runAfter(this, given)
  })
  fastify.decorate('backgroundTasks', {
    get: (name: string) => runtime.tasks.get(name),
    start: async () => { await runtime.start() },
    drain: async () => { await runtime.drain() },
    health: async () => runtime.health(),
    [Symbol.iterator]: () => runtime.tasks.values()
  })
}, { name: 'fastify-background-tasks', fastify: '5.x' })

export default backgroundTasks
