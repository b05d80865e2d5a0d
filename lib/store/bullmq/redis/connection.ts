import type { FastifyBaseLogger } from 'fastify'
import { errorCodes, toError } from '../../../common/errors.ts'
import { type Condition, worst } from '../../../common/health.ts'
import { report } from '../../../common/log.ts'
import type { Clock, Timer } from '../../../time/index.ts'
import { Calls } from './calls.ts'
import { type Client, command, commandAt, type Connected, withoutCommand } from './client.ts'
import { FULL, isFull, StoreMemory } from './memory.ts'
import { StoreClock } from '../../engines/index.ts'

/** How long to wait before a connection that refused a command is tried again, in milliseconds. */
const AGAIN = 1_000

/** The connection to Redis: it knows whether it is up, and its calls end in time whether it is or not. */
export class RedisConnection {
  readonly client: Client
  /** A key that nobody writes. On a cluster the node that has it has all keys. */
  readonly #key: string
  readonly #clock: Clock
  readonly #log: FastifyBaseLogger
  readonly #calls: Calls
  readonly #onConnected = new Set<() => void>()
  #connected = false
  /** Whether Redis answered the last call in time, without an error. */
  #answers = true
  #lost = false
  #ended = false
  /** Number of the connection, so that answers of an earlier one are ignored. */
  #number = 0
  #retry: Timer | undefined
  /** When it last connected anew a client that does not do so by itself, on the monotonic timeline. */
  #leftAt = -Infinity
  #leaving: Timer | undefined
  /** Rings when a cluster that has lost a node does not answer. */
  #late: Timer | undefined
  #checked = false
  #error: Error | undefined
  /** The last error of a node of a cluster, which goes on with the others. */
  #nodeError: Error | undefined

  readonly #redis: Connected
  readonly #storeClock: StoreClock
  readonly #storeMemory: StoreMemory

  /** `prefix` is that of every key. */
  constructor (redis: Connected, clock: Clock, log: FastifyBaseLogger, prefix: string) {
    const { client } = redis
    const key = `${prefix}:fastify-background-tasks:room`
    this.client = client
    this.#key = key
    this.#redis = redis
    this.#clock = clock
    this.#log = log
    this.#calls = new Calls(clock, {
      answered: () => {
        this.#answers = true
        this.#error = undefined
      },
      refused: (thrown, isOver) => this.#refused(thrown, isOver),
      timedOut: wasSent => this.#timedOut(wasSent)
    })
    this.#storeClock = new StoreClock(clock, async () => await timeOf(client, key), ms => { report.clockDiffers(log, ms) })
    // Writes nothing, as there is nothing to write and no such key.
    const probe = async (): Promise<unknown> => await command(client, 'SETRANGE', key, '0', '')
    this.#storeMemory = new StoreMemory(clock, probe, full => { if (full) report.storeFull(log); else report.storeHasRoom(log) })
    client.on('ready', () => { void this.#prove() })
    client.on('close', () => { this.#hasDisconnected() })
    client.on('error', (error: Error) => {
      this.#error = withoutCommand(error)
      this.#hasDisconnected()
    })
    client.on('node error', (error: Error & { code?: string }) => {
      // Not that a connection was closed: the error before says why.
      if (error.code !== undefined) this.#nodeError = withoutCommand(error)
    })
    client.on('-node', () => { this.#doubt() })
    // A client of the package redis connects only when told to. It reports a failure as an event, too.
    if (client.status === 'wait') client.connect().catch(() => {})
  }

  get connected (): boolean { return this.#connected }

  /** Whether Redis answers: it is connected, and has answered the last call in time. */
  get reachable (): boolean { return this.#connected && this.#answers }

  get condition (): Condition {
    const full = this.#storeMemory.condition
    if (this.reachable || full.status !== 'ok') return worst([full, this.#storeClock.condition])
    return { status: 'degraded', reason: `the store cannot be reached: ${this.#why}` }
  }

  /** Calls `callback` now if the connection is up, and each time it comes up again, or was proved to be up. Returns a function that ends this. */
  onConnected (callback: () => void): () => void {
    this.#onConnected.add(callback)
    if (this.#connected) callback()
    return () => { this.#onConnected.delete(callback) }
  }

  /** Resolves to the result of `work`. Rejects with `FST_BG_STORE_UNAVAILABLE` in less than 5 s if Redis is unreachable or does not answer. */
  call<T> (work: () => Promise<T>): Promise<T> {
    if (this.#ended) return Promise.reject(this.#unavailable(undefined))
    return this.#calls.add(work, this.#connected)
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
    this.#calls.end()
    this.#retry?.cancel()
    this.#leaving?.cancel()
    this.#isNotLate()
    this.#storeClock.stop()
    this.#storeMemory.stop()
    this.#redis.end()
  }

  /** Redis has refused a command of somebody else on this connection. Returns whether that is told by the condition. */
  tellsRefusal (error: Error): boolean {
    if (this.#leavesReplica(error)) return true
    if (!isFull(error)) return false
    this.#storeMemory.refused()
    return true
  }

  get #why (): string {
    if (this.#error !== undefined) return messageOf(this.#error)
    return this.#connected ? 'it does not answer' : 'not connected'
  }

  /** The error of a command that failed; undefined if it is to be sent again, on the next connection. */
  #refused (thrown: unknown, isOver: boolean): Error | undefined {
    const error = toError(thrown)
    if (!isOver && (this.#leavesReplica(error) || this.#isLeaving(error))) return undefined
    return isOurs(thrown) ? error : this.#refusal(withoutCommand(error))
  }

  /** The primary has become a replica: connects anew, and sends again what was refused. Returns false where the client does so, or for another error. */
  #leavesReplica (error: Error): boolean {
    return error.message.startsWith('READONLY') && this.#connectAnew()
  }

  /** Connects a client anew that does not do so by itself. Returns whether it is such a client. */
  #connectAnew (): boolean {
    const { reconnect } = this.#redis
    if (reconnect === undefined) return false
    // Several commands are refused at once, and again until the name points elsewhere.
    this.#leaving ??= this.#clock.after(Math.max(0, this.#leftAt + AGAIN - this.#clock.now()), () => {
      this.#leaving = undefined
      this.#leftAt = this.#clock.now()
      reconnect()
    })
    return true
  }

  /** Whether a command failed only because this has just connected anew. */
  #isLeaving ({ message }: Error): boolean {
    return message === 'Disconnects client' && this.#clock.now() - this.#leftAt < AGAIN
  }

  #timedOut (wasSent: boolean): Error {
    if (!this.#ended) {
      this.#answers = !this.#connected
      // The connection may be half-open: a client of redis takes the commands that it sends for a sign of life.
      if (wasSent && this.#connected && !this.#connectAnew() && this.client.isCluster) this.#doubt()
    }
    return this.#unavailable(this.#error)
  }

  #refusal (error: Error): Error {
    if (this.tellsRefusal(error)) return this.#unavailable(error)
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
      // Of a cluster, any node has answered.
      if (this.client.isCluster) await command(this.client, 'EXISTS', this.#key)
    } catch (error) {
      if (number !== this.#number) return
      this.#error = withoutCommand(toError(error))
      this.#hasDisconnected()
      this.#retry = this.#clock.after(AGAIN, () => { void this.#prove() })
      return
    }
    if (number === this.#number) this.#hasConnected()
  }

  /** A cluster has lost a node, or does not answer. If that node has the keys, another must take them over: until then there is no connection. */
  #doubt (): void {
    if (!this.#connected || this.#late !== undefined) return
    this.#late = this.#clock.after(AGAIN, () => {
      this.#error = this.#nodeError ?? new Error('the node of the cluster that has the keys does not answer')
      this.#hasDisconnected()
      void this.#prove()
    })
    void this.#prove()
  }

  #hasConnected (): void {
    this.#isNotLate()
    if (this.#lost) report.storeBack(this.#log)
    this.#lost = false
    this.#connected = true
    this.#answers = true
    this.#error = undefined
    this.#nodeError = undefined
    this.#calls.sendWaiting()
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
    this.#isNotLate()
    this.#connected = false
    if (this.#lost) return
    this.#lost = true
    report.storeLost(this.#log, this.#error)
  }

  #isNotLate (): void {
    this.#late?.cancel()
    this.#late = undefined
  }

  /** Warns if Redis does not write every change to disk: with its default configuration a crash loses the last minutes. */
  async #checkPersistence (): Promise<void> {
    try {
      const appendonly = settingOf(await commandAt(this.client, this.#key, 'CONFIG', 'GET', 'appendonly'))
      if (appendonly === 'yes') return
      report.notPersisted(this.#log, settingOf(await commandAt(this.client, this.#key, 'CONFIG', 'GET', 'save')) !== '')
    } catch {
      // A managed Redis may refuse CONFIG, and be durable all the same.
    }
  }
}

/** The time of the store, in milliseconds since the epoch. */
async function timeOf (client: Client, key: string): Promise<number> {
  const [seconds, microseconds] = await commandAt(client, key, 'TIME') as [string, string]
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
  if (isFull(error)) return FULL
  return [message, ...errors.map(({ message }) => message)].filter(text => text !== '').join(', ')
}
