import type { Worker } from 'bullmq'
import type { Timer } from '../../clock.ts'
import type { Progress } from '../../run.ts'
import type { OpenOptions, StoreWorker } from '../../store.ts'
import { report } from '../../report.ts'
import { withoutCommand, type Engine } from './engine.ts'
import { Hands, RECORD } from './hands.ts'
import { claimedRunOf, crashed, type JobData, type RunJob } from './jobs.ts'
import type { Link } from './link.ts'
import { Processor } from './processor.ts'
import type { Scripts } from './scripts.ts'

/** What a store was told of leases, checked and complete. */
export interface Leases {
  /** For how many milliseconds a job is a process's own, unless it renews that. */
  lease: number
  /** Under how many processes that die a run fails. */
  maxCrashes: number
}

/** How long to wait before another worker is made, where one could not begin, in milliseconds. */
const AGAIN = 1_000
/** How long nothing is logged of errors after one that was, in milliseconds. */
const COMPLAIN = 10_000

/** Takes jobs from a queue: BullMQ's worker fetches them and renews their locks. */
export class Puller {
  readonly #engine: Engine
  readonly #link: Link
  readonly #prefix: string
  readonly #options: OpenOptions
  readonly #leases: Leases
  readonly #worker: StoreWorker
  readonly #hands: Hands
  readonly #processor: Processor
  /** One that is not ready yet. */
  #beginning: Worker<JobData, void> | undefined
  #pulling: Worker<JobData, void> | undefined
  /** Those that fetch no more, and end with what they have in hand. */
  readonly #ending = new Set<Promise<void>>()
  #takes = false
  #retry: Timer | undefined
  #complainedAt = -Infinity

  /** `cancelled` is told when a job that was cancelled has ended. */
  constructor (engine: Engine, link: Link, prefix: string, options: OpenOptions, leases: Leases, worker: StoreWorker, scripts: Scripts, cancelled: (id: string) => void) {
    const { lease } = leases
    this.#engine = engine
    this.#link = link
    this.#prefix = prefix
    this.#options = options
    this.#leases = leases
    this.#worker = worker
    this.#hands = new Hands(options.clock, lease, worker)
    this.#processor = new Processor({ engine, scripts, hands: this.#hands, worker, lease, takes: () => this.#takes, cancelled })
  }

  /** Whether it takes jobs. */
  get takes (): boolean { return this.#takes }

  /** Whether a job is in hand. */
  get busy (): boolean { return this.#hands.size > 0 }

  take (): void {
    this.#takes = true
    if (this.#pulling !== undefined) void this.#pulling.resume()
    else if (this.#link.up) this.#begin()
  }

  /** The connection is up. */
  up (): void {
    if (this.#takes && this.#pulling === undefined) this.#begin()
  }

  /** Takes no more; what is in hand goes on. */
  halt (): void {
    this.#takes = false
    this.#retry?.cancel()
    if (this.#beginning !== undefined) this.#end(this.#beginning.close(true))
    this.#beginning = undefined
    if (this.#pulling === undefined) return
    // A worker that is only paused still takes the job it waits for. While Redis is away, one that is closed would wait for ever.
    if (!this.#link.up) {
      void this.#pulling.pause(true)
      return
    }
    this.#end(this.#pulling.close())
    this.#pulling = undefined
  }

  /** Aborts a job that is in hand; resolves when Redis knows how it has ended. Undefined if it is not. */
  cancel (id: string): Promise<void> | undefined {
    const hand = this.#hands.get(id)
    if (hand === undefined) return undefined
    this.#worker.abort(id, 'cancelled')
    return hand.recorded()
  }

  /** Keeps how far a job is. */
  progress (id: string, value: Progress): void {
    this.#hands.get(id)?.progress(value)
  }

  /** Gives everything back, whatever its handler does. */
  release (): void {
    this.#hands.release()
  }

  /** Resolves when what is in hand now has ended, and Redis knows; and, of what was halted, that nothing is fetched any more. */
  async idle (): Promise<void> {
    await this.#hands.recorded()
    if (!this.#takes) await this.#link.within(RECORD, Promise.all(this.#ending))
  }

  /** Lets go of what it holds, as soon as what is in hand has ended; while Redis is away, at once. */
  async close (): Promise<void> {
    this.halt()
    await this.#pulling?.close(true)
    await Promise.all(this.#ending)
    this.#hands.stop()
  }

  /** Makes a worker, and another where the connection was lost before it was ready: BullMQ takes it for broken then. */
  #begin (): void {
    if (this.#beginning !== undefined) return
    const worker = this.#make()
    this.#beginning = worker
    void worker.waitUntilReady().then(() => true, () => false).then(ready => {
      if (this.#beginning !== worker) return
      this.#beginning = undefined
      if (ready) {
        this.#pulling = worker
        void worker.run()
      } else {
        this.#end(worker.close(true))
        this.#retry = this.#options.clock.after(AGAIN, () => { this.up() })
      }
    })
  }

  #end (closing: Promise<void>): void {
    const ending = closing.finally(() => { this.#ending.delete(ending) })
    this.#ending.add(ending)
  }

  #make (): Worker<JobData, void> {
    const { name, concurrency, rate, keep, log } = this.#options
    const { lease, maxCrashes } = this.#leases
    const pulling = new this.#engine.Worker<JobData, void>(name, (job, token) => this.#processor.process(job, token as string), {
      connection: this.#link.client as never,
      prefix: this.#prefix,
      autorun: false,
      concurrency,
      lockDuration: lease,
      // Twice in a row: a job that stalls is seen at the second look. With a quarter, an orphan runs elsewhere after 1¼ leases at the latest.
      stalledInterval: lease / 4,
      maxStalledCount: maxCrashes - 1,
      runRetryDelay: 1_000,
      removeOnComplete: keepOf(keep.succeeded, SUCCEEDED),
      removeOnFail: keepOf(keep.failed, FAILED),
      ...rate !== undefined && { limiter: { max: rate.limit, duration: rate.per } }
    })
    pulling.on('completed', job => { this.#hands.record(job) })
    pulling.on('failed', (given, error) => {
      const job = given as RunJob
      this.#hands.record(job)
      // BullMQ has counted its end as an attempt: it is the one that never ended.
      if (job.deferredFailure !== undefined) this.#worker.crashed({ ...claimedRunOf(job), attempt: job.attemptsMade }, new Error(crashed(maxCrashes), { cause: error }))
    })
    pulling.on('locksRenewed', ({ jobIds }) => { for (const id of jobIds) this.#hands.renewed(id) })
    pulling.on('lockRenewalFailed', ids => { for (const id of ids) this.#hands.lose(id) })
    pulling.on('error', error => {
      // A lost connection is the link's to tell of, and a lost lock the run's.
      if (/ECONN|Connection is closed|lock/.test(error.message)) return
      // One that refuses does so ten times a second.
      const now = this.#options.clock.now()
      if (now - this.#complainedAt < COMPLAIN) return
      this.#complainedAt = now
      report.storeError(log, name, withoutCommand(error))
    })
    return pulling
  }
}

const DAY = 86_400
const SUCCEEDED = { count: 100, age: DAY }
const FAILED = { count: 1_000, age: 14 * DAY }

/** What BullMQ is told to keep. Its ages are seconds. */
function keepOf ({ count, age }: OpenOptions['keep']['failed'], defaults: { count: number, age: number }): { count: number, age?: number } {
  if (count === undefined && age === undefined) return defaults
  return { count: count ?? -1, ...age !== undefined && { age: age / 1_000 } }
}
