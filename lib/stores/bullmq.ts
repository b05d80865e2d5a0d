import { check, invalid, positiveDuration, show, text, whole, wrong, type Check } from '../check.ts'
import type { Duration } from '../duration.ts'
import type { OpenOptions, Store, StoreQueue, StoreWorker } from '../store.ts'
import { Control } from './bullmq/control.ts'
import { checkInstalled, connect, isClient, isCluster, loadEngine, type Connection, type Engine } from './bullmq/engine.ts'
import { Link } from './bullmq/link.ts'
import type { Leases } from './bullmq/puller.ts'
import { BullmqQueue } from './bullmq/queue.ts'

/** Options of `bullmq()`. */
export interface BullmqOptions {
  /** Where Redis is: a URL, the options of ioredis, or a client of ioredis or of redis, of which the store makes connections of its own. */
  connection: Connection
  /** What the names of all keys in Redis begin with: applications that share one Redis, and are not to share queues, need different ones. On a Redis cluster it needs a part in braces, such as `'{shop}'`. Default `'bull'`, as in BullMQ. */
  prefix?: string | undefined
  /** How long a run is a process's own without a sign of life, 1 s or more: a process that was killed leaves its runs to others after 1¼ of it at the latest. Default `'10s'`. */
  lease?: Duration | undefined
  /** Under how many processes that die a run fails: one payload must not kill every process in turn. Default `5`. */
  maxCrashes?: number | undefined
}

/**
 * A store on [BullMQ](https://docs.bullmq.io) and Redis: runs survive a crash, and several processes share a queue.
 *
 * Connects when the first queue uses it, and by itself again whenever Redis was away.
 *
 * Throws `FST_BG_INVALID_OPTION`, also where the package `bullmq` is not installed.
 */
export function bullmq (options: BullmqOptions): Store {
  const { connection, prefix = 'bull', lease = 10_000, maxCrashes = 5 } = check('bullmq()', options, checks)
  if (connection === undefined) throw invalid("bullmq() needs a connection: a URL such as 'redis://127.0.0.1:6379', the options of ioredis, or a client.")
  // What stands between the first brace and the next that closes, if it is anything, is what Redis goes by.
  if (isCluster(connection) && !/^[^{]*\{[^}]+\}/.test(prefix)) {
    throw invalid(`bullmq(): on a Redis cluster all keys of a queue must have one place, and so the option "prefix" a part in braces, such as '{shop}'; received ${show(prefix)}.`)
  }
  checkInstalled()
  return new BullmqStore(connection, prefix, { lease, maxCrashes })
}

const connectionCheck: Check<Connection> = value => {
  const isUrl = typeof value === 'string' && /^rediss?:\/\//.test(value)
  if (!isUrl && (typeof value !== 'object' || value === null || Array.isArray(value))) throw wrong("a URL such as 'redis://127.0.0.1:6379', the options of ioredis, or a client of ioredis or redis", value)
  const { keyPrefix } = Object((value as { options?: unknown }).options ?? value) as { keyPrefix?: unknown }
  if (keyPrefix !== undefined && keyPrefix !== '') throw wrong('one without a "keyPrefix", which BullMQ does not take: give the store a "prefix"', keyPrefix)
  return (typeof value === 'string' || isClient(value) ? value : { ...value as object }) as Connection
}
const lease: Check<number> = value => {
  const ms = positiveDuration(value)
  if (ms < 1_000) throw wrong('a duration of 1 s or more', value)
  return ms
}
const checks = { connection: connectionCheck, prefix: text, lease, maxCrashes: whole(1) }

/** How long the queues are given to stop before the connections are cut, in milliseconds: all that ran has ended before. */
const STOP = 2_000

/** What is there from the first queue to the last. */
interface Opened { engine: Engine, link: Link, control: Control }

class BullmqStore implements Store {
  readonly #connection: Connection
  readonly #prefix: string
  readonly #leases: Leases
  readonly #queues = new Set<BullmqQueue>()
  #opened: Opened | undefined

  constructor (connection: Connection, prefix: string, leases: Leases) {
    this.#connection = connection
    this.#prefix = prefix
    this.#leases = leases
  }

  open (options: OpenOptions, worker: StoreWorker): StoreQueue {
    checkQueue(options)
    this.#opened ??= this.#open(options)
    const { engine, link, control } = this.#opened
    const queue = new BullmqQueue(engine, link, control, this.#prefix, options, this.#leases, worker)
    this.#queues.add(queue)
    return queue
  }

  /** Of the queues that are closed: another server may have others. */
  async stop (): Promise<void> {
    const closed = [...this.#queues].filter(queue => queue.closed)
    for (const queue of closed) this.#queues.delete(queue)
    await this.#opened?.link.within(STOP, Promise.all(closed.map(async queue => { await queue.stop() })))
    if (this.#queues.size > 0) return
    this.#opened?.control.stop()
    this.#opened?.link.disconnect()
    this.#opened = undefined
  }

  #open ({ clock, log }: OpenOptions): Opened {
    const engine = loadEngine()
    const link = new Link(connect(engine, this.#connection), clock, log)
    return { engine, link, control: new Control(link, this.#prefix, clock) }
  }
}

/** What BullMQ cannot do is refused, and never ignored. Throws `FST_BG_INVALID_OPTION`. */
function checkQueue ({ name, maxSize, onFull }: OpenOptions): void {
  const where = `Background queue "${name}"`
  if (name.includes(':')) throw invalid(`${where}: BullMQ takes no name with a colon. Choose another, such as ${show(name.replaceAll(':', '-'))}.`)
  if (maxSize !== undefined || onFull !== undefined) {
    throw invalid(`${where}: option "${maxSize !== undefined ? 'maxSize' : 'onFull'}" belongs to a queue in memory. One on BullMQ is as large as Redis has memory: leave it out, or name the store "memory".`)
  }
}
