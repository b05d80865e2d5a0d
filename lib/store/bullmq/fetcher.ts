import type { Worker } from 'bullmq'
import type { Condition } from '../../common/health.ts'
import { report } from '../../common/log.ts'
import type { Progress } from '../../run/index.ts'
import type { Timer } from '../../time/index.ts'
import type { OpenOptions } from '../store.ts'
import { ActiveJobs, RECORD } from './active/active-jobs.ts'
import type { QueueContext } from './context.ts'
import type { EndWatcher } from './ends/index.ts'
import { claimedRunOf, crashed, crashOf, type JobData, JobReader, type RunJob } from './jobs/index.ts'
import { LeaseKeeper } from './active/lease-keeper.ts'
import { Processor } from './processor.ts'
import { withoutCommand } from './redis/client.ts'

/** How long to wait before making another worker if one could not begin, in milliseconds. */
const AGAIN = 1_000
/** The shortest time between two logged errors of a worker, in milliseconds. */
const LOG_INTERVAL = 10_000

/** Fetches jobs of a queue, through BullMQ's worker. */
export class Fetcher {
  readonly #context: QueueContext
  readonly #ends: EndWatcher
  readonly #jobs: ActiveJobs
  readonly #keeper: LeaseKeeper
  readonly #processor: Processor
  readonly #reader = new JobReader()
  /** A worker that is not ready yet. */
  #beginning: Worker<JobData, unknown> | undefined
  #fetching: Worker<JobData, unknown> | undefined
  /** Workers that fetch no more, and end with their active jobs. */
  readonly #ending = new Set<Promise<void>>()
  #takes = false
  #retry: Timer | undefined
  #loggedAt = -Infinity

  constructor (context: QueueContext, ends: EndWatcher) {
    this.#ends = ends
    const { options: { clock, name }, worker, control } = context
    this.#context = context
    this.#jobs = new ActiveJobs(clock, worker)
    this.#keeper = new LeaseKeeper(context, this.#jobs, () => this.#fetching)
    this.#processor = new Processor(context, this.#jobs, this.#keeper, {
      takes: () => this.#takes,
      lossOf: id => this.#reader.lossOf(id),
      cancelled: id => { void control.publish(name, { type: 'ended', id }).catch(() => {}) }
    })
  }

  /** Whether it fetches jobs. */
  get takes (): boolean { return this.#takes }

  /** Says whether the event loop was blocked for longer than the lease during a run that has not ended. */
  get condition (): Condition {
    const { blockedFor } = this.#jobs
    if (blockedFor === undefined) return { status: 'ok' }
    return { status: 'failing', reason: `a run is past its lease: the event loop was blocked for ${(blockedFor / 1_000).toFixed(1)} s` }
  }

  /** Whether a job is active. */
  get busy (): boolean { return this.#jobs.size > 0 }

  take (): void {
    this.#takes = true
    if (this.#fetching !== undefined) void this.#fetching.resume()
    else if (this.#context.redis.connected) this.#begin()
  }

  /** Called when the connection is up. */
  connected (): void {
    if (this.#takes && this.#fetching === undefined) this.#begin()
  }

  /** Fetches no more jobs. Active ones go on. */
  halt (): void {
    this.#takes = false
    this.#retry?.cancel()
    if (this.#beginning !== undefined) this.#end(this.#beginning.close(true))
    this.#beginning = undefined
    if (this.#fetching === undefined) return
    // A paused worker still takes the job that its blocking read returns, so close it. While Redis is unreachable, close() would wait for ever.
    if (!this.#context.redis.connected) {
      void this.#fetching.pause(true)
      return
    }
    this.#end(this.#fetching.close())
    this.#fetching = undefined
  }

  /** Aborts an active job, and resolves when Redis has recorded its end. Undefined if this process does not run it. */
  cancel (id: string): Promise<void> | undefined {
    const active = this.#jobs.get(id)
    if (active === undefined) return undefined
    this.#context.worker.abort(id, 'cancelled')
    return active.recorded()
  }

  /** Stores the progress of a job. */
  progress (id: string, value: Progress): void {
    this.#jobs.get(id)?.progress(value)
  }

  /** Gives all active jobs back, whatever their handlers do. */
  release (): void {
    this.#jobs.release()
  }

  /** Resolves when the jobs that are active now have ended, Redis has recorded it, and halted workers fetch nothing any more. */
  async idle (): Promise<void> {
    await this.#jobs.recorded()
    if (!this.#takes) await this.#context.redis.within(RECORD, Promise.all(this.#ending))
  }

  /** Closes its workers when their active jobs have ended; at once while Redis is unreachable. */
  async close (): Promise<void> {
    this.halt()
    await this.#fetching?.close(true)
    await Promise.all(this.#ending)
    this.#keeper.stop()
  }

  /** Makes a worker, and another one if the connection is lost before it is ready: BullMQ treats the first as broken then. */
  #begin (): void {
    if (this.#beginning !== undefined) return
    const worker = this.#make()
    this.#beginning = worker
    void worker.waitUntilReady().then(() => true, () => false).then(ready => {
      if (this.#beginning !== worker) return
      this.#beginning = undefined
      if (ready) {
        this.#fetching = worker
        this.#keeper.start()
        void worker.run()
      } else {
        this.#end(worker.close(true))
        this.#retry = this.#context.options.clock.after(AGAIN, () => { this.connected() })
      }
    })
  }

  #end (closing: Promise<void>): void {
    const ending = closing.finally(() => { this.#ending.delete(ending) })
    this.#ending.add(ending)
  }

  #make (): Worker<JobData, unknown> {
    const { engine, redis, prefix, worker, leases: { lease, maxCrashes }, options: { name, concurrency, rate, keep, clock, log } } = this.#context
    const fetching = new engine.Worker<JobData, unknown>(name, (job, token) => this.#processor.process(job, token as string), {
      connection: redis.client as never,
      prefix,
      autorun: false,
      concurrency,
      lockDuration: lease,
      skipLockRenewal: true,
      skipStalledCheck: true,
      // Between two checks of the LeaseKeeper. BullMQ finds an orphan at its second check, so that another process runs it after 1¼ leases at the latest.
      stalledInterval: lease / 4,
      maxStalledCount: maxCrashes - 1,
      runRetryDelay: 1_000,
      removeOnComplete: keepOf(keep.succeeded, SUCCEEDED),
      removeOnFail: keepOf(keep.failed, FAILED),
      ...rate !== undefined && { limiter: { max: rate.limit, duration: rate.per } }
    })
    this.#reader.readFor(fetching as never)
    fetching.on('completed', (job, returned) => {
      this.#ends.completed(job, returned)
      this.#jobs.record(job)
    })
    fetching.on('failed', (given, error) => {
      const job = given as RunJob
      this.#ends.failed(job)
      this.#jobs.record(job)
      // BullMQ has counted this failure as an attempt: it is the attempt that never ended.
      if (job.deferredFailure !== undefined) worker.crashed({ ...claimedRunOf(job, this.#reader.lossOf(job.id as string)), attempt: job.attemptsMade }, new Error(crashed(maxCrashes), { cause: error }))
    })
    fetching.on('stalled', id => { void this.#takenOver(id) })
    fetching.on('error', error => {
      // RedisConnection logs a lost connection, and the run logs a lost lock.
      if (/ECONN|Connection is closed|Cluster redirections|slots cache|lock/.test(error.message) || redis.tellsRefusal(error)) return
      // A Redis that refuses commands does so ten times a second.
      const now = clock.now()
      if (now - this.#loggedAt < LOG_INTERVAL) return
      this.#loggedAt = now
      report.storeError(log, name, withoutCommand(error))
    })
    return fetching
  }

  /** Says that a job was taken from a process that has died, and which crash it is; without that, if Redis does not answer. */
  async #takenOver (id: string): Promise<void> {
    const { redis, scripts, options: { name, log }, leases: { maxCrashes } } = this.#context
    const found = await redis.call(async () => await scripts.crashes(id)).catch(() => undefined)
    report.takenOver(log, name, id, found && crashOf(found, maxCrashes))
  }
}

const DAY = 86_400
const SUCCEEDED = { count: 100, age: DAY }
const FAILED = { count: 1_000, age: 14 * DAY }

/** BullMQ's option of what to keep. Its ages are in seconds. */
function keepOf ({ count, age }: OpenOptions['keep']['failed'], defaults: { count: number, age: number }): { count: number, age?: number } {
  if (count === undefined && age === undefined) return defaults
  return { count: count ?? -1, ...age !== undefined && { age: age / 1_000 } }
}
