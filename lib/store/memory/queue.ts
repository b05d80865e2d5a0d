import { errorCodes } from '../../errors.ts'
import type { Condition } from '../../health.ts'
import type { Progress } from '../../run/index.ts'
import type { Alarm } from '../../time/index.ts'
import type { Counts, Enqueued, ListedState, RunPage } from '../queued-run.ts'
import type { NewRun, OpenOptions, Settlement, StoreQueue, StoreWorker } from '../store.ts'
import { Backpressure } from './backpressure.ts'
import { Dispatcher, type RunSource } from './dispatcher.ts'
import { Entry } from './entry.ts'
import { FinishedRuns } from './finished-runs.ts'
import { Keys } from './keys.ts'
import { pageOf } from './pages.ts'
import { PendingRuns } from './pending-runs.ts'

const MAX_SIZE = 10_000
const KEEP_FAILED = 100
/** Part of `maxSize` above which the queue is degraded. */
const NEARLY_FULL = 0.8

/** A queue in memory. */
export class MemoryQueue implements StoreQueue, RunSource {
  readonly durable = false
  readonly shared: undefined
  readonly #options: OpenOptions
  readonly #worker: StoreWorker
  readonly #maxSize: number
  readonly #dispatcher: Dispatcher
  readonly #pending = new PendingRuns()
  readonly #finished: { succeeded: FinishedRuns<Entry>, failed: FinishedRuns<Entry> }
  readonly #keys = new Keys()
  readonly #backpressure = new Backpressure()
  readonly #idle: Array<() => void> = []
  #closing = false
  #closed = false
  /** How many times runs have come into a state. */
  #entered = 0
  /** The number of runs that failed while the queue was closing, and will not be retried. */
  #lost = 0

  constructor (options: OpenOptions, worker: StoreWorker) {
    const { maxSize = MAX_SIZE, keep: { succeeded, failed }, clock } = options
    const wall = (): number => clock.wall()
    this.#options = options
    this.#worker = worker
    this.#maxSize = maxSize
    this.#dispatcher = new Dispatcher(options, this)
    this.#finished = {
      succeeded: new FinishedRuns({ ...succeeded, count: succeeded.count ?? (succeeded.age === undefined ? 0 : Infinity) }, wall),
      failed: new FinishedRuns({ ...failed, count: failed.count ?? KEEP_FAILED }, wall)
    }
  }

  get paused (): boolean { return this.#dispatcher.paused }

  get condition (): Condition {
    if (this.#pending.size <= this.#maxSize * NEARLY_FULL) return { status: 'ok' }
    return { status: 'degraded', reason: `${this.#pending.size} runs wait, of at most ${this.#maxSize}` }
  }

  enqueue (run: NewRun): Enqueued | Promise<Enqueued> {
    const lost = this.#closing && (!this.#dispatcher.works || this.#delayOf(run) > 0)
    if (lost) throw new errorCodes.FST_BG_CLOSING(`Background queue "${this.#options.name}" takes no run that it could not finish`)
    const duplicate = this.#duplicateOf(run)
    if (duplicate !== undefined) return duplicate
    if (this.#pending.size < this.#maxSize && this.#backpressure.size === 0) return this.#add(run)
    if (this.#options.onFull !== 'wait') throw new errorCodes.FST_BG_QUEUE_FULL(this.#options.name, this.#pending.size)
    // A request that waits for room would hold up the close.
    if (this.#closing) throw this.#full()
    return this.#backpressure.add(run)
  }

  work (): void {
    this.#dispatcher.work()
  }

  halt (): void {
    this.#dispatcher.halt()
    this.#tellIdle()
  }

  async pause (): Promise<void> {
    this.#dispatcher.pause()
    this.#tellIdle()
  }

  async resume (): Promise<void> {
    this.#dispatcher.resume()
  }

  async counts (): Promise<Counts> {
    const { waiting, delayed, active } = this.#pending
    const { succeeded, failed } = this.#finished
    return { waiting: waiting.size, delayed: delayed.size, active: active.size, succeeded: succeeded.size, failed: failed.size }
  }

  async list (state: ListedState, cursor: string | undefined, limit: number): Promise<RunPage> {
    return pageOf(this.#options.name, state, this.#in(state), cursor, limit)
  }

  async retry (id: string): Promise<boolean> {
    const entry = this.#finished.failed.find(id)
    if (entry === undefined) return false
    if (!this.#keys.take(entry)) {
      throw new errorCodes.FST_BG_INVALID_OPTION(`Run ${id} of background queue "${this.#options.name}" cannot be retried: another with its key "${entry.options.key}" waits or runs.`)
    }
    this.#finished.failed.take(id)
    entry.attempt++
    this.#pending.add(entry)
    this.#makeWait(entry)
    return true
  }

  async retryFailed (): Promise<number> {
    let count = 0
    for (const { id } of this.#finished.failed.list().reverse()) {
      // A run whose key another run has stays failed.
      if (await this.retry(id).catch(() => false)) count++
    }
    return count
  }

  async cancel (id: string): Promise<'waiting' | 'active' | undefined> {
    const entry = this.#pending.find(id)
    if (entry === undefined) return undefined
    if (entry.state === 'active') {
      await new Promise<void>(resolve => {
        (entry.details.ended ??= []).push(resolve)
        this.#worker.abort(id, 'cancelled')
      })
      return 'active'
    }
    this.#drop(entry)
    this.#tellIdle()
    return 'waiting'
  }

  async remove (id: string): Promise<boolean> {
    const { succeeded, failed } = this.#finished
    return (succeeded.take(id) ?? failed.take(id)) !== undefined
  }

  async clear (state: Exclude<ListedState, 'active'>): Promise<number> {
    if (state === 'succeeded' || state === 'failed') return this.#finished[state].clear()
    const entries = this.#in(state)
    for (const entry of entries) this.#drop(entry)
    this.#tellIdle()
    return entries.length
  }

  progress (id: string, value: Progress): void {
    const entry = this.#pending.findActive(id)
    if (entry !== undefined) entry.details.progress = value
  }

  async drained (): Promise<boolean> {
    if (!this.#busy) return false
    await new Promise<void>(resolve => { this.#idle.push(resolve) })
    return true
  }

  shutDown (): number {
    this.#closing = true
    this.#backpressure.refuse(() => this.#full())
    const lost = [...this.#pending.delayed, ...this.#dispatcher.works ? [] : this.#pending.waiting]
    for (const entry of lost) this.#drop(entry)
    this.#tellIdle()
    return lost.length
  }

  /** Does nothing: no other process could take the runs. */
  release (): void {}

  close (): number {
    this.halt()
    this.#closed = true
    return this.shutDown() + this.#lost
  }

  /** Whether a run waits, for the dispatcher. */
  get any (): boolean { return this.#pending.waiting.first !== undefined }

  /** Hands the first waiting run over, for the dispatcher. */
  begin (): void {
    const { waiting, active } = this.#pending
    const entry = waiting.first as Entry
    waiting.remove(entry)
    this.#enter(entry, 'active')
    active.add(entry)
    entry.startedAt = this.#options.clock.wall()
    if (entry.more !== undefined) entry.more.interrupted = false
    if (entry.options.keyUntil === 'started') this.#keys.release(entry)
    this.#admit()
    this.#worker.execute(entry, settlement => { this.#settle(entry, settlement) })
  }

  get #busy (): boolean {
    return this.#dispatcher.active > 0 || (this.#dispatcher.works && this.#pending.size > 0)
  }

  #in (state: ListedState): Entry[] {
    return state === 'succeeded' || state === 'failed' ? this.#finished[state].list() : this.#pending.in(state)
  }

  #duplicateOf (run: NewRun): Enqueued | undefined {
    const id = this.#keys.ownerOf(run)
    return id === undefined ? undefined : { id, duplicate: true }
  }

  #delayOf ({ options: { delay, runAt } }: NewRun): number {
    return runAt === undefined ? delay : runAt - this.#options.clock.wall()
  }

  #add (run: NewRun): Enqueued {
    const entry = new Entry(run, this.#options.clock.wall())
    this.#pending.add(entry)
    this.#keys.take(entry)
    if (this.#delayOf(run) > 0) this.#delay(entry, run.options.delay, run.options.runAt)
    else this.#makeWait(entry)
    return { id: run.id, duplicate: false }
  }

  #enter (entry: Entry, state: ListedState): void {
    entry.state = state
    entry.order = ++this.#entered
  }

  #makeWait (entry: Entry): void {
    this.#enter(entry, 'waiting')
    this.#pending.waiting.add(entry)
    this.#dispatcher.wake()
  }

  /** Puts an interrupted run back to the front, behind interrupted runs that had begun before it. */
  #putBack (entry: Entry): void {
    this.#enter(entry, 'waiting')
    entry.details.interrupted = true
    this.#pending.waiting.putBack(entry, ({ more, startedAt }) => more?.interrupted === true && Number(startedAt) <= Number(entry.startedAt))
    this.#dispatcher.wake()
  }

  #delay (entry: Entry, delay: number, runAt: number | undefined): void {
    const { clock } = this.#options
    const alarm: Alarm = {
      place: 0,
      ring: () => {
        this.#pending.delayed.delete(entry)
        this.#makeWait(entry)
      }
    }
    this.#enter(entry, 'delayed')
    entry.details.alarm = alarm
    entry.details.runAt = runAt ?? clock.wall() + delay
    this.#pending.delayed.add(entry)
    if (runAt === undefined) clock.set(alarm, clock.now() + delay)
    else clock.setWall(alarm, runAt)
  }

  /** Removes a waiting or delayed run. */
  #drop (entry: Entry): void {
    if (entry.state === 'waiting') {
      this.#pending.waiting.remove(entry)
    } else {
      this.#options.clock.cancel(entry.more?.alarm as Alarm)
      this.#pending.delayed.delete(entry)
    }
    this.#forget(entry)
    this.#admit()
  }

  #forget (entry: Entry): void {
    this.#pending.remove(entry)
    this.#keys.release(entry)
  }

  /** Accepts runs that wait for room. */
  #admit (): void {
    if (this.#backpressure.size === 0) return
    this.#backpressure.admit(run => this.#duplicateOf(run) ?? (this.#pending.size < this.#maxSize ? this.#add(run) : undefined))
  }

  #full (): Error {
    return new errorCodes.FST_BG_CLOSING(`Background queue "${this.#options.name}" is full, and accepts no more payloads`)
  }

  #settle (entry: Entry, settlement: Settlement): void {
    const { outcome } = settlement
    this.#pending.active.remove(entry)
    const retryIn = outcome === 'failed' ? settlement.retryIn : undefined
    if (outcome === 'failed') entry.details.error = settlement.error
    if (outcome === 'interrupted' && !this.#closed) {
      this.#keys.take(entry)
      this.#putBack(entry)
    } else if (retryIn !== undefined && this.#closing) {
      this.#lost++
      this.#forget(entry)
    } else if (retryIn !== undefined) {
      entry.attempt++
      this.#keys.take(entry)
      this.#delay(entry, retryIn, undefined)
    } else {
      this.#forget(entry)
      if (outcome === 'succeeded' || outcome === 'failed') this.#keep(entry, outcome)
    }
    entry.more?.ended?.forEach(tell => { tell() })
    this.#dispatcher.ended()
    this.#tellIdle()
  }

  #keep (entry: Entry, outcome: 'succeeded' | 'failed'): void {
    const finished = this.#finished[outcome]
    if (finished.none) return
    this.#enter(entry, outcome)
    entry.details.finishedAt = this.#options.clock.wall()
    finished.add(entry)
  }

  #tellIdle (): void {
    if (this.#idle.length === 0 || this.#busy) return
    for (const tell of this.#idle.splice(0)) tell()
  }
}
