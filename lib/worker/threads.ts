import type { Piscina } from 'piscina'
import { invalid } from '../common/check.ts'
import { errorCodes, type Reason } from '../common/errors.ts'
import type { HandlerHost, Resource, Run } from '../run/index.ts'
import { withoutStores } from '../time/index.ts'
import { Call } from './call.ts'
import { deathError, refusedError, startError } from './failures.ts'
import type { Hello, ThreadData, ThreadResult, Thrown } from './messages.ts'
import { type Definition, defaultThreads } from './options.ts'
import { entryFile, loadPiscina } from './engine.ts'
import { decodeThrown, encodeReason } from './thrown.ts'
import { WorkerThread } from './worker-thread.ts'

const mark = 'fastify-background-tasks'
/** Key of what piscina shows its load balancer of a task. Structured clone leaves it out. */
const callKey: unique symbol = Symbol.for('Piscina.queueOptions') as never

/**
 * The threads of one module in one application.
 *
 * A call waits here until a thread is free, so that one that is aborted meanwhile never begins. piscina then starts threads, and gives each one call at a
 * time. When a signal aborts, the thread is told; if the call goes on for `killAfter`, its thread is ended, and the next call gets a new one.
 */
export class Threads implements Resource {
  readonly #host: HandlerHost
  readonly #href: string
  #threads: number | undefined
  #memory: number | undefined
  readonly #told = new Int32Array(new SharedArrayBuffer(4))
  #pool: Piscina | undefined
  readonly #byId = new Map<number, WorkerThread>()
  readonly #joined = new Set<Definition>()
  readonly #waiting = new Set<Call>()
  /** Calls that piscina has, until it has done with them. */
  readonly #active = new Set<Call>()
  /** Why a thread could not be started. */
  #startFailure: Error | undefined
  #stopped = false

  constructor (host: HandlerHost, href: string) {
    this.#host = host
    this.#href = href
  }

  /** One more worker of the file. Throws `FST_BG_INVALID_OPTION` if it says something else than one before. */
  join (where: string, definition: Definition): void {
    if (this.#joined.has(definition)) return
    const { path, threads, memory } = definition
    this.#threads = this.#agree(where, path, 'threads', this.#threads, threads)
    this.#memory = this.#agree(where, path, 'memory', this.#memory, memory)
    this.#joined.add(definition)
  }

  run (run: Run, definition: Definition): Promise<unknown> {
    if (this.#stopped) throw new errorCodes.FST_BG_CLOSING(`The worker ${definition.path} of "${run.task}" cannot run`)
    // Nobody has declared a task with it, if a handler calls it.
    this.join(`"${run.task}"`, definition)
    return new Promise((resolve, reject) => {
      const call = new Call(run, definition, resolve, reject)
      this.#waiting.add(call)
      call.onAbort(reason => { this.#abort(call, reason) })
      this.#next()
    })
  }

  /** Ends all threads. What still runs in them ends as if it had rejected. */
  async stop (): Promise<void> {
    this.#stopped = true
    for (const call of [...this.#waiting, ...this.#active]) {
      if (!call.over) call.reject(call.reason ?? new errorCodes.FST_BG_SHUTDOWN())
    }
    this.#waiting.clear()
    await this.#pool?.destroy()
    this.#pool = undefined
  }

  #agree (where: string, path: string, key: 'threads' | 'memory', before: number | undefined, now: number | undefined): number | undefined {
    if (before !== undefined && now !== undefined && before !== now) {
      throw invalid(`${where}: its worker ${path} says ${key}: ${now}, and another one of the same file says ${before}. They share their threads: say the same, or only once.`)
    }
    if (now !== undefined && before === undefined && this.#pool !== undefined) throw invalid(`${where}: its worker ${path} says ${key}: ${now}, but the threads of the file have been started without it. Say it in the worker that is declared first.`)
    return before ?? now
  }

  /** Gives waiting calls to piscina, as many as there may be threads. */
  #next (): void {
    const most = this.#threads ?? defaultThreads()
    for (const call of this.#waiting) {
      if (this.#active.size >= most) return
      this.#waiting.delete(call)
      this.#active.add(call)
      // A thread outlives the run for which it is started: it must not keep the AsyncLocalStorage stores of that.
      withoutStores(this.#give, call)
    }
  }

  readonly #give = (call: Call): void => {
    this.#pool ??= this.#start()
    this.#pool.run(Object.assign(call.data, { [callKey]: call })).then(
      value => { this.#ended(call, () => { this.#succeed(call, value) }) },
      (error: Error) => { this.#ended(call, () => { call.reject(deathError(call, error, this.#memory)) }) }
    )
  }

  #start (): Piscina {
    const { Piscina } = loadPiscina(this.#href)
    const data: ThreadData = { href: this.#href, told: this.#told }
    const pool = new Piscina({
      filename: entryFile(),
      name: 'run',
      minThreads: 0,
      maxThreads: this.#threads ?? defaultThreads(),
      idleTimeout: Infinity,
      recordTiming: false,
      workerData: data,
      resourceLimits: this.#memory === undefined ? {} : { maxOldGenerationSizeMb: this.#memory },
      // Tells which thread gets a call. One is taken only once it has said hello.
      loadBalancer: (task, workers) => {
        const free = workers.find(({ id, currentUsage }) => currentUsage === 0 && this.#byId.has(id)) ?? null
        if (free !== null) this.#byId.get(free.id)?.take((task as unknown as { [callKey]: Call })[callKey])
        return free
      }
    })
    pool.on('message', ({ [mark]: id, port }: Hello) => {
      this.#byId.set(id, new WorkerThread(id, port, this.#told, () => { this.#byId.delete(id) }))
    })
    pool.on('error', (error: Error) => { this.#startFailure = error })
    pool.on('workerDestroy', () => { queueMicrotask(() => { this.#threadEnded(pool) }) })
    return pool
  }

  /** If the last thread has ended before it was ready, piscina starts no other one for the calls that wait for it. */
  #threadEnded (pool: Piscina): void {
    const failure = this.#startFailure
    this.#startFailure = undefined
    const waiting = [...this.#active].filter(({ thread }) => thread === undefined)
    if (this.#pool !== pool || pool.threads.length > 0 || waiting.length === 0) return
    this.#pool = undefined
    for (const call of waiting) {
      if (!call.over) call.reject(startError(call, failure, this.#memory))
    }
    void pool.destroy()
  }

  #ended (call: Call, end: () => void): void {
    this.#active.delete(call)
    if (!call.over) end()
    this.#next()
  }

  #succeed (call: Call, returned: unknown): void {
    if (typeof returned !== 'object' || returned === null) {
      call.resolve(returned)
      return
    }
    // piscina tells of an end before the messages are heard that the thread has sent before.
    const result = mark in returned ? returned as ThreadResult : undefined
    if (result === undefined || call.heard < result.said) call.thread?.catchUp()
    switch (result?.[mark]) {
      case undefined: return call.resolve(returned)
      case 'value': return call.resolve(result?.value)
      case 'sent': return call.resolve(call.value)
      case 'thrown': return call.reject(decodeThrown(result?.thrown as Thrown))
      case 'not loaded':
      case 'not cloned': return call.reject(refusedError(call, result as ThreadResult))
    }
  }

  /** Tells the thread, and ends it after `killAfter`. A call that has no thread yet does not begin. */
  #abort (call: Call, reason: Reason): void {
    call.reason = reason
    if (call.thread === undefined) {
      this.#waiting.delete(call)
      call.reject(reason)
    } else {
      call.thread.tell({ call: call.number, reason: encodeReason(reason) })
      call.killing = this.#host.clock.after(call.definition.killAfter, () => { this.#kill(call) })
    }
  }

  /** The run ends now. Its thread counts as one until it has ended, which a native call in it may hold up. */
  #kill (call: Call): void {
    call.thread?.catchUp()
    call.reject(call.reason)
    call.thread?.kill(this.#pool?.threads ?? [])
  }
}
