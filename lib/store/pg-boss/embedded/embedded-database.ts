import type { FastifyBaseLogger } from 'fastify'
import { errorCodes } from '../../../common/errors.ts'
import { report } from '../../../common/log.ts'
import { backoff, type Clock, formatDuration, type Timer } from '../../../time/index.ts'
import type { Database, SqlExecutor } from '../database.ts'
import { Engine, type EngineOptions } from './engine.ts'
import { Maintenance } from './maintenance.ts'
import type { EngineThread } from './engine-thread.ts'

export interface EmbeddedOptions extends EngineOptions {
  clock: Clock
  log: FastifyBaseLogger
}

/** A transaction: what `enqueue` takes as `tx`, and with which the application reads and writes tables of its own. */
export interface EmbeddedTransaction extends SqlExecutor {
  /** Runs a statement with its values as `$1`, `$2` …, as a client of `pg` does. */
  query (text: string, values?: unknown[]): Promise<{ rows: unknown[] }>
}

/** Somebody who listens to a channel. */
interface Subscriber {
  onNotify: (payload: string) => void
  onLost: ((error: Error) => void) | undefined
}

/** How long a statement waits for a transaction to end, in milliseconds: less than the store waits for the statement, so that who waits is told why. */
const TURN = 4_000
/** After so many milliseconds of life the next death counts as the first. */
const STABLE = 60_000
/** The waits before the engine is started again. The first follows at once: most causes of an end pass with it. */
const RESTART = { delay: 1_000, factor: 2, maxDelay: 30_000, jitter: false }

/**
 * PostgreSQL in this process: one engine in a thread, on a folder that is locked.
 *
 * It begins to start when it is made. `starting`: statements wait. `open`: they run, one after the other. If the engine dies, those that it had reject, and it is started anew: at
 * once, then after longer and longer waits; during a wait it is `down`, and statements reject at once with what it died of. `closed` is the end.
 *
 * There is one connection, so a transaction excludes everything else: other statements wait until it has ended, yet not for ever, since what a transaction waits for may be one of
 * them (an `enqueue` without `tx`).
 */
export class EmbeddedDatabase implements Database {
  readonly startsHere = true
  readonly #engine: Engine
  readonly #clock: Clock
  readonly #maintenance: Maintenance
  readonly #subscribers = new Map<string, Set<Subscriber>>()
  #state: 'starting' | 'open' | 'down' | 'closed' = 'starting'
  #thread: EngineThread | undefined
  /** What the engine died of, while it is down. */
  #cause: Error | undefined
  /** How many times in a row the engine has died, or has not started. */
  #deaths = 0
  #openedAt = 0
  #restart: Timer | undefined
  #transaction = false
  /** Who waits for the start, or for the end of a transaction: each looks again when it is called. */
  readonly #waiting = new Set<() => void>()
  #closed: Promise<void> | undefined

  /** Throws `FST_BG_INVALID_OPTION` if the folder cannot be used, `FST_BG_STORE_LOCKED` if another process uses it. */
  constructor ({ clock, log, ...options }: EmbeddedOptions) {
    this.#engine = new Engine(options, clock)
    this.#clock = clock
    this.#maintenance = new Maintenance(clock, this)
    report.embedded(log, this.#engine.place)
    void this.#start()
  }

  async executeSql (text: string, values?: unknown[]): Promise<{ rows: unknown[] }> {
    while (!this.#free) await this.#turn()
    this.#maintenance.note()
    return await this.#running.call(text, values, true)
  }

  async listen (channel: string, onNotify: (payload: string) => void, onLost?: (error: Error) => void): Promise<() => Promise<void>> {
    const subscribers = this.#subscribers.get(channel) ?? new Set()
    const subscriber: Subscriber = { onNotify, onLost }
    const end = async (): Promise<void> => {
      // Those of an engine that has died are forgotten.
      if (!subscribers.delete(subscriber) || subscribers.size > 0 || this.#subscribers.get(channel) !== subscribers) return
      this.#subscribers.delete(channel)
      if (this.#state === 'open') await this.executeSql(`UNLISTEN ${quoted(channel)}`)
    }
    this.#subscribers.set(channel, subscribers.add(subscriber))
    try {
      await this.executeSql(`LISTEN ${quoted(channel)}`)
    } catch (error) {
      subscribers.delete(subscriber)
      throw error
    }
    return end
  }

  async transaction<T> (work: (tx: EmbeddedTransaction) => Promise<T>): Promise<T> {
    while (!this.#free) await this.#turn()
    this.#transaction = true
    const thread = this.#running
    try {
      await thread.call('BEGIN', undefined, true)
      const result = await this.#within(thread, work)
      const { command } = await thread.call('COMMIT', undefined, true)
      // PostgreSQL rolls back, and says so only by this, if a statement had failed.
      if (command === 'ROLLBACK') throw new Error('The transaction was rolled back: one of its statements had failed, though the function that was given to transaction() has resolved.')
      return result
    } finally {
      this.#transaction = false
      this.#maintenance.note()
      this.#wake()
    }
  }

  close (): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  /** Runs what the user has given, and rolls back if it rejects. */
  async #within<T> (thread: EngineThread, work: (tx: EmbeddedTransaction) => Promise<T>): Promise<T> {
    let over = false
    const executeSql = async (text: string, values?: unknown[]): Promise<{ rows: unknown[] }> => {
      if (over) throw new errorCodes.FST_BG_INVALID_OPTION('The transaction has ended: await everything that uses "tx" inside the function that is given to transaction().')
      return await thread.call(text, values, false)
    }
    try {
      return await work({ executeSql, query: executeSql })
    } catch (error) {
      // If the engine has died, so has the transaction.
      await thread.call('ROLLBACK', undefined, true).catch(() => {})
      throw error
    } finally {
      over = true
    }
  }

  /** Whether a statement can be sent now. Throws if none can, and waiting is of no use. */
  get #free (): boolean {
    if (this.#state === 'closed') throw closedError()
    if (this.#state === 'down') throw this.#cause
    return this.#state === 'open' && !this.#transaction
  }

  get #running (): EngineThread {
    return this.#thread as EngineThread
  }

  /** Resolves when it is worth to look again. Rejects if a transaction goes on for too long. */
  async #turn (): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const timer = !this.#transaction
        ? undefined
        : this.#clock.after(TURN, () => {
          this.#waiting.delete(look)
          reject(new errorCodes.FST_BG_STORE_UNAVAILABLE(`a transaction of the application goes on for more than ${formatDuration(TURN)}, and the embedded PostgreSQL has one connection. A call of the queue inside of store.transaction() needs { tx }`))
        })
      const look = (): void => {
        timer?.cancel()
        resolve()
      }
      this.#waiting.add(look)
    })
  }

  /** Lets all look again, in the order in which they came. */
  #wake (): void {
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const look of waiting) look()
  }

  async #start (): Promise<void> {
    try {
      this.#thread = await this.#engine.start({
        notified: (channel, payload) => { this.#notify(channel, payload) },
        died: error => { this.#died(error) }
      })
      if (this.#state === 'closed') return
      this.#state = 'open'
      this.#openedAt = this.#clock.now()
    } catch (error) {
      this.#died(error as Error)
    }
    this.#wake()
  }

  #died (error: Error): void {
    if (this.#state === 'closed') return
    if (this.#state === 'open' && this.#clock.now() - this.#openedAt > STABLE) this.#deaths = 0
    this.#thread = undefined
    this.#cause = error
    const wait = this.#deaths === 0 ? 0 : backoff(this.#deaths - 1, RESTART)
    this.#deaths++
    this.#state = 'down'
    this.#lose(error)
    this.#restart = this.#clock.after(wait, () => {
      this.#state = 'starting'
      void this.#start()
    })
    this.#wake()
  }

  /** The store listens anew. */
  #lose (error: Error): void {
    const lost = [...this.#subscribers.values()].flatMap(subscribers => [...subscribers])
    this.#subscribers.clear()
    for (const { onLost } of lost) onLost?.(error)
  }

  #notify (channel: string, payload: string): void {
    for (const { onNotify } of [...this.#subscribers.get(channel) ?? []]) onNotify(payload)
  }

  async #close (): Promise<void> {
    this.#state = 'closed'
    this.#restart?.cancel()
    this.#maintenance.stop()
    this.#wake()
    await this.#engine.close()
  }
}

function closedError (): Error {
  return new errorCodes.FST_BG_STORE_UNAVAILABLE('the store is closed')
}

function quoted (name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}
