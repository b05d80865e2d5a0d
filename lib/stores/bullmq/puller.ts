import type { Worker } from 'bullmq'
import type { Timer } from '../../clock.ts'
import type { Progress } from '../../run.ts'
import type { OpenOptions, Settlement, StoreWorker } from '../../store.ts'
import { report } from '../../report.ts'
import { withoutCommand, type Engine } from './engine.ts'
import { claimedRunOf, crashed, errorFor, type JobData, type RunJob } from './jobs.ts'
import type { Link } from './link.ts'
import type { Scripts } from './scripts.ts'

/** What a store was told of leases, checked and complete. */
export interface Leases {
  /** For how many milliseconds a job is a process's own, unless it renews that. */
  lease: number
  /** Under how many processes that die a run fails. */
  maxCrashes: number
}

/** A job in hand. */
interface Hand {
  /** As it was taken last. */
  job: RunJob
  /** When its lease was renewed last. */
  renewedAt: number
  /** Whether another process may have it. */
  lost: boolean
  /** What is to be kept of how far it is; and whether that is under way. */
  progress: Progress | undefined
  progressing: boolean
  settle (settlement: Settlement): void
  /** When it was settled; undefined while it runs. */
  settledAt: number | undefined
  /** Who waits until Redis knows how it has ended, or nobody will know. */
  waiting: Array<() => void> | undefined
}

/** How long Redis is given to take note of how a run has ended before others go on, in milliseconds. */
const RECORD = 1_000
/** How long to wait before another worker is made, where one could not begin, in milliseconds. */
const AGAIN = 1_000
/** How long nothing is logged of errors after one that was, in milliseconds. */
const COMPLAIN = 10_000

/**
 * Takes jobs from a queue, has them run, and tells BullMQ how they ended.
 *
 * BullMQ's worker fetches jobs and renews their locks. What we add is what becomes of a job that did not fail: interrupted, it goes back to the
 * front with no attempt used; cancelled, it is gone; and one whose lease was lost is not touched, unless nobody has taken it.
 */
export class Puller {
  readonly #engine: Engine
  readonly #link: Link
  readonly #prefix: string
  readonly #options: OpenOptions
  readonly #leases: Leases
  readonly #worker: StoreWorker
  readonly #scripts: Scripts
  /** A job that was cancelled has ended. */
  readonly #cancelled: (id: string) => void
  readonly #hands = new Map<string, Hand>()
  /** One that is not ready yet. */
  #beginning: Worker<JobData, void> | undefined
  #pulling: Worker<JobData, void> | undefined
  /** Those that fetch no more, and end with what they have in hand. */
  readonly #ending = new Set<Promise<void>>()
  #takes = false
  #retry: Timer | undefined
  #watch: Timer | undefined
  #complainedAt = -Infinity

  constructor (engine: Engine, link: Link, prefix: string, options: OpenOptions, leases: Leases, worker: StoreWorker, scripts: Scripts, cancelled: (id: string) => void) {
    this.#engine = engine
    this.#link = link
    this.#prefix = prefix
    this.#options = options
    this.#leases = leases
    this.#worker = worker
    this.#scripts = scripts
    this.#cancelled = cancelled
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
    return recorded(hand)
  }

  /** Keeps how far a job is: the last that was said, one at a time. */
  progress (id: string, value: Progress): void {
    const hand = this.#hands.get(id)
    if (hand === undefined) return
    hand.progress = value
    if (!hand.progressing) void this.#tellProgress(hand)
  }

  /** Gives everything back, whatever its handler does. */
  release (): void {
    for (const { settle } of this.#hands.values()) settle({ outcome: 'interrupted' })
  }

  /** Resolves when what is in hand now has ended, and Redis knows; and, of what was halted, that nothing is fetched any more. */
  async idle (): Promise<void> {
    await Promise.all([...this.#hands.values()].map(recorded))
    if (!this.#takes) await this.#link.within(RECORD, Promise.all(this.#ending))
  }

  /** Lets go of what it holds, as soon as what is in hand has ended; while Redis is away, at once. */
  async close (): Promise<void> {
    this.halt()
    await this.#pulling?.close(true)
    await Promise.all(this.#ending)
    this.#watch?.cancel()
  }

  /** Makes a worker, and another where the connection was lost before it was ready: BullMQ takes it for broken then. */
  #begin (): void {
    if (this.#beginning !== undefined) return
    const worker = this.#make()
    this.#beginning = worker
    worker.waitUntilReady().then(() => {
      if (this.#beginning !== worker) return
      this.#beginning = undefined
      this.#pulling = worker
      void worker.run()
    }, () => {
      if (this.#beginning !== worker) return
      this.#beginning = undefined
      this.#end(worker.close(true))
      this.#retry = this.#options.clock.after(AGAIN, () => { this.up() })
    })
  }

  #end (closing: Promise<void>): void {
    const ending = closing.finally(() => { this.#ending.delete(ending) })
    this.#ending.add(ending)
  }

  #make (): Worker<JobData, void> {
    const { name, concurrency, rate, keep, log } = this.#options
    const { lease, maxCrashes } = this.#leases
    const pulling = new this.#engine.Worker<JobData, void>(name, async (job, token = '') => { await this.#process(job, token) }, {
      connection: this.#link.client as never,
      prefix: this.#prefix,
      autorun: false,
      concurrency: Math.min(concurrency, Number.MAX_SAFE_INTEGER),
      lockDuration: lease,
      // Twice in a row: a job that stalls is seen at the second look. With a quarter, an orphan runs elsewhere after 1¼ leases at the latest.
      stalledInterval: lease / 4,
      maxStalledCount: maxCrashes - 1,
      runRetryDelay: 1_000,
      removeOnComplete: keepOf(keep.succeeded, SUCCEEDED),
      removeOnFail: keepOf(keep.failed, FAILED),
      ...rate !== undefined && { limiter: { max: rate.limit, duration: rate.per } }
    })
    pulling.on('completed', job => { this.#record(job) })
    pulling.on('failed', (given, error) => {
      const job = given as RunJob
      this.#record(job)
      // BullMQ has counted its end as an attempt: it is the one that never ended.
      if (job.deferredFailure !== undefined) this.#worker.crashed({ ...claimedRunOf(job), attempt: job.attemptsMade }, new Error(crashed(maxCrashes), { cause: error }))
    })
    pulling.on('locksRenewed', ({ jobIds }) => { for (const id of jobIds) this.#renewed(id) })
    pulling.on('lockRenewalFailed', ids => { for (const id of ids) this.#lose(id) })
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

  async #process (job: RunJob, token: string): Promise<void> {
    // It was on its way when this was told to take no more.
    if (!this.#takes) return await this.#giveBack(job, token)
    const id = job.id as string
    const before = this.#hands.get(id)
    const again = before !== undefined && before.settledAt === undefined
    const hand = again ? before : await this.#take(job)
    if (again) Object.assign(hand, { job, lost: false, renewedAt: this.#options.clock.now() })
    const settlement = await new Promise<Settlement>(resolve => {
      const { settle } = hand
      hand.settle = given => {
        hand.settledAt ??= this.#options.clock.now()
        settle(given)
        resolve(given)
      }
      if (!again) this.#worker.execute(claimedRunOf(job), given => { hand.settle(given) })
    })
    // Its lease was lost, and it came here again while it ran: how it has ended is told once, under the lease that holds.
    if (hand.job !== job) throw new this.#engine.WaitingError()
    if (hand.lost && !await this.#reclaim(id, token)) return this.#leave(job)
    switch (settlement.outcome) {
      case 'succeeded':
        // BullMQ fails a job when it cannot note its success. Rather it is left, and run again.
        job.moveToFailed = async () => {}
        return
      case 'cancelled':
        // Gone: BullMQ knows only of those that completed or failed.
        job.opts.removeOnComplete = true
        void recorded(hand).then(() => { this.#cancelled(id) })
        return
      case 'interrupted':
        return await this.#giveBack(job, token).finally(() => { this.#record(job) })
      case 'failed':
        return await this.#fail(job, settlement.error, settlement.retryIn)
    }
  }

  async #take (job: RunJob): Promise<Hand> {
    const { clock } = this.#options
    const id = job.id as string
    if (job.data.keyUntil === 'started') {
      // Where its key stays taken, an update that arrives during the run would be lost: it is left to be taken again.
      await job.removeDeduplicationKey().catch(() => { throw new this.#engine.WaitingError() })
    }
    const hand: Hand = { job, renewedAt: clock.now(), lost: false, progress: undefined, progressing: false, settle () {}, settledAt: undefined, waiting: undefined }
    this.#hands.set(id, hand)
    this.#watch ??= clock.after(Math.min(this.#leases.lease / 4, RECORD), () => { this.#watchHands() })
    return hand
  }

  /** Puts a job back to the front, as if it had not been taken. Where that fails, its lease runs out, and another process takes it. */
  async #giveBack (job: RunJob, token: string): Promise<never> {
    await this.#moveBack(job, token).catch(() => {})
    throw new this.#engine.WaitingError()
  }

  async #moveBack (job: RunJob, token: string): Promise<void> {
    const { id = '', deduplicationId, data: { keyUntil } } = job
    try {
      await job.moveToWait(token)
    } catch {
      // Its lock has expired. Another process may have it; if none has, it is ours to give.
      if (!await this.#reclaim(id, token)) return
      await job.moveToWait(token)
    }
    if (keyUntil === 'started' && deduplicationId !== undefined) await this.#scripts.takeKey(deduplicationId, id)
  }

  /** Takes the lease anew if nobody has the job. Resolves to whether nobody has. */
  async #reclaim (id: string, token: string): Promise<boolean> {
    return await this.#scripts.reclaim(id, token, this.#leases.lease).catch(() => false)
  }

  /** Redis knows how it has ended, or nobody will know. */
  #record (job: RunJob): void {
    const id = job.id as string
    const hand = this.#hands.get(id)
    if (hand?.job !== job) return
    this.#hands.delete(id)
    for (const tell of hand.waiting ?? []) tell()
  }

  /** Another process has it. BullMQ leaves alone what waits. */
  #leave (job: RunJob): never {
    this.#record(job)
    throw new this.#engine.WaitingError()
  }

  /** To be tried again in `retryIn` milliseconds, or failed for good. BullMQ asks the job for its policy; ours was asked before. */
  async #fail (job: RunJob, stored: Parameters<typeof errorFor>[0], retryIn: number | undefined): Promise<never> {
    const { id = '', deduplicationId, data: { keyUntil }, opts } = job
    const error = errorFor(stored)
    opts.stackTraceLimit = 1
    if (retryIn === undefined) {
      error.name = 'UnrecoverableError'
    } else {
      opts.attempts = Number.MAX_SAFE_INTEGER
      opts.backoff = { type: 'fixed', delay: Math.round(retryIn) }
      if (keyUntil === 'started' && deduplicationId !== undefined) await this.#scripts.takeKey(deduplicationId, id)
    }
    throw error
  }

  async #tellProgress (hand: Hand): Promise<void> {
    hand.progressing = true
    while (hand.progress !== undefined) {
      const value = hand.progress
      hand.progress = undefined
      // Of a job that has been removed, or a store that is away: it is only for show.
      await hand.job.updateProgress(value as object).catch(() => {})
    }
    hand.progressing = false
  }

  #renewed (id: string): void {
    const hand = this.#hands.get(id)
    if (hand !== undefined) hand.renewedAt = this.#options.clock.now()
  }

  /**
   * While Redis is away nobody can say that a lease was lost: it is, once it has not been renewed for as long as it lasts. And nobody says how
   * a job has ended.
   */
  #watchHands (): void {
    const { clock } = this.#options
    const { lease } = this.#leases
    const now = clock.now()
    for (const [id, { job, renewedAt, settledAt = Infinity }] of this.#hands) {
      if (now - settledAt > RECORD) this.#record(job)
      else if (now - renewedAt > lease) this.#lose(id)
    }
    this.#watch = this.busy ? clock.after(Math.min(lease / 4, RECORD), () => { this.#watchHands() }) : undefined
  }

  #lose (id: string): void {
    const hand = this.#hands.get(id)
    if (hand === undefined || hand.lost) return
    hand.lost = true
    this.#worker.abort(id, 'lost')
  }
}

function recorded (hand: Hand): Promise<void> {
  return new Promise(resolve => { (hand.waiting ??= []).push(resolve) })
}

const DAY = 86_400
const SUCCEEDED = { count: 100, age: DAY }
const FAILED = { count: 1_000, age: 14 * DAY }

/** What BullMQ is told to keep. Its ages are seconds. */
function keepOf ({ count, age }: OpenOptions['keep']['failed'], defaults: { count: number, age: number }): { count: number, age?: number } {
  if (count === undefined && age === undefined) return defaults
  return { count: count ?? -1, ...age !== undefined && { age: age / 1_000 } }
}
