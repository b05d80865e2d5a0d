import type { FastifyInstance } from 'fastify'
import type { Attempt } from './attempt.ts'
import { isBooted } from './booted.ts'
import type { Background } from './background.ts'
import { Clock } from './clock.ts'
import { Deadline } from './deadline.ts'
import { formatDuration } from './duration.ts'
import { errorCodes } from './errors.ts'
import type { Reason } from './execution.ts'
import { exitWithFailure } from './exit.ts'
import { worst, type Health } from './health.ts'
import { Hooks } from './hooks.ts'
import type { PluginOptions } from './plugin-options.ts'
import { report, toError } from './report.ts'
import type { OnRun, RunResult } from './run.ts'
import type { GivenUp, Surroundings } from './runs.ts'
import type { Store } from './store.ts'
import { MemoryStore } from './stores/memory.ts'
import type { Task } from './task.ts'

/** How long before Fastify's own limit a failed start gives up waiting for what it stops, so that the user sees our error. */
const MARGIN = 200

/**
 * The lifecycle: what starts when, and how all of it stops.
 *
 * A task has its place in the boot order of the server (hooks.ts). One that is declared when the onReady hooks run, or later, has none
 * any more: it starts at once, and ends in the plugin's own onClose.
 */
export class Runtime implements Surroundings {
  readonly clock: Clock = new Clock()
  readonly scheduleClock: Clock = new Clock()
  readonly deadline: Deadline = new Deadline(this.clock)
  readonly onRun: OnRun | undefined
  readonly patience: number
  readonly tasks: Map<string, Task> = new Map()
  readonly stores: Map<string, Store>
  readonly up: Set<Task> = new Set()
  readonly #server: FastifyInstance
  readonly #options: PluginOptions
  readonly #late = new Set<Task>()
  readonly #backgrounds = new Set<Background>()
  /** The removed ones that have not ended. */
  readonly #leaving = new Set<Task>()
  /** Whether tasks start by themselves. */
  #autostarts: boolean
  readonly #hooks = new Hooks({ start: async tasks => { await this.#autostart(tasks) }, end: tasks => this.#end(tasks) })
  readonly #errors: Error[] = []
  #closed = false
  /** When the close began, by the clock. */
  #closesSince = 0
  #starting: Promise<void> | undefined
  phase: 'open' | 'failed' | 'closing' = 'open'

  constructor (server: FastifyInstance, options: PluginOptions) {
    this.#server = server
    this.#options = options
    this.#autostarts = options.autostart
    this.onRun = options.onRun
    this.patience = options.shutdownTimeout
    this.stores = new Map(Object.entries({ memory: new MemoryStore(), ...options.stores }))
    server.addHook('preClose', async () => { this.#beginClose() })
    server.addHook('onClose', async () => { await this.#finishClose() })
  }

  get closing (): boolean { return this.phase !== 'open' }

  /** Whether the plugin's own onClose is over. */
  get closed (): boolean { return this.#closed }

  /** Whether `instance` belongs to the server of this runtime. */
  has (instance: unknown): instance is FastifyInstance {
    return typeof instance === 'object' && instance !== null && 'server' in instance && instance.server === this.#server.server
  }

  /** Takes a task in: it starts and stops with the application from now on. */
  add (task: Task): void {
    this.tasks.set(task.name, task)
    if (!task.resting) this.up.add(task)
    if (isBooted(task.owner)) {
      this.#late.add(task)
      void this.#startLate(task)
    } else {
      this.#hooks.add(task)
    }
  }

  /** Takes in what runs for an instance without being declared. */
  addBackground (background: Background): void {
    this.#backgrounds.add(background)
    if (this.phase === 'closing') this.#tell(background, new errorCodes.FST_BG_SHUTDOWN(), this.clock.now() - this.#closesSince)
  }

  /** Sees all background runs to their end, and no longer than to the deadline. */
  async endBackgrounds (): Promise<void> {
    this.#beginClose()
    while ([...this.#backgrounds].some(({ active }) => active) && !this.deadline.passed) {
      await this.deadline.until(Promise.all([...this.#backgrounds].map(async one => { await one.idle() })))
    }
  }

  /** Starts every enabled task that has not been started; who asks meanwhile gets the same promise. */
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
    // Those that are declared later start too.
    this.#autostarts = true
  }

  /** Resolves when no run is active, or waits in a queue; those of services apart. */
  async drain (): Promise<void> {
    for (let waited = [true]; waited.includes(true);) {
      waited = await Promise.all([...this.tasks.values(), ...this.#backgrounds].map(async one => await one.drained()))
    }
  }

  /** How all tasks are, and the worst of it. */
  health (): Health {
    const tasks = [...this.tasks.values()].map(task => ({ name: task.name, kind: task.kind, state: task.state, ...task.condition }))
    return { status: worst(tasks).status, tasks }
  }

  removed (task: Task): void {
    // Not another one that has its name since.
    if (this.tasks.get(task.name) === task) this.tasks.delete(task.name)
    this.#late.delete(task)
    // A handler may ignore its signal, and a start have something to stop: close waits for that, as for any other.
    this.#leaving.add(task)
    void task.end().then(() => {
      this.#leaving.delete(task)
      this.up.delete(task)
    })
  }

  /** All that may have to be stopped. */
  get #all (): Array<Task | Background> { return [...this.#leaving, ...this.tasks.values(), ...this.#backgrounds] }

  giveUp (task: GivenUp, attempt: Attempt, result: RunResult): void {
    const { onGiveUp } = task.options
    const close = onGiveUp === 'close' && !this.closing
    report.gaveUp(task.log, close, task.kind === 'service' ? 'service' : 'run', task.name, attempt, result)
    if (close) this.#closeWith(task.name, result.error)
    else if (typeof onGiveUp === 'function') void this.#callBack(onGiveUp, task, toError(result.error))
  }

  /** A crashed service never leaves a process that looks healthy, nor one that exits with 0. */
  #closeWith (name: string, thrown: unknown): void {
    const error = toError(thrown)
    this.#errors.push(error === thrown ? error : new errorCodes.FST_BG_GAVE_UP(name, error.message, { cause: thrown }))
    exitWithFailure()
    // It rejects with the error, which has been logged.
    this.#server.close().then(undefined, () => {})
  }

  async #callBack (onGiveUp: (error: Error, server: FastifyInstance) => unknown, task: GivenUp, error: Error): Promise<void> {
    try {
      await onGiveUp(error, task.owner)
    } catch (failure) {
      report.onGiveUpFailed(task.log, task.name, failure)
    }
  }

  async #autostart (tasks: Task[]): Promise<void> {
    for (const task of tasks) {
      await this.#orRollBack(true, async () => {
        task.prepare()
        if (this.#startsByItself(task)) await this.#startUnlessStopped(task)
      })
    }
  }

  /** One that is stopped or paused by hand meanwhile is no reason to stop the others. */
  async #startUnlessStopped (task: Task): Promise<void> {
    try {
      await task.start()
    } catch (error) {
      if (task.state === 'failed' || this.closing) throw error
    }
  }

  async #startLate (task: Task): Promise<void> {
    if (!this.#startsByItself(task)) return
    const began = this.clock.now()
    try {
      await task.start()
    } catch (error) {
      // Whoever declared it has gone on: the log is left to tell. A start that close has cut short did not fail.
      if (task.state === 'failed') report.startFailed(task.log, task.name, task.first, this.clock.now() - began, error)
    }
  }

  #startsByItself (task: Task): boolean {
    return !this.closing && this.#autostarts && task.options.enabled && task.startable
  }

  async #orRollBack (boot: boolean, start: () => Promise<void>): Promise<void> {
    const began = this.clock.now()
    try {
      await start()
    } catch (error) {
      await this.#rollBack(this.clock.now() - began)
      // A server that is up goes on; one that was booting has failed to.
      if (!boot && this.phase === 'failed') this.phase = 'open'
      throw error
    }
  }

  /** Stops what has started, last first, as a start has failed; in time for the failure itself to be what `ready()` rejects with. */
  async #rollBack (spent: number): Promise<void> {
    if (this.closing) return
    this.phase = 'failed'
    const { pluginTimeout = 0 } = this.#server.initialConfig
    const limit = new Deadline(this.clock)
    limit.start(pluginTimeout === 0 ? this.#options.shutdownTimeout : pluginTimeout - MARGIN - spent)
    const reason = new errorCodes.FST_BG_SHUTDOWN()
    const begun = [...this.tasks.values()].filter(task => task.begun).reverse()
    for (const task of begun) task.shutDown(reason, 0)
    for (const task of begun) await limit.until(task.end())
    limit.clear()
  }

  /** Once: the deadline runs, and every task is told. Waits for nothing. */
  #beginClose (): void {
    if (this.phase === 'closing') return
    this.phase = 'closing'
    this.#closesSince = this.clock.now()
    this.scheduleClock.clear()
    // One for all tasks: a stack trace for each of ten thousand would be felt.
    const reason = new errorCodes.FST_BG_SHUTDOWN()
    this.deadline.start(this.#options.shutdownTimeout, () => { this.#expire(reason) })
    for (const some of [this.#leaving, this.up, this.#backgrounds]) {
      for (const one of some) this.#tell(one, reason, 0)
    }
  }

  /** It hears of the close, which began `since` milliseconds ago, well before the deadline, whatever grace was asked for. */
  #tell (one: Task | Background, reason: Reason, since: number): void {
    one.shutDown(reason, Math.max(0, Math.min(one.options.grace, this.#options.shutdownTimeout * 3 / 4) - since))
  }

  /** The deadline's own work: it does not wait for an onClose hook, which an open HTTP stream can hold back for ever. */
  #expire (reason: Reason): void {
    const up = this.#all.filter(task => !task.down)
    if (up.length > 0) {
      const limit = formatDuration(this.#options.shutdownTimeout)
      const named = up.flatMap(one => namesOf(one).map(name => ({ name, why: one.active ? 'still runs' : 'waits for its stop, behind these or open connections' })))
      const said = named.map(({ name, why }) => `"${name}" (${why})`).join(', ')
      report.shutdownTimeout(this.#server.log, named.map(({ name }) => name), new errorCodes.FST_BG_SHUTDOWN_TIMEOUT(limit, said))
    }
    for (const task of this.#all) task.expire(reason)
  }

  /** Sees tasks to their end, in their place. */
  #end (tasks: Task[]): Promise<void> {
    // Already done in preClose, unless another plugin's preClose hook failed before it.
    this.#beginClose()
    return this.up.size === 0 ? ended : this.#endAll(tasks)
  }

  /** Last first, and no longer than to the deadline. Their errors wait until all have ended. */
  async #endAll (tasks: Task[]): Promise<void> {
    for (let i = tasks.length - 1; i >= 0; i--) {
      const task = tasks[i] as Task
      if (task.over) continue
      const ended = task.end().then(error => {
        if (error !== undefined) this.#errors.push(error)
      })
      await this.deadline.until(ended)
    }
  }

  async #finishClose (): Promise<void> {
    this.#beginClose()
    await this.#endAll([...this.#leaving, ...this.#late])
    await this.endBackgrounds()
    for (const store of this.stores.values()) {
      // Async, so that one that throws at once, or returns nothing, does not stop the stopping.
      await this.deadline.until((async () => { await store.stop() })().catch(error => { this.#errors.push(toError(error)) }))
    }
    this.#closed = true
    this.deadline.clear()
    const [error, ...more] = this.#errors
    if (more.length > 0) throw new AggregateError(this.#errors, `${this.#errors.length} background tasks failed`)
    if (error !== undefined) throw error
  }
}

const ended = Promise.resolve()

function namesOf (one: Task | Background): string[] {
  return 'names' in one ? one.names : [one.name]
}
