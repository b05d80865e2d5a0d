import type { FastifyInstance } from 'fastify'
import { errorCodes } from '../common/errors.ts'
import { report } from '../common/log.ts'
import { Activity, type ActivityReport, type Attempt, type HandlerHost, type OnRun, type Resource, type RunObserver, type RunResult } from '../run/index.ts'
import { MemoryStore, type Store } from '../store/index.ts'
import type { GivenUp, Task, TaskHost } from '../task/index.ts'
import { BlockWatch, Clock, Deadline } from '../time/index.ts'
import type { BackgroundHost, BackgroundRuns } from './background.ts'
import { isBooted, onBootFailure, rootOf } from './events.ts'
import { giveUp } from './give-up.ts'
import { type Health, healthOf } from './health.ts'
import { Hooks } from './hooks.ts'
import type { PluginOptions } from './options.ts'
import { Registry } from './registry.ts'
import { Shutdown } from './shutdown.ts'

/** How long before `pluginTimeout` a failed start stops waiting for the rollback, so that the user sees the original error; in milliseconds. */
const MARGIN = 200

/**
 * Starts all tasks, and stops those that have started if the boot fails. Its shutdown (shutdown.ts) stops them all.
 *
 * A task has its place in the boot order (hooks.ts). A task that is declared while the onReady hooks run, or later, has no place: it starts at once,
 * and ends before anything is closed that the application has opened.
 */
export class Lifecycle implements TaskHost, BackgroundHost, HandlerHost {
  readonly clock: Clock = new Clock()
  readonly scheduleClock: Clock = new Clock()
  readonly deadline: Deadline
  readonly blocks: BlockWatch
  readonly activity: Activity = new Activity()
  readonly onRun: OnRun | undefined
  observer: RunObserver | undefined = undefined
  readonly shutdownTimeout: number
  readonly stores: Map<string, Store>
  readonly closeable: Set<Task>
  readonly #server: FastifyInstance
  readonly #root: object
  readonly #options: PluginOptions
  readonly #registry = new Registry()
  readonly #shutdown: Shutdown
  /** What stops last: the stores, and what handlers use, such as threads. */
  readonly #last: Set<Resource>
  readonly #hooks = new Hooks({ start: async tasks => { await this.#autostart(tasks) }, end: tasks => this.#shutdown.end(tasks) })
  /** Whether tasks start by themselves (`autostart`). */
  #autostarts: boolean
  #starting: Promise<void> | undefined
  /** Whether a start has failed. */
  #failed = false
  #rollback: Promise<void> | undefined

  constructor (server: FastifyInstance, options: PluginOptions) {
    this.#server = server
    this.#root = rootOf(server)
    this.#options = options
    this.#autostarts = options.autostart
    this.onRun = options.onRun
    this.shutdownTimeout = options.shutdownTimeout
    this.stores = new Map(Object.entries({ memory: new MemoryStore(), ...options.stores }))
    this.closeable = this.#registry.closeable
    const { clock, scheduleClock } = this
    this.#last = new Set(this.stores.values())
    this.#shutdown = new Shutdown(server, { registry: this.#registry, clock, scheduleClock, last: this.#last, limit: options.shutdownTimeout })
    this.deadline = this.#shutdown.deadline
    this.blocks = new BlockWatch({
      now: () => clock.now(),
      suspects: () => this.#registry.all.flatMap(task => task.attempts.map(attempt => ({ task, attempt })))
    })
    this.#last.add(this.blocks)
    onBootFailure(server, async () => { await this.#bootFailed() })
  }

  get tasks (): ReadonlyMap<string, Task> { return this.#registry.tasks }

  get phase (): 'open' | 'failed' | 'closing' { return this.#shutdown.begun ? 'closing' : this.#failed ? 'failed' : 'open' }

  get closing (): boolean { return this.#failed || this.#shutdown.begun }

  get activeInBackground (): number {
    let active = 0
    for (const { attempts } of this.#registry.backgrounds) active += attempts.length
    return active
  }

  get closed (): boolean { return this.#shutdown.over }

  isBooted (owner: FastifyInstance): boolean { return isBooted(owner) }

  /** Whether a task of this owner can no longer be declared. While plugins load it can, after close() too: an error would hide why the application closes. */
  isClosedTo (owner: FastifyInstance): boolean { return this.closing && (this.phase === 'failed' || isBooted(owner)) }

  has (instance: unknown): instance is FastifyInstance {
    return typeof instance === 'object' && instance !== null && rootOf(instance) === this.#root
  }

  /** Adds a task, which starts and stops with the application from now on. */
  add (task: Task): void {
    this.#registry.tasks.set(task.name, task)
    if (!task.dormant) this.closeable.add(task)
    if (isBooted(task.owner)) {
      this.#registry.late.add(task)
      void this.#startLate(task)
    } else {
      this.#hooks.add(task)
    }
    this.#shutdown.join(task)
  }

  addBackground (background: BackgroundRuns): void {
    this.#registry.backgrounds.add(background)
    this.#shutdown.join(background)
  }

  removed (task: Task): void { this.#registry.remove(task) }

  stopLast (resource: Resource): void { this.#last.add(resource) }

  runFirstOnClose (hook: () => Promise<void>): boolean { return this.#shutdown.runFirst(hook) }

  endBackgrounds (): Promise<void> { return this.#shutdown.endBackgrounds() }

  giveUp (task: GivenUp, attempt: Attempt, result: RunResult): void {
    giveUp(task, attempt, result, error => { this.#shutdown.fail(error) })
  }

  /** Starts every enabled task that has not started. A second caller gets the same promise. */
  start (): Promise<void> {
    this.#starting ??= this.#start().finally(() => { this.#starting = undefined })
    return this.#starting
  }

  /** Resolves when no run is active, or waits in a queue, except the runs of services. */
  async drain (): Promise<void> {
    for (let waited = [true]; waited.includes(true);) {
      waited = await Promise.all([...this.tasks.values(), ...this.#registry.backgrounds].map(async one => await one.drained()))
    }
  }

  health (): Health {
    return healthOf(this.tasks.values())
  }

  /** What the tasks do, and have done in the last hour. */
  report (): ActivityReport {
    const { activity } = this
    return { minutes: activity.minutes(this.clock.wall()), failures: activity.failures, active: this.#registry.active.flatMap(one => one.activeRuns) }
  }

  async #start (): Promise<void> {
    if (!isBooted(this.#server)) await this.#server.ready()
    if (this.closing) throw new errorCodes.FST_BG_CLOSING('Background tasks cannot be started')
    for (const task of this.tasks.values()) {
      if (task.startable && task.options.enabled) await this.#orRollBack(false, async () => { await this.#startUnlessStopped(task) })
    }
    // Tasks that are declared later start by themselves, too.
    this.#autostarts = true
  }

  async #autostart (tasks: Task[]): Promise<void> {
    for (const task of tasks) {
      await this.#orRollBack(true, async () => {
        task.prepare()
        if (this.#startsByItself(task)) await this.#startUnlessClosed(task)
      })
    }
  }

  /** Starts a task. Once the application closes, the boot no longer waits for a `start`: close does, until the deadline. */
  async #startUnlessClosed (task: Task): Promise<void> {
    const began = this.clock.now()
    const started = this.#startUnlessStopped(task).catch((error: unknown) => {
      if (!this.#shutdown.begun) throw error
      if (task.state === 'failed') report.startFailed(task.log, task.name, task.first, this.clock.now() - began, error)
    })
    await (task.kind === 'hosted' ? Promise.race([started, this.#shutdown.begins]) : started)
  }

  /** Starts a task. If somebody stops or pauses it meanwhile, that is no failure. */
  async #startUnlessStopped (task: Task): Promise<void> {
    try {
      await task.start()
    } catch (error) {
      if (task.state === 'failed' || this.closing || !isStopped(error)) throw error
    }
  }

  async #startLate (task: Task): Promise<void> {
    if (!this.#startsByItself(task)) return
    const began = this.clock.now()
    try {
      await task.start()
    } catch (error) {
      // Nobody awaits this start, so log its failure. A start that close has cut short did not fail.
      if (task.state === 'failed' || !isStopped(error)) report.startFailed(task.log, task.name, task.first, this.clock.now() - began, error)
    }
  }

  #startsByItself (task: Task): boolean {
    return !this.closing && this.#autostarts && task.options.enabled && task.startable
  }

  /** Somebody else's plugin or hook has failed, or a start of ours: nothing runs on in an application that did not boot. */
  async #bootFailed (): Promise<void> {
    this.#rollback ??= this.#rollBack(0)
    await this.#rollback
  }

  async #orRollBack (boot: boolean, start: () => Promise<void>): Promise<void> {
    const began = this.clock.now()
    try {
      await start()
    } catch (error) {
      this.#rollback = this.#rollBack(this.clock.now() - began)
      await this.#rollback
      // A server that is up goes on. One that was booting has failed.
      if (!boot) this.#failed = false
      throw error
    }
  }

  /** Stops the tasks that have started, the last first, because a start has failed. Ends before `pluginTimeout`, so that `ready()` rejects with the original error. */
  async #rollBack (spent: number): Promise<void> {
    if (this.closing) return
    this.#failed = true
    const { pluginTimeout = 0 } = this.#server.initialConfig
    const limit = new Deadline(this.clock)
    limit.start(pluginTimeout === 0 ? this.shutdownTimeout : pluginTimeout - MARGIN - spent)
    const reason = new errorCodes.FST_BG_SHUTDOWN()
    const { backgrounds } = this.#registry
    const begun = [...this.tasks.values()].filter(task => task.begun).reverse()
    for (const task of [...begun, ...backgrounds]) task.shutDown(reason, 0)
    // Not for a start that has timed out: if it ends well after all, it stops its task, and close waits for it.
    for (const task of begun) if (task.state !== 'failed') await limit.until(task.end())
    for (const one of backgrounds) await limit.until(one.idle())
    limit.clear()
  }
}

/** Whether a start failed only because somebody stopped, paused or removed the task, or the application closes. */
function isStopped (error: unknown): boolean {
  return ['FST_BG_CANCELLED', 'FST_BG_NOT_FOUND', 'FST_BG_CLOSING', 'FST_BG_SHUTDOWN'].includes(String((error as { code?: unknown }).code))
}
