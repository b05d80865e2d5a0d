import type { Clock, Timer } from '../../clock.ts'
import type { Client } from './engine.ts'
import type { Link } from './link.ts'

/** What a process tells all others of a queue: to cancel a run; that one was cancelled and has ended; that the queue was paused or resumed. */
export type Message = { type: 'cancel' | 'ended', id: string } | { type: 'paused' | 'resumed', id: '' }

/** How many messages are kept for those who have lost their connection. */
const KEPT = 1_000
/** How long one read waits, in milliseconds. */
const BLOCK = 2_000
/** How long to wait after one that failed, in milliseconds. */
const AGAIN = 1_000

/**
 * What processes on one Redis tell each other, on a stream: BullMQ cancels a run in its own process only. A stream, as those who lose
 * their connection for a moment go on where they were. It reads without end, through the link, which so knows at any time whether the engine
 * answers.
 */
export class Control {
  readonly #key: string
  readonly #link: Link
  readonly #clock: Clock
  readonly #reader: Client
  readonly #listeners = new Map<string, Set<(message: Message) => void>>()
  #timer: Timer | undefined
  #stopped = false

  constructor (link: Link, prefix: string, clock: Clock) {
    this.#key = `${prefix}:fastify-background-tasks:control`
    this.#link = link
    this.#clock = clock
    this.#reader = link.client.duplicate()
    this.#reader.on('error', () => {})
    void this.#read()
  }

  /** Tells everyone, this process too. */
  async publish (queue: string, { type, id }: Message): Promise<void> {
    await this.#send({ queue, type, id })
  }

  /** Returns what ends it. */
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
        // From the end of the stream on, which is where this one stands.
        const id = last ?? await this.#link.call(async () => await this.#send({ queue: '', type: 'listening', id: '' }))
        last = id
        const streams = await this.#link.call(async () => await this.#reader.xread([{ key: this.#key, id }], { BLOCK })) as Array<[string, Array<[string, string[]]>]> | null
        for (const [id, fields] of streams?.[0]?.[1] ?? []) {
          last = id
          this.#tell(fields)
        }
      } catch {
        // It may have been refused at once.
        if (!this.#stopped) await new Promise<void>(resolve => { this.#timer = this.#clock.after(AGAIN, resolve) })
      }
    }
  }

  async #send (message: Record<'queue' | 'type' | 'id', string>): Promise<string> {
    return await this.#link.client.xadd(this.#key, '*', message, { MAXLEN: KEPT, approximate: true })
  }

  #tell (fields: string[]): void {
    const { queue = '', ...message } = Object.fromEntries(fields.map((field, i) => [field, fields[i + 1]] as const).filter((_, i) => i % 2 === 0)) as Record<string, string>
    for (const listener of this.#listeners.get(queue) ?? []) listener(message as unknown as Message)
  }
}
