import type { FastifyBaseLogger } from 'fastify'
import { errorCodes, toError } from '../../../common/errors.ts'
import { type Condition } from '../../../common/health.ts'
import { report } from '../../../common/log.ts'
import type { Clock, Timer } from '../../../time/index.ts'
import { StoreClock } from '../../engines/index.ts'
import type { Database } from '../database.ts'
import { isOfConnection } from '../server/index.ts'
import type { BossEngine } from './boss-engine.ts'
import { type Hears, Messenger } from './messenger.ts'

/** Limit of a call, in milliseconds: below the 5 s that the store promises of a database that is there, or away. */
const CALL_TIMEOUT = 4_500
/** The same while a database in this process starts for the first time: making a new one takes 3 s of a processor without a template, and more on a busy machine. */
const START_TIMEOUT = 30_000
/** How long to wait before the database is tried again, in milliseconds. */
const AGAIN = 1_000
/** What PostgreSQL says if somebody has removed the tables, or the queue from them. */
const gone = new Set(['42P01', '3F000', '42883', '42704', '23503'])

/**
 * The connection to the database: it starts the engine there, knows whether the database answers, and its calls end in time whether it does or not. It lets the messenger listen again
 * when that has lost its connection.
 */
export class StoreConnection {
  readonly #database: Database
  readonly #engine: BossEngine
  readonly #messenger: Messenger
  readonly #timeQuery: string
  readonly #clock: Clock
  readonly #log: FastifyBaseLogger
  readonly #storeClock: StoreClock
  readonly #onConnected = new Set<() => void>()
  /** Calls that wait until the database answers. */
  readonly #waiting = new Set<() => void>()
  #started = false
  #connected = false
  #connecting = false
  #lost = false
  #ended = false
  /** Whether calls still wait for the first start of a database in this process. */
  #waitsForStart: boolean
  /** Whether the last call was answered. */
  #answers = true
  #error: Error | undefined
  #timer: Timer | undefined

  constructor (database: Database, engine: BossEngine, schema: string, timeQuery: string, clock: Clock, log: FastifyBaseLogger) {
    this.#database = database
    this.#waitsForStart = database.startsHere === true
    this.#engine = engine
    this.#timeQuery = timeQuery
    this.#clock = clock
    this.#log = log
    this.#storeClock = new StoreClock(clock, async () => await this.#time(), ms => { report.clockDiffers(log, ms) })
    this.#messenger = new Messenger(database, schema, clock, log, {
      lost: error => {
        this.#error = error
        void this.#connect()
      },
      tryAgain: () => { void this.#connect() }
    })
    void this.#connect()
  }

  /** Whether the engine has started, and the database has answered since it was last lost. */
  get connected (): boolean { return this.#connected }

  /** Whether messages arrive. */
  get listening (): boolean { return this.#messenger.messagesArrive }

  get reachable (): boolean { return this.#connected && this.#answers }

  get condition (): Condition {
    if (this.reachable) return this.#storeClock.condition
    return { status: 'degraded', reason: `the store cannot be reached: ${this.#why}` }
  }

  get database (): Database { return this.#database }

  /** Calls `callback` now if the database answers, and each time that it does so again, or that messages may have been missed. Returns a function that ends this. */
  onConnected (callback: () => void): () => void {
    this.#onConnected.add(callback)
    if (this.#connected) callback()
    return () => { this.#onConnected.delete(callback) }
  }

  /** Calls `hears` with the messages to a queue. Returns a function that ends this. */
  hear (queue: string, hears: Hears): () => void {
    return this.#messenger.hear(queue, hears)
  }

  async createQueue (name: string): Promise<void> {
    await this.#engine.createQueue(name)
  }

  /**
   * Resolves to the result of `work`, which is done again if the connection is lost meanwhile: it must not mind. Rejects with `FST_BG_STORE_UNAVAILABLE` in less than 5 s if
   * the database is unreachable or does not answer; later only while one in this process starts.
   */
  async call<T> (work: (db: Database) => Promise<T>): Promise<T> {
    return await new Promise<T>((resolve, reject) => {
      let over = false
      const end = (settle: () => void): void => {
        if (over) return
        over = true
        timer.cancel()
        this.#waiting.delete(begin)
        settle()
      }
      const expire = (left: number): void => {
        if (this.#starts && left > 0) {
          const wait = Math.min(CALL_TIMEOUT, left)
          timer = this.#clock.after(wait, () => { expire(left - wait) })
          return
        }
        if (this.#connected) this.#answers = false
        end(() => { reject(this.#unavailable(this.#error)) })
      }
      let timer = this.#clock.after(CALL_TIMEOUT, () => { expire(START_TIMEOUT - CALL_TIMEOUT) })
      let waitsForStart = this.#starts
      const begin = (): void => {
        this.#waiting.delete(begin)
        if (this.#ended) {
          end(() => { reject(this.#unavailable(undefined)) })
          return
        }
        if (waitsForStart) {
          // The work has its time from now on: a call that is refused while its work is done would be made twice.
          waitsForStart = false
          timer.cancel()
          timer = this.#clock.after(CALL_TIMEOUT, () => { expire(0) })
        }
        work(this.#database).then(result => {
          this.#answers = true
          end(() => { resolve(result) })
        }, (thrown: unknown) => {
          if (isOurs(thrown)) {
            end(() => { reject(toError(thrown)) })
            return
          }
          const error = toError(thrown)
          if (this.#failed(error) && !this.#ended) {
            if (!over) this.#waiting.add(begin)
            return
          }
          end(() => { reject(this.#unavailable(error)) })
        })
      }
      if (this.#connected || this.#ended) begin()
      else this.#waiting.add(begin)
    })
  }

  /** Resolves when `work` has settled, or after `ms` milliseconds; at once while the database is unreachable. */
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

  /** A queue closes: who calls waits no longer than for a server, as it may hold up the close. */
  closing (): void {
    this.#waitsForStart = false
  }

  /** Ends the engine and all connections. */
  async stop (): Promise<void> {
    this.#ended = true
    this.#connected = false
    this.#timer?.cancel()
    this.#storeClock.stop()
    // They find that it is over.
    for (const begin of [...this.#waiting]) begin()
    await this.#messenger.stop()
    await this.#engine.stop()
    await this.#database.close()
  }

  /** Whether the database is in this process, and on its way up for the first time. */
  get #starts (): boolean { return this.#waitsForStart && !this.#connected && !this.#lost }

  get #why (): string {
    if (this.#error !== undefined) return messageOf(this.#error)
    return this.#connected ? 'it does not answer' : 'not connected'
  }

  /** A call has failed. Returns whether it may be done again when the database is back. */
  #failed (error: Error): boolean {
    this.#error = error
    const { code } = error as { code?: unknown }
    if (gone.has(String(code))) this.#started = false
    else if (!isOfConnection(error)) {
      this.#answers = false
      return false
    }
    this.#hasDisconnected(error)
    void this.#connect()
    return true
  }

  /** Starts the engine, or looks whether the database answers, and listens; again and again until that succeeds. */
  async #connect (): Promise<void> {
    if (this.#connecting || this.#ended) return
    this.#connecting = true
    for (; !this.#ended;) {
      try {
        if (this.#started) await this.#database.executeSql('SELECT 1')
        else await this.#engine.start()
        this.#started = true
        await this.#messenger.listen()
        break
      } catch (thrown) {
        if (this.#ended) break
        this.#error = toError(thrown)
        this.#hasDisconnected(this.#error)
        await new Promise<void>(resolve => { this.#timer = this.#clock.after(AGAIN, resolve) })
      }
    }
    this.#connecting = false
    if (!this.#ended) this.#hasConnected()
  }

  #hasConnected (): void {
    if (this.#lost) report.storeBack(this.#log)
    this.#lost = false
    this.#connected = true
    this.#answers = true
    this.#error = undefined
    // First those who note that the tables may be new.
    for (const callback of this.#onConnected) callback()
    for (const begin of [...this.#waiting]) begin()
    this.#storeClock.start()
  }

  #hasDisconnected (error: Error): void {
    this.#connected = false
    if (this.#lost) return
    this.#lost = true
    report.storeLost(this.#log, error)
  }

  #unavailable (cause: Error | undefined): Error {
    // No second argument without a cause: @fastify/error would append it to the message.
    return cause === undefined ? new errorCodes.FST_BG_STORE_UNAVAILABLE(this.#why) : new errorCodes.FST_BG_STORE_UNAVAILABLE(messageOf(cause), { cause })
  }

  async #time (): Promise<number> {
    const { rows: [row] } = await this.#database.executeSql(this.#timeQuery) as { rows: Array<{ now: number }> }
    return row?.now ?? this.#clock.wall()
  }
}

function isOurs (error: unknown): boolean {
  return String((error as { code?: unknown } | undefined)?.code).startsWith('FST_BG_')
}

/** The message of an error; of an AggregateError, such as one for each address that was tried, all messages. With what PostgreSQL says that is to be done, as on a full disk. */
function messageOf (error: Error): string {
  const { message, errors = [], hint } = error as Error & { errors?: Error[], hint?: string }
  const text = [message, ...errors.map(({ message }) => message)].filter(text => text !== '').join(', ')
  return hint === undefined ? text : `${text}. ${hint.replace(/\.$/, '')}`
}
