import type { FastifyBaseLogger } from 'fastify'
import type { PgBoss } from 'pg-boss'
import { toError } from '../../../common/errors.ts'
import { report } from '../../../common/log.ts'
import type { Clock } from '../../../time/index.ts'
import type { Database } from '../database.ts'
import { creation, TABLES_VERSION } from '../sql/index.ts'
import type { Engine } from './packages.ts'

/** The oldest PostgreSQL that pg-boss works with. */
const POSTGRES = 13
/** Limit of a statement of pg-boss, in milliseconds: it may build an index. */
const LONG = 10 * 60_000
/** Limit for pg-boss to stop, in milliseconds. */
const STOP = 1_000
/** How often to try again when another process creates the tables at the same time, and how long to wait for that, in milliseconds. */
const [RACES, RACE] = [10, 200]
/** The shortest time between two logged errors of pg-boss, in milliseconds. */
const LOG_INTERVAL = 60_000
/** The longest that pg-boss keeps a job which nobody runs, in seconds: 63 years. */
const RETENTION = 2_000_000_000
/** The longest that pg-boss lets a job run, which another producer has added, until we claim it; in seconds. */
const EXPIRY = 86_400

/** What PostgreSQL says when two processes create the same thing. */
const races = new Set(['23505', '42P06', '42P07', '42710', '40P01', '42723', 'XX000'])

/**
 * pg-boss on a database: it makes and changes its tables, deletes what has passed its time, and looks after their indexes. It claims and settles no run: `boss.work()` looks for
 * jobs twice a second at best, and knows neither an interrupted run nor one that was begun too often.
 */
export class BossEngine {
  readonly #engine: Engine
  readonly #database: Database
  readonly #schema: string
  readonly #clock: Clock
  readonly #log: FastifyBaseLogger
  #boss: PgBoss | undefined
  #loggedAt = -Infinity

  constructor (engine: Engine, database: Database, schema: string, clock: Clock, log: FastifyBaseLogger) {
    this.#engine = engine
    this.#database = database
    this.#schema = schema
    this.#clock = clock
    this.#log = log
  }

  /** Makes the tables, or brings them up to date. Rejects with an error that says what to do, if that is not possible. */
  async start (): Promise<void> {
    await this.stop()
    await this.#checkServer()
    for (let races = 0; ; races++) {
      try {
        await this.#startBoss()
        await this.#createTables()
        return
      } catch (error) {
        await this.stop()
        if (races === RACES || !isRace(error)) throw this.#explained(toError(error))
        await new Promise<void>(resolve => { this.#clock.after(RACE, resolve) })
      }
    }
  }

  /** Makes a queue, unless it exists. */
  async createQueue (name: string): Promise<void> {
    // Another producer's jobs get these, too: no limit of pg-boss ends them, and it notifies of them.
    await this.#boss?.createQueue(name, { retentionSeconds: RETENTION, expireInSeconds: EXPIRY, notify: true })
  }

  async stop (): Promise<void> {
    const boss = this.#boss
    if (boss === undefined) return
    this.#boss = undefined
    await new Promise<void>(resolve => {
      const timer = this.#clock.after(STOP, resolve)
      const done = (): void => {
        timer.cancel()
        resolve()
      }
      boss.stop({ graceful: false, close: false }).then(done, done)
    })
  }

  async #checkServer (): Promise<void> {
    const { rows: [server] } = await this.#database.executeSql("SELECT current_setting('server_version_num')::int AS version, current_setting('server_version') AS text") as { rows: Array<{ version: number, text: string }> }
    if (server !== undefined && server.version < POSTGRES * 10_000) throw new Error(`pg-boss needs PostgreSQL ${POSTGRES} or later, and this is ${server.text}`)
  }

  async #startBoss (): Promise<void> {
    const { rows } = await this.#database.executeSql('SELECT 1 FROM pg_namespace WHERE nspname = $1', [this.#schema])
    const boss = new this.#engine.PgBoss({
      db: { executeSql: async (text: string, values?: unknown[]) => await this.#database.executeSql(text, values, LONG) as { rows: never[] } },
      schema: this.#schema,
      // Without this PostgreSQL asks for the right to create one that is there.
      createSchema: rows.length === 0,
      schedule: false,
      registerInstance: false,
      // Ours have no flows. Another producer's instance of pg-boss looks after its own.
      flowIntervalSeconds: 60,
      useListenNotify: false
    })
    // Without a listener it would be an uncaught exception.
    boss.on('error', error => { this.#tell(error) })
    boss.on('warning', ({ message }) => { this.#tell(new Error(message)) })
    this.#boss = boss
    await this.#checkVersion(boss)
    await boss.start()
  }

  /** pg-boss starts on the tables of a newer version, too, and would fail later. */
  async #checkVersion (boss: PgBoss): Promise<void> {
    if (!await boss.isInstalled()) return
    const found = await boss.schemaVersion()
    const known = this.#knownVersion()
    if (found === null || known === undefined || found <= known) return
    throw new Error(`the tables of pg-boss in schema "${this.#schema}" have version ${found}, and the installed pg-boss knows version ${known}. Run: npm install pg-boss@latest; or name another schema`)
  }

  #knownVersion (): number | undefined {
    const version = /INSERT INTO \S+version\(version\) VALUES \('(\d+)'\)/.exec(this.#engine.getConstructionPlans(this.#schema))?.[1]
    return version === undefined ? undefined : Number(version)
  }

  async #createTables (): Promise<void> {
    if (await this.#tablesVersion() === undefined) await this.#database.executeSql(creation(this.#schema), undefined, LONG)
    const version = await this.#tablesVersion()
    if (version !== undefined && version > TABLES_VERSION) {
      throw new Error(`the tables of fastify-background-tasks in schema "${this.#schema}" have version ${version}, and this process knows version ${TABLES_VERSION}: deploy the newer version here, too`)
    }
  }

  async #tablesVersion (): Promise<number | undefined> {
    const { rows: [found] } = await this.#database.executeSql('SELECT to_regclass($1)::text AS name', [`"${this.#schema}".fbt_version`]) as { rows: Array<{ name: string | null }> }
    if (found?.name === null || found === undefined) return undefined
    const { rows: [row] } = await this.#database.executeSql(`SELECT version FROM "${this.#schema}".fbt_version`) as { rows: Array<{ version: number }> }
    return row?.version
  }

  /** A refusal with what an administrator has to do about it. */
  #explained (error: Error & { code?: string }): Error {
    if (error.code !== '42501') return error
    return new Error(`${error.message}. Run this as an administrator of the database, with the role of the application in place of app: CREATE SCHEMA IF NOT EXISTS "${this.#schema}"; GRANT USAGE, CREATE ON SCHEMA "${this.#schema}" TO app; and if the tables belong to another role: ALTER SCHEMA "${this.#schema}" OWNER TO app`, { cause: error })
  }

  #tell (thrown: unknown): void {
    const now = this.#clock.now()
    if (now - this.#loggedAt < LOG_INTERVAL || this.#boss === undefined) return
    this.#loggedAt = now
    report.engineError(this.#log, 'pg-boss', toError(thrown))
  }
}

function isRace (error: unknown): boolean {
  return races.has(String((error as { code?: unknown } | null)?.code))
}
