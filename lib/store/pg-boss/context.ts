import type { OpenOptions, StoreWorker } from '../store.ts'
import type { Database } from './database.ts'
import type { StoreConnection } from './engine/index.ts'
import type { JobStatements, ScheduleStatements } from './sql/index.ts'

/** Store options about leases, checked and complete. */
export interface Leases {
  /** How many milliseconds a run belongs to a process that does not renew its lease. */
  lease: number
  /** How many processes may die under a run before it fails. */
  maxCrashes: number
}

/** What the parts of one queue share. */
export interface QueueContext {
  readonly connection: StoreConnection
  readonly sql: JobStatements
  readonly scheduleSql: ScheduleStatements
  readonly options: OpenOptions
  readonly leases: Leases
  /** Name of the queue in the engine. */
  readonly name: string
  /** The queue, as its store sees it. */
  readonly worker: StoreWorker
  /** Does something on the database once the queue exists there. Rejects with `FST_BG_STORE_UNAVAILABLE` as `StoreConnection.call` does. */
  call<T>(work: (db: Database) => Promise<T>): Promise<T>
}
