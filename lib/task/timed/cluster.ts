import type { FastifyInstance } from 'fastify'
import { invalid } from '../../common/check.ts'
import { errorCodes, type Reason } from '../../common/errors.ts'
import type { Condition } from '../../common/health.ts'
import type { RunResult, TaskHandler } from '../../run/index.ts'
import { type ClaimedRun, RELEASE, type RunOptions, type Settlement, type Shared, type Store, storedError, type StoreQueue, type StoreWorker } from '../../store/index.ts'
import { LATE, type Timer } from '../../time/index.ts'
import type { TaskHost } from '../host.ts'
import type { TimedOptions } from './options.ts'
import type { RunRequest } from './overlap.ts'
import { TimedTask } from './timed.ts'

/** The payload that a tick enqueues. */
interface Tick {
  /** In milliseconds since the epoch. */
  dueAt: number
  missed: number
  /** When the tick fired, with its jitter, in milliseconds since the epoch. */
  at: number
  /** Set for one of several missed ticks (`misfire: 'all'`): `overlap` does not skip it. */
  caughtUp?: true
  /** Set if `exclude` threw on this tick. */
  excludeFailed?: true
}

/** Names of the numbers that the processes share: the last enqueued due time, start and end of the last run, and when its tick fired. */
const [DUE, START, END, FIRED] = ['due', 'start', 'end', 'fired']
/** The most active runs of one process, for a task with `overlap: 'allow'`. */
const MAX_ACTIVE = 1_000
/** How long the store keeps the ids of ticks, so that a process which lags behind enqueues none again. DUE covers older ticks. */
const KEEP = 3_600_000
/** How long to wait before asking the store again, in milliseconds. */
const AGAIN = 1_000
const plain: RunOptions = { delay: 0, runAt: undefined, priority: 0, key: undefined, keyUntil: 'finished', retry: undefined, reqId: undefined }

/**
 * A timed task whose ticks each run in one of the processes that share a store.
 *
 * There is no leader. Every process computes the same due times, and enqueues each of them under an id made of the task's name and the due time.
 * The store keeps only one run per id, and a free process takes it. The store also keeps the last enqueued due time. A process that starts, or
 * reconnects, goes on from there: the ticks since then are missed, and `misfire` decides.
 *
 * The queue of the task has one active run in all processes together, unless runs may overlap. A tick that fired during a run is skipped when a
 * process takes it.
 */
export class ClusterTask extends TimedTask implements StoreWorker {
  readonly #store: StoreQueue
  readonly #shared: Shared
  /** Ids of claimed runs that have not settled. */
  readonly #claimed = new Set<string>()
  /** Ids of those that go back to the store, as other processes may run them. */
  readonly #returned = new Set<string>()
  /** Number of the current life. */
  #life = 0
  /** The life that is asking the store where to go on. It will find the ticks that fire meanwhile. */
  #asking: number | undefined
  /** Resolves when the ticks that have fired are enqueued. */
  #enqueued: Promise<void> = Promise.resolve()
  #release: Timer | undefined
  #closed = false

  constructor (name: string, owner: FastifyInstance, options: TimedOptions, handler: TaskHandler, host: TaskHost, store: Store) {
    super(name, owner, options, handler, host)
    const together = options.overlap === 'allow'
    this.#store = store.open({
      name,
      concurrency: together ? MAX_ACTIVE : 1,
      exclusive: !together,
      maxSize: undefined,
      onFull: undefined,
      rate: undefined,
      keep: { succeeded: { count: undefined, age: KEEP }, failed: { count: undefined, age: undefined } },
      clock: host.clock,
      log: owner.log
    }, this)
    if (this.#store.shared === undefined) {
      this.#store.close()
      throw invalid(`Background task "${name}": option "cluster" needs a store that processes share, such as bullmq(); the store "${options.cluster}" is in the memory of this one.`)
    }
    this.#shared = this.#store.shared
  }

  override get dormant (): boolean { return false }

  override get isOver (): boolean { return this.#closed }

  /** Cancels a run of this process or of another one. */
  override async cancel (runId: string): Promise<void> {
    if (this.runs.has(runId) || await this.#store.cancel(runId) === undefined) await super.cancel(runId)
  }

  override tick (dueAt: Date, missed: number): void {
    // The process that takes the tick records the skip. This one, which has the run, counts it at once to notice a hanging run.
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
    for (const id of this.#claimed) this.#returned.add(id)
    if (this.host.phase === 'closing') this.#release ??= this.host.clock.after(this.host.shutdownTimeout * RELEASE, () => { this.#store.release() })
    super.shutDown(reason, grace)
  }

  override expire (reason: Reason): void {
    this.#close()
    super.expire(reason)
  }

  /** Runs a tick, for the store. */
  execute (run: ClaimedRun, settle: (settlement: Settlement) => void): void {
    const { id, payload, damage } = run
    if (damage === undefined && isTick(payload)) {
      void this.#take(id, payload, settle)
      return
    }
    const error = new errorCodes.FST_BG_INVALID_PAYLOAD(this.name, damage?.why ?? 'is no tick of this task. Remove the run')
    this.#fail(run, error)
    settle({ outcome: 'failed', error: storedError(error), retryIn: undefined })
  }

  abort (id: string, why: 'cancelled' | 'lost'): void {
    if (why === 'lost') this.#returned.add(id)
    const what = why === 'cancelled' ? 'the run was cancelled' : 'its lease was lost, and it may run elsewhere'
    void this.runs.cancelOne(id, new errorCodes.FST_BG_CANCELLED(this.name, what))
  }

  /** Does nothing: a pause of the task concerns this process only, not the runs in the store. */
  pauseChanged (): void {}

  crashed (run: ClaimedRun, error: Error): void {
    this.#fail(run, error)
  }

  /** Logs and counts a run that has failed before its handler. */
  #fail ({ id, payload }: ClaimedRun, error: Error): void {
    const { dueAt, missed } = isTick(payload) ? payload : { dueAt: this.#wall, missed: 0 }
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
    if (!resumed) return
    // Leave out the ticks of the pause, also for a process that starts next.
    this.#asking = undefined
    this.#shared.raise(DUE, this.#wall).catch(() => {})
  }

  protected override tickOff (): void {
    super.tickOff()
    this.#store.halt()
  }

  protected override async allEnded (): Promise<void> {
    await super.allEnded()
    await this.#store.drained()
  }

  protected override async finish (): Promise<undefined> {
    if (this.host.phase === 'closing' || this.removed) this.#close()
  }

  get #wall (): number { return this.host.clock.wall() }

  #isTicking (life = this.#life): boolean {
    return this.live && life === this.#life && this.state !== 'paused' && !this.host.closing
  }

  /** Goes on from the last enqueued tick, once the store tells it; the first time, from now. */
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
        await new Promise<void>(resolve => { this.host.scheduleClock.after(AGAIN, resolve) })
      }
    }
    // One that ticks no more adds none either: those before it may be missing.
    if (!this.#isTicking(life)) return
    if (this.#asking === life) this.#asking = undefined
    this.tickSince(since)
  }

  /** Enqueues ticks in order, so that DUE means that all ticks before it are enqueued, too. */
  #enqueue (ticks: Tick[]): void {
    this.#enqueued = this.#enqueued.then(async () => {
      for (const tick of ticks) {
        if (!await this.#add(tick)) return
      }
    })
  }

  /** Enqueues a tick unless another process has. Returns false if that fails: the tick is missed, and handled when the store is back. */
  async #add (tick: Tick): Promise<boolean> {
    const { dueAt, at, caughtUp = false } = tick
    try {
      if (this.#asking !== undefined) return false
      if (!this.#store.reachable || (!caughtUp && this.#wall - at > LATE)) throw new Error('too late')
      // The store may have dropped an id that old.
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
    this.#claimed.add(id)
    const overlaps = !caughtUp && await this.#isOverlapped(tick)
    if (!this.#isTicking() || this.#returned.has(id)) {
      this.#forget(id)
      settle({ outcome: 'interrupted' })
      return
    }
    const request: RunRequest = { dueAt: new Date(tick.dueAt), missed, handle: { id, settle: result => { void this.#ended(id, result, settle) } } }
    if (overlaps) {
      this.skipTick(request)
      return
    }
    // In this order, so that no process sees a start without its tick.
    this.#shared.raise(FIRED, tick.at).catch(() => {})
    this.#shared.raise(START, this.#wall).catch(() => {})
    if (excludeFailed) this.run(request, false, () => { this.options.ticker.options.exclude?.(new Date(request.dueAt)) }, { timeout: undefined, retry: undefined })
    else if (caughtUp) this.run(request, false)
    else this.request(request, false)
  }

  /** Whether the tick fired while the run before was active; with `overlap: 'wait'`, whether another tick waited already. Never for an interrupted run. */
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
    this.#forget(id)
    if (settlement.outcome !== 'interrupted' && result.outcome !== 'skipped') await this.#shared.raise(END, this.#wall).catch(() => {})
    settle(settlement)
  }

  /** A skipped or cancelled tick counts as succeeded: the store keeps its id, so that nobody enqueues it again. */
  #settlementOf (id: string, { outcome, error }: RunResult): Settlement {
    if (outcome === 'failed') return { outcome, error: storedError(error), retryIn: undefined }
    return { outcome: outcome === 'cancelled' && this.#returned.has(id) ? 'interrupted' : 'succeeded' }
  }

  #forget (id: string): void {
    this.#claimed.delete(id)
    this.#returned.delete(id)
  }

  #close (): void {
    this.#closed = true
    this.#release?.cancel()
    this.#store.close()
  }
}

/** Whether a payload is a tick: the store may have lost it, and any program may have written it. */
function isTick (payload: unknown): payload is Tick {
  const { dueAt, missed, at } = Object(payload) as Partial<Tick>
  return [dueAt, missed, at].every(one => typeof one === 'number' && Number.isFinite(one))
}
