import { invalid, show } from '../../../common/check.ts'
import { toError } from '../../../common/errors.ts'
import type { Enqueued } from '../../queued-run.ts'
import type { NewRun } from '../../store.ts'
import type { QueueContext } from '../context.ts'
import type { SqlExecutor } from '../database.ts'
import { jobOf, type NewJob } from './job.ts'

/** How often to look again for who has a key: each time somebody has just let it go. */
const LOOKS = 10

/** Adds runs in the given order, all of them or none. */
export async function addRuns ({ call, ...context }: QueueContext, runs: NewRun[]): Promise<Enqueued[]> {
  const adding = new Adding(context, runs)
  // One statement adds all or nothing, but with keys it may take several.
  const single = runs.length === 1 || !adding.hasKeys
  return await call(async db => single ? await adding.add(db) : await db.transaction(async tx => await adding.add(tx)))
}

/** The same in a transaction of the application's: what becomes of the runs is decided there. Rejects with `FST_BG_INVALID_OPTION` if it is none. */
export async function addRunsIn ({ call, ...context }: QueueContext, runs: NewRun[], tx: unknown): Promise<Enqueued[]> {
  const where = `enqueue() of background queue "${context.options.name}"`
  const executor = executorOf(where, tx)
  // The tables, and the queue, exist before the transaction needs them.
  await call(async () => {})
  const adding = new Adding(context, runs)
  try {
    const { rows: [row] } = await executor.executeSql(context.sql.transaction) as { rows: Array<{ id: string }> }
    if (row === undefined) throw invalid(`${where}: option "tx" has answered with no rows. Pass a client of pg in a transaction, or an adapter of pg-boss such as fromKnex(trx).`)
    return await adding.add(executor, row.id)
  } catch (thrown) {
    const { code, message } = toError(thrown) as Error & { code?: string }
    if (code === '42P01' || code === '3F000') throw invalid(`${where}: option "tx" is a connection to a database without the tables of this store: ${message}. Pass one to the database that pgBoss() was given.`, { cause: thrown })
    throw thrown
  }
}

/** Something that runs SQL, by what the application passes. */
function executorOf (where: string, tx: unknown): SqlExecutor {
  const { executeSql, query } = Object(tx) as { executeSql?: unknown, query?: unknown }
  if (typeof executeSql === 'function') return { executeSql: async (text, values) => await (tx as SqlExecutor).executeSql(text, values) }
  if (typeof query === 'function') {
    const client = tx as { query (text: string, values?: unknown[]): Promise<{ rows: unknown[] }> }
    return { executeSql: async (text, values) => await client.query(text, values) }
  }
  throw invalid(`${where}: option "tx" must be a client of pg in a transaction, anything with query(text, values), or an adapter of pg-boss such as fromKnex(trx) or fromKysely(trx); received ${show(tx)}.`)
}

type AddingContext = Omit<QueueContext, 'call'>

/** Runs on their way into the table. */
class Adding {
  readonly #context: AddingContext
  readonly #jobs: NewJob[]
  readonly #results: Enqueued[]
  /** Positions of those that are first in this call with their key, or have none. */
  readonly #first: number[] = []
  /** The position of the first one with a key. */
  readonly #byKey = new Map<string, number>()

  /** When it began, on the monotonic timeline: a delay counts from then, and not from when the database answers. */
  readonly #since: number

  constructor (context: AddingContext, runs: NewRun[]) {
    this.#context = context
    this.#since = context.options.clock.now()
    this.#jobs = runs.map(jobOf)
    this.#results = runs.map(({ id }) => ({ id, duplicate: false }))
    for (const [i, { key }] of this.#jobs.entries()) {
      if (key === undefined || !this.#byKey.has(key)) this.#first.push(i)
      if (key !== undefined && !this.#byKey.has(key)) this.#byKey.set(key, i)
    }
  }

  get hasKeys (): boolean { return this.#byKey.size > 0 }

  /** `transaction`: the one that each statement must be in. */
  async add (db: SqlExecutor, transaction?: string): Promise<Enqueued[]> {
    let left = this.#first
    for (let looks = 0; left.length > 0; looks++) {
      const refused = await this.#insert(db, left, transaction)
      if (refused.length === 0) break
      if (looks === LOOKS) throw new Error('other processes take and free the same keys all the time')
      left = await this.#lookUp(db, refused)
    }
    for (const [i, { key }] of this.#jobs.entries()) {
      const first = key === undefined ? i : this.#byKey.get(key) as number
      const { id } = this.#results[first] as Enqueued
      if (first !== i) this.#results[i] = { id, duplicate: true }
    }
    return this.#results
  }

  /** Inserts some of them. Returns the positions of those whose key somebody has. */
  async #insert (db: SqlExecutor, positions: number[], transaction: string | undefined): Promise<number[]> {
    const { sql, name, options } = this.#context
    const passed = options.clock.now() - this.#since
    const jobs = positions.map(i => this.#jobs[i] as NewJob).map(job => job.wait === 0 ? job : { ...job, wait: Math.max(0, job.wait - passed) })
    const { rows: [row] } = await db.executeSql(sql.add, [name, JSON.stringify(jobs), transaction ?? null]) as { rows: Array<{ count: number, refused: string[] }> }
    if (transaction !== undefined && row?.count !== positions.length) {
      throw invalid(`enqueue() of background queue "${options.name}": option "tx" is in no transaction, or its transaction is over: each of its statements is one of its own, and nothing was enqueued. Call it between BEGIN and COMMIT, on the same client.`)
    }
    const refused = new Set(row?.refused)
    return positions.filter(i => refused.has((this.#jobs[i] as NewJob).id))
  }

  /** Finds who has their keys. Returns the positions of those whose key is free again. */
  async #lookUp (db: SqlExecutor, positions: number[]): Promise<number[]> {
    const { sql, name } = this.#context
    const keys = positions.map(i => (this.#jobs[i] as NewJob).key as string)
    const { rows } = await db.executeSql(sql.keys, [name, keys]) as { rows: Array<{ key: string, run: string, lives: boolean }> }
    const holders = new Map(rows.map(row => [row.key, row]))
    const free: number[] = []
    for (const i of positions) {
      const { key = '', id } = this.#jobs[i] as NewJob
      const holder = holders.get(key)
      if (holder?.lives === true) {
        // It may be this very run, if the call is done again after a lost connection.
        this.#results[i] = { id: holder.run, duplicate: holder.run !== id }
        continue
      }
      // Somebody has removed the run with other tools than this.
      if (holder !== undefined) await db.executeSql(sql.freeKey, [name, key, holder.run])
      free.push(i)
    }
    return free
  }
}
