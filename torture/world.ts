import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Proxy } from '../test/support/proxy.ts'
import { engines, type Engine, type EngineKind } from './engines/index.ts'
import { Journal } from './journal.ts'
import type { Answer, Order } from './rules.ts'

/** One worker, and the proxy between it and the server. */
export interface Worker {
  name: string
  child: ChildProcess
  proxy: Proxy
  exited: Promise<void>
  /** Whether it was asked to stop, or killed. */
  ending: boolean
}

/** One server, and processes that come and go. */
export class World {
  readonly journal: Journal
  readonly engine: Engine
  readonly workers = new Set<Worker>()
  readonly #store: string
  readonly #dir: string
  readonly #teardowns: Array<() => unknown>
  #count = 0

  private constructor (store: string, dir: string, engine: Engine, teardowns: Array<() => unknown>) {
    this.#store = store
    this.#dir = dir
    this.engine = engine
    this.#teardowns = teardowns
    this.journal = new Journal(join(dir, 'journal'), 'monkey')
  }

  /** `store` names the kind of its engine; `dir` gets the journal, and each worker's log. */
  static async create (store: string, dir: string): Promise<World> {
    const teardowns: Array<() => unknown> = []
    const engine = await (engines[store] as EngineKind).start({ teardown: callback => { teardowns.push(callback) } })
    return new World(store, dir, engine, teardowns)
  }

  /** The workers that nobody has asked to stop. */
  get alive (): Worker[] { return [...this.workers].filter(({ ending }) => !ending) }

  async start (seed: number): Promise<Worker> {
    const name = `worker-${++this.#count}`
    const proxy = await Proxy.start({ teardown: callback => { this.#teardowns.push(callback) } }, this.engine.port)
    const program = fileURLToPath(new URL('worker.js', import.meta.url))
    const child = fork(program, [name, this.#store, this.engine.urlOf(proxy.port), join(this.#dir, 'journal'), String(seed)], { stdio: ['ignore', 'pipe', 'pipe', 'ipc'] })
    child.stdout?.pipe(createWriteStream(join(this.#dir, `${name}.log`)))
    // What the library, or an engine, writes past the log.
    child.stderr?.on('data', (text: Buffer) => { this.journal.write('unexpected', { text: `${name} wrote to stderr: ${text.toString()}` }) })
    const exited = once(child, 'exit').then(([code, signal]) => {
      this.journal.write('exit', { id: name, text: String(signal ?? code) })
      if (!proxy.abandoned) proxy.stop()
      this.workers.delete(worker)
    })
    const worker: Worker = { name, child, proxy, exited, ending: false }
    this.workers.add(worker)
    // The server may have moved since.
    proxy.redirect(this.engine.port)
    return worker
  }

  kill (worker: Worker): void {
    worker.ending = true
    this.journal.write('kill', { id: worker.name })
    worker.child.kill('SIGKILL')
  }

  terminate (worker: Worker): void {
    worker.ending = true
    this.journal.write('term', { id: worker.name })
    worker.child.kill('SIGTERM')
  }

  tell (worker: Worker, order: Order): void {
    if (worker.child.connected) worker.child.send(order)
  }

  /** What a worker answers. Rejects if it exits before. */
  async ask (worker: Worker, order: Order): Promise<Answer> {
    this.tell(worker, order)
    const gone = worker.exited.then(() => { throw new Error(`${worker.name} exited, and did not answer`) })
    const [answer] = await Promise.race([once(worker.child, 'message'), gone]) as [Answer]
    return answer
  }

  async destroy (): Promise<void> {
    for (const { child } of this.workers) child.kill('SIGKILL')
    for (const teardown of this.#teardowns.reverse()) await teardown()
  }
}
