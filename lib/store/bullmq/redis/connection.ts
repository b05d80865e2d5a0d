import type { FastifyBaseLogger } from 'fastify'
import { errorCodes, toError } from '../../../errors.ts'
import type { Condition } from '../../../health.ts'
import { report } from '../../../log.ts'
import { type LinkedItem, LinkedList } from '../../../run/index.ts'
import type { Clock, Timer } from '../../../time/index.ts'
import { type Client, command, type Connected, withoutCommand } from './client.ts'
import { StoreClock } from './store-clock.ts'

/** Limit of a call, in milliseconds: below the 5 s that the store promises. */
const CALL_TIMEOUT = 4_500

/** How long to wait before a connection that refused a command is tried again, in milliseconds. */
const AGAIN = 1_000

/** A call to Redis. */
class Call<T> implements LinkedItem {
  previous: this | undefined = undefined
  next: this | undefined = undefined
  readonly answer: Promise<T>
  readonly work: () => Promise<T>
  /** When it was made, on the monotonic timeline. */
  readonly since: number
  /** Whether it was sent. If the connection is lost then, the client sends it again. */
  begun = false
  /** Whether it was answered, or has timed out. */
  over = false
  resolve!: (value: T) => void
  reject!: (error: Error) => void

  constructor (work: () => Promise<T>, since: number) {
    this.work = work
    this.since = since
    this.answer = new Promise<T>((resolve, reject) => {
      this.resolve = resolve
      this.reject = reject
    })
  }
}

/** The connection to Redis: it knows whether it is up, and its calls end in time whether it is or not. */
export class RedisConnection {
  readonly client: Client
  readonly #clock: Clock
  readonly #log: FastifyBaseLogger
  /** Calls without an answer, the oldest first. */
  readonly #calls = new LinkedList<Call<unknown>>()
  #watch: Timer | undefined
  readonly #onConnected = new Set<() => void>()
  #connected = false
  /** Whether Redis answered the last call in time, without an error. */
  #answers = true
  #lost = false
  #ended = false
  /** Number of the connection, so that answers of an earlier one are ignored. */
  #number = 0
  #retry: Timer | undefined
  #checked = false
  #error: Error | undefined

  readonly #redis: Connected
  readonly #storeClock: StoreClock

  constructor (redis: Connected, clock: Clock, log: FastifyBaseLogger) {
    const { client } = redis
    this.client = client
    this.#redis = redis
    this.#clock = clock
    this.#log = log
    this.#storeClock = new StoreClock(clock, async () => await timeOf(client), ms => { report.clockDiffers(log, ms) })
    client.on('ready', () => { void this.#prove() })
    client.on('close', () => { this.#hasDisconnected() })
    client.on('error', (error: Error) => {
      this.#error = withoutCommand(error)
      this.#hasDisconnected()
    })
    // A client of the package redis connects only when told to. It reports a failure as an event, too.
    if (client.status === 'wait') client.connect().catch(() => {})
  }

  get connected (): boolean { return this.#connected }

  get condition (): Condition {
    if (this.#connected && this.#answers) return this.#storeClock.condition
    return { status: 'degraded', reason: `the store cannot be reached: ${this.#why}` }
  }

  /** Calls `callback` now if the connection is up, and each time it comes up again. Returns a function that ends this. */
  onConnected (callback: () => void): () => void {
    this.#onConnected.add(callback)
    if (this.#connected) callback()
    return () => { this.#onConnected.delete(callback) }
  }

  /** Resolves to the result of `work`. Rejects with `FST_BG_STORE_UNAVAILABLE` in less than 5 s if Redis is unreachable or does not answer. */
  call<T> (work: () => Promise<T>): Promise<T> {
    if (this.#ended) return Promise.reject(this.#unavailable(undefined))
    const call = new Call(work, this.#clock.now())
    this.#calls.add(call as Call<unknown>)
    // One timer for all calls: they are many, and few ever time out.
    this.#watch ??= this.#clock.after(CALL_TIMEOUT, () => { this.#timeOutOld() })
    if (this.#connected) this.#begin(call as Call<unknown>)
    return call.answer
  }

  /** Resolves when `work` has settled, or after `ms` milliseconds; at once while the connection is down. */
  async within (ms: number, work: Promise<unknown>): Promise<void> {
    await new Promise<void>(resolve => {
      const timer = this.#clock.after(this.#connected ? ms : 0, resolve)
      const done = (): void => {
        timer.cancel()
        resolve()
      }
      work.then(done, done)
    })
  }

  /** Ends all connections, and rejects pending calls. */
  disconnect (): void {
    this.#ended = true
    this.#number++
    this.#lost = true
    this.#connected = false
    while (this.#calls.first !== undefined) this.#timeOut(this.#calls.first)
    this.#watch?.cancel()
    this.#retry?.cancel()
    this.#storeClock.stop()
    this.#redis.end()
  }

  get #why (): string {
    if (this.#error !== undefined) return messageOf(this.#error)
    return this.#connected ? 'it does not answer' : 'not connected'
  }

  #begin (call: Call<unknown>): void {
    call.begun = true
    call.work().then(value => {
      this.#done(call)
      this.#answers = true
      this.#error = undefined
      call.resolve(value)
    }, thrown => {
      this.#done(call)
      call.reject(isOurs(thrown) ? thrown as Error : this.#refused(withoutCommand(toError(thrown))))
    })
  }

  #done (call: Call<unknown>): void {
    if (call.over) return
    call.over = true
    this.#calls.remove(call)
  }

  /** Rejects the calls that have waited for too long. */
  #timeOutOld (): void {
    this.#watch = undefined
    const now = this.#clock.now()
    for (let call = this.#calls.first; call !== undefined; call = this.#calls.first) {
      const left = call.since + CALL_TIMEOUT - now
      if (left > 0) {
        this.#watch = this.#clock.after(left, () => { this.#timeOutOld() })
        return
      }
      this.#answers = !this.#connected
      this.#timeOut(call)
    }
  }

  #timeOut (call: Call<unknown>): void {
    this.#done(call)
    call.reject(this.#unavailable(this.#error))
  }

  #refused (error: Error): Error {
    this.#answers = false
    this.#error = error
    return this.#unavailable(error)
  }

  #unavailable (cause: Error | undefined): Error {
    // No second argument without a cause: @fastify/error would append it to the message.
    return cause === undefined ? new errorCodes.FST_BG_STORE_UNAVAILABLE(this.#why) : new errorCodes.FST_BG_STORE_UNAVAILABLE(messageOf(cause), { cause })
  }

  /**
   * The connection is up when Redis answers on it. Redis may require a password, or refuse the first command of BullMQ. BullMQ would then treat
   * its client as broken for good, and its worker would loop without yielding to the event loop.
   */
  async #prove (): Promise<void> {
    const number = ++this.#number
    try {
      await this.client.info()
    } catch (error) {
      if (number !== this.#number) return
      this.#error = withoutCommand(toError(error))
      this.#hasDisconnected()
      this.#retry = this.#clock.after(AGAIN, () => { void this.#prove() })
      return
    }
    if (number === this.#number) this.#hasConnected()
  }

  #hasConnected (): void {
    if (this.#lost) report.storeBack(this.#log)
    this.#lost = false
    this.#connected = true
    this.#answers = true
    this.#error = undefined
    for (const call of this.#calls) if (!call.begun) this.#begin(call)
    for (const callback of this.#onConnected) callback()
    this.#storeClock.start()
    if (this.#checked) return
    this.#checked = true
    const policy = this.#redis.evicts()
    if (policy !== undefined) report.evicts(this.#log, policy)
    void this.#checkPersistence()
  }

  #hasDisconnected (): void {
    this.#number++
    this.#retry?.cancel()
    this.#connected = false
    if (this.#lost) return
    this.#lost = true
    report.storeLost(this.#log, this.#error)
  }

  /** Warns if Redis does not write every change to disk: with its default configuration a crash loses the last minutes. */
  async #checkPersistence (): Promise<void> {
    try {
      const appendonly = settingOf(await command(this.client, 'CONFIG', 'GET', 'appendonly'))
      if (appendonly === 'yes') return
      report.notPersisted(this.#log, settingOf(await command(this.client, 'CONFIG', 'GET', 'save')) !== '')
    } catch {
      // A managed Redis may refuse CONFIG, and be durable all the same.
    }
  }
}

/** The time of the store, in milliseconds since the epoch. */
async function timeOf (client: Client): Promise<number> {
  const [seconds, microseconds] = await command(client, 'TIME') as [string, string]
  return Number(seconds) * 1_000 + Number(microseconds) / 1_000
}

/** The value in the answer to CONFIG GET, which is an array or an object. */
function settingOf (answer: unknown): unknown {
  return Array.isArray(answer) ? answer[1] : Object.values(answer as object)[0]
}

function isOurs (error: unknown): boolean {
  return String((error as { code?: unknown } | undefined)?.code).startsWith('FST_BG_')
}

/** The message of an error; of an AggregateError, such as one for each address that was tried, all messages. */
function messageOf (error: Error): string {
  const { message, errors = [] } = error as Error & { errors?: Error[] }
  // What the clients say of a connection that was silent for too long.
  if (message.startsWith('Socket timeout')) return 'it does not answer'
  return [message, ...errors.map(({ message }) => message)].filter(text => text !== '').join(', ')
}
