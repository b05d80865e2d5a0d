import type { Condition } from '../../../common/health.ts'
import { report } from '../../../common/log.ts'
import type { Progress } from '../../../run/index.ts'
import type { Timer } from '../../../time/index.ts'
import type { RunEnd } from '../../queued-run.ts'
import type { QueueContext } from '../context.ts'
import type { SqlExecutor } from '../database.ts'
import { claimedRunOf, crashed, crashesOf, type JobRow } from '../jobs/index.ts'
import { type ActiveRun, ActiveRuns } from './active-runs.ts'
import { Settler } from './settler.ts'

/** How long to wait until the database has recorded an end while the application stops, in milliseconds. */
export const RECORD = 1_000
/** How often to look for runs of which no message says that there are any, in milliseconds. */
const LOOK = 30_000
/** How long to wait after a claim that has failed, in milliseconds. */
const AGAIN = 1_000

/** What a fetcher asks its queue, and tells it. */
export interface FetcherHooks {
  /** Whether the queue is paused, as far as this process knows. */
  paused (): boolean
  /** How a run has ended for good. */
  ended (id: string, end: RunEnd): void
}

/**
 * Claims runs and gives them to the queue, as many at a time as that has room for.
 *
 * It sleeps until a message says that runs may begin, until the first delayed one may, or until a run ends. One claim is under way at a time. It is made while the database
 * records the ends that make room for it, and its runs begin when that is done; where processes wait for each other, it is made after that.
 */
export class Fetcher {
  readonly #context: QueueContext
  readonly #hooks: FetcherHooks
  readonly #runs: ActiveRuns
  readonly #settler: Settler
  /** Whether one run at a time is active in all processes, as the database says. */
  exclusive = false
  #takes = false
  #claiming: Promise<void> | undefined
  #isClaiming = false
  /** Whether somebody wants a claim since the last one began. */
  #wanted = false
  #timer: Timer | undefined
  /** When the timer rings, on the monotonic timeline. */
  #dueAt = Infinity

  constructor (context: QueueContext, hooks: FetcherHooks) {
    this.#context = context
    this.#hooks = hooks
    this.#runs = new ActiveRuns(context.options.clock, context.worker)
    this.#settler = new Settler(context, {
      recording: () => { if (!this.#isLimited && !hooks.paused()) this.wake() },
      ended: hooks.ended,
      recorded: all => {
        for (const active of all) this.#runs.record(active)
        if (this.#wanted || this.#isLimited || (!hooks.paused() && all.some(({ again }) => again))) this.wake()
      }
    })
  }

  /** Whether it claims runs. */
  get takes (): boolean { return this.#takes }

  /** Whether a run is active. */
  get busy (): boolean { return this.#runs.size > 0 }

  get runs (): ActiveRuns { return this.#runs }

  /** Whether processes wait for each other before they claim. */
  get #isLimited (): boolean { return this.exclusive || this.#context.options.rate !== undefined }

  /** Says whether the event loop was blocked for longer than the lease during a run that has not ended. */
  get condition (): Condition {
    const { blockedFor } = this.#runs
    if (blockedFor === undefined) return { status: 'ok' }
    return { status: 'failing', reason: `a run is past its lease: the event loop was blocked for ${(blockedFor / 1_000).toFixed(1)} s` }
  }

  take (): void {
    this.#takes = true
    this.wake()
  }

  /** Claims no more. Active runs go on. */
  halt (): void {
    this.#takes = false
    this.#sleep(Infinity)
  }

  /** Claims now: runs may begin. */
  wake (): void {
    this.#wanted = true
    if (this.#isClaiming || !this.#takes || !this.#context.connection.connected) return
    this.#isClaiming = true
    this.#claiming = this.#claimAll()
  }

  /** The first run may begin in some milliseconds. */
  due (wait: number): void {
    if (!(wait > 0)) this.wake()
    else if (this.#takes && this.#context.options.clock.now() + wait < this.#dueAt) this.#sleep(wait)
  }

  /** Aborts an active run, and resolves when the database has recorded its end. Undefined if this process does not run it. */
  cancel (id: string): Promise<void> | undefined {
    const active = this.#runs.get(id)
    if (active === undefined) return undefined
    const recorded = active.recorded()
    this.#context.worker.abort(id, 'cancelled')
    return recorded
  }

  /** Keeps the progress of a run: one at a time, the last one that the handler has reported. */
  progress (id: string, value: Progress): void {
    const active = this.#runs.get(id)
    if (active === undefined || active.settlement !== undefined) return
    active.progress = value
    if (!active.progressing) void this.#tellProgress(active)
  }

  /** Gives all active runs back, whatever their handlers do. */
  release (): void {
    for (const active of this.#runs.unsettled) this.#settle(active, { outcome: 'interrupted' })
  }

  /** Resolves when the runs that are active now have ended, the database has recorded it, and, if it is halted, it claims nothing any more. */
  async idle (): Promise<void> {
    await this.#claiming
    await this.#runs.recorded()
  }

  /** A process has died under a run that now has failed: tells the queue. Or under one that is begun again: logs it. */
  takenOver (row: JobRow): void {
    const { worker, leases: { maxCrashes }, options: { log, name } } = this.#context
    const run = claimedRunOf(row)
    const { reqId, key } = run
    report.takenOver(log, name, row.id, { crash: crashesOf(row), maxCrashes, ...reqId !== undefined && { reqId }, ...key !== undefined && { key } })
    if (row.state !== 'failed') return
    worker.crashed({ ...run, attempt: Math.max(1, run.attempt - 1) }, new Error(crashed(maxCrashes).message))
  }

  /** Deletes what is to be kept no longer by its age. */
  async trim (): Promise<void> { await this.#settler.trim() }

  close (): void {
    this.halt()
    this.#settler.stop()
  }

  async #claimAll (): Promise<void> {
    try {
      await this.#claimUntilNone()
    } catch {
      // The database is away: the connection says so, and wakes this.
      this.#sleep(AGAIN)
    } finally {
      this.#isClaiming = false
    }
  }

  async #claimUntilNone (): Promise<void> {
    const { options: { clock, concurrency } } = this.#context
    while (this.#wanted && this.#takes) {
      const room = concurrency - this.#runs.size + (this.#isLimited ? 0 : this.#runs.leaving.length)
      // A run that ends wakes it.
      if (room <= 0) return
      this.#wanted = false
      const since = clock.now()
      const wasPaused = this.#hooks.paused()
      const { rows, wait } = await this.#claim(room)
      // Paused meanwhile: nothing begins any more. Where the database has given runs though this process takes the queue for paused, the database is right.
      const canBegin = await this.#roomFor(rows, since) && this.#takes && (wasPaused || !this.#hooks.paused())
      if (canBegin) await this.#begin(rows, since)
      else this.#giveBack(rows, since)
      if (rows.length === room) this.#wanted = true
      else if (wait !== undefined) this.#sleep(wait)
      else if (this.#dueAt <= clock.now() || this.#dueAt === Infinity) await this.#lookAhead()
    }
  }

  /** Whether claimed runs can begin: resolves when the ends are recorded that make room for them, or false if that takes too long, as nobody renews the leases of claimed runs. */
  async #roomFor (rows: JobRow[], since: number): Promise<boolean> {
    const { options: { clock, concurrency }, leases: { lease } } = this.#context
    const isNew = ({ id }: JobRow): boolean => this.#runs.get(id) === undefined
    while (this.#runs.size + rows.filter(isNew).length > concurrency) {
      const { leaving } = this.#runs
      const left = since + lease / 4 - clock.now()
      if (leaving.length === 0 || left <= 0) return false
      let timer: Timer | undefined
      await Promise.race([...leaving.map(async active => { await active.recorded() }), new Promise<void>(resolve => { timer = clock.after(left, resolve) })])
      timer?.cancel()
    }
    return true
  }

  /** Claimed runs that do not begin wait again. */
  #giveBack (rows: JobRow[], since: number): void {
    for (const { id, starts } of rows) {
      const before = this.#runs.get(id)
      const active = this.#runs.add(id, starts, since)
      if (before !== undefined && before.settlement === undefined) this.#replace(before, active)
      else this.#settle(active, { outcome: 'interrupted' })
    }
  }

  /**
   * Begins claimed runs, whose leases began at `since` at the earliest, on the monotonic timeline. An answer may have waited behind a blocked event loop, or on a slow connection, or a handler
   * that has just begun blocks the loop: where a lease may be over, it is renewed, and who has lost it does not begin.
   */
  async #begin (rows: JobRow[], since: number): Promise<void> {
    const { worker, options: { clock }, leases: { lease } } = this.#context
    rows.sort((a, b) => b.priority - a.priority || Number(a.created) - Number(b.created))
    let limit = lease / 4
    for (let left = [...rows]; left.length > 0;) {
      if (clock.now() - since > limit) {
        since = clock.now()
        limit = lease * 3 / 4
        try {
          left = await this.#stillOurs(left)
        } catch (error) {
          this.#giveBack(left, since)
          throw error
        }
        continue
      }
      const row = left[0] as JobRow
      const before = this.#runs.get(row.id)
      if (before?.settlement !== undefined) {
        // It waits again, and was claimed beside the answer that says so.
        await before.recorded()
        continue
      }
      left.shift()
      // It still runs here, its lease was lost, and this process has claimed it again: the attempt that runs has the claim.
      const active = this.#runs.add(row.id, row.starts, since)
      if (before !== undefined) this.#replace(before, active)
      else if (this.#takes) worker.execute(claimedRunOf(row), settlement => { this.#settle(this.#runs.get(row.id) ?? active, settlement) })
      else this.#settle(active, { outcome: 'interrupted' })
    }
  }

  /** Renews the leases of claimed runs that have not begun. Returns those that this process has; a cancelled one hears of it when its lease is renewed next. */
  async #stillOurs (rows: JobRow[]): Promise<JobRow[]> {
    const { call, sql, name } = this.#context
    const given = JSON.stringify(rows.map(({ id, starts }) => ({ id, starts })))
    const { rows: ours } = await call(async db => await db.executeSql(sql.renew, [name, given])) as { rows: Array<{ id: string }> }
    const ids = new Set(ours.map(({ id }) => id))
    return rows.filter(({ id }) => ids.has(id))
  }

  #replace (before: ActiveRun, active: ActiveRun): void {
    active.blocked = before.blocked
    void active.recorded().then(() => { before.tellRecorded() })
  }

  #settle (active: ActiveRun, settlement: NonNullable<ActiveRun['settlement']>): void {
    if (active.settlement !== undefined) return
    active.settlement = settlement
    active.settledAt = this.#context.options.clock.now()
    this.#settler.settle(active)
  }

  /** Claims at most `room` runs. Without any, `wait` says when it may be worth trying again, if that is known. */
  async #claim (room: number): Promise<{ rows: JobRow[], wait: number | undefined }> {
    const { call, sql, name } = this.#context
    if (!this.#isLimited) {
      return { rows: await call(async db => await claimed(db, sql.claim, name, room)), wait: undefined }
    }
    return await call(async db => await db.transaction(async tx => await this.#claimLimited(tx, room)))
  }

  /** One process at a time: each sees what the one before has claimed. */
  async #claimLimited (tx: SqlExecutor, room: number): Promise<{ rows: JobRow[], wait: number | undefined }> {
    const { sql, name, options: { rate, exclusive } } = this.#context
    const per = rate?.per ?? 0
    const { rows: [row] } = await tx.executeSql(sql.lockQueue, [name, per]) as { rows: Array<{ paused: boolean, exclusive: boolean, used: number, left: number | null }> }
    if (row === undefined) {
      // Somebody has removed the row: it comes back.
      await tx.executeSql(sql.limit, [name, exclusive ?? null])
      return { rows: [], wait: 0 }
    }
    if (row.paused) return { rows: [], wait: undefined }
    this.exclusive = row.exclusive
    let most = rate === undefined ? room : Math.min(room, rate.limit - row.used)
    if (most <= 0) return { rows: [], wait: Math.max(1, row.left ?? per) }
    if (row.exclusive) {
      const { rows: [active] } = await tx.executeSql(sql.isActive, [name]) as { rows: Array<{ active: boolean }> }
      if (active?.active === true) return { rows: [], wait: undefined }
      most = 1
    }
    const rows = await claimed(tx, sql.claimLocked, name, most)
    if (rate !== undefined && rows.length > 0) await tx.executeSql(sql.countRate, [name, per, rows.length])
    const isSpent = rate !== undefined && rows.length === most && most < room
    return { rows, wait: isSpent ? Math.max(1, row.used === 0 ? per : row.left ?? per) : undefined }
  }

  /** Sleeps until the first delayed run may begin. */
  async #lookAhead (): Promise<void> {
    const { call, sql, name } = this.#context
    const { rows: [row] } = await call(async db => await db.executeSql(sql.nextDue, [name])) as { rows: Array<{ wait: number | null }> }
    // A producer of pg-boss itself notifies of no delayed job.
    this.#sleep(Math.max(0, Math.min(LOOK, row?.wait ?? LOOK)))
  }

  #sleep (ms: number): void {
    const { clock } = this.#context.options
    this.#timer?.cancel()
    this.#dueAt = clock.now() + ms
    // A claim that was under way when it was halted: the timer would keep a process up that has closed.
    if (!this.#takes) return
    this.#timer = clock.after(Math.ceil(ms), () => {
      this.#dueAt = Infinity
      this.wake()
    })
  }

  async #tellProgress (active: ActiveRun): Promise<void> {
    const { call, sql, name } = this.#context
    active.progressing = true
    while (active.progress !== undefined) {
      const value = active.progress
      active.progress = undefined
      // Fails if the database is unreachable. Progress is only for display.
      await call(async db => await db.executeSql(sql.progress, [name, active.id, active.starts, JSON.stringify(value)])).catch(() => {})
    }
    active.progressing = false
  }
}

async function claimed (db: SqlExecutor, { one, several }: { one: string, several: string }, name: string, most: number): Promise<JobRow[]> {
  const { rows } = most === 1 ? await db.executeSql(one, [name]) : await db.executeSql(several, [name, most])
  return rows as JobRow[]
}
