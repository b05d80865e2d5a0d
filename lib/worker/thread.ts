import type { Progress } from '../run/index.ts'
import type { Hello, ThreadData, ThreadResult, ThreadRun, Thrown, ThrownError, ToThread } from './messages.ts'
import type { Level, WorkerLog, WorkerRun } from './worker-run.ts'

/** The modules that the code of a thread needs. */
export interface Modules {
  threads: typeof import('node:worker_threads')
  timers: typeof import('node:timers')
  events: { setMaxListeners: typeof import('node:events').setMaxListeners }
  util: typeof import('node:util')
  /** Imports a module by its address: compilers and bundlers change an `import()`. */
  load (href: string): Promise<Record<string, unknown>>
}

/**
 * The code of a thread: loads the module of the worker, and calls it with a run. Returns the function that piscina calls.
 *
 * It uses nothing from outside of itself, as in a bundle there is no file of ours that a thread could load: then engine.ts writes the text of this
 * function into one.
 */
export function thread ({ threads, timers, events, util, load }: Modules): (run: ThreadRun) => Promise<unknown> {
  const mark = 'fastify-background-tasks'
  const giveUpMark = Symbol.for('fastify-background-tasks.GiveUp')
  const transferable = Symbol.for('Piscina.transferable')
  const levels: Level[] = ['fatal', 'error', 'warn', 'info', 'debug', 'trace']
  /** The shortest time between two reports of progress, in milliseconds. */
  const pause = 50
  const { href, told } = threads.workerData as ThreadData
  const { port1: port, port2 } = new threads.MessageChannel()
  const handlers = new Map<string, (run: WorkerRun) => unknown>()
  /** What the server has said about a call before it began here. */
  const early = new Map<number, ToThread>()
  let current: Current | undefined
  let seen = 0

  class Current {
    readonly call: number
    readonly level: string
    reason: Error | undefined
    controller: AbortController | undefined
    /** Whether the first synchronous part of the handler has ended: only then does the signal of a run that was aborted before abort. */
    open = false
    said = 0
    progress: Progress | undefined
    progressedAt = 0

    constructor (call: number, level: string) {
      this.call = call
      this.level = level
    }

    get signal (): AbortSignal {
      if (this.controller === undefined) {
        this.controller = new AbortController()
        makePollable(this, this.controller.signal)
        if (this.open) this.abort()
      }
      return this.controller.signal
    }

    /** Aborts the signal, if there is one and a reason. */
    abort (): void {
      if (this.reason !== undefined) this.controller?.abort(this.reason)
    }

    say (message: object): void {
      port.postMessage({ call: this.call, ...message })
      this.said++
    }

    flush (): void {
      if (this.progress === undefined) return
      this.say({ progress: this.progress })
      this.progress = undefined
      this.progressedAt = performance.now()
    }
  }

  /** Makes a loop that never awaits see that the signal aborts: it gets no messages, so asking for `aborted` looks for them. */
  function makePollable (one: Current, signal: AbortSignal): void {
    events.setMaxListeners(0, signal)
    const { get } = Object.getOwnPropertyDescriptor(AbortSignal.prototype, 'aborted') as { get: () => boolean }
    const aborted = (): boolean => {
      if (Atomics.load(told, 0) !== seen) listen()
      if (one.reason !== undefined && !get.call(signal)) one.abort()
      return get.call(signal)
    }
    Object.defineProperty(signal, 'aborted', { get: aborted, configurable: true })
    signal.throwIfAborted = () => { if (aborted()) throw signal.reason }
  }

  /** Reads the messages that have come. */
  function listen (): void {
    seen = Atomics.load(told, 0)
    for (let got = threads.receiveMessageOnPort(port); got !== undefined; got = threads.receiveMessageOnPort(port)) hear(got.message as ToThread)
  }

  function hear (message: ToThread): void {
    if (current?.call !== message.call) {
      early.set(message.call, message)
    } else if (current.reason === undefined && message.reason !== undefined) {
      const { message: text, name, stack, own } = message.reason
      const reason = Object.assign(new Error(text), own)
      Object.defineProperty(reason, 'name', { value: name, configurable: true, writable: true })
      if (stack !== undefined) reason.stack = stack
      current.reason = reason
      if (current.open) current.abort()
    }
  }

  /** Whether a line of that level is written; a level of the user's own counts as one. */
  function isWritten (wanted: string, level: string): boolean {
    const [at, limit] = [levels.indexOf(wanted as Level), levels.indexOf(level as Level)]
    return level !== 'silent' && (limit === -1 || at <= limit)
  }

  function logOf (one: Current, bindings?: object): WorkerLog {
    const { level } = one
    const log = {
      level,
      isLevelEnabled: (wanted: string) => isWritten(wanted, level),
      child: (more: object) => logOf(one, { ...bindings, ...more })
    } as WorkerLog & Record<string, unknown>
    for (const method of levels) {
      log[method] = (...args: unknown[]) => {
        if (!isWritten(method, level)) return
        const line = { log: method, bindings, args: args.map(loggable) }
        try {
          one.say(line)
        } catch {
          one.say({ ...line, bindings: bindings && asText(bindings), args: line.args.map(asText) })
        }
      }
    }
    return log
  }

  /** An argument of a log call, with its errors as they cross. */
  function loggable (value: unknown): unknown {
    if (isError(value)) return { [mark]: { error: encode(value) } }
    if (typeof value !== 'object' || value === null || !('err' in value) || !isError(value.err)) return value
    return { ...value, err: { [mark]: { error: encode(value.err) } } }
  }

  /** A value with what cannot be cloned as text. */
  function asText (value: unknown): unknown {
    if (isCloneable(value)) return value
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return util.inspect(value)
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, isCloneable(one) ? one : util.inspect(one)]))
  }

  function isCloneable (value: unknown): boolean {
    try {
      structuredClone(value)
      return true
    } catch {
      return false
    }
  }

  function isError (value: unknown): value is Error {
    return value instanceof Error || Object.prototype.toString.call(value) === '[object Error]'
  }

  /** Something thrown, as it crosses. Each property of it may throw. */
  function encodeThrown (thrown: unknown, depth = 0): Thrown {
    try {
      if (isError(thrown)) return { error: encode(thrown, depth) }
      return { value: isCloneable(thrown) ? thrown : util.inspect(thrown) }
    } catch {
      return { value: 'a value that throws when it is inspected' }
    }
  }

  function encode (error: Error, depth = 0): ThrownError {
    const own: Record<string, unknown> = {}
    const encoded: ThrownError = { name: String(error.name), message: String(error.message), stack: error.stack === undefined ? undefined : String(error.stack), own }
    for (const key of [...Object.keys(error), 'code']) {
      const value = (error as unknown as Record<string, unknown>)[key]
      if (['string', 'number', 'boolean'].includes(typeof value)) own[key] = value
    }
    if ('cause' in error && depth < 5) encoded.cause = encodeThrown(error.cause, depth + 1)
    if (Array.isArray((error as AggregateError).errors) && depth < 5) encoded.errors = (error as AggregateError).errors.map(one => encodeThrown(one, depth + 1))
    if ((error as { [giveUpMark]?: boolean })[giveUpMark] === true) encoded.givesUp = true
    return encoded
  }

  /** Loads the export with that name; or says what is wrong with it. */
  async function handlerOf (name: string): Promise<((run: WorkerRun) => unknown) | string> {
    const module = await load(href)
    // A CommonJS module is the default export of its namespace, and one compiled from ES modules has a `default` of its own in that.
    const common = Object(module.default) as Record<string, unknown>
    const found = typeof module[name] !== 'function' && typeof common[name] === 'function' ? common[name] : module[name]
    if (typeof found !== 'function') {
      const names = Object.keys(module).map(one => `"${one}"`).join(', ')
      const what = found === undefined ? `has no export "${name}"` : `exports "${name}", which is no function but ${util.inspect(found, { depth: 0, breakLength: Infinity })}`
      return `${what}. It exports ${names === '' ? 'nothing' : names}`
    }
    handlers.set(name, found as (run: WorkerRun) => unknown)
    return found as (run: WorkerRun) => unknown
  }

  function result (one: Current, kind: ThreadResult['fastify-background-tasks'], more: object): ThreadResult {
    return { [mark]: kind, said: one.said, ...more } as ThreadResult
  }

  /** The value for the server. An object goes by our own port, where it can be refused: piscina would let the thread die. */
  function give (one: Current, value: unknown): unknown {
    if (value === null || !['object', 'function', 'symbol'].includes(typeof value)) return one.said === 0 ? value : result(one, 'value', { value })
    // Made by piscina's move(): piscina knows what to do.
    if (transferable in Object(value)) return value
    try {
      one.say({ value })
      return result(one, 'sent', {})
    } catch (error) {
      return result(one, 'not cloned', { what: String((error as Error).message) })
    }
  }

  /** The `run` of the handler. A class with getters, and not an object of its own shape for each run, which costs a tenth of a short run. */
  class Run implements WorkerRun {
    readonly id: string
    readonly task: string
    readonly attempt: number
    readonly payload: unknown
    readonly dueAt: Date | undefined
    readonly missed: number
    readonly #one: Current
    #log: WorkerLog | undefined

    constructor (one: Current, [, , id, task, attempt, , payload, dueAt, missed = 0]: ThreadRun) {
      this.id = id
      this.task = task
      this.attempt = attempt
      this.payload = payload
      this.dueAt = dueAt
      this.missed = missed
      this.#one = one
    }

    get signal (): AbortSignal { return this.#one.signal }

    get log (): WorkerLog {
      this.#log ??= logOf(this.#one)
      return this.#log
    }

    /** A function without `this`, so that a handler may destructure it. */
    get progress () {
      return (value: Progress): void => { report(this.#one, this.task, value) }
    }
  }

  /** Checks the progress that the handler reports, and says it from time to time. */
  function report (one: Current, task: string, value: Progress): void {
    const isFraction = typeof value === 'number' && value >= 0 && value <= 1
    if (!isFraction && (typeof value !== 'object' || value === null)) throw invalid(`run.progress() of "${task}" takes a fraction from 0 to 1, or an object; received ${util.inspect(value)}.`)
    try {
      one.progress = isFraction ? value : JSON.parse(JSON.stringify(value)) as object
    } catch (cause) {
      throw invalid(`run.progress() of "${task}" takes an object that can be written as JSON; received ${util.inspect(value, { depth: 0 })}.`, cause)
    }
    if (performance.now() - one.progressedAt >= pause) one.flush()
  }

  function invalid (message: string, cause?: unknown): Error {
    return Object.assign(new Error(message, { cause }), { name: 'FastifyError', code: 'FST_BG_INVALID_OPTION', statusCode: 500 })
  }

  /**
   * Lets Node handle the promises that the handler has left behind, and that have rejected: piscina stops the thread until its next run, which they would fail.
   * A turn of the event loop does that, and costs a fifth of a short run; what Node itself does after each callback costs nothing, but may go.
   */
  function leftovers (): Promise<void> | undefined {
    const { _tickCallback: handleTicks } = process as { _tickCallback?: () => void }
    if (handleTicks === undefined) return new Promise(resolve => { timers.setImmediate(resolve) })
    handleTicks()
    return undefined
  }

  port.on('message', hear)
  // The port of piscina decides how long the thread lives.
  port.unref()
  const hello: Hello = { [mark]: threads.threadId, port: port2 }
  threads.parentPort?.postMessage(hello, [port2])

  return async run => {
    const [number, name, , , , level] = run
    if (Atomics.load(told, 0) !== seen) listen()
    const before = early.get(number)
    if (early.size > 0) early.clear()
    if (before !== undefined && before.reason === undefined) return undefined
    const one = current = new Current(number, level)
    if (before !== undefined) hear(before)
    let handler: ((run: WorkerRun) => unknown) | string
    try {
      handler = handlers.get(name) ?? await handlerOf(name)
    } catch (error) {
      return result(one, 'not loaded', { thrown: encodeThrown(error), what: 'cannot be loaded' })
    }
    if (typeof handler === 'string') return result(one, 'not loaded', { what: handler })
    try {
      const work = handler(new Run(one, run))
      one.open = true
      one.abort()
      const value = await work
      const left = leftovers()
      if (left !== undefined) await left
      one.flush()
      return give(one, value)
    } catch (error) {
      one.open = true
      return result(one, 'thrown', { thrown: encodeThrown(error) })
    }
  }
}
