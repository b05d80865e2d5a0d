import type { Timer } from '../../../time/index.ts'
import type { QueueContext } from '../context.ts'
import type { Client } from '../redis/client.ts'
import { readerOf, readStream } from '../redis/streams.ts'

/** An event of BullMQ. */
export type QueueEvent = Partial<Record<'event' | 'jobId' | 'returnvalue' | 'failedReason', string>>

/** Who hears the events. */
export interface EventListener {
  /** Whether the events are needed any longer. */
  needed (): boolean
  /** Hears events, in order. Resolves to whether it wants to look at all jobs again. */
  hear (events: QueueEvent[]): Promise<boolean>
  /** Looks at all jobs. Resolves to a function that is called when all events until then have been heard. */
  lookAgain (): Promise<() => void>
}

/** How long one read blocks, in milliseconds. */
const BLOCK = 2_000
/** The most events of one read. */
const COUNT = 1_000
/** How long to wait after a read that failed, in milliseconds. */
const AGAIN = 500
/** How often to look at all jobs in any case, in milliseconds: BullMQ drops the oldest events of a queue that is faster than its readers. */
const LOOK = 15_000

/** Reads the stream of a queue's events from now on, over a connection of its own, while they are needed. */
export class EventReader {
  readonly #context: QueueContext
  readonly #listener: EventListener
  #client: Client | undefined
  /** Resolves when the reader has a position in the stream; undefined while it does not read. */
  #listening: Promise<void> | undefined
  #timer: Timer | undefined
  #stopped = false

  constructor (context: QueueContext, listener: EventListener) {
    this.#context = context
    this.#listener = listener
  }

  /** Resolves when every event from now on will be heard. Rejects with `FST_BG_STORE_UNAVAILABLE`. */
  listen (): Promise<void> {
    if (this.#listening === undefined) {
      this.#listening = this.#begin()
      this.#listening.catch(() => { this.#listening = undefined })
    }
    return this.#listening
  }

  stop (): void {
    this.#stopped = true
    this.#timer?.cancel()
    this.#client?.disconnect()
  }

  get #key (): string { return this.#context.toKey('events') }

  async #begin (): Promise<void> {
    const { redis } = this.#context
    const last = await redis.call(async () => await redis.client.runCommand('fbtLastEvent', [this.#key])) as string
    this.#client ??= readerOf(redis)
    void this.#read(last, this.#client)
  }

  /** Reads until nobody needs it. */
  async #read (from: string, client: Client): Promise<void> {
    const { clock } = this.#context.options
    const position = { id: from }
    let lookedAt = clock.now()
    let again = false
    while (!this.#stopped && this.#listener.needed()) {
      try {
        if (again || clock.now() - lookedAt >= LOOK) {
          const tellGone = await this.#listener.lookAgain()
          lookedAt = clock.now()
          again = false
          // What ended meanwhile, and is not kept, is gone: its event comes first.
          for (let count = COUNT; count === COUNT;) count = await this.#hear(client, position, {}, () => { again = true })
          tellGone()
        }
        await this.#hear(client, position, { BLOCK }, () => { again = true })
      } catch {
        // Events, jobs, or all of Redis may be lost.
        again = true
        if (!this.#stopped) await new Promise<void>(resolve => { this.#timer = clock.after(AGAIN, resolve) })
      }
    }
    this.#listening = undefined
  }

  /** Hears the events behind a position, and moves that. Resolves to their number. */
  async #hear (client: Client, position: { id: string }, options: { BLOCK?: number }, wantsLook: () => void): Promise<number> {
    const entries = await readStream(this.#context.redis, client, this.#key, position.id, { COUNT, ...options })
    if (entries.length > 0 && await this.#listener.hear(entries.map(({ fields }) => fields))) wantsLook()
    position.id = entries.at(-1)?.id ?? position.id
    return entries.length
  }
}
