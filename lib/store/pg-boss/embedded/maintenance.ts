import type { Clock, Timer } from '../../../time/index.ts'
import type { SqlExecutor } from '../database.ts'

/** How soon after a statement to look, in milliseconds. */
const INTERVAL = 5_000
/** How often to look for tables to vacuum, in milliseconds. */
const VACUUM_INTERVAL = 60_000
/** After how many bytes of its log the database writes a checkpoint. */
const LOG_SIZE = 16 * 2 ** 20

const logSize = 'SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), redo_lsn)::int8 AS size FROM pg_control_checkpoint()'
/** The rule of autovacuum. */
const bloated = `SELECT format('%I.%I', schemaname, relname) AS name FROM pg_stat_user_tables
WHERE n_dead_tup > 50 + 0.2 * (SELECT greatest(reltuples, 0) FROM pg_class WHERE oid = relid)`

/**
 * What a PostgreSQL server does by itself, in processes that an embedded one does not have: without checkpoints its log grows for ever, without vacuum its tables do. It looks only
 * after statements, so an idle database stays idle.
 */
export class Maintenance {
  readonly #clock: Clock
  readonly #database: SqlExecutor
  #timer: Timer | undefined
  #vacuumed = -Infinity
  #stopped = false

  constructor (clock: Clock, database: SqlExecutor) {
    this.#clock = clock
    this.#database = database
  }

  /** There was a statement. */
  note (): void {
    if (this.#stopped) return
    this.#timer ??= this.#clock.after(INTERVAL, () => { void this.#run() })
  }

  stop (): void {
    this.#stopped = true
    this.#timer?.cancel()
  }

  async #run (): Promise<void> {
    try {
      const { rows: [log] } = await this.#database.executeSql(logSize)
      if (Number((log as { size: string }).size) > LOG_SIZE) await this.#database.executeSql('CHECKPOINT')
      if (this.#clock.now() - this.#vacuumed > VACUUM_INTERVAL) await this.#vacuum()
    } catch {
      // The engine has died, or a transaction goes on: the next look will do.
    }
    this.#timer = undefined
  }

  /** Without ANALYZE: what that finds in a queue that is nearly empty makes a plan for ten thousand runs that takes half a minute. */
  async #vacuum (): Promise<void> {
    this.#vacuumed = this.#clock.now()
    await this.#database.executeSql('SELECT pg_stat_force_next_flush()')
    const { rows } = await this.#database.executeSql(bloated)
    for (const { name } of rows as Array<{ name: string }>) await this.#database.executeSql(`VACUUM ${name}`)
  }
}
