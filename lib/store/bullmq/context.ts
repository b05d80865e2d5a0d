import type { OpenOptions, StoreWorker } from '../store.ts'
import type { ControlStream } from './control/control-stream.ts'
import type { RedisConnection } from './redis/connection.ts'
import type { Engine } from './redis/packages.ts'
import type { Scripts } from './scripts.ts'

/** Store options about leases, checked and complete. */
export interface Leases {
  /** How many milliseconds a job belongs to a process that does not renew its lease. */
  lease: number
  /** How many processes may die under a run before it fails. */
  maxCrashes: number
}

/** What the parts of one queue share. */
export interface QueueContext {
  readonly engine: Engine
  readonly redis: RedisConnection
  readonly control: ControlStream
  readonly scripts: Scripts
  /** Prefix of every key in Redis. */
  readonly prefix: string
  readonly options: OpenOptions
  readonly leases: Leases
  /** The queue, as its store sees it. */
  readonly worker: StoreWorker
  /** The key of one part of the queue in Redis. */
  toKey (type: string): string
}
