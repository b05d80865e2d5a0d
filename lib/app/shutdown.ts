import type { FastifyInstance } from 'fastify'
import { errorCodes, type Reason, toError } from '../common/errors.ts'
import { report } from '../common/log.ts'
import type { Resource } from '../run/index.ts'
import type { Task } from '../task/index.ts'
import { type Clock, Deadline, formatDuration } from '../time/index.ts'
import type { BackgroundRuns } from './background.ts'
import { onCloseCall, runFirstOnClose } from './events.ts'
import type { Registry } from './registry.ts'

/** What the shutdown needs. */
export interface ShutdownParts {
  registry: Registry
  clock: Clock
  /** The clock of schedules: the shutdown clears it. */
  scheduleClock: Clock
  /** What stops last: the stores, and what handlers use. */
  last: Iterable<Resource>
  /** The shutdown deadline, in milliseconds. */
  limit: number
}

/**
 * Closes an application's tasks under one deadline.
 *
 * `begin` tells every task and waits for nothing. The tasks then end in their places (hooks.ts), what has no place before them all, and the stores
 * last. If the deadline passes, its timer aborts what is left.
 */
export class Shutdown {
  readonly deadline: Deadline
  /** Resolves when the shutdown begins. */
  readonly begins: Promise<void>
  readonly #server: FastifyInstance
  readonly #parts: ShutdownParts
  readonly #errors: Error[] = []
  #begin!: () => void
  #begun = false
  /** Monotonic time at which it began. */
  #begunAt = 0
  /** Whether Fastify drains HTTP. */
  #drains = false
  /** Whether it says when all has ended: an application that has run nothing has nothing to say. */
  #tells = false
  #over = false

  constructor (server: FastifyInstance, parts: ShutdownParts) {
    this.#server = server
    this.#parts = parts
    this.deadline = new Deadline(parts.clock)
    this.begins = new Promise(resolve => { this.#begin = resolve })
    onCloseCall(server, () => { this.begin() })
    server.addHook('preClose', async () => { this.#preClose() })
    server.addHook('onClose', async () => { await this.#finish() })
  }

  get begun (): boolean { return this.#begun }

  /** Whether the plugin's own onClose has ended. */
  get over (): boolean { return this.#over }

  /** Once: starts the deadline, and tells every task. Waits for nothing. */
  begin (): void {
    if (this.#begun) return
    const { registry, clock, scheduleClock, limit } = this.#parts
    // Asked before any is told: a task that only waits ends at that.
    const anyRan = registry.all.some(one => one.hasRun)
    this.#begun = true
    this.#begin()
    this.#begunAt = clock.now()
    scheduleClock.clear()
    // One error for all tasks: ten thousand stack traces would take time.
    const reason = new errorCodes.FST_BG_SHUTDOWN()
    this.deadline.start(limit, () => { this.#expire(reason) })
    for (const some of [registry.removed, registry.closeable, registry.backgrounds]) {
      for (const one of some) this.#tell(one, reason, 0)
    }
    const awaited = registry.active.filter(one => !one.isDown || one.waitingRuns > 0)
    const sum = (count: (one: Task | BackgroundRuns) => number): number => awaited.reduce((total, one) => total + count(one), 0)
    if (awaited.length > 0) report.closing(this.#server.log, awaited.flatMap(namesOf), sum(one => one.attempts.length), sum(one => one.waitingRuns))
    this.#tells = awaited.length > 0 || anyRan
  }

  /** Tells what was declared after the shutdown began that it has begun. */
  join (one: Task | BackgroundRuns): void {
    if (this.#begun) this.#tell(one, new errorCodes.FST_BG_SHUTDOWN(), this.#parts.clock.now() - this.#begunAt)
  }

  /** Ends tasks in their place. */
  end (tasks: Task[]): Promise<void> {
    // preClose has done it already, unless another plugin's preClose hook failed before ours.
    this.begin()
    return this.#parts.registry.closeable.size === 0 ? ended : this.#endAll(tasks)
  }

  /** Awaits all background runs, at most until the deadline. */
  async endBackgrounds (): Promise<void> {
    this.begin()
    const { backgrounds } = this.#parts.registry
    while ([...backgrounds].some(({ active }) => active) && !this.deadline.passed) {
      await this.deadline.until(Promise.all([...backgrounds].map(async one => { await one.idle() })))
    }
  }

  /** Calls `hook` before anything of the application is closed. Returns false if it is too soon for that: HTTP is open. */
  runFirst (hook: () => Promise<void>): boolean {
    if (this.#drains) runFirstOnClose(this.#server, hook)
    return this.#drains
  }

  /** Closes the server, whose `close()` then rejects with `error`. */
  fail (error: Error): void {
    this.#errors.push(error)
    // The error is in the log already.
    this.#server.close().then(undefined, () => {})
  }

  /** HTTP drains from now on. What has no place in the boot order ends first. */
  #preClose (): void {
    this.begin()
    this.#drains = true
    const { registry: { placeless, backgrounds } } = this.#parts
    if (placeless.length > 0) runFirstOnClose(this.#server, async () => { await this.#endAll(placeless) })
    for (const one of backgrounds) one.endFirst()
  }

  /** Tells a task that close began `since` milliseconds ago. Its runs abort at three quarters of the deadline at the latest, whatever its grace. */
  #tell (one: Task | BackgroundRuns, reason: Reason, since: number): void {
    one.shutDown(reason, Math.max(0, Math.min(one.options.grace, longestGrace(this.#parts.limit)) - since))
  }

  /** Reports and aborts what has not stopped. The timer of the deadline calls it: an open HTTP stream can hold back onClose hooks for ever. */
  #expire (reason: Reason): void {
    const { registry: { all }, limit } = this.#parts
    const left = all.filter(one => !one.isDown)
    if (left.length > 0) {
      const named = left.flatMap(one => namesOf(one).map(name => ({ name, why: one.active ? 'still runs' : 'waits for its stop, behind these or open connections' })))
      const said = named.map(({ name, why }) => `"${name}" (${why})`).join(', ')
      report.shutdownTimeout(this.#server.log, named.map(({ name }) => name), new errorCodes.FST_BG_SHUTDOWN_TIMEOUT(formatDuration(limit), said))
    }
    for (const one of all) one.expire(reason)
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

  async #finish (): Promise<void> {
    this.begin()
    const { registry, last, clock } = this.#parts
    await this.#endAll(registry.placeless)
    await this.endBackgrounds()
    for (const one of last) {
      // An async function, so that a store which throws synchronously, or returns no promise, does not prevent the other stops.
      await this.deadline.until((async () => { await one.stop() })().catch(error => { this.#errors.push(toError(error)) }))
    }
    this.#over = true
    if (this.#tells) report.closed(this.#server.log, clock.now() - this.#begunAt)
    this.deadline.clear()
    const [error, ...more] = this.#errors
    if (more.length > 0) throw new AggregateError(this.#errors, `${this.#errors.length} background tasks failed`)
    if (error !== undefined) throw error
  }
}

/** The longest grace, so that every run hears of the shutdown before its deadline; in milliseconds, as `limit`. */
export function longestGrace (limit: number): number {
  return limit * 3 / 4
}

const ended = Promise.resolve()

function namesOf (one: Task | BackgroundRuns): string[] {
  return 'names' in one ? one.names : [one.name]
}
