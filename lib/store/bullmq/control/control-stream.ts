import type { Clock, Timer } from '../../../time/index.ts'
import type { Client } from '../redis/client.ts'
import type { Fields } from '../redis/fields.ts'
import type { RedisConnection } from '../redis/connection.ts'
import { readerOf, readStream } from '../redis/streams.ts'

/** A message to all processes of a queue: cancel a run, a cancelled run has ended, the queue was paused or resumed, or has a schedule that ticks before all others. */
export type Message = { type: 'cancel' | 'ended', id: string } | { type: 'paused' | 'resumed' | 'scheduled', id: '' }

/** How many messages the stream keeps for processes that have lost their connection. */
const MAX_LENGTH = 1_000
/** How long one read blocks, in milliseconds. */
const BLOCK = 2_000
/** How long to wait after a read that failed, in milliseconds. */
const AGAIN = 1_000

/**
 * Messages between the processes on one Redis: BullMQ cancels a run only in its own process. They go over a Redis stream, so that a process
 * which loses its connection for a moment misses none. The endless reads also show at any time whether Redis answers.
 */
export class ControlStream {
  readonly #key: string
  readonly #redis: RedisConnection
  readonly #clock: Clock
  readonly #reader: Client
  readonly #listeners = new Map<string, Set<(message: Message) => void>>()
  #timer: Timer | undefined
  #stopped = false

  constructor (redis: RedisConnection, prefix: string, clock: Clock) {
    this.#key = `${prefix}:fastify-background-tasks:control`
    this.#redis = redis
    this.#clock = clock
    this.#reader = readerOf(redis)
    void this.#read()
  }

  /** Sends a message to all processes, this one too. */
  async publish (queue: string, { type, id }: Message): Promise<void> {
    await this.#send({ queue, type, id })
  }

  /** Calls `listener` with the messages of a queue. Returns a function that ends this. */
  listen (queue: string, listener: (message: Message) => void): () => void {
    const listeners = this.#listeners.get(queue) ?? new Set()
    this.#listeners.set(queue, listeners)
    listeners.add(listener)
    return () => { listeners.delete(listener) }
  }

  stop (): void {
    this.#stopped = true
    this.#timer?.cancel()
    this.#reader.disconnect()
  }

  async #read (): Promise<void> {
    let last: string | undefined
    while (!this.#stopped) {
      try {
        // Begin after this message, which is the last one of the stream.
        const id = last ?? await this.#redis.call(async () => await this.#send({ queue: '', type: 'listening', id: '' }))
        last = id
        for (const entry of await readStream(this.#redis, this.#reader, this.#key, id, { BLOCK })) {
          last = entry.id
          this.#tell(entry.fields)
        }
      } catch {
        // Redis may have refused the read at once: do not loop without a pause.
        if (!this.#stopped) await new Promise<void>(resolve => { this.#timer = this.#clock.after(AGAIN, resolve) })
      }
    }
  }

  async #send (message: Record<'queue' | 'type' | 'id', string>): Promise<string> {
    return await this.#redis.client.xadd(this.#key, '*', message, { MAXLEN: MAX_LENGTH, approximate: true })
  }

  #tell ({ queue = '', ...message }: Fields): void {
    for (const listener of this.#listeners.get(queue) ?? []) listener(message as unknown as Message)
  }
}
