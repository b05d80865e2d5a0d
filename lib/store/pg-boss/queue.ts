import { errorCodes } from '../../common/errors.ts'
import { type Condition, worst } from '../../common/health.ts'
import type { Progress } from '../../run/index.ts'
import type { Counts, Enqueued, ListedState, QueuedRun, RunPage } from '../queued-run.ts'
import type { EndListener, NewRun, ScheduleStore, Shared, StoreQueue } from '../store.ts'
import type { QueueContext } from './context.ts'
import { EndWatcher } from './end-watcher.ts'
import type { Message } from './engine/index.ts'
import { addRuns, addRunsIn, engineId, isUuid, type JobRow, keyOf, millis, pageOf, recordOf } from './jobs/index.ts'
import { Fetcher, type Look, Poller, type Supervised, type Supervisor } from './runs/index.ts'
import { PgBossSchedules, ScheduleTicker } from './schedules/index.ts'

/** How often to check whether the queue is empty, in milliseconds: other processes fill and work on it, too. */
const LOOK = 100
/** How long to wait for the end of a run that was told to end before telling it again, in milliseconds. */
const AGAIN = 1_000
/** The most runs that one statement deletes. */
const CHUNK = 5_000
/** How long a paused queue waits before it tries to claim what is enqueued, in milliseconds. */
const PAUSED = 1_000
/** How long to wait until the database has recorded the last ends, in milliseconds. */
const RECORD = 1_000

const waiting = ['created', 'retry']
const ended = ['completed', 'failed', 'cancelled']

/** A queue in PostgreSQL. */
export class PgBossQueue implements StoreQueue {
  readonly durable = true
  readonly transactional = true
  readonly shared: Shared
  readonly schedules: ScheduleStore
  readonly #context: QueueContext
  readonly #supervisor: Supervisor
  readonly #supervised: Supervised
  readonly #fetcher: Fetcher
  readonly #ticker: ScheduleTicker
  readonly #ends: EndWatcher
  readonly #poller: Poller
  readonly #off: Array<() => void>
  #paused = false
  /** How often it was paused or resumed, as far as this process has heard. */
  #changes = 0
  /** How many own statements that pause or resume it are under way, and what messages have said meanwhile: both count when the statement is answered. */
  #steering = 0
  #heard: boolean[] = []
  #closed = false

  constructor (context: QueueContext, supervisor: Supervisor) {
    const { connection, call, sql, name } = context
    this.#context = context
    this.#supervisor = supervisor
    this.#ends = new EndWatcher(context)
    this.#fetcher = new Fetcher(context, { paused: () => this.#paused, ended: (id, end) => { this.#ends.ended(id, end) } })
    this.#supervised = { context, fetcher: this.#fetcher }
    this.#ticker = new ScheduleTicker(context)
    this.#poller = new Poller(context, look => { this.#poll(look) })
    this.schedules = new PgBossSchedules(context, this.#ticker)
    this.shared = {
      recall: async key => {
        const { rows: [row] } = await call(async db => await db.executeSql(sql.recall, [name, key])) as { rows: Array<{ value: number }> }
        return row?.value
      },
      raise: async (key, value) => { await call(async db => await db.executeSql(sql.raise, [name, key, String(value)])) }
    }
    this.#off = [
      connection.hear(name, message => { this.#hear(message) }),
      connection.onConnected(() => { void this.#connected().catch(() => {}) })
    ]
  }

  get paused (): boolean { return this.#paused }

  get reachable (): boolean { return this.#context.connection.reachable }

  get condition (): Condition { return worst([this.#context.connection.condition, this.#fetcher.condition]) }

  /** Whether it is closed. */
  get closed (): boolean { return this.#closed }

  /** Resolves when its tables exist. */
  async prepared (): Promise<void> { await this.#context.call(async () => {}) }

  /** A process has died under a run: it is begun again, or has failed. */
  takenOver (row: JobRow): void { this.#fetcher.takenOver(row) }

  async enqueue (run: NewRun, tx?: unknown): Promise<Enqueued> {
    const [enqueued] = await this.enqueueMany([run], tx)
    return enqueued as Enqueued
  }

  async enqueueMany (runs: NewRun[], tx?: unknown): Promise<Enqueued[]> {
    if (runs.length === 0) return []
    return tx === undefined ? await addRuns(this.#context, runs) : await addRunsIn(this.#context, runs, tx)
  }

  work (): void {
    this.#supervisor.add(this.#supervised)
    this.#fetcher.take()
    this.#ticker.work()
    this.#poller.start()
  }

  halt (): void {
    this.#fetcher.halt()
    this.#ticker.halt()
    this.#poller.stop()
  }

  async pause (): Promise<void> { await this.#pause(true) }

  async resume (): Promise<void> { await this.#pause(false) }

  async counts (): Promise<Counts> {
    const rows = await this.#run(this.#context.sql.counts)
    return rows[0] as Counts
  }

  async waitingSince (): Promise<number | undefined> {
    const [row] = await this.#run(this.#context.sql.waitingSince) as Array<{ since: string | null }>
    return millis(row?.since ?? null)
  }

  async list (state: ListedState, cursor: string | undefined, limit: number): Promise<RunPage> {
    return await pageOf(this.#context, state, cursor, limit)
  }

  async get (given: string): Promise<QueuedRun | undefined> {
    const row = await this.#row(given)
    return row && recordOf(row)
  }

  async retry (given: string): Promise<boolean> {
    const id = engineId(given)
    const { name } = this.#context.options
    const [row] = await this.#run(this.#context.sql.retry, id) as Array<{ found: number, moved: number, key: string | null }>
    if (row === undefined || row.found === 0) return false
    if (row.moved === 0) throw new errorCodes.FST_BG_INVALID_OPTION(`Run ${id} of background queue "${name}" cannot be retried: another with its key ${JSON.stringify(keyOf(row.key ?? ''))} waits or runs.`)
    return true
  }

  async retryFailed (): Promise<number> {
    const [row] = await this.#run(this.#context.sql.retry, null) as Array<{ moved: number }>
    return row?.moved ?? 0
  }

  async cancel (given: string): Promise<'waiting' | 'active' | undefined> {
    const id = engineId(given)
    const { sql, connection, options: { clock } } = this.#context
    for (let found: 'active' | undefined; ;) {
      if ((await this.#run(sql.delete, id, waiting, true)).length > 0) return 'waiting'
      if ((await this.#run(sql.askCancel, id)).length === 0) {
        const row = await this.#row(id)
        // It has begun between the two.
        if (row !== undefined && [...waiting, 'active'].includes(row.state)) continue
        return found
      }
      found = 'active'
      const here = this.#fetcher.cancel(id)
      if (here !== undefined) {
        await here
        continue
      }
      // Another process hears of it by the message, or when it renews its lease.
      await new Promise<void>(resolve => {
        const timer = clock.after(AGAIN, () => { end() })
        const done = (): void => { end() }
        const off = connection.listening ? this.#ends.add(id, { ended: done, gone: done, failed: done }) : () => {}
        const end = (): void => {
          timer.cancel()
          off()
          resolve()
        }
      })
    }
  }

  async remove (given: string): Promise<'waiting' | 'ended' | undefined> {
    const [row] = await this.#run(this.#context.sql.delete, engineId(given), [...waiting, ...ended], false) as Array<{ state: string }>
    return row && (waiting.includes(row.state) ? 'waiting' : 'ended')
  }

  onEnd (id: string, listener: EndListener): () => void {
    return this.#ends.add(id === '' ? id : isUuid(id) ? id : engineId(id), listener)
  }

  async clear (state: Exclude<ListedState, 'active'>): Promise<number> {
    for (let count = 0; ;) {
      const [row] = await this.#run(this.#context.sql.clear[state], CHUNK) as Array<{ count: number }>
      count += row?.count ?? 0
      if ((row?.count ?? 0) < CHUNK) return count
    }
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
        // Poll: no message says that another process has ended its last run.
        await new Promise<void>(resolve => { clock.after(LOOK, resolve) })
      }
    }
  }

  /** Drops nothing: the runs wait for the next process. */
  shutDown (): number {
    this.#context.connection.closing()
    return 0
  }

  release (): void {
    this.#fetcher.release()
  }

  close (): number {
    if (this.#closed) return 0
    this.#closed = true
    this.halt()
    for (const off of this.#off) off()
    this.#ends.stop()
    return 0
  }

  /** Waits until the database has recorded the last ends. */
  async stop (): Promise<void> {
    await this.#context.connection.within(RECORD, this.#fetcher.idle())
    this.#supervisor.remove(this.#supervised)
    this.#fetcher.close()
  }

  async #run (text: string, ...values: unknown[]): Promise<unknown[]> {
    const { call, name } = this.#context
    const { rows } = await call(async db => await db.executeSql(text, [name, ...values]))
    return rows
  }

  async #row (given: string): Promise<JobRow | undefined> {
    const id = engineId(given)
    return (await this.#run(this.#context.sql.get, id))[0] as JobRow | undefined
  }

  async #pause (paused: boolean): Promise<void> {
    this.#steering++
    try {
      await this.#run(this.#context.sql.pause, paused)
      this.#changes++
      // Messages come in the order in which all was committed: what comes after this one's own is what another process has done since. Before it comes, nothing heard counts.
      const heard = this.#heard.includes(paused) ? this.#heard.at(-1) : undefined
      this.#paused = heard ?? paused
      this.#heard = []
    } finally {
      this.#steering--
      const heard = this.#heard.at(-1)
      if (this.#steering === 0) this.#heard = []
      // Of a statement that has failed.
      if (heard !== undefined) this.#setPaused(heard)
    }
    if (!this.#paused) this.#fetcher.wake()
  }

  /** The database answers, perhaps again: what was missed meanwhile. */
  async #connected (): Promise<void> {
    const { call, sql, name, options: { exclusive } } = this.#context
    if (exclusive !== undefined) await this.#run(sql.limit, exclusive)
    const changes = this.#changes
    const { rows: [row] } = await call(async db => await db.executeSql(sql.settings, [name])) as { rows: Array<{ paused: boolean, exclusive: boolean }> }
    this.#fetcher.exclusive = row?.exclusive ?? false
    if (changes === this.#changes && this.#steering === 0) this.#setPaused(row?.paused ?? false)
    this.#fetcher.wake()
    this.#ticker.wake()
    this.#ends.lookAgain()
  }

  #hear (message: Message): void {
    switch (message.type) {
      case 'due':
        // Not at once while the queue is paused, where nothing is to be had; but soon, should this process have missed that somebody has resumed it.
        this.#fetcher.due(this.#paused && !(message.wait > 0) ? PAUSED : message.wait)
        break
      case 'cancel':
        void this.#fetcher.cancel(message.id)
        break
      case 'ended':
        this.#ends.hear(message.ids)
        break
      case 'scheduled':
        this.#ticker.wake()
        break
      case 'paused':
      case 'resumed':
        this.#changes++
        if (this.#steering > 0) this.#heard.push(message.type === 'paused')
        else this.#setPaused(message.type === 'paused')
    }
  }

  #poll ({ paused, waiting, next }: Look): void {
    if (this.#steering === 0) this.#setPaused(paused ?? false)
    if (waiting && !this.#paused) this.#fetcher.wake()
    if (next !== null && next < LOOK) this.#ticker.wake()
  }

  #setPaused (paused: boolean): void {
    if (paused === this.#paused) return
    this.#paused = paused
    this.#context.worker.pauseChanged(paused)
    if (!paused) this.#fetcher.wake()
  }
}
