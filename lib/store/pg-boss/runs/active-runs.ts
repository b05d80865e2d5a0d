import type { Progress } from '../../../run/index.ts'
import type { Clock } from '../../../time/index.ts'
import type { Settlement, StoreWorker } from '../../store.ts'

/** An active run of this process. */
export class ActiveRun {
  readonly id: string
  /** How often it was begun before, by anybody: names this claim. */
  readonly starts: number
  /** When its lease was last renewed, on the monotonic timeline. */
  renewedAt: number
  /** For how long the event loop was blocked, in milliseconds, if that was longer than the lease. */
  blocked: number | undefined
  /** Whether its lease is lost, so that another process may have it. */
  lost = false
  /** How its attempt has ended: the first settlement counts. */
  settlement: Settlement | undefined
  /** When that was, on the monotonic timeline. */
  settledAt: number | undefined
  /** Whether the database is recording its end now, which makes room for another run. */
  recording = false
  /** The next progress to store, and whether one is being stored. */
  progress: Progress | undefined
  progressing = false
  readonly #waiting: Array<() => void> = []

  constructor (id: string, starts: number, renewedAt: number) {
    this.id = id
    this.starts = starts
    this.renewedAt = renewedAt
  }

  /** Whether it waits again once the database has recorded the end of its attempt. */
  get again (): boolean { return this.settlement?.outcome === 'interrupted' || (this.settlement?.outcome === 'failed' && this.settlement.retryIn !== undefined) }

  /** Resolves when the database has recorded the end, or will not. */
  recorded (): Promise<void> {
    return new Promise(resolve => { this.#waiting.push(resolve) })
  }

  tellRecorded (): void {
    for (const tell of this.#waiting) tell()
  }
}

/** The active runs of this process, by id. */
export class ActiveRuns {
  readonly #clock: Clock
  readonly #worker: StoreWorker
  readonly #all = new Map<string, ActiveRun>()

  constructor (clock: Clock, worker: StoreWorker) {
    this.#clock = clock
    this.#worker = worker
  }

  get size (): number { return this.#all.size }

  /** Those that have not ended, and whose lease is not lost. */
  get held (): ActiveRun[] { return [...this.#all.values()].filter(({ lost, settlement }) => !lost && settlement === undefined) }

  get (id: string): ActiveRun | undefined { return this.#all.get(id) }

  /** Those that have not ended. */
  get unsettled (): ActiveRun[] { return [...this.#all.values()].filter(({ settlement }) => settlement === undefined) }

  /** Those whose end the database is recording now, and that make room by it. */
  get leaving (): ActiveRun[] { return [...this.#all.values()].filter(({ recording }) => recording) }

  /** `renewedAt`: when its lease began at the earliest, on the monotonic timeline. */
  add (id: string, starts: number, renewedAt: number): ActiveRun {
    const active = new ActiveRun(id, starts, renewedAt)
    this.#all.set(id, active)
    return active
  }

  /** The database has recorded the end of a run, or will not: removes it. */
  record (active: ActiveRun): void {
    if (this.#all.get(active.id) === active) this.#all.delete(active.id)
    active.tellRecorded()
  }

  /** Resolves when the runs that are active now have ended, and the database has recorded it. */
  async recorded (): Promise<void> {
    await Promise.all([...this.#all.values()].map(async active => { await active.recorded() }))
  }

  /** Another process may have the run: tells it. */
  lose (active: ActiveRun): void {
    if (active.lost) return
    active.lost = true
    this.#worker.abort(active.id, 'lost')
  }

  /** The event loop was blocked, for longer than the lease, while these runs were active. */
  blocked (ms: number): void {
    for (const active of this.#all.values()) active.blocked = ms
  }

  /** For how long the event loop was blocked during one of the active runs; undefined if that was shorter than the lease. */
  get blockedFor (): number | undefined {
    for (const { blocked } of this.#all.values()) if (blocked !== undefined) return blocked
    return undefined
  }

  /** While the database does not answer, nobody can record an end or renew a lease. `limit` is how long an end may take to be recorded. */
  look (now: number, lease: number, limit: number): void {
    for (const active of this.#all.values()) {
      if (now - (active.settledAt ?? Infinity) > limit) this.record(active)
      else if (active.settlement === undefined && now - active.renewedAt > lease) this.lose(active)
    }
  }
}
