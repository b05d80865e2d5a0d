import { Worker } from 'node:worker_threads'
import { withoutStores } from '../../../time/index.ts'
import type { FromThread, Refusal, Result, ThreadData, ToThread } from './messages.ts'
import { serve } from './thread.ts'

/** What a thread tells besides the results of statements. */
interface EngineListener {
  /** PostgreSQL has sent a notification. */
  notified (channel: string, payload: string): void
  /** The thread has ended after it was ready, and nobody has asked it to. */
  died (error: Error): void
}

interface Call {
  resolve (result: Result): void
  reject (error: Error): void
}

/** The engine has ended, with the statements that it had. It has no code: the database is gone, and has refused nothing. */
export class EngineEnded extends Error {}

/**
 * One thread with one PGlite in it, from its start to its end. PGlite computes on the event loop that it lives in: on that of the server no request would get its turn while a
 * statement runs. Whatever ends the thread, every call is settled.
 */
export class EngineThread {
  /** Resolves when the engine answers; rejects if it cannot start. */
  readonly ready: Promise<void>
  /** Resolves when the thread has ended, and its files are closed. */
  readonly ended: Promise<void>
  readonly #worker: Worker
  readonly #calls = new Map<number, Call>()
  readonly #listener: EngineListener
  #numbers = 0
  #over: Error | undefined
  #ready = false
  #closing = false
  /** What settles `ready`. */
  #starting!: { resolve (): void, reject (error: Error): void }

  constructor (data: ThreadData, listener: EngineListener) {
    this.#listener = listener
    this.ready = new Promise((resolve, reject) => { this.#starting = { resolve, reject } })
    // Who waits for a call hears of the end by that.
    this.ready.catch(() => {})
    const transfer = data.template === undefined ? [] : [data.template.buffer as ArrayBuffer]
    // Without the loaders of this process, which would load again in the thread, and without the request that may have caused the start.
    this.#worker = withoutStores(() => new Worker(code(), { eval: true, execArgv: [], name: 'fastify-background-tasks', workerData: data, transferList: transfer }), undefined)
    this.#worker.on('message', (message: FromThread) => { this.#hear(message) })
    this.#worker.on('error', error => { this.#end(`its thread has failed: ${error.message}`, error) })
    this.ended = new Promise(resolve => {
      this.#worker.on('exit', () => {
        this.#end('its thread has ended')
        resolve()
      })
    })
  }

  get isReady (): boolean { return this.#ready }

  /** Runs a statement, after all that were given before it. `rollBack`: ends the transaction that it leaves open if it fails. */
  async call (text: string, values: unknown[] | undefined, rollBack: boolean): Promise<Result> {
    if (this.#over !== undefined) throw this.#over
    return await new Promise((resolve, reject) => {
      const number = ++this.#numbers
      // Throws if a value cannot be cloned: then there is no call.
      this.#tell({ number, text, values, rollBack })
      this.#calls.set(number, { resolve, reject })
    })
  }

  /** Closes the engine after the statements that it has, and ends the thread. */
  close (): void {
    this.#closing = true
    if (this.#over === undefined) this.#tell('close')
  }

  /** Ends the thread now. A statement that computes goes on until it has its next result. */
  kill (): void {
    this.#closing = true
    void this.#worker.terminate()
  }

  #tell (message: ToThread): void {
    this.#worker.postMessage(message)
  }

  #hear (message: FromThread): void {
    switch (message.type) {
      case 'ready':
        this.#ready = true
        return this.#starting.resolve()
      case 'dead': return this.#end(reason(message.why, message.log))
      case 'notification': return this.#listener.notified(message.channel, message.payload)
      case 'result':
      case 'refused': {
        const call = this.#calls.get(message.number)
        this.#calls.delete(message.number)
        if (message.type === 'result') call?.resolve(message.result)
        else call?.reject(databaseError(message.error))
      }
    }
  }

  #end (why: string, cause?: Error): void {
    if (this.#over !== undefined) return
    const error = new EngineEnded(`the embedded PostgreSQL has ended, since ${this.#closing ? 'the store is closed' : why}`, { cause })
    this.#over = error
    this.#starting.reject(error)
    for (const call of this.#calls.values()) call.reject(error)
    this.#calls.clear()
    if (this.#ready && !this.#closing) this.#listener.died(error)
  }
}

function reason (why: string, log: string[]): string {
  const fatal = log.filter(line => /\b(FATAL|PANIC|DETAIL):/.test(line)).map(line => line.replace(/^.*?\b(FATAL|PANIC|DETAIL): +/, ''))
  if (fatal.length === 0) return why
  // Of each abort, WebAssembly says only how to build it for more.
  return `${why.startsWith('Aborted(') ? 'PostgreSQL has given up' : why}: ${fatal.join(' ')}`
}

/** An error as PostgreSQL's own client makes it. */
function databaseError ({ message, ...fields }: Refusal): Error {
  return Object.assign(new Error(message), fields)
}

/** The function of the thread, as text: what is loaded from a file would not be there in a bundle. */
function code (): string {
  const source = serve.toString()
  // A bundler that keeps the names of functions (esbuild's keepNames) gives each one to a helper of its own, with its name as text.
  const [, helper = '__name'] = /([\w$]+)\([\w$]+,\s*["']die["']\)/.exec(source) ?? []
  return `const ${helper} = one => one
const { parentPort: port, workerData: data } = require('node:worker_threads')
void (${source})({ port, data, load: engine => import(engine), exit: () => { process.exit(0) } })
`
}
