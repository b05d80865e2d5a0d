import type { FastifyInstance } from 'fastify'
import { errorCodes, type Reason, toError } from '../errors.ts'
import { report } from '../log.ts'
import type { Attempt, OnRun, RunResult } from '../run/index.ts'
import { MemoryStore, type Store } from '../store/index.ts'
import type { GivenUp, Task, TaskHost } from '../task/index.ts'
import { Clock, Deadline, formatDuration } from '../time/index.ts'
import type { BackgroundHost, BackgroundRuns } from './background.ts'
import { giveUp } from './give-up.ts'
import { isBooted, onBootFailure, onCloseCall, rootOf, runFirstOnClose } from './events.ts'
import { type Health, healthOf } from './health.ts'
import { Hooks } from './hooks.ts'
import type { PluginOptions } from './options.ts'

/** How long before `pluginTimeout` a failed start stops waiting for the rollback, so that the user sees the original error; in milliseconds. */
const MARGIN = 200

/**
 * Starts all tasks, and stops them under one deadline.
 *
 * A task has its place in the boot order (hooks.ts). A task that is declared while the onReady hooks run, or later, has no place: it starts at once,
 * and ends before anything is closed that the application has opened.
 */
export class Lifecycle implements TaskHost, BackgroundHost {
  readonly clock: Clock = new Clock()
  readonly scheduleClock: Clock = new Clock()
  readonly deadline: Deadline = new Deadline(this.clock)
  readonly onRun: OnRun | undefined
  readonly shutdownTimeout: number
  readonly tasks: Map<string, Task> = new Map()
  readonly stores: Map<string, Store>
  readonly closeable: Set<Task> = new Set()
  readonly #server: FastifyInstance
  readonly #root: object
  readonly #options: PluginOptions
  readonly #late = new Set<Task>()
  readonly #backgrounds = new Set<BackgroundRuns>()
  /** Removed tasks that have not ended. */
  readonly #removed = new Set<Task>()
  /** Whether tasks start by themselves (`autostart`). */
  #autostarts: boolean
  readonly #hooks = new Hooks({ start: async tasks => { await this.#autostart(tasks) }, end: tasks => this.#end(tasks) })
  readonly #errors: Error[] = []
  /** Whether Fastify has begun to close: it drains HTTP. */
  #drains = false
  #closed = false
  /** Whether close had to wait for anything. */
  #waits = false
  #closeBegun!: () => void
  readonly #closeBegins = new Promise<void>(resolve => { this.#closeBegun = resolve })
  /** Monotonic time at which close began. */
  #closedAt = 0
  #starting: Promise<void> | undefined
  #rollback: Promise<void> | undefined
  phase: 'open' | 'failed' | 'closing' = 'open'

  constructor (server: FastifyInstance, options: PluginOptions) {
    this.#server = server
    this.#root = rootOf(server)
    this.#options = options
    this.#autostarts = options.autostart
    this.onRun = options.onRun
    this.shutdownTimeout = options.shutdownTimeout
    this.stores = new Map(Object.entries({ memory: new MemoryStore(), ...options.stores }))
    onCloseCall(server, () => { this.#beginClose() })
    onBootFailure(server, async () => { await this.#bootFailed() })
    server.addHook('preClose', async () => { this.#preClose() })
    server.addHook('onClose', async () => { await this.#finishClose() })
  }

  get closing (): boolean { return this.phase !== 'open' }

  isBooted (owner: FastifyInstance): boolean { return isBooted(owner) }

  /** Whether a task of this owner can no longer be declared. While plugins load it can, after close() too: an error would hide why the application closes. */
  isClosedTo (owner: FastifyInstance): boolean { return this.closing && (this.phase === 'failed' || isBooted(owner)) }

  /** Whether the plugin's own onClose has ended. */
  get closed (): boolean { return this.#closed }

  /** Whether `instance` belongs to this application. */
  has (instance: unknown): instance is FastifyInstance {
    return typeof instance === 'object' && instance !== null && rootOf(instance) === this.#root
  }

  /** Adds a task, which starts and stops with the application from now on. */
  add (task: Task): void {
    this.tasks.set(task.name, task)
    if (!task.dormant) this.closeable.add(task)
    if (isBooted(task.owner)) {
      this.#late.add(task)
      void this.#startLate(task)
    } else {
      this.#hooks.add(task)
    }
    this.#tellIfClosing(task)
  }

  /** Adds the background runs of one instance. */
  addBackground (background: BackgroundRuns): void {
    this.#backgrounds.add(background)
    this.#tellIfClosing(background)
  }

  #tellIfClosing (one: Task | BackgroundRuns): void {
    if (this.phase === 'closing') this.#tell(one, new errorCodes.FST_BG_SHUTDOWN(), this.clock.now() - this.#closedAt)
  }

  /** Calls `hook` before anything of the application is closed. Returns false if it is too soon for that: HTTP is open. */
  runFirstOnClose (hook: () => Promise<void>): boolean {
    if (this.#drains) runFirstOnClose(this.#server, hook)
    return this.#drains
  }

  /** Awaits all background runs, at most until the shutdown deadline. */
  async endBackgrounds (): Promise<void> {
    this.#beginClose()
    while ([...this.#backgrounds].some(({ active }) => active) && !this.deadline.passed) {
      await this.deadline.until(Promise.all([...this.#backgrounds].map(async one => { await one.idle() })))
    }
  }

  /** Starts every enabled task that has not started. A second caller gets the same promise. */
  start (): Promise<void> {
    this.#starting ??= this.#start().finally(() => { this.#starting = undefined })
    return this.#starting
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

  /** Resolves when no run is active, or waits in a queue, except the runs of services. */
  async drain (): Promise<void> {
    for (let waited = [true]; waited.includes(true);) {
      waited = await Promise.all([...this.tasks.values(), ...this.#backgrounds].map(async one => await one.drained()))
    }
  }

  health (): Health {
    return healthOf(this.tasks.values())
  }

  removed (task: Task): void {
    // Another task may have taken the name since.
    if (this.tasks.get(task.name) === task) this.tasks.delete(task.name)
    this.#late.delete(task)
    // Its handler may ignore the signal, and a `start` in progress may have something to stop: close waits for it as for any task.
    this.#removed.add(task)
    void task.end().then(() => {
      this.#removed.delete(task)
      this.closeable.delete(task)
    })
  }

  /** Everything that close may have to stop. */
  get #all (): Array<Task | BackgroundRuns> { return [...this.#removed, ...this.tasks.values(), ...this.#backgrounds] }

  giveUp (task: GivenUp, attempt: Attempt, result: RunResult): void {
    giveUp(task, attempt, result, error => {
      this.#errors.push(error)
      // It rejects with the error, which giveUp() has logged.
      this.#server.close().then(undefined, () => {})
    })
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
      if (this.phase !== 'closing') throw error
      if (task.state === 'failed') report.startFailed(task.log, task.name, task.first, this.clock.now() - began, error)
    })
    await (task.kind === 'hosted' ? Promise.race([started, this.#closeBegins]) : started)
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
      if (!boot && this.phase === 'failed') this.phase = 'open'
      throw error
    }
  }

  /** Stops the tasks that have started, the last first, because a start has failed. Ends before `pluginTimeout`, so that `ready()` rejects with the original error. */
  async #rollBack (spent: number): Promise<void> {
    if (this.closing) return
    this.phase = 'failed'
    const { pluginTimeout = 0 } = this.#server.initialConfig
    const limit = new Deadline(this.clock)
    limit.start(pluginTimeout === 0 ? this.#options.shutdownTimeout : pluginTimeout - MARGIN - spent)
    const reason = new errorCodes.FST_BG_SHUTDOWN()
    const begun = [...this.tasks.values()].filter(task => task.begun).reverse()
    for (const task of [...begun, ...this.#backgrounds]) task.shutDown(reason, 0)
    // Not for a start that has timed out: if it ends well after all, it stops its task, and close waits for it.
    for (const task of begun) if (task.state !== 'failed') await limit.until(task.end())
    for (const one of this.#backgrounds) await limit.until(one.idle())
    limit.clear()
  }

  /** Once: starts the deadline, and tells every task. Waits for nothing. */
  #beginClose (): void {
    if (this.phase === 'closing') return
    this.phase = 'closing'
    this.#closeBegun()
    this.#closedAt = this.clock.now()
    this.scheduleClock.clear()
    // One error for all tasks: ten thousand stack traces would take time.
    const reason = new errorCodes.FST_BG_SHUTDOWN()
    this.deadline.start(this.#options.shutdownTimeout, () => { this.#expire(reason) })
    for (const some of [this.#removed, this.closeable, this.#backgrounds]) {
      for (const one of some) this.#tell(one, reason, 0)
    }
    const names = [...this.#removed, ...this.closeable, ...this.#backgrounds].filter(task => !task.isDown).flatMap(namesOf)
    if (names.length > 0) report.closing(this.#server.log, names)
    this.#waits = names.length > 0
  }

  /** HTTP drains from now on. What has no place in the boot order ends first. */
  #preClose (): void {
    this.#beginClose()
    this.#drains = true
    const placeless = [...this.#removed, ...this.#late]
    if (placeless.length > 0) runFirstOnClose(this.#server, async () => { await this.#endAll(placeless) })
    for (const one of this.#backgrounds) one.endFirst()
  }

  /** Tells a task that close began `since` milliseconds ago. Its runs abort at three quarters of the deadline at the latest, whatever its grace. */
  #tell (one: Task | BackgroundRuns, reason: Reason, since: number): void {
    one.shutDown(reason, Math.max(0, Math.min(one.options.grace, this.#options.shutdownTimeout * 3 / 4) - since))
  }

  /** Reports and aborts what has not stopped. The timer of the deadline calls it: an open HTTP stream can hold back onClose hooks for ever. */
  #expire (reason: Reason): void {
    const left = this.#all.filter(task => !task.isDown)
    if (left.length > 0) {
      const limit = formatDuration(this.#options.shutdownTimeout)
      const named = left.flatMap(one => namesOf(one).map(name => ({ name, why: one.active ? 'still runs' : 'waits for its stop, behind these or open connections' })))
      const said = named.map(({ name, why }) => `"${name}" (${why})`).join(', ')
      report.shutdownTimeout(this.#server.log, named.map(({ name }) => name), new errorCodes.FST_BG_SHUTDOWN_TIMEOUT(limit, said))
    }
    for (const task of this.#all) task.expire(reason)
  }

  /** Ends tasks in their place. */
  #end (tasks: Task[]): Promise<void> {
    // preClose has done it already, unless another plugin's preClose hook failed before ours.
    this.#beginClose()
    return this.closeable.size === 0 ? ended : this.#endAll(tasks)
  }

  /** Ends tasks, the last first, at most until the deadline. Collects their errors. */
  async #endAll (tasks: Task[]): Promise<void> {
    for (let i = tasks.length - 1; i >= 0; i--) {
      const task = tasks[i] as Task
      if (task.isOver) continue
      const ended = task.end().then(error => {
        if (error !== undefined) this.#errors.push(error)
      })
      await this.deadline.until(ended)
    }
  }

  async #finishClose (): Promise<void> {
    this.#beginClose()
    await this.#endAll([...this.#removed, ...this.#late])
    await this.endBackgrounds()
    for (const store of this.stores.values()) {
      // An async function, so that a store which throws synchronously, or returns no promise, does not prevent the other stops.
      await this.deadline.until((async () => { await store.stop() })().catch(error => { this.#errors.push(toError(error)) }))
    }
    this.#closed = true
    if (this.#waits) report.closed(this.#server.log, this.clock.now() - this.#closedAt)
    this.deadline.clear()
    const [error, ...more] = this.#errors
    if (more.length > 0) throw new AggregateError(this.#errors, `${this.#errors.length} background tasks failed`)
    if (error !== undefined) throw error
  }
}

/** Whether a start failed only because somebody stopped, paused or removed the task, or the application closes. */
function isStopped (error: unknown): boolean {
  return ['FST_BG_CANCELLED', 'FST_BG_NOT_FOUND', 'FST_BG_CLOSING', 'FST_BG_SHUTDOWN'].includes(String((error as { code?: unknown }).code))
}

const ended = Promise.resolve()

function namesOf (one: Task | BackgroundRuns): string[] {
  return 'names' in one ? one.names : [one.name]
}
