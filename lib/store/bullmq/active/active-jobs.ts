import type { Progress } from '../../../run/index.ts'
import type { Clock } from '../../../time/index.ts'
import type { Settlement, StoreWorker } from '../../store.ts'
import type { RunJob } from '../jobs/index.ts'

/** How long to wait until Redis has recorded the end of a job, in milliseconds. */
export const RECORD = 1_000

/** An active job of this process. */
export class ActiveJob {
  /** The job, as BullMQ's worker fetched it last. */
  job: RunJob
  /** When its lease was last renewed, on the monotonic timeline. */
  renewedAt: number
  /** For how long the event loop was blocked, in milliseconds, if that was longer than the lease. */
  blocked: number | undefined
  /** Whether its lease is lost, so that another process may have it. */
  lost = false
  /** When its attempt ended, on the monotonic timeline; undefined while it runs. */
  settledAt: number | undefined
  /** How the attempt ended: the first settlement counts. */
  readonly settlement: Promise<Settlement>
  #settle!: (settlement: Settlement) => void
  /** Callbacks for the moment when Redis has recorded the end, or will not. */
  #waiting: Array<() => void> | undefined
  /** The next progress to store, and whether one is being stored. */
  #progress: Progress | undefined
  #progressing = false

  constructor (job: RunJob, now: number) {
    this.job = job
    this.renewedAt = now
    this.settlement = new Promise(resolve => { this.#settle = resolve })
  }

  settle (settlement: Settlement, now: number): void {
    this.settledAt ??= now
    this.#settle(settlement)
  }

  /** Resolves when Redis has recorded the end, or will not. */
  recorded (): Promise<void> {
    return new Promise(resolve => { (this.#waiting ??= []).push(resolve) })
  }

  tellRecorded (): void {
    this.#waiting?.forEach(tell => { tell() })
  }

  /** Stores the progress: one at a time, the last one that the handler reported. */
  progress (value: Progress): void {
    this.#progress = value
    if (!this.#progressing) void this.#tellProgress()
  }

  async #tellProgress (): Promise<void> {
    this.#progressing = true
    while (this.#progress !== undefined) {
      const value = this.#progress
      this.#progress = undefined
      // Fails if somebody has removed the job, or Redis is unreachable. Progress is only for display.
      await this.job.updateProgress(value as object).catch(() => {})
    }
    this.#progressing = false
  }
}

/** The active jobs of this process. */
export class ActiveJobs {
  readonly #clock: Clock
  readonly #worker: StoreWorker
  readonly #all = new Map<string, ActiveJob>()

  constructor (clock: Clock, worker: StoreWorker) {
    this.#clock = clock
    this.#worker = worker
  }

  get size (): number { return this.#all.size }

  /** Those whose lease is not lost. */
  get held (): ActiveJob[] { return [...this.#all.values()].filter(({ lost }) => !lost) }

  get (id: string): ActiveJob | undefined { return this.#all.get(id) }

  add (job: RunJob): ActiveJob {
    const active = new ActiveJob(job, this.#clock.now())
    this.#all.set(job.id as string, active)
    return active
  }

  /** The worker has fetched a job again that still runs here after its lease was lost. */
  again (active: ActiveJob, job: RunJob): void {
    active.job = job
    active.lost = false
    active.renewedAt = this.#clock.now()
  }

  settle (active: ActiveJob, settlement: Settlement): void {
    active.settle(settlement, this.#clock.now())
  }

  /** Settles every job as interrupted, whatever its handler does. */
  release (): void {
    for (const active of this.#all.values()) this.settle(active, { outcome: 'interrupted' })
  }

  /** Redis has recorded the end of a job, or will not: removes it. */
  record (job: RunJob): void {
    const id = job.id as string
    const active = this.#all.get(id)
    if (active?.job !== job) return
    this.#all.delete(id)
    active.tellRecorded()
  }

  /** Resolves when the jobs that are active now have ended, and Redis has recorded it. */
  async recorded (): Promise<void> {
    await Promise.all([...this.#all.values()].map(active => active.recorded()))
  }

  /** Another process may have the job: tells its run. */
  lose (active: ActiveJob): void {
    if (active.lost) return
    active.lost = true
    this.#worker.abort(active.job.id as string, 'lost')
  }

  /** The event loop was blocked, for longer than the lease, while these jobs were active. */
  blocked (ms: number): void {
    for (const active of this.#all.values()) active.blocked = ms
  }

  /** For how long the event loop was blocked during one of the active jobs; undefined if that was shorter than the lease. */
  get blockedFor (): number | undefined {
    for (const { blocked } of this.#all.values()) if (blocked !== undefined) return blocked
    return undefined
  }

  /** While Redis is unreachable, BullMQ does not report that an end is recorded, and nobody renews a lease. */
  look (now: number, lease: number): void {
    for (const active of this.#all.values()) {
      if (now - (active.settledAt ?? Infinity) > RECORD) this.record(active.job)
      else if (now - active.renewedAt > lease) this.lose(active)
    }
  }
}
