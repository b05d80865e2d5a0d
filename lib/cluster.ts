import type { FastifyInstance } from 'fastify'
import { invalid } from './check.ts'
import type { Timer } from './clock.ts'
import { errorCodes } from './errors.ts'
import type { Reason } from './execution.ts'
import type { Condition } from './health.ts'
import type { TimedOptions } from './options.ts'
import { storedError } from './report.ts'
import type { RunResult, TaskHandler } from './run.ts'
import type { Surroundings } from './runs.ts'
import { RELEASE, type ClaimedRun, type RunOptions, type Settlement, type Shared, type Store, type StoreQueue, type StoreWorker } from './store.ts'
import type { Wanted } from './standby.ts'
import { LATE } from './ticker.ts'
import { TimedTask } from './timed.ts'

/** What is enqueued for a tick. */
interface Tick {
  /** In milliseconds since the epoch. */
  dueAt: number
  missed: number
  /** When it fired, with its jitter. */
  at: number
  /** One of many that were missed: never skipped by overlap. */
  caughtUp?: true
  /** `exclude` threw on it. */
  excludeFailed?: true
}

/** Names of what the processes keep together: the last tick that was enqueued; from when to when the last run was, and when its tick had fired. */
const [DUE, START, END, FIRED] = ['due', 'start', 'end', 'fired']
/** How many runs of a task with `overlap: 'allow'` one process has in hand at most. */
const MANY = 1_000
/** For how long the ids of ticks are kept, so that a process which lags behind enqueues none again. What is older is known from DUE. */
const KEEP = 3_600_000
/** How long to wait before the store is asked again, in milliseconds. */
const AGAIN = 1_000
const plain: RunOptions = { delay: 0, runAt: undefined, priority: 0, key: undefined, keyUntil: 'finished', retry: undefined, reqId: undefined }

/**
 * A timed task of which each tick runs in one of the processes that share a store.
 *
 * There is no leader. Every process computes the same due times and enqueues each, under an id made of the name and the time, of which
 * the store keeps one; whichever process is free takes it. The store also remembers the last due time that was enqueued. A process that
 * starts, or finds the store again, goes on from there: ticks since then were missed, and `misfire` says what becomes of them.
 *
 * Its queue hands over one run at a time, in all processes together, unless they may overlap. A tick that has waited for a run is skipped
 * when it is taken, if it fired while that run was active.
 */
export class ClusterTask extends TimedTask implements StoreWorker {
  readonly #store: StoreQueue
  readonly #shared: Shared
  /** What it was handed and has not settled; and of that, what others are to run, or may run already. */
  readonly #handed = new Set<string>()
  readonly #given = new Set<string>()
  /** Which of its lives it is in. */
  #life = 0
  /** In which it is asking the store from where to go on: what fires meanwhile is left to that. */
  #asking: number | undefined
  /** Resolves when what has fired is enqueued. */
  #enqueued: Promise<void> = Promise.resolve()
  #release: Timer | undefined
  #closed = false

  constructor (name: string, owner: FastifyInstance, options: TimedOptions, handler: TaskHandler, surroundings: Surroundings, store: Store) {
    super(name, owner, options, handler, surroundings)
    const together = options.overlap === 'allow'
    this.#store = store.open({
      name,
      concurrency: together ? MANY : 1,
      exclusive: !together,
      maxSize: undefined,
      onFull: undefined,
      rate: undefined,
      keep: { succeeded: { count: undefined, age: KEEP }, failed: { count: undefined, age: undefined } },
      clock: surroundings.clock,
      log: owner.log
    }, this)
    if (this.#store.shared === undefined) {
      this.#store.close()
      throw invalid(`Background task "${name}": option "cluster" needs a store that processes share, such as bullmq(); the store "${options.cluster}" is in the memory of this one.`)
    }
    this.#shared = this.#store.shared
  }

  override get resting (): boolean { return false }

  override get over (): boolean { return this.#closed }

  /** Wherever it runs, or waits. */
  override async cancel (runId: string): Promise<void> {
    if (this.runs.has(runId) || await this.#store.cancel(runId) === undefined) await super.cancel(runId)
  }

  override tick (dueAt: Date, missed: number): void {
    // Recorded where it is taken. Here, where the run is, it is seen at once that it may hang.
    if (this.active && this.options.overlap === 'skip') this.countSkip(dueAt)
    this.#enqueue([{ dueAt: dueAt.getTime(), missed, at: this.#wall }])
  }

  override catchUp (dueAts: Date[]): void {
    this.#enqueue(dueAts.map(dueAt => ({ dueAt: dueAt.getTime(), missed: 0, at: this.#wall, caughtUp: true })))
  }

  override excludeFailed (dueAt: Date): void {
    this.#enqueue([{ dueAt: dueAt.getTime(), missed: 0, at: this.#wall, excludeFailed: true }])
  }

  override shutDown (reason: Reason, grace: number): void {
    for (const id of this.#handed) this.#given.add(id)
    if (this.surroundings.phase === 'closing') this.#release ??= this.surroundings.clock.after(this.surroundings.patience * RELEASE, () => { this.#store.release() })
    super.shutDown(reason, grace)
  }

  override expire (reason: Reason): void {
    this.#close()
    super.expire(reason)
  }

  /** Runs a tick, for the store. */
  execute ({ id, payload }: ClaimedRun, settle: (settlement: Settlement) => void): void {
    void this.#take(id, payload as Tick, settle)
  }

  abort (id: string, why: 'cancelled' | 'lost'): void {
    if (why === 'lost') this.#given.add(id)
    const what = why === 'cancelled' ? 'the run was cancelled' : 'its lease was lost, and it may run elsewhere'
    void this.runs.cancelOne(id, new errorCodes.FST_BG_CANCELLED(this.name, what))
  }

  /** What is paused is the task, here, and not what waits in the store. */
  pauseChanged (): void {}

  crashed ({ id, payload }: ClaimedRun, error: Error): void {
    const { dueAt, missed } = payload as Tick
    this.run({ dueAt: new Date(dueAt), missed, handle: { id, settle () {} } }, false, () => { throw error }, { timeout: undefined, retry: undefined })
  }

  protected override * conditions (): Iterable<Condition> {
    yield this.#store.condition
    yield * super.conditions()
  }

  protected override async begin (): Promise<void> {
    this.#life++
    await super.begin()
    void this.#goOn()
  }

  protected override tickOn (resumed: boolean): void {
    super.tickOn(resumed)
    this.#store.work()
    // What fell due during a pause is left out, also by a process that starts next.
    if (resumed) this.#shared.raise(DUE, this.#wall).catch(() => {})
  }

  protected override tickOff (): void {
    super.tickOff()
    this.#store.halt()
  }

  protected override async quiet (): Promise<void> {
    await super.quiet()
    await this.#store.drained()
  }

  protected override async finish (): Promise<undefined> {
    if (this.surroundings.phase === 'closing' || this.removed) this.#close()
  }

  get #wall (): number { return this.surroundings.clock.wall() }

  #isTicking (life = this.#life): boolean {
    return this.live && life === this.#life && this.state !== 'paused' && !this.surroundings.closing
  }

  /** Goes on from the last tick that was enqueued, as soon as the store says which; the first time, from now on. */
  async #goOn (): Promise<void> {
    const life = this.#life
    this.#asking = life
    const now = this.#wall
    let since: number | undefined
    while (since === undefined && this.#isTicking(life)) {
      try {
        const last = await this.#shared.recall(DUE) ?? now
        await this.#shared.raise(DUE, last)
        since = last
      } catch {
        await new Promise<void>(resolve => { this.surroundings.scheduleClock.after(AGAIN, resolve) })
      }
    }
    if (this.#asking === life) this.#asking = undefined
    if (this.#isTicking(life)) this.tickSince(since)
  }

  /** In their turn: that the last of them is enqueued means that all before it are. */
  #enqueue (ticks: Tick[]): void {
    this.#enqueued = this.#enqueued.then(async () => {
      for (const tick of ticks) {
        if (!await this.#add(tick)) return
      }
    })
  }

  /** Whether it is enqueued, by this process or another. If not, it has been missed: the ticker comes back to it, once the store is there. */
  async #add (tick: Tick): Promise<boolean> {
    const { dueAt, at, caughtUp = false } = tick
    try {
      if (this.#asking !== undefined) return false
      if (this.#store.condition.status !== 'ok' || (!caughtUp && this.#wall - at > LATE)) throw new Error('too late')
      // An id that old may have been forgotten.
      if (this.#wall - dueAt > LATE + this.options.ticker.options.jitter && dueAt <= Number(await this.#shared.recall(DUE))) return true
      await this.#store.enqueue({ id: `${this.name}-${dueAt}`, payload: JSON.stringify(tick), options: plain })
      await this.#shared.raise(DUE, dueAt)
      return true
    } catch {
      void this.#goOn()
      return false
    }
  }

  async #take (id: string, tick: Tick, settle: (settlement: Settlement) => void): Promise<void> {
    const { missed, caughtUp = false, excludeFailed = false } = tick
    this.#handed.add(id)
    const overlaps = !caughtUp && await this.#isOverlapped(tick)
    if (!this.#isTicking() || this.#given.has(id)) {
      this.#letGo(id)
      settle({ outcome: 'interrupted' })
      return
    }
    const wanted: Wanted = { dueAt: new Date(tick.dueAt), missed, handle: { id, settle: result => { void this.#ended(id, result, settle) } } }
    if (overlaps) {
      this.skipTick(wanted)
      return
    }
    // In this order, so that nobody sees a start without its tick.
    this.#shared.raise(FIRED, tick.at).catch(() => {})
    this.#shared.raise(START, this.#wall).catch(() => {})
    if (excludeFailed) this.run(wanted, false, () => { this.options.ticker.options.exclude?.(new Date(wanted.dueAt)) }, { timeout: undefined, retry: undefined })
    else if (caughtUp) this.run(wanted, false)
    else this.want(wanted, false)
  }

  /** Whether it fired while the run before was active; or, of those that wait for that, whether another had fired before. Not one that was interrupted itself. */
  async #isOverlapped ({ at }: Tick): Promise<boolean> {
    const { overlap } = this.options
    if (overlap === 'allow') return false
    try {
      const [start = Infinity, end = -Infinity, fired = at] = await Promise.all([START, END, FIRED].map(async name => await this.#shared.recall(name)))
      return overlap === 'skip' ? start <= at && at <= end : start > at && fired !== at
    } catch {
      return false
    }
  }

  async #ended (id: string, result: RunResult, settle: (settlement: Settlement) => void): Promise<void> {
    const settlement = this.#settlementOf(id, result)
    this.#letGo(id)
    if (settlement.outcome !== 'interrupted' && result.outcome !== 'skipped') await this.#shared.raise(END, this.#wall).catch(() => {})
    settle(settlement)
  }

  /** A tick that was skipped or cancelled is done with: its id stays, so that nobody enqueues it again. */
  #settlementOf (id: string, { outcome, error }: RunResult): Settlement {
    if (outcome === 'failed') return { outcome, error: storedError(error), retryIn: undefined }
    return { outcome: outcome === 'cancelled' && this.#given.has(id) ? 'interrupted' : 'succeeded' }
  }

  #letGo (id: string): void {
    this.#handed.delete(id)
    this.#given.delete(id)
  }

  #close (): void {
    this.#closed = true
    this.#release?.cancel()
    this.#store.close()
  }
}
