import type { Alarm } from '../clock.ts'
import { errorCodes } from '../errors.ts'
import type { Condition } from '../health.ts'
import type { Counts, Enqueued, ListedState, QueuedRun } from '../queue-handle.ts'
import type { Progress } from '../run.ts'
import type { NewRun, OpenOptions, Settlement, Store, StoreQueue, StoreWorker } from '../store.ts'
import { Entry, recordOf } from './entry.ts'
import { Kept } from './kept.ts'
import { Keys } from './keys.ts'
import { Pump, type Waiting } from './pump.ts'
import { Standing } from './standing.ts'
import { Unfinished } from './unfinished.ts'

const MAX_SIZE = 10_000
const KEEP_FAILED = 100
/** How full is nearly full. */
const NEARLY = 0.8

/** Keeps runs in this process, and behaves as a durable store does until that ends. */
export class MemoryStore implements Store {
  open (options: OpenOptions, worker: StoreWorker): StoreQueue {
    return new MemoryQueue(options, worker)
  }

  async stop (): Promise<void> {}
}

class MemoryQueue implements StoreQueue, Waiting {
  readonly durable = false
  readonly shared: undefined
  readonly #options: OpenOptions
  readonly #worker: StoreWorker
  readonly #maxSize: number
  readonly #pump: Pump
  readonly #unfinished = new Unfinished()
  readonly #kept: { succeeded: Kept<Entry>, failed: Kept<Entry> }
  readonly #keys = new Keys()
  readonly #standing = new Standing()
  readonly #idle: Array<() => void> = []
  #closing = false
  #closed = false
  /** How many have failed since it closes, and would have been tried again. */
  #lost = 0

  constructor (options: OpenOptions, worker: StoreWorker) {
    const { maxSize = MAX_SIZE, keep: { succeeded, failed }, clock } = options
    const wall = (): number => clock.wall()
    this.#options = options
    this.#worker = worker
    this.#maxSize = maxSize
    this.#pump = new Pump(options, this)
    this.#kept = {
      succeeded: new Kept({ ...succeeded, count: succeeded.count ?? (succeeded.age === undefined ? 0 : Infinity) }, wall),
      failed: new Kept({ ...failed, count: failed.count ?? KEEP_FAILED }, wall)
    }
  }

  get paused (): boolean { return this.#pump.paused }

  get condition (): Condition {
    if (this.#unfinished.size <= this.#maxSize * NEARLY) return { status: 'ok' }
    return { status: 'degraded', reason: `${this.#unfinished.size} runs wait, of at most ${this.#maxSize}` }
  }

  enqueue (run: NewRun): Enqueued | Promise<Enqueued> {
    const lost = this.#closing && (!this.#pump.works || this.#delayOf(run) > 0)
    if (lost) throw new errorCodes.FST_BG_CLOSING(`Background queue "${this.#options.name}" takes no run that it could not finish`)
    const duplicate = this.#duplicateOf(run)
    if (duplicate !== undefined) return duplicate
    if (this.#unfinished.size < this.#maxSize && this.#standing.size === 0) return this.#add(run)
    if (this.#options.onFull !== 'wait') throw new errorCodes.FST_BG_QUEUE_FULL(this.#options.name, this.#unfinished.size)
    // A request that waited for room would hold up the close.
    if (this.#closing) throw this.#full()
    return this.#standing.add(run)
  }

  work (): void {
    this.#pump.work()
  }

  halt (): void {
    this.#pump.halt()
    this.#tellIdle()
  }

  async pause (): Promise<void> {
    this.#pump.pause()
    this.#tellIdle()
  }

  async resume (): Promise<void> {
    this.#pump.resume()
  }

  async counts (): Promise<Counts> {
    const { waiting, delayed, active } = this.#unfinished
    const { succeeded, failed } = this.#kept
    return { waiting: waiting.size, delayed: delayed.size, active: active.size, succeeded: succeeded.size, failed: failed.size }
  }

  async list (state: ListedState, offset: number, limit: number): Promise<QueuedRun[]> {
    return this.#in(state).slice(offset, offset + limit).map(entry => recordOf(entry))
  }

  async retry (id: string): Promise<boolean> {
    const entry = this.#kept.failed.take(id)
    if (entry === undefined) return false
    if (!this.#keys.take(entry)) {
      this.#kept.failed.add(entry)
      throw new errorCodes.FST_BG_INVALID_OPTION(`Run ${id} of background queue "${this.#options.name}" cannot be retried: another with its key "${entry.options.key}" waits or runs.`)
    }
    entry.attempt++
    this.#unfinished.add(entry)
    this.#await(entry)
    return true
  }

  async retryFailed (): Promise<number> {
    let count = 0
    for (const { id } of this.#kept.failed.list().reverse()) {
      // One whose key is taken stays where it is.
      if (await this.retry(id).catch(() => false)) count++
    }
    return count
  }

  async cancel (id: string): Promise<'waiting' | 'active' | undefined> {
    const entry = this.#unfinished.find(id)
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
    const { succeeded, failed } = this.#kept
    return (succeeded.take(id) ?? failed.take(id)) !== undefined
  }

  async clear (state: Exclude<ListedState, 'active'>): Promise<number> {
    if (state === 'succeeded' || state === 'failed') return this.#kept[state].clear()
    const entries = this.#in(state)
    for (const entry of entries) this.#drop(entry)
    this.#tellIdle()
    return entries.length
  }

  progress (id: string, value: Progress): void {
    const entry = this.#unfinished.findActive(id)
    if (entry !== undefined) entry.details.progress = value
  }

  async drained (): Promise<boolean> {
    if (!this.#busy) return false
    await new Promise<void>(resolve => { this.#idle.push(resolve) })
    return true
  }

  shutDown (): number {
    this.#closing = true
    this.#standing.refuse(() => this.#full())
    const lost = [...this.#unfinished.delayed, ...this.#pump.works ? [] : this.#unfinished.waiting]
    for (const entry of lost) this.#drop(entry)
    this.#tellIdle()
    return lost.length
  }

  /** There is nobody to give it to. */
  release (): void {}

  close (): number {
    this.halt()
    this.#closed = true
    return this.shutDown() + this.#lost
  }

  /** For the pump: whether a run waits. */
  get any (): boolean { return this.#unfinished.waiting.first !== undefined }

  /** For the pump: hands the first run over. */
  begin (): void {
    const { waiting, active } = this.#unfinished
    const entry = waiting.first as Entry
    waiting.remove(entry)
    entry.state = 'active'
    active.add(entry)
    entry.startedAt = this.#options.clock.wall()
    if (entry.more !== undefined) entry.more.interrupted = false
    if (entry.options.keyUntil === 'started') this.#keys.letGo(entry)
    this.#admit()
    this.#worker.execute(entry, settlement => { this.#settle(entry, settlement) })
  }

  get #busy (): boolean {
    return this.#pump.active > 0 || (this.#pump.works && this.#unfinished.size > 0)
  }

  #in (state: ListedState): Entry[] {
    return state === 'succeeded' || state === 'failed' ? this.#kept[state].list() : this.#unfinished.in(state)
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
    this.#unfinished.add(entry)
    this.#keys.take(entry)
    if (this.#delayOf(run) > 0) this.#delay(entry, run.options.delay, run.options.runAt)
    else this.#await(entry)
    return { id: run.id, duplicate: false }
  }

  #await (entry: Entry): void {
    entry.state = 'waiting'
    this.#unfinished.waiting.add(entry)
    this.#pump.wake()
  }

  /** It was interrupted: it comes first again, behind those that were and had begun before it. */
  #putBack (entry: Entry): void {
    entry.state = 'waiting'
    entry.details.interrupted = true
    this.#unfinished.waiting.putBack(entry, ({ more, startedAt }) => more?.interrupted === true && Number(startedAt) <= Number(entry.startedAt))
    this.#pump.wake()
  }

  #delay (entry: Entry, delay: number, runAt: number | undefined): void {
    const { clock } = this.#options
    const alarm: Alarm = {
      place: 0,
      ring: () => {
        this.#unfinished.delayed.delete(entry)
        this.#await(entry)
      }
    }
    entry.state = 'delayed'
    entry.details.alarm = alarm
    entry.details.runAt = runAt ?? clock.wall() + delay
    this.#unfinished.delayed.add(entry)
    if (runAt === undefined) clock.set(alarm, clock.now() + delay)
    else clock.setWall(alarm, runAt)
  }

  /** Takes out a run that waits or is delayed. */
  #drop (entry: Entry): void {
    if (entry.state === 'waiting') {
      this.#unfinished.waiting.remove(entry)
    } else {
      this.#options.clock.cancel(entry.more?.alarm as Alarm)
      this.#unfinished.delayed.delete(entry)
    }
    this.#forget(entry)
    this.#admit()
  }

  #forget (entry: Entry): void {
    this.#unfinished.remove(entry)
    this.#keys.letGo(entry)
  }

  /** Lets in those that wait for room. */
  #admit (): void {
    if (this.#standing.size === 0) return
    this.#standing.admit(run => this.#duplicateOf(run) ?? (this.#unfinished.size < this.#maxSize ? this.#add(run) : undefined))
  }

  #full (): Error {
    return new errorCodes.FST_BG_CLOSING(`Background queue "${this.#options.name}" is full, and takes nothing any more`)
  }

  #settle (entry: Entry, settlement: Settlement): void {
    const { outcome } = settlement
    this.#unfinished.active.remove(entry)
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
    this.#pump.ended()
    this.#tellIdle()
  }

  #keep (entry: Entry, outcome: 'succeeded' | 'failed'): void {
    const kept = this.#kept[outcome]
    if (kept.none) return
    entry.state = outcome
    entry.details.finishedAt = this.#options.clock.wall()
    kept.add(entry)
  }

  #tellIdle (): void {
    if (this.#idle.length === 0 || this.#busy) return
    for (const tell of this.#idle.splice(0)) tell()
  }
}
