import type { Queue } from 'bullmq'
import { errorCodes } from '../../errors.ts'
import type { Condition } from '../../health.ts'
import type { Counts, Enqueued, ListedState, QueuedRun } from '../../queue-handle.ts'
import type { Progress } from '../../run.ts'
import type { NewRun, OpenOptions, Shared, StoreQueue, StoreWorker } from '../../store.ts'
import type { Control, Message } from './control.ts'
import type { Engine } from './engine.ts'
import { jobOf, recordOf, type JobData, type RunJob } from './jobs.ts'
import type { Link } from './link.ts'
import { Puller, type Leases } from './puller.ts'
import { Scripts } from './scripts.ts'

/** How often to look whether a queue is empty that other processes feed and work on, too, in milliseconds. */
const LOOK = 100
/** How long to wait for the process that has a run before it is told again that it is cancelled, in milliseconds. */
const AGAIN = 1_000
/** Clocks of two machines differ; BullMQ clears what is older than now. */
const LATER = -3_600_000
/** How BullMQ's times of delayed jobs are written: in 4,096ths of a millisecond. */
const SCORE = 0x1000

/** What BullMQ calls our states. */
const sets = { waiting: ['wait', 'prioritized'], delayed: ['delayed'], active: ['active'], succeeded: ['completed'], failed: ['failed'] } as const

/** A queue of BullMQ. */
export class BullmqQueue implements StoreQueue {
  readonly durable = true
  readonly shared: Shared
  readonly #options: OpenOptions
  readonly #leases: Leases
  readonly #link: Link
  readonly #control: Control
  readonly #engine: Engine
  readonly #prefix: string
  #made: Queue<JobData, void> | undefined
  readonly #puller: Puller
  readonly #scripts: Scripts
  readonly #unlisten: () => void
  readonly #offUp: () => void
  /** Those who wait for the end of a run that another process has. */
  readonly #ends = new Map<string, Set<() => void>>()
  #paused = false
  #stopped: Promise<void> | undefined

  constructor (engine: Engine, link: Link, control: Control, prefix: string, options: OpenOptions, leases: Leases, worker: StoreWorker) {
    const { name } = options
    this.#options = options
    this.#leases = leases
    this.#link = link
    this.#control = control
    this.#engine = engine
    this.#prefix = prefix
    this.#scripts = new Scripts(link.client, type => this.#toKey(type))
    this.#puller = new Puller(engine, link, prefix, options, leases, worker, this.#scripts, id => { void control.publish(name, { type: 'ended', id }).catch(() => {}) })
    this.#unlisten = control.listen(name, message => { this.#hear(message, worker) })
    this.shared = {
      recall: async name => await link.call(async () => await this.#scripts.recall(name)),
      raise: async (name, value) => { await link.call(async () => { await this.#scripts.raise(name, value) }) }
    }
    this.#offUp = link.onUp(() => {
      this.#puller.up()
      void this.#limit().catch(() => {})
      void this.#lookWhetherPaused(worker).catch(() => {})
    })
  }

  get paused (): boolean { return this.#paused }

  get condition (): Condition { return this.#link.condition }

  /** Whether it takes in nothing any more. */
  get closed (): boolean { return this.#stopped !== undefined }

  async enqueue (run: NewRun): Promise<Enqueued> {
    const { data, opts } = jobOf(run, this.#options.clock.wall())
    const { id = '' } = await this.#link.call(() => this.#queue.add(this.#options.name, data, opts))
    return { id, duplicate: id !== run.id }
  }

  work (): void {
    this.#puller.take()
  }

  halt (): void {
    this.#puller.halt()
  }

  async pause (): Promise<void> {
    await this.#link.call(async () => { await this.#queue.pause() })
    this.#paused = true
    await this.#link.call(async () => { await this.#control.publish(this.#options.name, { type: 'paused', id: '' }) })
  }

  async resume (): Promise<void> {
    await this.#link.call(async () => { await this.#queue.resume() })
    this.#paused = false
    await this.#link.call(async () => { await this.#control.publish(this.#options.name, { type: 'resumed', id: '' }) })
  }

  async counts (): Promise<Counts> {
    const found = await this.#link.call(async () => await this.#queue.getJobCounts(...Object.values(sets).flat()))
    const sum = (state: ListedState): number => sets[state].reduce((total, set) => total + Number(found[set]), 0)
    return { waiting: sum('waiting'), delayed: sum('delayed'), active: sum('active'), succeeded: sum('succeeded'), failed: sum('failed') }
  }

  async list (state: ListedState, offset: number, limit: number): Promise<QueuedRun[]> {
    return await this.#link.call(async () => {
      const jobs = await this.#in(state, offset, limit)
      const dueAts = state === 'delayed' ? await this.#dueAts(offset, limit) : undefined
      return jobs.map(job => recordOf(job, state, dueAts?.get(job.id as string), this.#leases.maxCrashes))
    })
  }

  async retry (id: string): Promise<boolean> {
    return await this.#link.call(async () => {
      const job = await this.#queue.getJob(id) as RunJob | undefined
      return job !== undefined && await job.isFailed() && await this.#retry(job)
    })
  }

  async retryFailed (): Promise<number> {
    let count = 0
    const jobs = await this.#link.call(async () => await this.#queue.getJobs(['failed'], 0, -1, true))
    for (const job of jobs) {
      // One whose key is taken stays where it is, and so does one that another process has just retried.
      if (await this.#link.call(async () => await this.#retry(job).catch(() => false))) count++
    }
    return count
  }

  async cancel (id: string): Promise<'waiting' | 'active' | undefined> {
    let found: 'active' | undefined
    for (;;) {
      const state = await this.#link.call(async () => await this.#queue.getJobState(id))
      switch (state) {
        case 'active':
          await this.#cancelActive(id)
          found = 'active'
          break
        case 'waiting':
        case 'delayed':
        case 'prioritized':
          // A worker may have taken it meanwhile.
          if (await this.#remove(id)) return 'waiting'
          break
        case 'completed':
        case 'failed':
        case 'waiting-children':
        case 'unknown':
          return found
      }
    }
  }

  async remove (id: string): Promise<boolean> {
    const cancelled = await this.cancel(id)
    const removed = await this.#remove(id)
    return cancelled !== undefined || removed
  }

  async clear (state: Exclude<ListedState, 'active'>): Promise<number> {
    let count = 0
    for (const set of sets[state]) {
      const ids = await this.#link.call(async () => await this.#queue.clean(LATER, 0, set))
      count += ids.length
    }
    return count
  }

  progress (id: string, value: Progress): void {
    this.#puller.progress(id, value)
  }

  async drained (): Promise<boolean> {
    const { clock } = this.#options
    for (let waited = false; ; waited = true) {
      if (this.#puller.busy || !this.#puller.takes) {
        await this.#puller.idle()
        if (!this.#puller.takes) return waited
      } else {
        if (this.#paused) return waited
        const { waiting, delayed, active } = await this.counts()
        if (waiting + delayed + active === 0) return waited
        // Other processes work on it as well, and BullMQ tells of that only who reads all that befalls every job.
        await new Promise<void>(resolve => { clock.after(LOOK, resolve) })
      }
    }
  }

  /** Nothing is lost: it waits for the next process. */
  shutDown (): number { return 0 }

  release (): void {
    this.#puller.release()
  }

  close (): number {
    void this.stop().catch(() => {})
    return 0
  }

  /** Lets go of what it holds, as soon as what is in hand has ended. */
  stop (): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  async #stop (): Promise<void> {
    this.#unlisten()
    this.#offUp()
    await this.#puller.close()
    await this.#made?.close()
  }

  /** Made when the connection is up; and anew where it was lost before BullMQ had begun, as that takes it for broken then. */
  get #queue (): Queue<JobData, void> {
    if (this.#made !== undefined) return this.#made
    const made = new this.#engine.Queue<JobData, void>(this.#options.name, { connection: this.#link.client as never, prefix: this.#prefix })
    // The link tells of what befalls the connection.
    made.on('error', () => {})
    made.waitUntilReady().catch(() => { this.#made = undefined })
    this.#made = made
    return made
  }

  #toKey (type: string): string {
    return `${this.#prefix}:${this.#options.name}:${type}`
  }

  async #in (state: ListedState, offset: number, limit: number): Promise<RunJob[]> {
    const range = async (set: 'wait' | 'prioritized' | 'delayed' | 'active' | 'completed' | 'failed', from: number, count: number): Promise<RunJob[]> => {
      const newestFirst = set === 'completed' || set === 'failed'
      return count <= 0 ? [] : await this.#queue.getJobs([set], from, from + count - 1, !newestFirst)
    }
    if (state !== 'waiting') return await range(sets[state][0], offset, limit)
    const { wait: plain = 0 } = await this.#queue.getJobCounts('wait')
    const jobs = await range('wait', offset, Math.min(limit, plain - offset))
    return [...jobs, ...await range('prioritized', Math.max(0, offset - plain), limit - jobs.length)]
  }

  /** When delayed jobs may run, by id. */
  async #dueAts (offset: number, limit: number): Promise<Map<string, number>> {
    const flat = await this.#link.client.zrange(this.#toKey('delayed'), offset, offset + limit - 1, { WITHSCORES: true })
    return new Map(flat.flatMap((id, i) => i % 2 === 0 ? [[id, Math.floor(Number(flat[i + 1]) / SCORE)]] : []))
  }

  async #retry (job: RunJob): Promise<boolean> {
    const { id = '', deduplicationId: key } = job
    if (key !== undefined && !await this.#scripts.takeKey(key, id)) {
      throw new errorCodes.FST_BG_INVALID_OPTION(`Run ${id} of background queue "${this.#options.name}" cannot be retried: another with its key "${key}" waits or runs.`)
    }
    // The processes that died under it before are no reason to fail it at once.
    await this.#link.client.hdel(this.#toKey(id), 'stc')
    await job.retry('failed')
    return true
  }

  async #remove (id: string): Promise<boolean> {
    // BullMQ removes what is not there, too, and says that it has.
    return await this.#link.call(async () => await this.#queue.getJobState(id) !== 'unknown' && await this.#queue.remove(id) === 1)
  }

  /** Has the process that runs it abort, and waits until it has ended, or for a while. */
  async #cancelActive (id: string): Promise<void> {
    const here = this.#puller.cancel(id)
    if (here !== undefined) return await here
    const { clock, name } = this.#options
    const ends = this.#ends.get(id) ?? new Set()
    this.#ends.set(id, ends)
    let end!: () => void
    const ended = new Promise<void>(resolve => { end = resolve })
    ends.add(end)
    const timer = clock.after(AGAIN, end)
    try {
      await this.#link.call(async () => { await this.#control.publish(name, { type: 'cancel', id }) })
      await ended
    } finally {
      timer.cancel()
      ends.delete(end)
      if (ends.size === 0) this.#ends.delete(id)
    }
  }

  #hear ({ type, id }: Message, worker: StoreWorker): void {
    switch (type) {
      case 'cancel':
        void this.#puller.cancel(id)
        break
      case 'ended':
        for (const end of this.#ends.get(id) ?? []) end()
        break
      case 'paused':
      case 'resumed':
        this.#setPaused(type === 'paused', worker)
    }
  }

  async #limit (): Promise<void> {
    const { exclusive } = this.#options
    if (exclusive === true) await this.#queue.setGlobalConcurrency(1)
    else if (exclusive === false) await this.#queue.removeGlobalConcurrency()
  }

  /** Another process may have paused it while this one was not there, or could not hear. */
  async #lookWhetherPaused (worker: StoreWorker): Promise<void> {
    this.#setPaused(await this.#queue.isPaused(), worker)
  }

  #setPaused (paused: boolean, worker: StoreWorker): void {
    if (paused === this.#paused) return
    this.#paused = paused
    worker.pauseChanged(paused)
  }
}
