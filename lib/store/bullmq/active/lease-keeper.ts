import type { Worker } from 'bullmq'
import { report } from '../../../common/log.ts'
import { type Block, eventLoop, type LoopWatcher, type Timer } from '../../../time/index.ts'
import { type ActiveJob, type ActiveJobs, RECORD } from './active-jobs.ts'
import type { QueueContext } from '../context.ts'
import type { RunJob } from '../jobs/index.ts'

/** BullMQ's check for jobs whose process has died. The types hide it: BullMQ calls it by a timer of its own, which we cannot put behind a renewal. */
interface Checker { moveStalledJobsToWait (): Promise<void> }

/** Those of this process: it blocks all of their loops at once. */
const keepers = new Set<LeaseKeeper>()

/**
 * Renews the leases of the active jobs, and looks for jobs of processes that have died.
 *
 * BullMQ does both by timers that know nothing of each other. After the event loop was blocked for longer than a lease, its check may come first, and
 * call the jobs of this very process dead. Here each check comes after a renewal. A renewal also takes an expired lease back, unless another process
 * has the job: a blocked loop is no death.
 */
export class LeaseKeeper implements LoopWatcher {
  readonly #context: QueueContext
  readonly #jobs: ActiveJobs
  /** The worker that fetches, if there is one. */
  readonly #fetching: () => Worker | undefined
  readonly #interval: number
  #timer: Timer | undefined
  #unwatch: (() => void) | undefined
  /** When it last looked, on the monotonic timeline. */
  #lookedAt = 0
  /** When the last renewal began, and the last one that Redis has answered. */
  #renewedAt = 0
  #answeredAt = -Infinity
  /** When the loop was last found to have been blocked. */
  #blockedAt = -Infinity
  #renewing = false

  constructor (context: QueueContext, jobs: ActiveJobs, fetching: () => Worker | undefined) {
    this.#context = context
    this.#jobs = jobs
    this.#fetching = fetching
    this.#interval = Math.min(context.leases.lease / 4, RECORD)
  }

  /** Looks from now on, until there is nothing to look after. */
  start (): void {
    if (this.#timer !== undefined) return
    this.#lookedAt = this.#now
    this.#unwatch = eventLoop.watch(this)
    keepers.add(this)
    this.#again()
  }

  stop (): void {
    this.#timer?.cancel()
    this.#timer = undefined
    this.#unwatch?.()
    keepers.delete(this)
  }

  /** The event loop was blocked. */
  blocked ({ ms, reported }: Block): void {
    const { leases: { lease }, options: { log, name } } = this.#context
    if (ms > this.#interval) this.#blockedAt = this.#now
    if (ms <= lease || this.#jobs.size === 0) return
    report.blockedPastLease(log, name, ms, lease)
    reported.add(name)
    this.#jobs.blocked(ms)
  }

  /** Renews the lease of a job, or takes it back. Resolves to whether this process has it: an answer that comes so late that the lease may be over again is none. */
  async renew (job: RunJob, token: string): Promise<boolean> {
    for (;;) {
      const since = this.#now
      if (await this.#hold(job, token) !== 'held') return false
      if (!this.#mayBeOver(since)) return true
    }
  }

  /** Whether the lease of a job is lost, or so old that it may have expired, as after a handler that never awaits. */
  mayBeLost ({ lost, renewedAt }: ActiveJob): boolean {
    return lost || this.#mayBeOver(renewedAt)
  }

  /**
   * Whether a job that was just fetched may have lost its lease on the way: the lease begins in Redis, and the answer that brings the job may have
   * waited behind a blocked event loop, or on a slow connection.
   */
  isLate ({ processedOn = 0 }: RunJob): boolean {
    return Math.abs(Date.now() - processedOn) > this.#context.leases.lease / 4
  }

  /** Whether no lease that it keeps may have expired during a block. */
  get #isRenewed (): boolean { return this.#answeredAt >= this.#blockedAt || this.#jobs.held.length === 0 }

  get #now (): number { return this.#context.options.clock.now() }

  /** Whether a lease that was renewed then may have expired, or soon will. */
  #mayBeOver (renewedAt: number): boolean {
    return this.#now - renewedAt > this.#context.leases.lease * 3 / 4
  }

  #again (): void {
    this.#timer = this.#context.options.clock.after(this.#interval, () => { this.#look() })
  }

  #look (): void {
    const { lease } = this.#context.leases
    // Before anything else: the timer of the loop may ring after this one.
    eventLoop.look()
    const now = this.#now
    const isBlocked = this.#blockedAt >= this.#lookedAt
    this.#lookedAt = now
    // While Redis does not answer, nobody can tell whether a lease is lost: it counts as lost when it was not renewed for its whole length. After a
    // block the renewal comes first.
    this.#jobs.look(now, isBlocked ? Infinity : lease)
    if (!this.#renewing && now - this.#renewedAt >= lease / 4 - this.#interval / 2) void this.#renewAll(now)
    if (this.#jobs.size > 0 || this.#fetching() !== undefined) this.#again()
    else this.stop()
  }

  async #hold ({ id = '', attemptsStarted }: RunJob, token: string): ReturnType<QueueContext['scripts']['hold']> {
    return await this.#context.scripts.hold(id, token, attemptsStarted, this.#context.leases.lease)
  }

  async #renewAll (now: number): Promise<void> {
    this.#renewing = true
    this.#renewedAt = now
    try {
      await Promise.all(this.#jobs.held.map(async active => {
        const answer = await this.#context.redis.call(async () => await this.#hold(active.job, active.job.token as string))
        if (answer === 'held') {
          active.renewedAt = now
          return
        }
        // A job that has ended may be removed.
        if (answer === 'gone' && active.settledAt === undefined && !active.lost) report.removed(this.#context.options.log, this.#context.options.name, active.job.id as string)
        this.#jobs.lose(active)
      }))
      this.#answeredAt = now
      // The answers may have come before the timer of the loop.
      eventLoop.look()
      // Another queue, or application, of this process may not have renewed its leases yet after a block: look for dead processes the next time.
      if ([...keepers].every(keeper => keeper.#isRenewed)) await (this.#fetching() as unknown as Checker | undefined)?.moveStalledJobsToWait()
    } catch {
      // Redis is away: RedisConnection says so, and the next look tries again.
    } finally {
      this.#renewing = false
    }
  }
}
