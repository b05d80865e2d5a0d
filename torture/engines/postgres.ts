import { setTimeout as sleep } from 'node:timers/promises'
import { pgBoss } from '../../lib/store/pg-boss/index.ts'
import { needsPostgres, Postgres } from '../../test/support/postgres.ts'
import { LEASE, MAX_CRASHES, type Listed } from '../rules.ts'
import type { Action, Engine, EngineKind, Monkey } from './engine.ts'
import { leftovers } from './postgres-leftovers.ts'

const SCHEMA = 'torture'
/** What was committed is on the standby, which tries again soon when the primary was away. */
const SETTINGS = ['synchronous_commit=remote_apply', 'wal_retrieve_retry_interval=200ms', 'wal_keep_size=512MB']
/** A connection of a worker. */
const ITS_OWN = "backend_type = 'client backend' AND application_name = 'fastify-background-tasks'"

type Teardowns = Parameters<EngineKind['start']>[0]

/** A primary and its standby, to which nothing is lost that was committed. After a failover the standby is the primary, and gets a new standby. */
class PostgresEngine implements Engine {
  readonly #t: Teardowns
  #primary: Postgres
  #standby: Postgres | undefined
  /** Whether a standby is being made, which copies all that the primary has. */
  #copying = false
  #copied: Promise<void> | undefined

  constructor (t: Teardowns, primary: Postgres) {
    this.#t = t
    this.#primary = primary
  }

  get port (): number { return this.#primary.port }

  urlOf (port: number): string { return this.#primary.urlOf(port) }

  actions ({ world, below, takeServer }: Monkey): Action[] {
    const take: Monkey['takeServer'] = (...all) => !this.#copying && takeServer(...all)
    const back = async (): Promise<void> => {
      await this.#primary.start()
      await this.#follows()
    }
    return [
      { name: 'freeze PostgreSQL', weight: 1, act: () => take('freeze', () => { this.#primary.freeze() }, () => { this.#primary.thaw() }, below(4 * LEASE)) },
      { name: 'restart PostgreSQL', weight: 1, act: () => take('restart', async () => { await this.#primary.stop() }, back, below(2 * LEASE)) },
      { name: 'crash PostgreSQL', weight: 1, act: () => take('crash', async () => { await this.#primary.kill() }, back, below(2 * LEASE)) },
      { name: 'fail over', weight: 1, act: () => take('fail over', async () => { await this.#primary.kill() }, async () => { await this.#failOver(world) }, below(2 * LEASE)) },
      { name: 'terminate backends', weight: 3, act: () => take('terminate', async () => { await this.#terminate(below(2) === 0 ? 200 : 1 + below(5)) }, () => {}, 1_000) },
      {
        name: 'power cut',
        weight: 1,
        act: worker => {
          worker.proxy.abandon()
          world.kill(worker)
        }
      }
    ]
  }

  async leftovers (listed: Listed[]): Promise<string[]> {
    await this.#copied
    return await leftovers(this.#primary, SCHEMA, listed)
  }

  /** Makes a standby, and has each commit wait for it from then on. */
  async copy (): Promise<void> {
    this.#copying = true
    this.#standby = await Postgres.standby(this.#t, this.#primary)
    await this.#follows('async')
    await this.#primary.query("ALTER SYSTEM SET synchronous_standby_names = '*'")
    await this.#primary.query('SELECT pg_reload_conf()')
    await this.#follows()
    this.#copying = false
  }

  async #failOver (world: Monkey['world']): Promise<void> {
    const [before, standby] = [this.#primary, this.#standby]
    if (standby === undefined) throw new Error('there is no standby')
    await standby.query('SELECT pg_promote()')
    await standby.query('ALTER SYSTEM RESET synchronous_standby_names')
    await standby.query('SELECT pg_reload_conf()')
    this.#primary = standby
    for (const { proxy } of world.workers) proxy.redirect(standby.port)
    await before.destroy()
    this.#copied = this.copy()
  }

  /** Waits until the standby follows, and, with 'sync', each commit waits for it. */
  async #follows (how = 'sync'): Promise<void> {
    while ((await this.#primary.query("SELECT 1 FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = $1", [how])).length === 0) await sleep(50)
  }

  /** Ends some connections of workers, as an administrator does. */
  async #terminate (most: number): Promise<void> {
    await this.#primary.query(`SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE ${ITS_OWN} ORDER BY random() LIMIT $1) a`, [most])
  }
}

export const postgres: EngineKind = {
  unfit: () => needsPostgres(true).skip,
  async start (t) {
    const engine = new PostgresEngine(t, await Postgres.start(t, SETTINGS))
    await engine.copy()
    return engine
  },
  store: url => pgBoss({ connectionString: url, schema: SCHEMA, lease: LEASE, maxCrashes: MAX_CRASHES })
}
