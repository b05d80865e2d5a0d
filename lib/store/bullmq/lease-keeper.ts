import type { Worker } from 'bullmq'
import { report } from '../../log.ts'
import type { Timer } from '../../time/index.ts'
import { type ActiveJob, type ActiveJobs, RECORD } from './active-jobs.ts'
import type { QueueContext } from './context.ts'
import type { RunJob } from './jobs/index.ts'

/** BullMQ's check for jobs whose process has died. The types hide it: BullMQ calls it by a timer of its own, which we cannot put behind a renewal. */
interface Checker { moveStalledJobsToWait (): Promise<void> }

/**
 * Renews the leases of the active jobs, and looks for jobs of processes that have died.
 *
 * BullMQ does both by timers that know nothing of each other. After the event loop was blocked for longer than a lease, its check may come first, and
 * call the jobs of this very process dead. Here each check comes after a renewal. A renewal also takes an expired lease back, unless another process
 * has the job: a blocked loop is no death.
 */
export class LeaseKeeper {
  readonly #context: QueueContext
  readonly #jobs: ActiveJobs
  /** The worker that fetches, if there is one. */
  readonly #fetching: () => Worker | undefined
  readonly #interval: number
  #timer: Timer | undefined
  /** When it last looked, on the monotonic timeline. */
  #lookedAt = 0
  #renewedAt = 0
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
    this.#again()
  }

  stop (): void {
    this.#timer?.cancel()
    this.#timer = undefined
  }

  /** Renews the lease of a job, or takes it back. Resolves to whether this process has it. */
  async renew ({ id = '', attemptsStarted }: RunJob, token: string): Promise<boolean> {
    return await this.#context.scripts.hold(id, token, attemptsStarted, this.#context.leases.lease)
  }

  /** Whether the lease of a job is lost, or so old that it may have expired, as after a handler that never awaits. */
  mayBeLost ({ lost, renewedAt }: ActiveJob): boolean {
    return lost || this.#now - renewedAt > this.#context.leases.lease * 3 / 4
  }

  get #now (): number { return this.#context.options.clock.now() }

  #again (): void {
    this.#timer = this.#context.options.clock.after(this.#interval, () => { this.#look() })
  }

  #look (): void {
    const { lease } = this.#context.leases
    const now = this.#now
    const late = now - this.#lookedAt - this.#interval
    this.#lookedAt = now
    if (late > this.#interval) {
      this.#blockedAt = now
      if (late > lease && this.#jobs.size > 0) {
        report.blocked(this.#context.options.log, this.#context.options.name, late, lease)
        this.#jobs.blocked(late)
      }
    }
    // While Redis does not answer, nobody can tell whether a lease is lost: it counts as lost when it was not renewed for its whole length. After a
    // block the renewal comes first.
    this.#jobs.look(now, now > this.#blockedAt ? lease : Infinity)
    if (!this.#renewing && now - this.#renewedAt >= lease / 4 - this.#interval / 2) void this.#renewAll(now)
    if (this.#jobs.size > 0 || this.#fetching() !== undefined) this.#again()
    else this.#timer = undefined
  }

  async #renewAll (now: number): Promise<void> {
    this.#renewing = true
    this.#renewedAt = now
    try {
      await Promise.all(this.#jobs.held.map(async active => {
        if (await this.#context.redis.call(async () => await this.renew(active.job, active.job.token as string))) active.renewedAt = now
        else this.#jobs.lose(active)
      }))
      // Another queue, or application, of this process may not have renewed its leases yet after a block: look for dead processes the next time.
      if (this.#now - this.#blockedAt > this.#interval) await (this.#fetching() as unknown as Checker | undefined)?.moveStalledJobsToWait()
    } catch {
      // Redis is away: RedisConnection says so, and the next look tries again.
    } finally {
      this.#renewing = false
    }
  }
}
