import { setMaxListeners } from 'node:events'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import { withoutStores } from '../async-context.ts'
import { invalid, show } from '../check.ts'
import { defer, now } from '../time/index.ts'
import type { TaskContext } from './host.ts'
import type { RunSpec } from './run-spec.ts'
import type { OnRun, Progress, Run, RunResult } from './run.ts'
import { isTraced, runChannel } from './tracing.ts'
import { uuid } from './uuid.ts'

/**
 * One call of a handler. It creates the signal, the logger and the id only when somebody reads them: they cost 3 µs, 2 µs and
 * 0.1 µs.
 */
export class Attempt {
  readonly number: number
  readonly #context: TaskContext
  readonly #spec: RunSpec
  #id: string | undefined
  #log: FastifyBaseLogger | undefined
  #controller: AbortController | undefined
  #reason: (Error & { code: string }) | undefined
  #begun = false
  /** Whether the signal aborts only after the first synchronous part of the handler, as the run was aborted before. */
  #isAbortDeferred = false
  #startedAt = 0

  constructor (context: TaskContext, spec: RunSpec, id: string | undefined, number: number) {
    this.#context = context
    this.#spec = spec
    this.#id = id
    this.number = number
  }

  /** Name of the task that runs. */
  get task (): string { return this.#spec.task ?? this.#context.name }

  /** Whether the handler has been called. */
  get begun (): boolean { return this.#begun }

  get id (): string {
    this.#id ??= uuid()
    return this.#id
  }

  /** Id of the request that asked for the run, if there is one. */
  get reqId (): string | undefined { return this.#spec.reqId }

  /** The key that the run was enqueued with, if it has one. */
  get key (): string | undefined { return this.#spec.key }

  get log (): FastifyBaseLogger {
    const { owner, options: { logLevel } } = this.#context
    const { parent = owner.log, reqId } = this.#spec
    const bindings = { task: this.task, run: this.id, ...(reqId === undefined ? {} : { reqId }) }
    this.#log ??= parent.child(bindings, logLevel === undefined ? {} : { level: logLevel })
    return this.#log
  }

  get signal (): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      allowManyListeners(this.#controller.signal)
      if (this.#reason !== undefined && !this.#isAbortDeferred) this.#controller.abort(this.#reason)
    }
    return this.#controller.signal
  }

  /** Checks the progress that the handler reports, and passes it on. */
  progressed (value: Progress): void {
    const checked = checkProgress(this.task, value)
    this.#spec.progressed?.(checked)
  }

  /** Aborts the signal; the first reason stays. */
  abort (reason: Error & { code: string }): void {
    if (this.#reason !== undefined) return
    this.#reason = reason
    this.#controller?.abort(reason)
  }

  /** Aborts the signal of a run that was aborted before its handler was called. A handler that only listens for 'abort' must hear it, too. */
  #abortDeferred (): void {
    this.#isAbortDeferred = false
    const { signal } = this.#controller ?? {}
    if (signal?.aborted === false) this.#controller?.abort(this.#reason)
    else signal?.dispatchEvent(new Event('abort'))
  }

  /** Calls the handler, inside `onRun` if there is one. Throws, rejects or returns as the handler does. */
  execute (): unknown {
    this.#startedAt = now()
    this.#begun = true
    this.#isAbortDeferred = this.#reason !== undefined
    return withoutStores(call, this)
  }

  succeeded (value: unknown): RunResult {
    return { outcome: 'succeeded', value, error: undefined, duration: now() - this.#startedAt }
  }

  /** The result of a rejection: a cancellation if our own signal has aborted, else a failure. */
  failed (error: unknown): RunResult {
    const cancelled = this.#reason !== undefined && this.#reason.code !== 'FST_BG_TIMEOUT'
    return { outcome: cancelled ? 'cancelled' : 'failed', value: undefined, error, duration: now() - this.#startedAt }
  }

  /** Calls the handler inside `onRun` and the tracing channel. */
  call (): unknown {
    const { owner, host: { onRun } } = this.#context
    if (onRun === undefined && !isTraced()) return this.#handle()
    const work = onRun === undefined ? () => this.#handle() : async () => await this.#wrapped(onRun)
    if (!isTraced()) return work()
    return runChannel.tracePromise(async () => await work(), { server: owner, task: this.task, run: this.id, attempt: this.number })
  }

  #handle (run = new AttemptRun(this, this.#context, this.#spec)): unknown {
    if (this.#reason === undefined) return this.#spec.handler.call(this.#context.owner, run)
    try {
      return this.#spec.handler.call(this.#context.owner, run)
    } finally {
      this.#abortDeferred()
    }
  }

  async #wrapped (onRun: OnRun): Promise<unknown> {
    const run = new AttemptRun(this, this.#context, this.#spec)
    let handled: Watched | undefined
    let over = false
    const next = (): Promise<unknown> => {
      handled ??= new Watched(over ? Promise.reject(new Error('next() was called after onRun had ended')) : (async () => await this.#handle(run))())
      return handled
    }
    // If onRun waits for the signal before it calls next(), it must not wait for ever.
    if (this.#isAbortDeferred) defer(() => { if (this.#isAbortDeferred) this.#abortDeferred() })
    try {
      await onRun.call(this.#context.owner, run, next)
    } finally {
      over = true
      // The run ends only when the handler has, whether or not onRun has awaited it.
      await handled?.settled
    }
    // If onRun has awaited next(), its own result counts. If not, the failure of the handler does.
    return handled?.watched === true ? await handled.catch(() => {}) : await handled
  }
}

/** Node warns at eleven listeners of a signal, which one run may have. Only its own signals take the setting: happy-dom's, for one, do not. */
function allowManyListeners (signal: AbortSignal): void {
  try {
    setMaxListeners(0, signal)
  } catch {}
}

function call (attempt: Attempt): unknown {
  return attempt.call()
}

/** A promise that knows whether somebody has awaited it, and makes no unhandled rejection if nobody has. */
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

/** The `run` that a handler gets: a view of its attempt. Users may add properties to it. */
class AttemptRun implements Run<never, FastifyInstance> {
  readonly task: string
  readonly server: FastifyInstance
  readonly payload: never
  readonly dueAt: Date | undefined
  readonly missed: number
  readonly #attempt: Attempt

  constructor (attempt: Attempt, { owner }: TaskContext, { payload, dueAt, missed = 0 }: RunSpec) {
    this.#attempt = attempt
    this.task = attempt.task
    this.server = owner
    this.payload = payload as never
    // A copy: the handler may change it.
    this.dueAt = dueAt && new Date(dueAt)
    this.missed = missed
  }

  get id (): string { return this.#attempt.id }
  get attempt (): number { return this.#attempt.number }
  get signal (): AbortSignal { return this.#attempt.signal }
  get log (): FastifyBaseLogger { return this.#attempt.log }
  /** A function without `this`, so that a handler may destructure it. */
  get progress () { return (value: Progress): void => { this.#attempt.progressed(value) } }
}

/** Checks a progress, and copies it, as the handler may change its object later. Throws `FST_BG_INVALID_OPTION`. */
function checkProgress (task: string, value: unknown): Progress {
  if (typeof value === 'number' && value >= 0 && value <= 1) return value
  if (typeof value !== 'object' || value === null) throw invalid(`run.progress() of "${task}" takes a fraction from 0 to 1, or an object; received ${show(value)}.`)
  try {
    return JSON.parse(JSON.stringify(value)) as object
  } catch (error) {
    throw invalid(`run.progress() of "${task}" takes an object that can be written as JSON; received ${show(value)}.`, { cause: error })
  }
}
