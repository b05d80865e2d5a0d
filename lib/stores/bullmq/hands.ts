import type { Clock, Timer } from '../../clock.ts'
import type { Progress } from '../../run.ts'
import type { Settlement, StoreWorker } from '../../store.ts'
import type { RunJob } from './jobs.ts'

/** How long Redis is given to take note of how a run has ended before others go on, in milliseconds. */
export const RECORD = 1_000

/** A job in hand. */
export class Hand {
  /** As it was taken last. */
  job: RunJob
  /** When its lease was renewed last, by the clock. */
  renewedAt: number
  /** Whether another process may have it. */
  lost = false
  /** When it was settled, by the clock; undefined while it runs. */
  settledAt: number | undefined
  /** How it has ended; of several that were said, the first. */
  readonly settlement: Promise<Settlement>
  #settle!: (settlement: Settlement) => void
  /** Who waits until Redis knows how it has ended, or nobody will know. */
  #waiting: Array<() => void> | undefined
  /** What is to be kept of how far it is; and whether that is under way. */
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

  /** Resolves when Redis knows how it has ended, or nobody will know. */
  recorded (): Promise<void> {
    return new Promise(resolve => { (this.#waiting ??= []).push(resolve) })
  }

  tellRecorded (): void {
    this.#waiting?.forEach(tell => { tell() })
  }

  /** Keeps how far it is: the last that was said, one at a time. */
  progress (value: Progress): void {
    this.#progress = value
    if (!this.#progressing) void this.#tellProgress()
  }

  async #tellProgress (): Promise<void> {
    this.#progressing = true
    while (this.#progress !== undefined) {
      const value = this.#progress
      this.#progress = undefined
      // Of a job that has been removed, or a store that is away: it is only for show.
      await this.job.updateProgress(value as object).catch(() => {})
    }
    this.#progressing = false
  }
}

/** The jobs that this process has in hand, and whether their leases hold. */
export class Hands {
  readonly #clock: Clock
  readonly #lease: number
  readonly #worker: StoreWorker
  readonly #all = new Map<string, Hand>()
  #watch: Timer | undefined

  constructor (clock: Clock, lease: number, worker: StoreWorker) {
    this.#clock = clock
    this.#lease = lease
    this.#worker = worker
  }

  get size (): number { return this.#all.size }

  get (id: string): Hand | undefined { return this.#all.get(id) }

  add (job: RunJob): Hand {
    const hand = new Hand(job, this.#clock.now())
    this.#all.set(job.id as string, hand)
    this.#watch ??= this.#watchSoon()
    return hand
  }

  /** It was lost, and has come here again while it runs. */
  again (hand: Hand, job: RunJob): void {
    hand.job = job
    hand.lost = false
    hand.renewedAt = this.#clock.now()
  }

  settle (hand: Hand, settlement: Settlement): void {
    hand.settle(settlement, this.#clock.now())
  }

  /** Gives everything back, whatever its handler does. */
  release (): void {
    for (const hand of this.#all.values()) this.settle(hand, { outcome: 'interrupted' })
  }

  /** Redis knows how it has ended, or nobody will know. */
  record (job: RunJob): void {
    const id = job.id as string
    const hand = this.#all.get(id)
    if (hand?.job !== job) return
    this.#all.delete(id)
    hand.tellRecorded()
  }

  /** Resolves when what is in hand now has ended, and Redis knows. */
  async recorded (): Promise<void> {
    await Promise.all([...this.#all.values()].map(hand => hand.recorded()))
  }

  renewed (id: string): void {
    const hand = this.#all.get(id)
    if (hand !== undefined) hand.renewedAt = this.#clock.now()
  }

  lose (id: string): void {
    const hand = this.#all.get(id)
    if (hand === undefined || hand.lost) return
    hand.lost = true
    this.#worker.abort(id, 'lost')
  }

  /** Looks after leases no more. */
  stop (): void {
    this.#watch?.cancel()
  }

  #watchSoon (): Timer {
    return this.#clock.after(Math.min(this.#lease / 4, RECORD), () => { this.#look() })
  }

  /**
   * While Redis is away nobody can say that a lease was lost: it is, once it has not been renewed for as long as it lasts. And nobody says how
   * a job has ended.
   */
  #look (): void {
    const now = this.#clock.now()
    for (const [id, { job, renewedAt, settledAt = Infinity }] of this.#all) {
      if (now - settledAt > RECORD) this.record(job)
      else if (now - renewedAt > this.#lease) this.lose(id)
    }
    this.#watch = this.size > 0 ? this.#watchSoon() : undefined
  }
}
