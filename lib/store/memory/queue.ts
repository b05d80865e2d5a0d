import { errorCodes } from '../../common/errors.ts'
import type { Condition } from '../../common/health.ts'
import { report } from '../../common/log.ts'
import type { Progress } from '../../run/index.ts'
import { type Alarm, type Clock, lastNow } from '../../time/index.ts'
import type { Counts, Enqueued, ListedState, QueuedRun, RunEnd, RunPage } from '../queued-run.ts'
import { EndListeners } from '../end-listeners.ts'
import type { EndListener, Keep, NewRun, OpenOptions, Settlement, StoreQueue, StoreWorker } from '../store.ts'
import { Backpressure } from './backpressure.ts'
import { Dispatcher, type RunSource } from './dispatcher.ts'
import { endOf, Entry, recordOf } from './entry.ts'
import { FinishedRuns } from './finished-runs.ts'
import { Keys } from './keys.ts'
import { pageOf } from './pages.ts'
import { PendingRuns } from './pending-runs.ts'
import { MemorySchedules, type ScheduledQueue } from './schedules.ts'

const MAX_SIZE = 10_000
/** What is kept where the queue does not say: the last runs, for a time after their end. */
const SUCCEEDED = { count: 100, age: 3_600_000 }
const FAILED = { count: 100, age: 86_400_000 }
/** Part of `maxSize` above which the queue is degraded. */
const NEARLY_FULL = 0.8

/** A queue in memory. */
export class MemoryQueue implements StoreQueue, RunSource, ScheduledQueue {
  readonly durable = false
  readonly shared: undefined
  readonly schedules: MemorySchedules = new MemorySchedules(this)
  readonly #options: OpenOptions
  readonly #worker: StoreWorker
  readonly #maxSize: number
  readonly #dispatcher: Dispatcher
  readonly #pending = new PendingRuns()
  readonly #finished: { succeeded: FinishedRuns<Entry>, failed: FinishedRuns<Entry> }
  readonly #keys = new Keys()
  readonly #backpressure = new Backpressure()
  readonly #endListeners = new EndListeners()
  readonly #idle: Array<() => void> = []
  #closing = false
  #closed = false
  /** When the run before ended, for the one that begins in its place: reading the clock costs as much as keeping a run. */
  #endedAt: number | undefined = undefined
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
      succeeded: new FinishedRuns(keepOf(succeeded, SUCCEEDED), wall),
      failed: new FinishedRuns(keepOf({ ...failed, count: failed.count ?? (failed.age === undefined ? undefined : FAILED.count) }, FAILED), wall)
    }
  }

  get name (): string { return this.#options.name }

  get clock (): Clock { return this.#options.clock }

  get paused (): boolean { return this.#dispatcher.paused }

  get reachable (): boolean { return true }

  get backlog (): number { return this.#dispatcher.works ? this.#pending.waiting.size : 0 }

  get condition (): Condition {
    if (this.#pending.size <= this.#maxSize * NEARLY_FULL) return { status: 'ok' }
    return { status: 'degraded', reason: `${this.#pending.size} runs wait, of at most ${this.#maxSize}` }
  }

  enqueue (run: NewRun): Enqueued | Promise<Enqueued> {
    this.#refuseLost(run)
    const duplicate = this.#duplicateOf(run)
    if (duplicate !== undefined) return duplicate
    if (this.#pending.size < this.#maxSize && this.#backpressure.size === 0) return this.#add(run)
    if (this.#options.onFull !== 'wait') throw new errorCodes.FST_BG_QUEUE_FULL(this.#options.name, this.#pending.size)
    // A request that waits for room would hold up the close.
    if (this.#closing) throw this.#full()
    return this.#backpressure.add([run]).then(([enqueued]) => enqueued as Enqueued)
  }

  enqueueMany (runs: NewRun[]): Enqueued[] | Promise<Enqueued[]> {
    for (const run of runs) this.#refuseLost(run)
    const enqueued = this.#backpressure.size === 0 ? this.#addAll(runs) : undefined
    if (enqueued !== undefined) return enqueued
    if (this.#options.onFull !== 'wait' || this.#keys.newOf(runs) > this.#maxSize) throw new errorCodes.FST_BG_QUEUE_FULL(this.#options.name, this.#pending.size)
    if (this.#closing) throw this.#full()
    return this.#backpressure.add(runs)
  }

  work (): void {
    this.#dispatcher.work()
    this.schedules.work()
  }

  halt (): void {
    this.#dispatcher.halt()
    this.schedules.halt()
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

  async waitingSince (): Promise<number | undefined> {
    const { firsts } = this.#pending.waiting
    return firsts.length === 0 ? undefined : Math.min(...firsts.map(({ waitingSince }) => waitingSince))
  }

  async list (state: ListedState, cursor: string | undefined, limit: number): Promise<RunPage> {
    return pageOf(this.#options.name, state, this.#in(state), cursor, limit)
  }

  async get (id: string): Promise<QueuedRun | undefined> {
    const { succeeded, failed } = this.#finished
    const entry = this.#pending.find(id) ?? succeeded.find(id) ?? failed.find(id)
    return entry && recordOf(entry)
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
    this.#endListeners.end(id, cancelled)
    this.#tellIdle()
    return 'waiting'
  }

  async remove (id: string): Promise<'waiting' | 'ended' | undefined> {
    const { succeeded, failed } = this.#finished
    const entry = this.#pending.find(id)
    if (entry === undefined) return (succeeded.take(id) ?? failed.take(id)) && 'ended'
    if (entry.state === 'active') return undefined
    this.#drop(entry)
    this.#endListeners.lose(id)
    this.#tellIdle()
    return 'waiting'
  }

  onEnd (id: string, listener: EndListener): () => void {
    const { succeeded, failed } = this.#finished
    if (this.#pending.find(id) !== undefined) return this.#endListeners.add(id, listener)
    const entry = succeeded.find(id) ?? failed.find(id)
    if (entry === undefined) listener.gone()
    else listener.ended(endOf(entry))
    return () => {}
  }

  async clear (state: Exclude<ListedState, 'active'>): Promise<number> {
    if (state === 'succeeded' || state === 'failed') return this.#finished[state].clear()
    const entries = this.#in(state)
    for (const entry of entries) {
      this.#drop(entry)
      this.#endListeners.lose(entry.id)
    }
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
    this.schedules.halt()
    this.#backpressure.refuse(() => this.#full())
    const lost = [...this.#pending.delayed, ...this.#dispatcher.works ? [] : this.#pending.waiting]
    for (const entry of lost) {
      this.#drop(entry)
      if (this.#endListeners.has(entry.id)) this.#endListeners.fail(entry.id, this.#ends())
    }
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

  isPending (id: string): boolean {
    return this.#pending.find(id) !== undefined
  }

  enqueueTick (run: NewRun): void {
    const { log, name } = this.#options
    const refused = (error: unknown): void => { report.tickRefused(log, name, run.options.tick, error) }
    try {
      void Promise.resolve(this.enqueue(run)).catch(refused)
    } catch (error) {
      refused(error)
    }
  }

  /** Whether a run waits, for the dispatcher. */
  get any (): boolean { return this.#pending.waiting.first !== undefined }

  /** Hands the first waiting run over, for the dispatcher. */
  begin (readAt: number | undefined): void {
    const { waiting, active } = this.#pending
    const entry = waiting.first as Entry
    waiting.remove(entry)
    this.#enter(entry, 'active')
    active.add(entry)
    entry.startedAt = this.#endedAt ?? this.#options.clock.wall()
    this.#endedAt = undefined
    if (entry.more !== undefined) entry.more.interrupted = false
    if (entry.options.keyUntil === 'started') this.#keys.release(entry)
    // To admit runs, or to read a payload from JSON, may take a while.
    const isFresh = this.#backpressure.size === 0 && typeof entry.stored !== 'string'
    this.#admit()
    this.#worker.execute(entry, settlement => { this.#settle(entry, settlement) }, isFresh ? readAt : undefined)
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

  /** Adds all runs; undefined if there is no room for them. */
  #addAll (runs: NewRun[]): Enqueued[] | undefined {
    if (this.#pending.size + this.#keys.newOf(runs) > this.#maxSize) return undefined
    return runs.map(run => this.#duplicateOf(run) ?? this.#add(run))
  }

  /** The application closes, and the queue could not finish the run. */
  #refuseLost (run: NewRun): void {
    const lost = this.#closing && (!this.#dispatcher.works || this.#delayOf(run) > 0)
    if (lost) throw new errorCodes.FST_BG_CLOSING(`Background queue "${this.#options.name}" takes no run that it could not finish`)
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
    this.#backpressure.admit(runs => this.#addAll(runs))
  }

  #ends (): Error {
    return new errorCodes.FST_BG_CLOSING(`Background queue "${this.#options.name}" ends before the run could`)
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
      if (this.#endListeners.has(entry.id)) this.#endListeners.fail(entry.id, this.#ends())
    } else if (retryIn !== undefined) {
      entry.attempt++
      this.#keys.take(entry)
      this.#delay(entry, retryIn, undefined)
    } else {
      this.#forget(entry)
      if (outcome === 'succeeded') this.#keep(entry, outcome, settlement.value)
      else if (outcome === 'failed') this.#keep(entry, outcome)
      else if (outcome === 'cancelled' && this.#endListeners.has(entry.id)) this.#endListeners.end(entry.id, cancelled)
    }
    entry.more?.ended?.forEach(tell => { tell() })
    // An attempt reads the clock when its handler has ended; to write a value or an error may take a while.
    this.#dispatcher.ended(outcome === 'succeeded' && settlement.value === undefined ? lastNow() : undefined)
    this.#endedAt = undefined
    this.#tellIdle()
  }

  #keep (entry: Entry, outcome: 'succeeded' | 'failed', value?: () => string | undefined): void {
    const finished = this.#finished[outcome]
    const awaited = this.#endListeners.has(entry.id)
    if (finished.none && !awaited) return
    this.#enter(entry, outcome)
    if (value !== undefined) entry.details.value = value()
    if (awaited) this.#endListeners.end(entry.id, endOf(entry))
    if (finished.none) return
    const now = this.#options.clock.wall()
    finished.add(entry, now)
    this.#endedAt = now
  }

  #tellIdle (): void {
    if (this.#idle.length === 0 || this.#busy) return
    for (const tell of this.#idle.splice(0)) tell()
  }
}

/** What the queue says; the defaults only where it says nothing. */
function keepOf (given: Keep, defaults: Keep): Keep {
  return given.count === undefined && given.age === undefined ? defaults : given
}

const cancelled: RunEnd = { outcome: 'cancelled', value: undefined, error: undefined }
