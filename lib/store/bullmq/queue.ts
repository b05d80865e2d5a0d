import type { Queue } from 'bullmq'
import { errorCodes } from '../../common/errors.ts'
import { type Condition, worst } from '../../common/health.ts'
import type { Progress } from '../../run/index.ts'
import type { Counts, Enqueued, ListedState, QueuedRun, RunPage } from '../queued-run.ts'
import type { EndListener, NewRun, ScheduleStore, Shared, StoreQueue, StoreWorker } from '../store.ts'
import { Cancellation } from './control/cancellation.ts'
import type { QueueContext } from './context.ts'
import type { Message } from './control/control-stream.ts'
import { EndWatcher } from './ends/index.ts'
import { Fetcher } from './fetcher.ts'
import { type JobData, jobOf, JobTransaction, Pages, type RunJob, sets } from './jobs/index.ts'
import { BullmqSchedules, ScheduleTicker } from './schedules/index.ts'

/** How often to check whether the queue is empty, in milliseconds: other processes fill and work on it, too. */
const LOOK = 100
/** A grace for BullMQ's `clean`, which clears what is older than now, as the clocks of two machines differ; in milliseconds. */
const LATER = -3_600_000

/** A queue of BullMQ. */
export class BullmqQueue implements StoreQueue {
  readonly durable = true
  readonly shared: Shared
  readonly schedules: ScheduleStore
  readonly #context: QueueContext
  readonly #pages: Pages
  readonly #transaction: JobTransaction
  readonly #ticker: ScheduleTicker
  #made: Queue<JobData, unknown> | undefined
  readonly #fetcher: Fetcher
  readonly #cancellation: Cancellation
  readonly #ends: EndWatcher
  readonly #unlisten: () => void
  readonly #offConnected: () => void
  #paused = false
  #stopped: Promise<void> | undefined

  constructor (context: QueueContext) {
    const { redis, control, scripts, worker, options: { name } } = context
    this.#context = context
    this.#pages = new Pages(context)
    this.#transaction = new JobTransaction(context, () => this.#queue)
    this.#ticker = new ScheduleTicker(context, this.#transaction)
    this.schedules = new BullmqSchedules(context, this.#ticker)
    this.#ends = new EndWatcher(context)
    this.#fetcher = new Fetcher(context, this.#ends)
    this.#cancellation = new Cancellation(context, this.#fetcher)
    this.#unlisten = control.listen(name, message => { this.#hear(message, worker) })
    this.shared = {
      recall: async name => await redis.call(async () => await scripts.recall(name)),
      raise: async (name, value) => { await redis.call(async () => { await scripts.raise(name, value) }) }
    }
    this.#offConnected = redis.onConnected(() => {
      this.#fetcher.connected()
      this.#ticker.wake()
      void this.#limit().catch(() => {})
      void this.#checkPaused(worker).catch(() => {})
    })
  }

  get paused (): boolean { return this.#paused }

  get reachable (): boolean { return this.#context.redis.reachable }

  get condition (): Condition { return worst([this.#context.redis.condition, this.#fetcher.condition]) }

  /** Whether it is closed. */
  get closed (): boolean { return this.#stopped !== undefined }

  async enqueue (run: NewRun): Promise<Enqueued> {
    // Somebody may have flushed Redis: ticks, which are few, set the limit anew.
    if (this.#context.options.exclusive === true) await this.#context.redis.call(async () => { await this.#limit() })
    const { data, opts } = jobOf(run, this.#context.options.clock.wall())
    const { id = '' } = await this.#context.redis.call(() => this.#queue.add(this.#context.options.name, data, opts))
    return { id, duplicate: id !== run.id }
  }

  async enqueueMany (runs: NewRun[]): Promise<Enqueued[]> {
    if (runs.length === 0) return []
    const ids = await this.#transaction.addAll(runs)
    return runs.map((run, i) => ({ id: ids[i] as string, duplicate: ids[i] !== run.id }))
  }

  work (): void {
    this.#fetcher.take()
    this.#ticker.work()
  }

  halt (): void {
    this.#fetcher.halt()
    this.#ticker.halt()
  }

  async pause (): Promise<void> {
    await this.#context.redis.call(async () => { await this.#queue.pause() })
    this.#paused = true
    await this.#context.redis.call(async () => { await this.#context.control.publish(this.#context.options.name, { type: 'paused', id: '' }) })
  }

  async resume (): Promise<void> {
    await this.#context.redis.call(async () => { await this.#queue.resume() })
    this.#paused = false
    await this.#context.redis.call(async () => { await this.#context.control.publish(this.#context.options.name, { type: 'resumed', id: '' }) })
  }

  async counts (): Promise<Counts> {
    const found = await this.#context.redis.call(async () => await this.#queue.getJobCounts(...Object.values(sets).flat()))
    const sum = (state: ListedState): number => sets[state].reduce((total, set) => total + Number(found[set]), 0)
    return { waiting: sum('waiting'), delayed: sum('delayed'), active: sum('active'), succeeded: sum('succeeded'), failed: sum('failed') }
  }

  async waitingSince (): Promise<number | undefined> {
    return await this.#pages.waitingSince()
  }

  async list (state: ListedState, cursor: string | undefined, limit: number): Promise<RunPage> {
    return await this.#pages.list(state, cursor, limit)
  }

  async get (id: string): Promise<QueuedRun | undefined> {
    return await this.#pages.get(id)
  }

  async retry (id: string): Promise<boolean> {
    return await this.#context.redis.call(async () => await this.#queue.getJobState(id) === 'failed' && await this.#retry(id))
  }

  async retryFailed (): Promise<number> {
    let count = 0
    const { redis, toKey } = this.#context
    const ids = await redis.call(async () => await redis.client.zrange(toKey('failed'), 0, -1))
    for (const id of ids) {
      // A job whose key another one has stays failed, and so does one that is lost, or that another process has just retried.
      if (await redis.call(async () => await this.#retry(id).catch(() => false))) count++
    }
    return count
  }

  async cancel (id: string): Promise<'waiting' | 'active' | undefined> {
    let found: 'active' | undefined
    let marked = false
    for (;;) {
      const state = await this.#context.redis.call(async () => await this.#queue.getJobState(id))
      if (!marked && ['active', 'waiting', 'delayed', 'prioritized'].includes(state)) await this.#ends.mark(id)
      marked = true
      switch (state) {
        case 'active':
          await this.#cancellation.cancel(id)
          found = 'active'
          break
        case 'waiting':
        case 'delayed':
        case 'prioritized':
          // If that fails, a worker has fetched it meanwhile: look again.
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

  async remove (id: string): Promise<'waiting' | 'ended' | undefined> {
    for (;;) {
      const state = await this.#context.redis.call(async () => await this.#queue.getJobState(id))
      switch (state) {
        case 'active':
        case 'unknown':
          return undefined
        case 'waiting':
        case 'delayed':
        case 'prioritized':
          // If that fails, a worker has fetched it meanwhile: look again.
          if (await this.#remove(id)) return 'waiting'
          break
        case 'completed':
        case 'failed':
        case 'waiting-children':
          if (await this.#remove(id)) return 'ended'
      }
    }
  }

  onEnd (id: string, listener: EndListener): () => void {
    return this.#ends.add(id, listener)
  }

  async clear (state: Exclude<ListedState, 'active'>): Promise<number> {
    let count = 0
    for (const set of sets[state]) {
      const ids = await this.#context.redis.call(async () => await this.#queue.clean(LATER, 0, set))
      count += ids.length
    }
    return count
  }

  progress (id: string, value: Progress): void {
    this.#fetcher.progress(id, value)
  }

  async drained (): Promise<boolean> {
    const { clock } = this.#context.options
    for (let waited = false; ; waited = true) {
      if (this.#fetcher.busy || !this.#fetcher.takes) {
        await this.#fetcher.idle()
        if (!this.#fetcher.takes) return waited
      } else {
        if (this.#paused) return waited
        const { waiting, delayed, active } = await this.counts()
        if (waiting + delayed + active === 0) return waited
        // Poll: BullMQ reports the jobs of other processes only on a stream of all events of all jobs.
        await new Promise<void>(resolve => { clock.after(LOOK, resolve) })
      }
    }
  }

  /** Drops nothing: the runs wait for the next process. */
  shutDown (): number { return 0 }

  release (): void {
    this.#fetcher.release()
  }

  close (): number {
    void this.stop().catch(() => {})
    return 0
  }

  /** Closes its connections when the active jobs have ended. */
  stop (): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  async #stop (): Promise<void> {
    this.#unlisten()
    this.#offConnected()
    this.#ends.stop()
    await this.#fetcher.close()
    await this.#made?.close()
  }

  /** Created when the connection is up, and anew if it is lost before BullMQ is ready, which treats the first as broken then. */
  get #queue (): Queue<JobData, unknown> {
    if (this.#made !== undefined) return this.#made
    const made = new this.#context.engine.Queue<JobData, unknown>(this.#context.options.name, { connection: this.#context.redis.client as never, prefix: this.#context.prefix })
    // RedisConnection handles the errors of the connection.
    made.on('error', () => {})
    made.waitUntilReady().catch(() => { this.#made = undefined })
    this.#made = made
    return made
  }

  async #retry (id: string): Promise<boolean> {
    const { engine, redis, scripts, toKey, options: { name } } = this.#context
    const refused = (why: string): Error => new errorCodes.FST_BG_INVALID_OPTION(`Run ${id} of background queue "${name}" cannot be retried: ${why}`)
    // Not the job, which may be unreadable.
    const [data, key] = await redis.client.hmget(toKey(id), 'data', 'deid')
    if (data === null || data === undefined) throw refused('Redis has lost its data. Remove it.')
    if (key !== null && key !== undefined && !await scripts.takeKey(key, id)) throw refused(`another with its key "${key}" waits or runs.`)
    // Forget the processes that have died under it: they must not fail it at once.
    await redis.client.hdel(toKey(id), 'stc')
    await (new engine.Job(this.#queue, name, {}, {}, id) as RunJob).retry('failed')
    return true
  }

  async #remove (id: string): Promise<boolean> {
    // BullMQ reports success for a job that does not exist, too.
    return await this.#context.redis.call(async () => await this.#queue.getJobState(id) !== 'unknown' && await this.#queue.remove(id) === 1)
  }

  #hear ({ type, id }: Message, worker: StoreWorker): void {
    switch (type) {
      case 'cancel':
        void this.#fetcher.cancel(id)
        break
      case 'ended':
        this.#cancellation.ended(id)
        break
      case 'scheduled':
        this.#ticker.wake()
        break
      case 'paused':
      case 'resumed':
        this.#setPaused(type === 'paused', worker)
    }
  }

  async #limit (): Promise<void> {
    const { exclusive } = this.#context.options
    if (exclusive === true) await this.#queue.setGlobalConcurrency(1)
    else if (exclusive === false) await this.#queue.removeGlobalConcurrency()
  }

  /** Another process may have paused the queue before this one started, or while it was not connected. */
  async #checkPaused (worker: StoreWorker): Promise<void> {
    this.#setPaused(await this.#queue.isPaused(), worker)
  }

  #setPaused (paused: boolean, worker: StoreWorker): void {
    if (paused === this.#paused) return
    this.#paused = paused
    worker.pauseChanged(paused)
  }
}
