import type { Settlement, StoreWorker } from '../../store.ts'
import type { Engine } from './engine.ts'
import type { Hand, Hands } from './hands.ts'
import { claimedRunOf, errorFor, type RunJob } from './jobs.ts'
import type { Scripts } from './scripts.ts'

/** Whom a processor asks, and tells. */
export interface Surroundings {
  readonly engine: Engine
  readonly scripts: Scripts
  readonly hands: Hands
  readonly worker: StoreWorker
  /** For how many milliseconds a job is a process's own, unless it renews that. */
  readonly lease: number
  /** Whether jobs are taken. */
  takes (): boolean
  /** A job that was cancelled has ended. */
  cancelled (id: string): void
}

/**
 * Has a job run, and tells BullMQ how it ended.
 *
 * BullMQ knows two ends: success and failure. What is added here is what becomes of a job that did neither: interrupted, it goes back to the
 * front with no attempt used; cancelled, it is gone; and one whose lease was lost is not touched, unless nobody has taken it.
 */
export class Processor {
  readonly #with: Surroundings

  constructor (surroundings: Surroundings) {
    this.#with = surroundings
  }

  /** Resolves where the job has succeeded. To reject with a WaitingError is to tell BullMQ that it has been seen to. */
  async process (job: RunJob, token: string): Promise<void> {
    const { engine, hands } = this.#with
    // It was on its way when this was told to take no more.
    if (!this.#with.takes()) return await this.#giveBack(job, token)
    if (job.data.keyUntil === 'started') await this.#letGoOfKey(job)
    const hand = this.#take(job)
    const settlement = await hand.settlement
    // Its lease was lost, and it came here again while it ran: how it has ended is told once, under the lease that holds.
    if (hand.job !== job) throw new engine.WaitingError()
    if (hand.lost && !await this.#reclaim(job, token)) {
      // Another process has it.
      hands.record(job)
      throw new engine.WaitingError()
    }
    switch (settlement.outcome) {
      case 'succeeded':
        // BullMQ fails a job when it cannot note its success. Rather it is left, and run again.
        job.moveToFailed = async () => {}
        return
      case 'cancelled':
        // Gone: BullMQ knows only of those that completed or failed.
        job.opts.removeOnComplete = true
        void hand.recorded().then(() => { this.#with.cancelled(job.id as string) })
        return
      case 'interrupted':
        return await this.#giveBack(job, token).finally(() => { hands.record(job) })
      case 'failed':
        return await this.#fail(job, settlement)
    }
  }

  /** Has it run, unless that is under way: then its lease was lost before, and is this process's again. */
  #take (job: RunJob): Hand {
    const { hands, worker } = this.#with
    const before = hands.get(job.id as string)
    if (before !== undefined && before.settledAt === undefined) {
      hands.again(before, job)
      return before
    }
    const hand = hands.add(job)
    worker.execute(claimedRunOf(job), settlement => { hands.settle(hand, settlement) })
    return hand
  }

  /** Where its key stays taken, an update that arrives during the run would be lost: it is left to be taken again. */
  async #letGoOfKey (job: RunJob): Promise<void> {
    await job.removeDeduplicationKey().catch(() => { throw new this.#with.engine.WaitingError() })
  }

  /** Puts a job back to the front, as if it had not been taken. Where that fails, its lease runs out, and another process takes it. */
  async #giveBack (job: RunJob, token: string): Promise<never> {
    await this.#moveBack(job, token).catch(() => {})
    throw new this.#with.engine.WaitingError()
  }

  async #moveBack (job: RunJob, token: string): Promise<void> {
    try {
      await job.moveToWait(token)
    } catch {
      // Its lock has expired. Another process may have it; if none has, it is ours to give.
      if (!await this.#reclaim(job, token)) return
      await job.moveToWait(token)
    }
    await this.#takeKey(job)
  }

  /** It waits again: its key, which it gave up when it began, is taken once more, unless another has it. */
  async #takeKey ({ id = '', deduplicationId = '', data: { keyUntil } }: RunJob): Promise<void> {
    if (keyUntil === 'started') await this.#with.scripts.takeKey(deduplicationId, id)
  }

  /** Takes the lease anew if nobody has the job. Resolves to whether nobody has. */
  async #reclaim ({ id = '' }: RunJob, token: string): Promise<boolean> {
    return await this.#with.scripts.reclaim(id, token, this.#with.lease).catch(() => false)
  }

  /** To be tried again in `retryIn` milliseconds, or failed for good. BullMQ asks the job for its policy; ours was asked before. */
  async #fail (job: RunJob, { error: stored, retryIn }: Settlement & { outcome: 'failed' }): Promise<never> {
    const { opts } = job
    const error = errorFor(stored)
    opts.stackTraceLimit = 1
    if (retryIn === undefined) {
      error.name = 'UnrecoverableError'
    } else {
      opts.attempts = Number.MAX_SAFE_INTEGER
      opts.backoff = { type: 'fixed', delay: Math.round(retryIn) }
      await this.#takeKey(job)
    }
    throw error
  }
}
