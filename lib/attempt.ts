import { AsyncResource } from 'node:async_hooks'
import { setMaxListeners } from 'node:events'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import { now } from './clock.ts'
import { checkProgress } from './progress.ts'
import type { Launch } from './launch.ts'
import type { OnRun, Progress, Run, RunResult } from './run.ts'
import type { Runner } from './runs.ts'
import { isTraced, runChannel } from './tracing.ts'
import { uuid } from './uuid.ts'

// Taken at load: a task must not inherit the AsyncLocalStorage store of the request that happened to declare it.
// Not AsyncLocalStorage.snapshot(), which does the same in ten times the time.
const outsideOfRequests = new AsyncResource('fastify-background-tasks')

/**
 * One call of a handler. What the handler may never touch is made only when it is touched: the signal costs 3 µs, the
 * logger 2, the id 0.1.
 */
export class Attempt {
  readonly number: number
  readonly #of: Runner
  readonly #launch: Launch
  #id: string | undefined
  #log: FastifyBaseLogger | undefined
  #controller: AbortController | undefined
  #reason: (Error & { code: string }) | undefined
  #begun = false
  #startedAt = 0

  constructor (of: Runner, launch: Launch, id: string | undefined, number: number) {
    this.#of = of
    this.#launch = launch
    this.#id = id
    this.number = number
  }

  /** Name of the task that runs. */
  get task (): string { return this.#launch.task ?? this.#of.name }

  /** Whether the handler has been called. */
  get begun (): boolean { return this.#begun }

  get id (): string {
    this.#id ??= uuid()
    return this.#id
  }

  get log (): FastifyBaseLogger {
    const { owner, options: { logLevel } } = this.#of
    const { parent = owner.log, reqId } = this.#launch
    const bindings = { task: this.task, run: this.id, ...(reqId === undefined ? {} : { reqId }) }
    this.#log ??= parent.child(bindings, logLevel === undefined ? {} : { level: logLevel })
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

  /** It says how far it is: checked, and kept by whoever keeps the run. */
  progressed (value: Progress): void {
    const checked = checkProgress(this.task, value)
    this.#launch.progressed?.(checked)
  }

  /** Aborts the signal; the first reason stays. */
  abort (reason: Error & { code: string }): void {
    if (this.#reason !== undefined) return
    this.#reason = reason
    this.#controller?.abort(reason)
  }

  /** Calls the handler, inside `onRun` if there is one. May throw, reject or return whatever it likes. */
  execute (): unknown {
    this.#startedAt = now()
    this.#begun = true
    return outsideOfRequests.runInAsyncScope(call, undefined, this)
  }

  succeeded (value: unknown): RunResult {
    return { outcome: 'succeeded', value, error: undefined, duration: now() - this.#startedAt }
  }

  /** What a handler rejects with after our own signal aborted is a cancellation, not a failure. */
  failed (error: unknown): RunResult {
    const cancelled = this.#reason !== undefined && this.#reason.code !== 'FST_BG_TIMEOUT'
    return { outcome: cancelled ? 'cancelled' : 'failed', value: undefined, error, duration: now() - this.#startedAt }
  }

  /** Calls the handler, and whatever wraps it. */
  call (): unknown {
    const { owner, surroundings: { onRun } } = this.#of
    if (onRun === undefined && !isTraced()) return this.#handle()
    const work = onRun === undefined ? () => this.#handle() : async () => await this.#wrapped(onRun)
    if (!isTraced()) return work()
    return runChannel.tracePromise(async () => await work(), { server: owner, task: this.task, run: this.id, attempt: this.number })
  }

  #handle (run = new AttemptRun(this, this.#of, this.#launch)): unknown {
    return this.#launch.handler.call(this.#of.owner, run)
  }

  async #wrapped (onRun: OnRun): Promise<unknown> {
    const run = new AttemptRun(this, this.#of, this.#launch)
    let handled: Watched | undefined
    let over = false
    const next = (): Promise<unknown> => {
      handled ??= new Watched(over ? Promise.reject(new Error('next() was called after onRun had ended')) : (async () => await this.#handle(run))())
      return handled
    }
    try {
      await onRun.call(this.#of.owner, run, next)
    } finally {
      over = true
      // What runs must end, whether or not onRun has waited for it.
      await handled?.settled
    }
    // An onRun that has looked at what next() gave has the last word; one that has not hides no failure.
    return handled?.watched === true ? await handled.catch(() => {}) : await handled
  }
}

function call (attempt: Attempt): unknown {
  return attempt.call()
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
class AttemptRun implements Run<never, FastifyInstance> {
  readonly task: string
  readonly server: FastifyInstance
  readonly payload: never
  readonly dueAt: Date | undefined
  readonly missed: number
  readonly #attempt: Attempt

  constructor (attempt: Attempt, { owner }: Runner, { payload, dueAt, missed = 0 }: Launch) {
    this.#attempt = attempt
    this.task = attempt.task
    this.server = owner
    this.payload = payload as never
    // One of its own: a Date can be changed.
    this.dueAt = dueAt && new Date(dueAt)
    this.missed = missed
  }

  get id (): string { return this.#attempt.id }
  get attempt (): number { return this.#attempt.number }
  get signal (): AbortSignal { return this.#attempt.signal }
  get log (): FastifyBaseLogger { return this.#attempt.log }
  /** A handler may take it out of the run. */
  get progress () { return (value: Progress): void => { this.#attempt.progressed(value) } }
}
