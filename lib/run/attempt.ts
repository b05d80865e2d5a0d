import { setMaxListeners } from 'node:events'
import { inspect, type InspectOptions } from 'node:util'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import { invalid, show } from '../common/check.ts'
import type { Reason } from '../common/errors.ts'
import { calledBy, inspected } from '../common/readable.ts'
import { defer, now, withoutStores } from '../time/index.ts'
import { Result } from './past/history.ts'
import { declaredKey, type DeclaredHandler, onAbortKey, type TaskContext } from './host.ts'
import type { RunSpec } from './run-spec.ts'
import type { OnRun, Progress, Run, RunResult } from './run.ts'
import { type AttemptSpan, isTraced, openTelemetry, type OpenTelemetry, runChannel, startSpan, type TraceCarrier } from './trace/index.ts'
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
  #reason: Reason | undefined
  #begun = false
  /** Whether the signal aborts only after the first synchronous part of the handler, as the run was aborted before. */
  #isAbortDeferred = false
  #onAbort: Set<(reason: Reason) => void> | undefined
  #startedAt = 0
  #span: AttemptSpan | undefined
  #progress: Progress | undefined

  constructor (context: TaskContext, spec: RunSpec, id: string | undefined, number: number) {
    this.#context = context
    this.#spec = spec
    this.#id = id
    this.number = number
  }

  /** Name of the task that runs. */
  get task (): string { return this.#spec.task ?? this.#context.name }

  /** Kind of the task. */
  get kind (): string { return this.#context.kind }

  /** The trace context in which the run was enqueued, if there is one. */
  get trace (): TraceCarrier | undefined { return this.#spec.trace }

  /** When the handler was called, on the monotonic timeline. */
  get startedAt (): number { return this.#startedAt }

  /** Whether the handler runs in the event loop of this process, and not in a thread. */
  get isInLoop (): boolean { return (this.#spec.handler as DeclaredHandler)[declaredKey] === undefined }

  /** Code of the reason for which it was aborted; undefined if it was not. */
  get aborted (): string | undefined { return this.#reason?.code }

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

  /** The last progress that the handler has reported; undefined if there is none. */
  get progress (): Progress | undefined { return this.#progress }

  /** When the run was enqueued: a new Date at each read, as few handlers read it. */
  get enqueuedAt (): Date | undefined {
    const { enqueuedAt } = this.#spec
    return enqueuedAt === undefined ? undefined : new Date(enqueuedAt)
  }

  get log (): FastifyBaseLogger {
    const { owner, options: { logLevel } } = this.#context
    const { parent = owner.log, reqId, key } = this.#spec
    const bindings = { task: this.task, run: this.id, ...reqId !== undefined && { reqId }, ...key !== undefined && { key } }
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
    this.#progress = checkProgress(this.task, value)
    this.#spec.progressed?.(this.#progress)
  }

  /** Aborts the signal; the first reason stays. */
  abort (reason: Reason): void {
    if (this.#reason !== undefined) return
    this.#reason = reason
    this.#controller?.abort(reason)
    this.#tellAbort(reason)
  }

  /** Calls `callback` when the signal aborts, until the returned function is called. */
  onAbort (callback: (reason: Reason) => void): () => void {
    this.#onAbort ??= new Set()
    this.#onAbort.add(callback)
    if (this.#reason !== undefined && !this.#isAbortDeferred) callback(this.#reason)
    return () => { this.#onAbort?.delete(callback) }
  }

  #tellAbort (reason: Reason): void {
    for (const callback of [...this.#onAbort ?? []]) callback(reason)
  }

  /** Aborts the signal of a run that was aborted before its handler was called. A handler that only listens for 'abort' must hear it, too. */
  #abortDeferred (): void {
    this.#isAbortDeferred = false
    const { signal } = this.#controller ?? {}
    if (signal?.aborted === false) this.#controller?.abort(this.#reason)
    else signal?.dispatchEvent(new Event('abort'))
    this.#tellAbort(this.#reason as Reason)
  }

  /** Calls the handler, inside `onRun` if there is one. Throws, rejects or returns as the handler does. `begunAt`: the monotonic time, where somebody has just read it. */
  execute (begunAt = now()): unknown {
    this.#startedAt = begunAt
    this.#begun = true
    this.#isAbortDeferred = this.#reason !== undefined
    return withoutStores(call, this)
  }

  succeeded (value: unknown): RunResult {
    const result = new Result('succeeded', value, undefined, now() - this.#startedAt)
    if (this.#span !== undefined) this.#span.end(result)
    return result
  }

  /** The result of a rejection: a cancellation if our own signal has aborted, else a failure. */
  failed (error: unknown): RunResult {
    const cancelled = this.#reason !== undefined && this.#reason.code !== 'FST_BG_TIMEOUT'
    const result = new Result(cancelled ? 'cancelled' : 'failed', undefined, error, now() - this.#startedAt)
    if (this.#span !== undefined) this.#span.end(result)
    return result
  }

  /** Calls the handler inside `onRun`, the tracing channel, and a span of its own. */
  call (): unknown {
    const api = openTelemetry()
    if (api !== undefined) return this.#spanned(api)
    // Most attempts: each further call would show in the time of a short run.
    return this.#context.host.onRun === undefined && !isTraced() ? this.#handle() : this.#traced()
  }

  #spanned (api: OpenTelemetry): unknown {
    // The life of a service is no span: it would be one trace without end, and sampled as a whole or not at all.
    if (this.kind !== 'service') this.#span = startSpan(api, this)
    return this.#span === undefined ? this.#traced() : this.#span.around(() => this.#traced())
  }

  #traced (): unknown {
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
  readonly schedule: string | undefined
  readonly #attempt: Attempt

  constructor (attempt: Attempt, { owner }: TaskContext, { payload, dueAt, missed = 0, schedule }: RunSpec) {
    this.#attempt = attempt
    this.task = attempt.task
    this.server = owner
    this.payload = payload as never
    // A copy: the handler may change it.
    this.dueAt = dueAt && new Date(dueAt)
    this.missed = missed
    this.schedule = schedule
  }

  get id (): string { return this.#attempt.id }
  get attempt (): number { return this.#attempt.number }
  get enqueuedAt (): Date | undefined { return this.#attempt.enqueuedAt }
  get signal (): AbortSignal { return this.#attempt.signal }
  get log (): FastifyBaseLogger { return this.#attempt.log }
  get [onAbortKey] () { return (callback: (reason: Reason) => void): (() => void) => this.#attempt.onAbort(callback) }
  /** A function without `this`, so that a handler may destructure it. */
  get progress () {
    const progress = (value: Progress): void => {
      try {
        this.#attempt.progressed(value)
      } catch (error) {
        throw calledBy(error, progress)
      }
    }
    return progress
  }

  /** What JSON shows: not the server, of which JSON would be endless, nor what `onRun` has put on the run. */
  toJSON (): object {
    const { id, task, attempt, payload, dueAt, missed, schedule, enqueuedAt } = this
    const { reqId, key } = this.#attempt
    return { id, task, attempt, payload, dueAt, missed: missed > 0 ? missed : undefined, schedule, enqueuedAt, key, reqId }
  }

  [inspect.custom] (depth: number, options: InspectOptions): string {
    return inspected('Run', { ...this.toJSON(), aborted: this.#attempt.aborted }, depth, options)
  }
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
