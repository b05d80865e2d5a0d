import { createHash } from 'node:crypto'
import type Pg from 'pg'
import type { Client, ClientConfig, Pool, PoolConfig } from 'pg'
import { toError } from '../../../common/errors.ts'
import type { Clock } from '../../../time/index.ts'
import type { Database, SqlExecutor } from '../database.ts'
import { Listener } from './listener.ts'
import type { PooledClient, PoolLike } from './pool.ts'

/** Limit of a statement, in milliseconds, unless its caller gives another one. */
const LIMIT = 4_000
/** Limit to connect, in milliseconds. */
const CONNECT = 5_000
/** Limit for the connections to end, in milliseconds. */
const END = 300
/** How long a connection keeps its plans, in milliseconds: first this long, as a new table grows fast; then twice as long each time, up to `most`. */
const PLANNED = { first: 100, most: 5_000 }

/** A connection whose socket can be cut. */
interface Cuttable { connection?: { stream?: { destroy? (): void } } }

/** The parts of a pool that `pg` has, and its types hide. */
interface Opened { options?: ClientConfig, Client?: new (config: ClientConfig) => Client }

/**
 * A PostgreSQL server. It takes a connection of the pool for each statement, and cuts one that does not answer, or on which the server has said that it stops, or has become
 * a standby: the pool makes another one. It listens on a connection of its own, which is none of the pool: so one of size 1 is enough.
 */
export class ServerDatabase implements Database {
  readonly #pool: PoolLike
  readonly #own: Pool | undefined
  readonly #clock: Clock
  readonly #listener: Listener
  readonly #names = new Map<string, string>()
  /** When each connection has last answered, on the monotonic timeline. */
  readonly #answered = new WeakMap<PooledClient, number>()
  /** How long each connection keeps its plans, and until when. */
  readonly #plans = new WeakMap<PooledClient, { kept: number, until: number }>()
  /** When a connection was last found not to answer: the idle ones from before may be as dead. */
  #suspectedAt = -Infinity
  prepares = false
  #closed: Promise<void> | undefined
  /** Ends the statements that are under way. */
  readonly #aborts = new Set<(error: Error) => void>()

  /** `own`: whether the pool is ours to close. */
  constructor (pool: PoolLike, own: boolean, clock: Clock) {
    this.#pool = pool
    this.#own = own ? pool as unknown as Pool : undefined
    this.#clock = clock
    // Without a listener of ours an error of an idle connection would be an uncaught exception. The pool drops that connection, and nothing is lost.
    this.#own?.on('error', () => {})
    this.#listener = new Listener(() => this.#client(), clock, () => { this.#suspectedAt = clock.now() })
  }

  async executeSql (text: string, values?: unknown[], limit = LIMIT): Promise<{ rows: unknown[] }> {
    // What has another limit is of pg-boss: it is asked seldom, and may be of any length.
    return await this.#withClient(limit, async client => await this.#query(client, text, values, limit === LIMIT))
  }

  async listen (channel: string, onNotify: (payload: string) => void, onLost: (error: Error) => void = () => {}): Promise<() => Promise<void>> {
    return await this.#listener.listen(channel, onNotify, onLost)
  }

  async transaction<T>(work: (tx: SqlExecutor) => Promise<T>): Promise<T> {
    return await this.#withClient(LIMIT, async client => {
      // Were this machine to vanish in the middle, the server would keep the locks until it finds the connection dead, which takes it two hours.
      await client.query(`BEGIN; SET LOCAL idle_in_transaction_session_timeout = ${LIMIT}`)
      try {
        const result = await work({ executeSql: async (text, values) => await this.#query(client, text, values, true) })
        await client.query('COMMIT')
        return result
      } catch (error) {
        await client.query('ROLLBACK').catch(() => {})
        throw error
      }
    })
  }

  close (): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close (): Promise<void> {
    this.#listener.close()
    // A connection that does not answer would hold it back, and then the process.
    const ended = this.#own?.end().catch(() => {}) ?? Promise.resolve()
    await new Promise<void>(resolve => {
      const timer = this.#clock.after(END, resolve)
      void ended.then(() => {
        timer.cancel()
        resolve()
      })
    })
    for (const abort of [...this.#aborts]) abort(new Error('the store was closed'))
    if (this.#own !== undefined) cutConnections(this.#own)
  }

  async #withClient<T> (limit: number, work: (client: PooledClient) => Promise<T>): Promise<T> {
    return await new Promise<T>((resolve, reject) => {
      let over = false
      let cut: ((error: Error) => void) | undefined
      const abort = (error: Error): void => {
        end(() => { reject(error) })
        cut?.(error)
      }
      const end = (settle: () => void): void => {
        over = true
        timer.cancel()
        this.#aborts.delete(abort)
        settle()
      }
      this.#aborts.add(abort)
      const timer = this.#clock.after(limit, () => {
        this.#suspectedAt = this.#clock.now()
        abort(new Error('the server does not answer'))
      })
      this.#connect().then(async client => {
        // Nobody waits for this connection any more. The pool may give it to the next.
        if (over) {
          client.release()
          return
        }
        const ignore = (): void => {}
        // The pool listens to idle connections only.
        client.on('error', ignore)
        const release = (error?: Error): void => {
          client.off('error', ignore)
          if (error !== undefined) client.on('error', ignore)
          client.release(error)
        }
        cut = release
        try {
          const result = await work(client)
          if (over) return
          this.#answered.set(client, this.#clock.now())
          end(() => {
            release()
            resolve(result)
          })
        } catch (thrown) {
          if (over) return
          const error = toError(thrown)
          end(() => {
            // The statements of pg-boss begin transactions, which a failed one leaves open. pg's own pool.query() cuts the connection, too.
            release(error)
            reject(error)
          })
        }
      }, (thrown: unknown) => { if (!over) end(() => { reject(toError(thrown)) }) })
    })
  }

  /** A connection of the pool. One that has not answered since another one was found dead is replaced: trying them one after another would take some seconds for each. */
  async #connect (): Promise<PooledClient> {
    for (;;) {
      const client = await this.#pool.connect()
      if ((this.#answered.get(client) ?? Infinity) >= this.#suspectedAt) return client
      client.on('error', () => {})
      client.release(new Error('the server did not answer on another connection'))
    }
  }

  /** A statement of ours takes longer to plan than to run: each connection plans it once, and again from time to time. */
  async #query (client: PooledClient, text: string, values: unknown[] | undefined, isOurs: boolean): Promise<{ rows: unknown[] }> {
    if (!this.prepares || !isOurs || values === undefined) return await client.query(text, values as unknown[])
    let name = this.#names.get(text)
    if (name === undefined) {
      // By the text: two stores may have one pool, and each a schema of its own.
      name = `fbt_${createHash('sha1').update(text).digest('hex').slice(0, 16)}`
      this.#names.set(text, name)
    }
    await this.#renewPlans(client)
    const prepared = { name, text, values }
    return await client.query(prepared as never)
  }

  /** A plan that was made for an empty table reads all waiting runs to find one, and the server itself would keep it until it analyzes the table, which may take minutes. */
  async #renewPlans (client: PooledClient): Promise<void> {
    const now = this.#clock.now()
    const plans = this.#plans.get(client)
    if (plans !== undefined && now < plans.until) return
    const kept = Math.min(PLANNED.most, (plans?.kept ?? PLANNED.first / 2) * 2)
    this.#plans.set(client, { kept, until: now + kept })
    if (plans !== undefined) await client.query('DISCARD PLANS')
  }

  /** A connection that is none of the pool, to the same server. Undefined for a pool that does not say how it connects. */
  #client (): Client | undefined {
    const { options, Client } = this.#pool as unknown as Opened
    return options === undefined || Client === undefined ? undefined : new Client({ ...options, keepAlive: true })
  }
}

/** The connections of our own pools that are open, or being opened, by pool: `pg` tells of those only that are open. */
const connections = new WeakMap<Pool, Set<Client>>()

/** A pool of our own. */
export function ownPool ({ Pool, Client }: typeof Pg, connectionString: string): Pool {
  const open = new Set<Client>()
  class Counted extends Client {
    constructor (config?: ClientConfig) {
      super(config)
      open.add(this)
      // An error may come in one packet with the answer before it: then nobody has had the turn to listen yet, and it would be an uncaught exception.
      this.on('error', () => {})
      this.once('end', () => { open.delete(this) })
    }
  }
  const pool = new Pool({ ...poolOptions(connectionString), Client: Counted })
  connections.set(pool, open)
  return pool
}

/** Cuts what pool.end() has left: a half-open connection has no ear for a goodbye, and one that is being opened keeps the process up until it is. */
function cutConnections (pool: Pool): void {
  for (const client of connections.get(pool) ?? []) (client as unknown as Cuttable).connection?.stream?.destroy?.()
}

/** Options of our own pool. */
function poolOptions (connectionString: string): PoolConfig {
  return { connectionString, max: 10, connectionTimeoutMillis: CONNECT, idleTimeoutMillis: 30_000, keepAlive: true, application_name: 'fastify-background-tasks' }
}

/** Whether an error says that the connection is of no further use: it is lost, the server stops, or it has become a standby. */
export function isOfConnection (error: Error): boolean {
  const { code } = error as { code?: unknown }
  // Without an SQLSTATE it is not of PostgreSQL, but of the network.
  if (typeof code !== 'string' || !/^[0-9A-Z]{5}$/.test(code)) return true
  return code.startsWith('08') || code.startsWith('57P') || code === '25006'
}
