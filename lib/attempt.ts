import { AsyncLocalStorage } from 'node:async_hooks'
import { randomUUID } from 'node:crypto'
import { setMaxListeners } from 'node:events'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import { now } from './clock.ts'
import type { OnRun, Run, RunResult } from './run.ts'
import { isTraced, runChannel } from './tracing.ts'

/** What one attempt is made of. */
export interface AttemptOptions {
  /** Name of the task. */
  task: string
  /** The owner: the handler's `this` and `run.server`. */
  server: FastifyInstance
  /** Level of the run's logger, where the task sets one. */
  logLevel: string | undefined
  handler: (this: FastifyInstance, run: Run<undefined, FastifyInstance>) => unknown
  onRun: OnRun | undefined
  /** The run's id, where it was given out before. */
  id?: string | undefined
  /** Which attempt of its run it is, from 1. */
  number?: number | undefined
  dueAt?: Date | undefined
  missed?: number | undefined
}

// Taken at load: a task must not inherit the AsyncLocalStorage store of the request that happened to declare it.
const outsideOfRequests = AsyncLocalStorage.snapshot()

/**
 * One call of a handler. What the handler may never touch is made only when it is touched: the signal costs 3 µs, the
 * logger 2, the id 0.3.
 */
export class Attempt {
  readonly number: number
  readonly #options: AttemptOptions
  #id: string | undefined
  #log: FastifyBaseLogger | undefined
  #controller: AbortController | undefined
  #reason: (Error & { code: string }) | undefined
  #begun = false

  constructor (options: AttemptOptions) {
    this.#options = options
    this.#id = options.id
    this.number = options.number ?? 1
  }

  /** Whether the handler has been called. */
  get begun (): boolean { return this.#begun }

  get id (): string {
    this.#id ??= randomUUID()
    return this.#id
  }

  get log (): FastifyBaseLogger {
    const { server, task, logLevel } = this.#options
    this.#log ??= server.log.child({ task, run: this.id }, logLevel === undefined ? {} : { level: logLevel })
    return this.#log
  }

  get signal (): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      setMaxListeners(0, this.#controller.signal)
      if (this.#reason !== undefined) this.#controller.abort(this.#reason)
    }
    return this.#controller.signal
  }

  /** Aborts the signal; the first reason stays. */
  abort (reason: Error & { code: string }): void {
    if (this.#reason !== undefined) return
    this.#reason = reason
    this.#controller?.abort(reason)
  }

  /**
   * Calls the handler, inside `onRun` if there is one. Never rejects, whatever they throw, return or reject with. What a handler
   * rejects with after our own signal aborted is a cancellation, not a failure.
   */
  async execute (): Promise<RunResult> {
    const started = now()
    this.#begun = true
    try {
      const value = await outsideOfRequests(() => this.#traced())
      return { outcome: 'succeeded', value, error: undefined, duration: now() - started }
    } catch (error) {
      const cancelled = this.#reason !== undefined && this.#reason.code !== 'FST_BG_TIMEOUT'
      return { outcome: cancelled ? 'cancelled' : 'failed', value: undefined, error, duration: now() - started }
    }
  }

  async #traced (): Promise<unknown> {
    if (!isTraced()) return await this.#call()
    const { server, task } = this.#options
    return await runChannel.tracePromise(async () => await this.#call(), { server, task, run: this.id, attempt: this.number })
  }

  async #call (): Promise<unknown> {
    const { server, handler, onRun } = this.#options
    const run = new AttemptRun(this, this.#options)
    if (onRun === undefined) return await handler.call(server, run)

    let handled: Watched | undefined
    let over = false
    const next = (): Promise<unknown> => {
      handled ??= new Watched(over ? Promise.reject(new Error('next() was called after onRun had ended')) : (async () => await handler.call(server, run))())
      return handled
    }
    try {
      await onRun.call(server, run, next)
    } finally {
      over = true
      // What runs must end, whether or not onRun has waited for it.
      await handled?.settled
    }
    // An onRun that has looked at what next() gave has the last word; one that has not hides no failure.
    return handled?.watched === true ? await handled.catch(() => {}) : await handled
  }
}

/** A promise that knows whether anyone has waited for it, and is no unhandled rejection when nobody has. */
class Watched extends Promise<unknown> {
  static override get [Symbol.species] (): PromiseConstructor { return Promise }

  watched = false
  readonly settled: Promise<unknown>

  constructor (work: Promise<unknown>) {
    super((resolve, reject) => { work.then(resolve, reject) })
    this.settled = super.then(() => {}, () => {})
  }

  override then<A, B> (fulfilled?: ((value: unknown) => A | PromiseLike<A>) | null, rejected?: ((reason: unknown) => B | PromiseLike<B>) | null): Promise<A | B> {
    this.watched = true
    return super.then(fulfilled, rejected) as Promise<A | B>
  }
}

/** The `run` that a handler sees: a view on its attempt. Users may put properties of their own on it. */
class AttemptRun implements Run<undefined, FastifyInstance> {
  readonly task: string
  readonly server: FastifyInstance
  readonly payload = undefined
  readonly dueAt: Date | undefined
  readonly missed: number
  readonly #attempt: Attempt

  constructor (attempt: Attempt, { task, server, dueAt, missed = 0 }: AttemptOptions) {
    this.#attempt = attempt
    this.task = task
    this.server = server
    this.dueAt = dueAt
    this.missed = missed
  }

  get id (): string { return this.#attempt.id }
  get attempt (): number { return this.#attempt.number }
  get signal (): AbortSignal { return this.#attempt.signal }
  get log (): FastifyBaseLogger { return this.#attempt.log }
}
