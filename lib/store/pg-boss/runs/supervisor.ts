import { report } from '../../../common/log.ts'
import { type Block, type Clock, eventLoop, type LoopWatcher, type Timer } from '../../../time/index.ts'
import type { QueueContext } from '../context.ts'
import type { StoreConnection } from '../engine/index.ts'
import { crashed, type JobRow } from '../jobs/index.ts'
import type { Leases } from '../context.ts'
import type { JobStatements } from '../sql/index.ts'
import { type Fetcher, RECORD } from './fetcher.ts'

/** How often to delete what is over, in milliseconds. */
const SWEEP = 60_000

/** A queue whose runs are looked after. */
export interface Supervised { context: QueueContext, fetcher: Fetcher }

/**
 * Renews the leases of the active runs of a store, and takes over those of processes that have died: one statement for all queues.
 *
 * Each look for dead processes comes after a renewal, so that a process whose event loop was blocked does not call itself dead. A run that was taken over, and that nobody has
 * claimed since, comes back to its process with the next renewal.
 */
export class Supervisor implements LoopWatcher {
  readonly #connection: StoreConnection
  readonly #sql: JobStatements
  readonly #leases: Leases
  readonly #clock: Clock
  readonly #queues = new Set<Supervised>()
  readonly #interval: number
  #timer: Timer | undefined
  #unwatch: (() => void) | undefined
  readonly #offConnected: () => void
  /** When it last looked, on the monotonic timeline. */
  #lookedAt = 0
  #renewedAt = 0
  /** When the loop was last found to have been blocked. */
  #blockedAt = -Infinity
  /** Before this, on the monotonic timeline, other processes may not have had the time to renew their leases, as the database has just come back. */
  #patientUntil = -Infinity
  #wasConnected = false
  #sweptAt = -Infinity
  #renewing = false

  constructor (connection: StoreConnection, sql: JobStatements, leases: Leases, clock: Clock) {
    this.#connection = connection
    this.#sql = sql
    this.#leases = leases
    this.#clock = clock
    this.#interval = Math.min(leases.lease / 4, RECORD)
    this.#offConnected = connection.onConnected(() => {
      if (this.#wasConnected) this.#patientUntil = this.#clock.now() + this.#leases.lease / 2
      this.#wasConnected = true
    })
  }

  /** Looks after the runs of a queue from now on. */
  add (queue: Supervised): void {
    this.#queues.add(queue)
    if (this.#timer !== undefined) return
    this.#lookedAt = this.#clock.now()
    this.#unwatch = eventLoop.watch(this)
    this.#again()
  }

  remove (queue: Supervised): void {
    this.#queues.delete(queue)
    if (this.#queues.size === 0) this.#end()
  }

  stop (): void {
    this.#queues.clear()
    this.#offConnected()
    this.#end()
  }

  /** The event loop was blocked. */
  blocked ({ ms, reported }: Block): void {
    const { lease } = this.#leases
    if (ms > this.#interval) this.#blockedAt = this.#clock.now()
    if (ms <= lease) return
    for (const { fetcher, context: { options: { log, name } } } of this.#queues) {
      if (fetcher.runs.size === 0) continue
      report.blockedPastLease(log, name, ms, lease)
      reported.add(name)
      fetcher.runs.blocked(ms)
    }
  }

  #end (): void {
    this.#timer?.cancel()
    this.#timer = undefined
    this.#unwatch?.()
    this.#unwatch = undefined
  }

  #again (): void {
    this.#timer = this.#clock.after(this.#interval, () => { this.#look() })
  }

  #look (): void {
    const { lease } = this.#leases
    // Before anything else: the timer of the loop may ring after this one.
    eventLoop.look()
    const now = this.#clock.now()
    const isBlocked = this.#blockedAt >= this.#lookedAt
    this.#lookedAt = now
    // While the database does not answer, nobody can tell whether a lease is lost: it counts as lost when it was not renewed for its whole length. After a block the renewal
    // comes first. While it does answer, an end is recorded as soon as can be.
    for (const { fetcher } of this.#queues) fetcher.runs.look(now, isBlocked ? Infinity : lease, this.#connection.connected ? 5 * RECORD : RECORD)
    if (!this.#renewing && this.#connection.connected && now - this.#renewedAt >= lease / 4 - this.#interval / 2) void this.#renewAll(now)
    this.#again()
  }

  async #renewAll (now: number): Promise<void> {
    this.#renewing = true
    this.#renewedAt = now
    try {
      await Promise.all([...this.#queues].map(async queue => { await this.#renew(queue, now) }))
      // Another queue, or application, of this process may not have renewed its leases yet after a block: look for dead processes the next time.
      if (this.#clock.now() - this.#blockedAt > this.#interval && now >= this.#patientUntil) await this.#takeOver()
      if (now - this.#sweptAt >= SWEEP) await this.#sweep(now)
    } catch {
      // The database is away: the connection says so, and the next look tries again.
    } finally {
      this.#renewing = false
    }
  }

  async #renew ({ fetcher, context: { call, sql, name, worker, options } }: Supervised, now: number): Promise<void> {
    const { held } = fetcher.runs
    if (held.length === 0) return
    const { rows } = await call(async db => await db.executeSql(sql.renew, [name, JSON.stringify(held.map(({ id, starts }) => ({ id, starts })))])) as { rows: Array<{ id: string, cancelled: boolean }> }
    const ours = new Map(rows.map(({ id, cancelled }) => [id, cancelled]))
    for (const active of held) {
      const cancelled = ours.get(active.id)
      if (cancelled === undefined) {
        // It may have ended meanwhile.
        if (active.settlement === undefined && !active.lost && fetcher.runs.get(active.id) === active) {
          report.lost(options.log, options.name, active.id)
          fetcher.runs.lose(active)
        }
        continue
      }
      active.renewedAt = now
      if (cancelled) worker.abort(active.id, 'cancelled')
    }
  }

  async #takeOver (): Promise<void> {
    const { lease, maxCrashes } = this.#leases
    const names = [...this.#queues].filter(({ fetcher }) => fetcher.takes).map(({ context: { name } }) => name)
    if (names.length === 0) return
    const { rows } = await this.#connection.call(async db => await db.executeSql(this.#sql.takeOver, [names, lease, maxCrashes, JSON.stringify(crashed(maxCrashes))])) as { rows: Array<JobRow & { queue: string }> }
    for (const row of rows) for (const { fetcher, context } of this.#queues) if (context.name === row.queue) fetcher.takenOver(row)
  }

  async #sweep (now: number): Promise<void> {
    this.#sweptAt = now
    await this.#connection.call(async db => await db.executeSql(this.#sql.sweep))
    for (const { fetcher } of this.#queues) await fetcher.trim()
  }
}
