import type { Alarm } from '../clock.ts'
import { errorCodes } from '../errors.ts'
import type { Condition } from '../health.ts'
import type { Counts, Enqueued, ListedState, QueuedRun } from '../queue-handle.ts'
import type { Progress } from '../run.ts'
import { List } from '../list.ts'
import type { NewRun, OpenOptions, Settlement, Store, StoreQueue, StoreWorker } from '../store.ts'
import { Entry, recordOf } from './entry.ts'
import { Kept } from './kept.ts'
import { Lanes } from './lanes.ts'
import { Pump } from './pump.ts'

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

/** A run that waits for room in a full queue. */
interface Standing {
  run: NewRun
  resolve: (enqueued: Enqueued) => void
  reject: (error: Error) => void
}

class MemoryQueue implements StoreQueue {
  readonly durable = false
  readonly shared: undefined
  readonly #options: OpenOptions
  readonly #worker: StoreWorker
  readonly #maxSize: number
  readonly #pump: Pump
  readonly #waiting = new Lanes<Entry>()
  readonly #delayed = new Set<Entry>()
  readonly #active = new List<Entry>()
  /** Those that have not ended, by id: made when somebody asks for one, as few queues are ever asked and each of their runs would pay for it. */
  #byId: Map<string, Entry> | undefined
  readonly #kept: { succeeded: Kept<Entry>, failed: Kept<Entry> }
  /** Who has which key. */
  readonly #keys = new Map<string, string>()
  readonly #standing = new Set<Standing>()
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
    this.#pump = new Pump(options, () => this.#begin())
    this.#kept = {
      succeeded: new Kept({ ...succeeded, count: succeeded.count ?? (succeeded.age === undefined ? 0 : Infinity) }, wall),
      failed: new Kept({ ...failed, count: failed.count ?? KEEP_FAILED }, wall)
    }
  }

  get paused (): boolean { return this.#pump.paused }

  get condition (): Condition {
    if (this.#size <= this.#maxSize * NEARLY) return { status: 'ok' }
    return { status: 'degraded', reason: `${this.#size} runs wait, of at most ${this.#maxSize}` }
  }

  enqueue (run: NewRun): Enqueued | Promise<Enqueued> {
    const lost = this.#closing && (!this.#pump.works || this.#delayOf(run) > 0)
    if (lost) throw new errorCodes.FST_BG_CLOSING(`Background queue "${this.#options.name}" takes no run that it could not finish`)
    const duplicate = this.#duplicateOf(run)
    if (duplicate !== undefined) return duplicate
    if (this.#size < this.#maxSize && this.#standing.size === 0) return this.#add(run)
    if (this.#options.onFull !== 'wait') throw new errorCodes.FST_BG_QUEUE_FULL(this.#options.name, this.#size)
    // A request that waited for room would hold up the close.
    if (this.#closing) throw this.#full()
    return new Promise((resolve, reject) => { this.#standing.add({ run, resolve, reject }) })
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
    return { waiting: this.#waiting.size, delayed: this.#delayed.size, active: this.#active.size, succeeded: this.#kept.succeeded.size, failed: this.#kept.failed.size }
  }

  async list (state: ListedState, offset: number, limit: number): Promise<QueuedRun[]> {
    return this.#in(state).slice(offset, offset + limit).map(entry => recordOf(entry))
  }

  async retry (id: string): Promise<boolean> {
    const entry = this.#kept.failed.take(id)
    if (entry === undefined) return false
    if (!this.#takesKey(entry)) {
      this.#kept.failed.add(entry)
      throw new errorCodes.FST_BG_INVALID_OPTION(`Run ${id} of background queue "${this.#options.name}" cannot be retried: another with its key "${entry.options.key}" waits or runs.`)
    }
    entry.attempt++
    this.#byId?.set(id, entry)
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

  async cancel (id: string): Promise<boolean> {
    const entry = this.#find(id)
    if (entry === undefined) return false
    if (entry.state === 'active') {
      await new Promise<void>(resolve => {
        (entry.details.ended ??= []).push(resolve)
        this.#worker.abort(id, 'cancelled')
      })
    } else {
      this.#drop(entry)
      this.#tellIdle()
    }
    return true
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
    const entry = this.#findActive(id)
    if (entry !== undefined) entry.details.progress = value
  }

  async drained (): Promise<boolean> {
    if (!this.#busy) return false
    await new Promise<void>(resolve => { this.#idle.push(resolve) })
    return true
  }

  shutDown (): number {
    this.#closing = true
    this.#refuseStanding()
    const lost = [...this.#in('delayed'), ...this.#pump.works ? [] : this.#in('waiting')]
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

  get #size (): number { return this.#waiting.size + this.#delayed.size }

  get #busy (): boolean {
    return this.#pump.active > 0 || (this.#pump.works && this.#size > 0)
  }

  #in (state: ListedState): Entry[] {
    if (state === 'waiting') return [...this.#waiting]
    if (state === 'succeeded' || state === 'failed') return this.#kept[state].list()
    if (state === 'active') return [...this.#active]
    const timeOf = ({ more }: Entry): number => Number(more?.runAt)
    return [...this.#delayed].sort((a, b) => timeOf(a) - timeOf(b))
  }

  #find (id: string): Entry | undefined {
    this.#byId ??= new Map([...this.#waiting, ...this.#delayed, ...this.#active].map(entry => [entry.id, entry]))
    return this.#byId.get(id)
  }

  /** There are few of them. */
  #findActive (id: string): Entry | undefined {
    for (const entry of this.#active) {
      if (entry.id === id) return entry
    }
    return undefined
  }

  #duplicateOf ({ options: { key } }: NewRun): Enqueued | undefined {
    const id = key === undefined ? undefined : this.#keys.get(key)
    return id === undefined ? undefined : { id, duplicate: true }
  }

  #delayOf ({ options: { delay, runAt } }: NewRun): number {
    return runAt === undefined ? delay : runAt - this.#options.clock.wall()
  }

  #add (run: NewRun): Enqueued {
    const entry = new Entry(run, this.#options.clock.wall())
    this.#byId?.set(run.id, entry)
    this.#takesKey(entry)
    if (this.#delayOf(run) > 0) this.#delay(entry, run.options.delay, run.options.runAt)
    else this.#await(entry)
    return { id: run.id, duplicate: false }
  }

  /** Takes the run's key, if it has one. False if another run has it. */
  #takesKey ({ id, options: { key } }: Entry): boolean {
    if (key === undefined) return true
    if (this.#keys.has(key)) return this.#keys.get(key) === id
    this.#keys.set(key, id)
    return true
  }

  #letKeyGo ({ id, options: { key } }: Entry): void {
    if (key !== undefined && this.#keys.get(key) === id) this.#keys.delete(key)
  }

  #await (entry: Entry, ahead = false): void {
    entry.state = 'waiting'
    this.#waiting.add(entry, ahead)
    this.#pump.wake()
  }

  #delay (entry: Entry, delay: number, runAt: number | undefined): void {
    const { clock } = this.#options
    const alarm: Alarm = {
      due: 0,
      place: -1,
      set: false,
      ring: () => {
        this.#delayed.delete(entry)
        this.#await(entry)
      }
    }
    entry.state = 'delayed'
    entry.details.alarm = alarm
    entry.details.runAt = runAt ?? clock.wall() + delay
    this.#delayed.add(entry)
    if (runAt === undefined) clock.set(alarm, clock.now() + delay)
    else clock.setWall(alarm, runAt)
  }

  /** Takes out a run that waits or is delayed. */
  #drop (entry: Entry): void {
    if (entry.state === 'waiting') {
      this.#waiting.remove(entry)
    } else {
      this.#options.clock.cancel(entry.more?.alarm as Alarm)
      this.#delayed.delete(entry)
    }
    this.#forget(entry)
    this.#admit()
  }

  #forget (entry: Entry): void {
    this.#byId?.delete(entry.id)
    this.#letKeyGo(entry)
  }

  /** Lets in those that wait for room. */
  #admit (): void {
    if (this.#standing.size === 0) return
    for (const one of this.#standing) {
      const duplicate = this.#duplicateOf(one.run)
      if (duplicate === undefined && this.#size >= this.#maxSize) return
      this.#standing.delete(one)
      one.resolve(duplicate ?? this.#add(one.run))
    }
  }

  #refuseStanding (): void {
    for (const { reject } of this.#standing) reject(this.#full())
    this.#standing.clear()
  }

  #full (): Error {
    return new errorCodes.FST_BG_CLOSING(`Background queue "${this.#options.name}" is full, and takes nothing any more`)
  }

  /** Hands the first run over; false if none waits. */
  #begin (): boolean {
    const entry = this.#waiting.first
    if (entry === undefined) return false
    this.#waiting.remove(entry)
    entry.state = 'active'
    this.#active.add(entry)
    entry.startedAt = this.#options.clock.wall()
    if (entry.options.keyUntil === 'started') this.#letKeyGo(entry)
    this.#admit()
    const { id, attempt, payload, options: { retry, reqId }, startedAt } = entry
    this.#worker.execute({ id, payload, attempt, retry, reqId, startedAt }, settlement => { this.#settle(entry, settlement) })
    return true
  }

  #settle (entry: Entry, settlement: Settlement): void {
    const { outcome } = settlement
    this.#active.remove(entry)
    const retryIn = outcome === 'failed' ? settlement.retryIn : undefined
    if (outcome === 'failed') entry.details.error = settlement.error
    if (outcome === 'interrupted' && !this.#closed) {
      this.#takesKey(entry)
      this.#await(entry, true)
    } else if (retryIn !== undefined && this.#closing) {
      this.#lost++
      this.#forget(entry)
    } else if (retryIn !== undefined) {
      entry.attempt++
      this.#takesKey(entry)
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
