import { Readable } from 'node:stream'
import { defer, now, type Clock } from '../time/index.ts'

/** The most viewers. One more has to poll. */
export const VIEWERS = 20
/** How often a viewer gets a message, in milliseconds. */
const PERIOD = 1_000
/** The most bytes that wait for a viewer who does not read. */
const UNREAD = 1_000_000
/** How long close waits for a viewer to read the last message, in milliseconds. */
const GRACE = 500

/** The viewers of the live stream: each gets the same message once a second, while there are any. */
export class Viewers {
  readonly #clock: Clock
  readonly #read: () => Promise<unknown>
  readonly #streams = new Set<Readable>()
  #looping = false
  #closed = false

  /** `read` makes the message. */
  constructor (clock: Clock, read: () => Promise<unknown>) {
    this.#clock = clock
    this.#read = read
  }

  get size (): number { return this.#streams.size }

  /** A stream of server-sent events for one more viewer; undefined if there are too many. */
  add (): Readable | undefined {
    if (this.#closed || this.#streams.size >= VIEWERS) return undefined
    const stream = new Readable({ read () {} })
    this.#streams.add(stream)
    stream.once('close', () => { this.#streams.delete(stream) })
    // A first byte at once, so that proxies and clients see the stream begin.
    stream.push(': live\n\n')
    if (!this.#looping) void this.#loop()
    return stream
  }

  /** Ends all streams; cuts off who has not read the end soon. */
  async end (): Promise<void> {
    this.#closed = true
    const open = [...this.#streams]
    const closed = open.map(async stream => {
      if (!stream.closed) await new Promise<void>(resolve => { stream.once('close', resolve) })
    })
    for (const stream of open) stream.push(null)
    let passed!: () => void
    const timer = this.#clock.after(GRACE, () => { passed() })
    await Promise.race([Promise.all(closed), new Promise<void>(resolve => { passed = resolve })])
    timer.cancel()
    for (const stream of this.#streams) stream.destroy()
  }

  async #loop (): Promise<void> {
    this.#looping = true
    while (this.#streams.size > 0 && !this.#closed) {
      const began = now()
      const message = await this.#message()
      if (message !== undefined) for (const stream of this.#streams) this.#send(stream, message)
      const rest = PERIOD - (now() - began)
      await new Promise<void>(resolve => {
        if (rest > 0) this.#clock.after(rest, resolve)
        else defer(resolve)
      })
    }
    this.#looping = false
  }

  async #message (): Promise<string | undefined> {
    try {
      return `data: ${JSON.stringify(await this.#read())}\n\n`
    } catch {
      // The next message may be well.
      return undefined
    }
  }

  #send (stream: Readable, message: string): void {
    if (this.#closed) return
    stream.push(message)
    if (stream.readableLength > UNREAD) stream.destroy()
  }
}
