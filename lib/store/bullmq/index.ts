import { check, type Check, invalid, isObject, show, text, whole, wrong } from '../../common/check.ts'
import { kinds } from '../../common/option-names.ts'
import { type Duration, positiveDuration } from '../../time/index.ts'
import type { OpenOptions, Store, StoreQueue, StoreWorker } from '../store.ts'
import type { Leases } from './context.ts'
import { ControlStream } from './control/control-stream.ts'
import { BullmqQueue } from './queue.ts'
import { clientOf, connect, type Connection, type GivenClient, isClient, isCluster, isOtherClient } from './redis/client.ts'
import { RedisConnection } from './redis/connection.ts'
import { type Engine, loadEngine } from './redis/packages.ts'
import { Scripts } from './scripts.ts'

/** Options of `bullmq()`. */
export interface BullmqOptions {
  /** A URL of Redis, options of ioredis, or a client of ioredis or redis, which the store duplicates. */
  connection: Connection
  /** Prefix of all keys in Redis. Applications that share one Redis, but not their queues, need different prefixes. On a Redis cluster it needs a part in braces, such as `'{shop}'`. Default `'bull'`, as in BullMQ. */
  prefix?: string | undefined
  /** How long a run belongs to a process that gives no sign of life; 1 s or more. Other processes take over the runs of a killed one after 1¼ leases at the latest. Default `'10s'`. */
  lease?: Duration | undefined
  /** A run fails when this many processes have died under it, so that one payload does not kill every process in turn. Default `5`. */
  maxCrashes?: number | undefined
}

/**
 * A store on [BullMQ](https://docs.bullmq.io) and Redis: runs survive a crash, and several processes share a queue.
 *
 * It connects when the first queue uses it, and reconnects by itself.
 *
 * Throws `FST_BG_INVALID_OPTION`, also if the packages `bullmq` and `ioredis` are not installed, or BullMQ is a version that the store cannot use.
 */
export function bullmq (options: BullmqOptions): Store {
  const { connection, prefix = 'bull', lease = 10_000, maxCrashes = 5 } = check('bullmq()', options, checks, kinds)
  if (connection === undefined) throw invalid("bullmq() needs a connection: a URL such as 'redis://127.0.0.1:6379', the options of ioredis, or a client.")
  const engine = loadEngine()
  const client = clientOf(connection)
  // Redis uses the text between the first brace and the next closing one, if there is any.
  if (isCluster(client) && !/^[^{]*\{[^}]+\}/.test(prefix)) {
    throw invalid(`bullmq(): on a Redis cluster all keys of a queue must have one place, and so the option "prefix" a part in braces, such as '{shop}'; received ${show(prefix)}.`)
  }
  return new BullmqStore(engine, client, prefix, { lease, maxCrashes })
}

const connectionCheck: Check<Connection> = value => {
  const isUrl = typeof value === 'string' && /^rediss?:\/\//.test(value)
  if (!isUrl && (!isObject(value) || isOtherClient(value))) throw wrong("a URL such as 'redis://127.0.0.1:6379', the options of ioredis, or a client of ioredis or redis (createClient())", value)
  return (typeof value === 'string' || isClient(value) ? value : { ...value }) as Connection
}
const lease: Check<number> = value => {
  const ms = positiveDuration(value)
  if (ms < 1_000) throw wrong('a duration of 1 s or more', value)
  return ms
}
const checks = { connection: connectionCheck, prefix: text, lease, maxCrashes: whole(1) }

/** Limit for the queues to stop before the connections are cut, in milliseconds. All runs have ended before. */
const STOP_TIMEOUT = 2_000

/** What the queues of a store share, from the first to the last. */
interface Opened { redis: RedisConnection, control: ControlStream }

class BullmqStore implements Store {
  readonly #engine: Engine
  readonly #client: GivenClient
  readonly #prefix: string
  readonly #leases: Leases
  readonly #queues = new Set<BullmqQueue>()
  #opened: Opened | undefined

  constructor (engine: Engine, client: GivenClient, prefix: string, leases: Leases) {
    this.#engine = engine
    this.#client = client
    this.#prefix = prefix
    this.#leases = leases
  }

  open (options: OpenOptions, worker: StoreWorker): StoreQueue {
    checkQueue(options)
    this.#opened ??= this.#open(options)
    const { redis, control } = this.#opened
    const [engine, prefix] = [this.#engine, this.#prefix]
    const toKey = (type: string): string => `${prefix}:${options.name}:${type}`
    const queue = new BullmqQueue({ engine, redis, control, scripts: new Scripts(redis.client, toKey), prefix, options, leases: this.#leases, worker, toKey })
    this.#queues.add(queue)
    return queue
  }

  /** Stops the closed queues: the queues of another application may still be open. */
  async stop (): Promise<void> {
    const closed = [...this.#queues].filter(queue => queue.closed)
    for (const queue of closed) this.#queues.delete(queue)
    await this.#opened?.redis.within(STOP_TIMEOUT, Promise.all(closed.map(async queue => { await queue.stop() })))
    if (this.#queues.size > 0) return
    this.#opened?.control.stop()
    this.#opened?.redis.disconnect()
    this.#opened = undefined
  }

  #open ({ clock, log }: OpenOptions): Opened {
    const redis = new RedisConnection(connect(this.#engine, this.#client), clock, log, this.#prefix)
    return { redis, control: new ControlStream(redis, this.#prefix, clock) }
  }
}

/** Refuses the options that BullMQ cannot do. Throws `FST_BG_INVALID_OPTION`. */
function checkQueue ({ name, maxSize, onFull }: OpenOptions): void {
  const where = `Background queue "${name}"`
  if (name.includes(':')) throw invalid(`${where}: BullMQ takes no name with a colon. Choose another, such as ${show(name.replaceAll(':', '-'))}.`)
  if (maxSize !== undefined || onFull !== undefined) {
    throw invalid(`${where}: option "${maxSize !== undefined ? 'maxSize' : 'onFull'}" belongs to a queue in memory. One on BullMQ is as large as Redis has memory: leave it out, or name the store "memory".`)
  }
}
