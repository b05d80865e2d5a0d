import type { Client } from 'pg'
import { toError } from '../../../common/errors.ts'
import type { Clock, Timer } from '../../../time/index.ts'

/** How often to ask whether the connection is alive, in milliseconds: the network may have lost it without a word. */
const ALIVE = 3_000
/** How long it may take to connect, or to answer, in milliseconds. */
const LIMIT = 4_000

/** Who listens on a channel. */
interface Listening { onNotify (payload: string): void, onLost (error: Error): void }

/** A connection that only listens, for as long as somebody does. */
export class Listener {
  /** Makes a connection; undefined if that is not possible. */
  readonly #make: () => Client | undefined
  readonly #clock: Clock
  /** Called when the connection is found not to answer. */
  readonly #silent: () => void
  readonly #channels = new Map<string, Listening>()
  #client: Client | undefined
  #connecting: Promise<Client> | undefined
  #alive: Timer | undefined
  #closed = false
  /** Who waits for an answer: ends his wait. */
  readonly #waits = new Set<(error: Error) => void>()

  constructor (make: () => Client | undefined, clock: Clock, silent: () => void) {
    this.#make = make
    this.#clock = clock
    this.#silent = silent
  }

  async listen (channel: string, onNotify: (payload: string) => void, onLost: (error: Error) => void): Promise<() => Promise<void>> {
    this.#connecting ??= this.#connect()
    const client = await this.#connecting
    await this.#within(client, client.query(`LISTEN ${client.escapeIdentifier(channel)}`))
    const listening = { onNotify, onLost }
    this.#channels.set(channel, listening)
    return async () => {
      if (this.#channels.get(channel) !== listening) return
      this.#channels.delete(channel)
      if (this.#channels.size === 0) this.#end(client)
    }
  }

  close (): void {
    this.#closed = true
    this.#channels.clear()
    if (this.#client !== undefined) this.#end(this.#client)
  }

  async #connect (): Promise<Client> {
    if (this.#closed) throw new Error('the store was closed')
    const client = this.#make()
    if (client === undefined) throw new Error('the pool does not say how to connect, so that nobody can listen')
    this.#client = client
    client.on('error', error => { this.#lose(client, error) })
    client.on('end', () => { this.#lose(client, new Error('the connection was closed')) })
    client.on('notification', ({ channel, payload = '' }) => { this.#channels.get(channel)?.onNotify(payload) })
    try {
      await this.#within(client, client.connect())
    } catch (error) {
      this.#lose(client, toError(error))
      throw error
    }
    this.#ask(client)
    return client
  }

  #ask (client: Client): void {
    this.#alive = this.#clock.after(ALIVE, () => {
      this.#within(client, client.query('SELECT 1')).then(() => { if (this.#client === client) this.#ask(client) }, (error: unknown) => { this.#lose(client, toError(error)) })
    })
  }

  /** Waits for an answer; without one in time the connection counts as lost. */
  async #within<T> (client: Client, work: Promise<T>): Promise<T> {
    return await new Promise<T>((resolve, reject) => {
      const end = (settle: () => void): void => {
        timer.cancel()
        this.#waits.delete(fail)
        settle()
      }
      const fail = (error: Error): void => { end(() => { reject(error) }) }
      const timer = this.#clock.after(LIMIT, () => {
        const error = new Error('the server does not answer')
        this.#silent()
        this.#lose(client, error)
        fail(error)
      })
      this.#waits.add(fail)
      work.then(result => { end(() => { resolve(result) }) }, (error: unknown) => { fail(toError(error)) })
    })
  }

  #lose (client: Client, error: Error): void {
    if (this.#client !== client) return
    const all = [...this.#channels.values()]
    this.#channels.clear()
    this.#end(client)
    for (const { onLost } of all) onLost(error)
  }

  #end (client: Client): void {
    if (this.#client === client) {
      this.#client = undefined
      this.#connecting = undefined
      this.#alive?.cancel()
      // Their timers would keep a process up that has closed.
      for (const fail of [...this.#waits]) fail(new Error('the connection was closed'))
    }
    void client.end().catch(() => {})
    // end() says goodbye, for which a half-open connection has no ear.
    const { connection } = client as unknown as { connection?: { stream?: { destroy? (): void, unref? (): void } } }
    this.#clock.after(100, () => { connection?.stream?.destroy?.() })
  }
}
