import type { Settlement } from '../store.ts'
import type { ActiveJob, ActiveJobs } from './active/active-jobs.ts'
import type { QueueContext } from './context.ts'
import type { LeaseKeeper } from './active/lease-keeper.ts'
import { CANCELLED, claimedRunOf, errorFor, type JobData, returnValueOf, type RunJob } from './jobs/index.ts'

/** What a processor asks and tells its fetcher. */
export interface ProcessorHooks {
  /** Whether the queue takes jobs. */
  takes (): boolean
  /** What of a fetched job could not be read; undefined if all could. */
  lossOf (id: string): string | undefined
  /** Called when a cancelled job has ended. */
  cancelled (id: string): void
}

/**
 * Runs a job, and tells BullMQ how it ended.
 *
 * BullMQ knows two ends, success and failure. This adds three: an interrupted job goes back to the front with the same attempt number, a cancelled
 * job is removed, and a job whose lease was lost is left alone unless no other process has it.
 */
export class Processor {
  readonly #context: QueueContext
  readonly #jobs: ActiveJobs
  readonly #keeper: LeaseKeeper
  readonly #hooks: ProcessorHooks

  constructor (context: QueueContext, jobs: ActiveJobs, keeper: LeaseKeeper, hooks: ProcessorHooks) {
    this.#context = context
    this.#jobs = jobs
    this.#keeper = keeper
    this.#hooks = hooks
  }

  /** Resolves to what BullMQ keeps if the job has succeeded. A rejection with a WaitingError tells BullMQ that the job was handled already. */
  async process (job: RunJob, token: string): Promise<unknown> {
    const { engine } = this.#context
    const jobs = this.#jobs
    const loss = this.#hooks.lossOf(job.id as string)
    // Another process has taken it over on its way here.
    if (this.#keeper.isLate(job) && !await this.#keeper.renew(job, token).catch(() => false)) throw new engine.WaitingError()
    // The worker fetched it while the queue was told to take no more.
    if (!this.#hooks.takes()) return await this.#giveBack(job, token)
    if (isKeyUntilStarted(job)) await this.#releaseKey(job)
    if (loss !== undefined) await this.#mend(job)
    const active = this.#take(job, loss)
    const settlement = await active.settlement
    // Its lease was lost, and this process fetched it again while it ran: only the call with the valid lease reports the end.
    if (active.job !== job) throw new engine.WaitingError()
    if (this.#keeper.mayBeLost(active) && !await this.#keeper.renew(job, token).catch(() => false)) {
      // Another process has the job.
      jobs.record(job)
      throw new engine.WaitingError()
    }
    switch (settlement.outcome) {
      case 'succeeded':
        // BullMQ would fail a job whose success it cannot record. Leave such a job: it will run again.
        job.moveToFailed = async () => {}
        return returnValueOf(settlement.value?.())
      case 'cancelled':
        // BullMQ has no cancelled state: complete the job and remove it.
        job.opts.removeOnComplete = true
        void active.recorded().then(() => { this.#hooks.cancelled(job.id as string) })
        return CANCELLED
      case 'interrupted':
        return await this.#giveBack(job, token).finally(() => { jobs.record(job) })
      case 'failed':
        return await this.#fail(job, settlement)
    }
  }

  /** Runs the job, unless it still runs here: then its lease was lost before, and belongs to this process again. */
  #take (job: RunJob, loss: string | undefined): ActiveJob {
    const { worker } = this.#context
    const jobs = this.#jobs
    const before = jobs.get(job.id as string)
    if (before !== undefined && before.settledAt === undefined) {
      jobs.again(before, job)
      return before
    }
    const active = jobs.add(job)
    worker.execute(claimedRunOf(job, loss), settlement => { jobs.settle(active, settlement) })
    return active
  }

  /** Removes from the job what would keep BullMQ from failing it. */
  async #mend ({ id = '' }: RunJob): Promise<void> {
    await this.#context.scripts.mend(id).catch(() => {})
  }

  /** Frees the key. If that fails, leaves the job: a key that stays taken would lose an update that arrives during the run. */
  async #releaseKey (job: RunJob): Promise<void> {
    await job.removeDeduplicationKey().catch(() => { throw new this.#context.engine.WaitingError() })
  }

  /** Puts a job back to the front, as if nobody had fetched it. If that fails, its lease expires, and another process fetches it. */
  async #giveBack (job: RunJob, token: string): Promise<never> {
    await this.#moveBack(job, token).catch(() => {})
    throw new this.#context.engine.WaitingError()
  }

  async #moveBack (job: RunJob, token: string): Promise<void> {
    await job.moveToWait(token)
    await this.#takeKey(job)
  }

  /** Takes the key again that the job freed when it began, unless another job has it. */
  async #takeKey (job: RunJob): Promise<void> {
    const { id = '', deduplicationId } = job
    if (deduplicationId !== undefined && isKeyUntilStarted(job)) await this.#context.scripts.takeKey(deduplicationId, id)
  }

  /** Delays the job by `retryIn`, or fails it for good. BullMQ reads the policy from the job's options, so write ours there. */
  async #fail (job: RunJob, { error: stored, retryIn }: Settlement & { outcome: 'failed' }): Promise<never> {
    const { opts } = job
    const error = errorFor(stored)
    opts.stackTraceLimit = 1
    if (retryIn === undefined) {
      error.name = 'UnrecoverableError'
    } else {
      opts.attempts = Number.MAX_SAFE_INTEGER
      opts.backoff = { type: 'fixed', delay: Math.round(retryIn) }
      // A Redis that is full refuses it: the run is retried all the same.
      await this.#takeKey(job).catch(() => {})
    }
    throw error
  }
}

/** Whether the key of a job is free when it begins. Its data may be anything. */
function isKeyUntilStarted ({ data }: RunJob): boolean {
  return (data as JobData | null)?.keyUntil === 'started'
}
