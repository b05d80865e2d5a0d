import { check, type Check, invalid, show, text, whole, wrong } from '../../common/check.ts'
import { errorCodes } from '../../common/errors.ts'
import { kinds } from '../../common/option-names.ts'
import { type Duration, positiveDuration } from '../../time/index.ts'
import type { OpenOptions, Store, StoreQueue, StoreWorker } from '../store.ts'
import type { Leases, QueueContext } from './context.ts'
import type { Database } from './database.ts'
import { checkEmbedded, EmbeddedDatabase, type EmbeddedTransaction, EngineEnded } from './embedded/index.ts'
import { BossEngine, channelOf, loadEngine, loadPg, StoreConnection } from './engine/index.ts'
import { crashed, engineName, type JobRow } from './jobs/index.ts'
import { PgBossQueue } from './queue.ts'
import { Supervisor } from './runs/index.ts'
import { isPool, ownPool, ServerDatabase } from './server/index.ts'
import type { PoolLike } from './server/pool.ts'
import { jobStatements, scheduleStatements } from './sql/index.ts'

export type { EmbeddedTransaction, PoolLike }

/** Options of `pgBoss()`: `connectionString`, `pool` or `dataDir`, one of them. */
export interface PgBossOptions {
  /** Address of a PostgreSQL server, version 13 or later, such as `'postgres://user:password@127.0.0.1/shop'`. The store has a pool of its own. */
  connectionString?: string | undefined
  /** Or the application's own pool, a `pg.Pool`, of any size. The store does not close it. It listens on a connection of its own, with the options of the pool. */
  pool?: PoolLike | undefined
  /**
   * Or a folder, for PostgreSQL inside of this process (package `@electric-sql/pglite`): a path or a `file:` URL. Runs survive a crash of the process, and no other process can use
   * the folder meanwhile. `'memory://'` keeps nothing, for tests.
   */
  dataDir?: string | undefined
  /** Schema of the tables, in small letters, digits and `_`; it is created if it does not exist. Applications that share a database, but not their queues, need different ones. Default `'pgboss'`. */
  schema?: string | undefined
  /** How long a run belongs to a process that gives no sign of life; 1 s or more. Other processes take over the runs of a killed one after 1¼ leases at the latest. Default `'10s'`. */
  lease?: Duration | undefined
  /** A run fails when this many processes have died under it, so that one payload does not kill every process in turn. Default `5`. */
  maxCrashes?: number | undefined
}

/** A store on an embedded PostgreSQL: `pgBoss({ dataDir })`. */
export interface EmbeddedStore extends Store {
  /**
   * Runs `work` in a transaction on the embedded database: commits when it resolves, rolls back when it rejects. `tx` is for `enqueue(payload, { tx })`, and for tables of the application's
   * own. Everything else on the store waits meanwhile, for at most 4 s.
   *
   * Rejects with `FST_BG_STORE_UNAVAILABLE` if no queue has opened the store, or the database has ended meanwhile.
   *
   * @example
   * ```ts
   * await store.transaction(async tx => {
   *   await tx.query('INSERT INTO orders (item) VALUES ($1)', [item])
   *   await mails.enqueue({ to }, { tx })
   * })
   * ```
   */
  transaction<T> (work: (tx: EmbeddedTransaction) => Promise<T>): Promise<T>
}

/**
 * A store on [pg-boss](https://pgboss.io) and PostgreSQL: runs survive a crash, several processes share a queue, and a run can be enqueued in a transaction of the application's.
 *
 * It connects when the first queue uses it, makes its tables, and reconnects by itself.
 *
 * Throws `FST_BG_INVALID_OPTION`, also if the package `pg-boss` is not installed, is a version that the store cannot use, or needs a newer Node.
 */
export function pgBoss (options: PgBossOptions & { dataDir: string }): EmbeddedStore
export function pgBoss (options: PgBossOptions): Store
export function pgBoss (options: PgBossOptions): Store {
  const { connectionString, pool, dataDir, schema = 'pgboss', lease = 10_000, maxCrashes = 5 } = check('pgBoss()', options, checks, kinds)
  const given = Object.entries({ connectionString, pool, dataDir }).filter(([, value]) => value !== undefined).map(([key]) => `"${key}"`)
  if (given.length !== 1) {
    throw invalid(`pgBoss() needs "connectionString", an address such as 'postgres://127.0.0.1/shop', "pool", a pg.Pool, or "dataDir", a folder: one of them; received ${given.length === 0 ? 'none' : given.join(' and ')}.`)
  }
  const engine = loadEngine()
  if (dataDir !== undefined) return new EmbeddedPgBossStore(engine, checkEmbedded(dataDir), schema, { lease, maxCrashes })
  const open: OpenDatabase = ({ clock }) => {
    if (pool !== undefined) return new ServerDatabase(pool, false, clock)
    return new ServerDatabase(ownPool(loadPg(), connectionString as string), true, clock)
  }
  return new PgBossStore(engine, open, schema, { lease, maxCrashes })
}

const connectionString: Check<string> = value => {
  if (typeof value !== 'string' || !/^postgres(ql)?:\/\//.test(value)) throw wrong("an address such as 'postgres://user:password@127.0.0.1/shop'", typeof value === 'string' ? hidden(value) : value)
  return value
}
const pool: Check<PoolLike> = value => {
  if (!isPool(value)) throw wrong('a pool of the package pg: new pg.Pool(…)', value)
  return value
}
const schema: Check<string> = value => {
  if (typeof value !== 'string' || !/^[a-z_][a-z0-9_]{0,49}$/.test(value)) throw wrong('a name of at most 50 small letters, digits and _ that does not begin with a digit', value)
  return value
}
const lease: Check<number> = value => {
  const ms = positiveDuration(value)
  if (ms < 1_000) throw wrong('a duration of 1 s or more', value)
  return ms
}
const checks = { connectionString, pool, dataDir: text, schema, lease, maxCrashes: whole(1) }

/** An address without the password that may be in it. */
function hidden (address: string): string {
  return address.replace(/:[^:@/]*@/, ':…@')
}

/** Limit for the queues to stop before the connections are cut, in milliseconds. All runs have ended before. */
const STOP_TIMEOUT = 2_000

/** What the queues of a store share, from the first to the last. */
interface Opened {
  database: Database
  connection: StoreConnection
  supervisor: Supervisor
}

type OpenDatabase = (options: OpenOptions) => Database

class PgBossStore implements Store {
  readonly #engine: ReturnType<typeof loadEngine>
  readonly #openDatabase: OpenDatabase
  readonly #schema: string
  readonly #leases: Leases
  readonly #sql: ReturnType<typeof jobStatements>
  readonly #scheduleSql: ReturnType<typeof scheduleStatements>
  readonly #queues = new Set<PgBossQueue>()
  #opened: Opened | undefined

  constructor (engine: ReturnType<typeof loadEngine>, openDatabase: OpenDatabase, schema: string, leases: Leases) {
    this.#engine = engine
    this.#openDatabase = openDatabase
    this.#schema = schema
    this.#leases = leases
    this.#sql = jobStatements(schema, channelOf(schema))
    this.#scheduleSql = scheduleStatements(schema, channelOf(schema), this.#sql)
  }

  open (options: OpenOptions, worker: StoreWorker): StoreQueue {
    checkQueue(options)
    this.#opened ??= this.#open(options)
    const { connection, supervisor } = this.#opened
    const name = engineName(options.name)
    const [sql, scheduleSql] = [this.#sql, this.#scheduleSql]
    const call = callOf(connection, name, sql.exists, async db => { await this.prepare(db, name, queue) })
    const context: QueueContext = { connection, sql, scheduleSql, options, leases: this.#leases, name, worker, call }
    const queue = new PgBossQueue(context, supervisor)
    this.#queues.add(queue)
    return queue
  }

  /** Stops the closed queues: the queues of another application may still be open. */
  async stop (): Promise<void> {
    const closed = [...this.#queues].filter(queue => queue.closed)
    for (const queue of closed) this.#queues.delete(queue)
    const opened = this.#opened
    if (opened === undefined) return
    await opened.connection.within(STOP_TIMEOUT, Promise.all(closed.map(async queue => { await queue.stop() })))
    if (this.#queues.size > 0 || this.#opened !== opened) return
    this.#opened = undefined
    opened.supervisor.stop()
    await opened.connection.stop()
  }

  /** Called before the first call of a queue, and again after the database was lost. */
  protected async prepare (_db: Database, _name: string, _queue: PgBossQueue): Promise<void> {}

  /** Takes over every active run of a queue: the processes that had them are dead. */
  protected async takeOverAll (db: Database, name: string, queue: PgBossQueue): Promise<void> {
    const { maxCrashes } = this.#leases
    const { rows } = await db.executeSql(this.#sql.takeOver, [[name], 0, maxCrashes, JSON.stringify(crashed(maxCrashes))])
    for (const row of rows as JobRow[]) queue.takenOver(row)
  }

  /** Undefined until the first queue opens the store. */
  protected get database (): Database | undefined { return this.#opened?.database }

  /** Makes sure that the tables of all queues exist. */
  protected async prepareAll (): Promise<void> {
    await Promise.all([...this.#queues].map(async queue => { await queue.prepared() }))
  }

  #open (options: OpenOptions): Opened {
    const { clock, log } = options
    const database = this.#openDatabase(options)
    const engine = new BossEngine(this.#engine, database, this.#schema, clock, log)
    const connection = new StoreConnection(database, engine, this.#schema, this.#sql.time, clock, log)
    return { database, connection, supervisor: new Supervisor(connection, this.#sql, this.#leases, clock) }
  }
}

/** A store that has its database to itself, in this process. */
class EmbeddedPgBossStore extends PgBossStore implements EmbeddedStore {
  /** The queues whose runs of dead processes were taken over. Whatever is active in them later is active here. */
  readonly #takenOver = new Set<string>()

  constructor (engine: ReturnType<typeof loadEngine>, dataDir: string, schema: string, leases: Leases) {
    super(engine, ({ clock, log }) => {
      this.#takenOver.clear()
      return new EmbeddedDatabase({ dataDir, clock, log })
    }, schema, leases)
  }

  async transaction<T> (work: (tx: EmbeddedTransaction) => Promise<T>): Promise<T> {
    const database = this.database as EmbeddedDatabase | undefined
    if (database === undefined) throw new errorCodes.FST_BG_STORE_UNAVAILABLE('no queue of a running application uses it')
    // Inside of the transaction, a queue that makes its tables would wait for the end of it.
    await this.prepareAll()
    try {
      return await database.transaction(work)
    } catch (error) {
      throw error instanceof EngineEnded ? new errorCodes.FST_BG_STORE_UNAVAILABLE(error.message, { cause: error }) : error
    }
  }

  /** No other process can have the folder, so each run that is active when this one begins belongs to a dead one: nobody waits for its lease. */
  protected override async prepare (db: Database, name: string, queue: PgBossQueue): Promise<void> {
    if (this.#takenOver.has(name)) return
    await this.takeOverAll(db, name, queue)
    this.#takenOver.add(name)
  }
}

/** Calls on a queue: the first one makes it, unless it exists. */
function callOf (connection: StoreConnection, name: string, exists: string, prepare: (db: Database) => Promise<void>): QueueContext['call'] {
  let made: Promise<void> | undefined
  const make = async (db: Database): Promise<void> => {
    const { rows } = await db.executeSql(exists, [name])
    if (rows.length === 0) await connection.createQueue(name)
    await prepare(db)
  }
  connection.onConnected(() => { made = undefined })
  return async work => await connection.call(async db => {
    made ??= make(db)
    try {
      await made
    } catch (error) {
      made = undefined
      throw error
    }
    return await work(db)
  })
}

/** Refuses the options that the engine cannot do. Throws `FST_BG_INVALID_OPTION`. */
function checkQueue ({ name, maxSize, onFull }: OpenOptions): void {
  if (maxSize === undefined && onFull === undefined) return
  throw invalid(`Background queue ${show(name)}: option "${maxSize !== undefined ? 'maxSize' : 'onFull'}" belongs to a queue in memory. One in PostgreSQL is as large as its disk: leave it out, or name the store "memory".`)
}
