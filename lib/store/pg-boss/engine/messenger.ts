import type { FastifyBaseLogger } from 'fastify'
import { report } from '../../../common/log.ts'
import type { Clock, Timer } from '../../../time/index.ts'
import type { Database } from '../database.ts'
import { channelOf, engineChannelOf, type Message, read } from './messages.ts'

/** How long a notification may take that proves that they arrive, and how long until it is tried again if it does not; in milliseconds. */
const [PROOF, UNHEARD] = [2_000, 60_000]

/** Who hears the messages to a queue. */
export type Hears = (message: Message) => void

/** What hears of the messenger. */
export interface MessengerOwner {
  /** Messages arrive no more. */
  lost (error: Error): void
  /** It is time to try again whether messages arrive. */
  tryAgain (): void
}

/** Hears the messages between processes, by LISTEN and NOTIFY, for the queues. Where these do not arrive, as behind PgBouncer, the parts of a queue look by themselves. */
export class Messenger {
  readonly #database: Database
  readonly #schema: string
  readonly #clock: Clock
  readonly #log: FastifyBaseLogger
  readonly #owner: MessengerOwner
  readonly #queues = new Map<string, Set<Hears>>()
  #unlisten: Array<() => Promise<void>> = []
  #messagesArrive = false
  #saidUnheard = false
  #unheard: Timer | undefined
  /** Waits for the notification that proves that notifications arrive. */
  #proof: { text: string, end: (heard: boolean) => void } | undefined
  #stopped = false

  constructor (database: Database, schema: string, clock: Clock, log: FastifyBaseLogger, owner: MessengerOwner) {
    this.#database = database
    this.#schema = schema
    this.#clock = clock
    this.#log = log
    this.#owner = owner
  }

  /** Whether messages arrive. */
  get messagesArrive (): boolean { return this.#messagesArrive }

  /** Calls `hears` with the messages to a queue. Returns a function that ends this. */
  hear (queue: string, hears: Hears): () => void {
    const all = this.#queues.get(queue) ?? new Set()
    this.#queues.set(queue, all)
    all.add(hears)
    return () => { all.delete(hears) }
  }

  /** Listens, and proves that notifications arrive: PgBouncer says yes to LISTEN, and keeps what comes. Rejects if the database is gone. */
  async listen (): Promise<void> {
    if (this.#messagesArrive || this.#stopped) return
    await this.#stopListening()
    // It was stopped meanwhile.
    if (this.#stopped) return
    const proved = await this.#prove()
    this.#messagesArrive = proved
    this.#database.prepares = proved
    if (proved || this.#stopped) return
    await this.#stopListening()
    if (!this.#saidUnheard) report.unheard(this.#log)
    this.#saidUnheard = true
    this.#unheard = this.#clock.after(UNHEARD, () => { this.#owner.tryAgain() })
  }

  async stop (): Promise<void> {
    this.#stopped = true
    this.#unheard?.cancel()
    this.#proof?.end(false)
    await this.#stopListening()
  }

  async #prove (): Promise<boolean> {
    const lost = (error: Error): void => {
      if (!this.#messagesArrive) return
      this.#messagesArrive = false
      this.#owner.lost(error)
    }
    const text = `proof ${Math.random()}`
    const heard = new Promise<boolean>(resolve => { this.#proof = { text, end: resolve } })
    try {
      const channel = channelOf(this.#schema)
      this.#unlisten.push(await this.#database.listen(channel, payload => { this.#hear(payload) }, lost))
      this.#unlisten.push(await this.#database.listen(engineChannelOf(this.#schema), queue => { this.#tell(queue, { type: 'due', wait: 0 }) }, lost))
      await this.#database.executeSql('SELECT pg_notify($1, $2)', [channel, text])
      const timer = this.#clock.after(PROOF, () => { this.#proof?.end(false) })
      return await heard.finally(() => { timer.cancel() })
    } catch {
      // If the database is gone, this says so; if not, only listening is refused.
      await this.#database.executeSql('SELECT 1')
      return false
    } finally {
      this.#proof = undefined
    }
  }

  async #stopListening (): Promise<void> {
    this.#messagesArrive = false
    await Promise.all(this.#unlisten.splice(0).map(async unlisten => { await unlisten().catch(() => {}) }))
  }

  #hear (payload: string): void {
    if (this.#proof?.text === payload) {
      this.#proof.end(true)
      return
    }
    const heard = read(payload)
    if (heard !== undefined) this.#tell(heard.queue, heard.message)
  }

  #tell (queue: string, message: Message): void {
    for (const hears of this.#queues.get(queue) ?? []) hears(message)
  }
}
