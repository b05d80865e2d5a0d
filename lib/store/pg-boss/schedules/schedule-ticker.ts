import { report } from '../../../common/log.ts'
import { uuid } from '../../../run/index.ts'
import { type Alarm, passedTicks } from '../../../time/index.ts'
import { decodeDefinition, type ScheduleDefinition, scheduleOf } from '../../schedules/index.ts'
import type { NewRun } from '../../store.ts'
import type { QueueContext } from '../context.ts'
import { jobOf, type NewJob } from '../jobs/index.ts'
import { keyOf, type ScheduleRow } from './schedule-row.ts'

/** The most schedules of one look. */
const BATCH = 250
/** The shortest time between two looks that find nothing due, in milliseconds. */
const PACE = 1_000
/** The longest time between two looks, in milliseconds: a message may be lost. */
const LONGEST = 30_000
/** When to look again after a failure, and at a schedule that cannot be read, in milliseconds. */
const [AGAIN, UNREADABLE] = [1_000, 60_000]

/** A schedule that is due, at the time of its tick with jitter. */
type DueRow = ScheduleRow & { at: number }

/** A tick, as the statement reads it from JSON, and its jobs. */
interface Claim { tick: { key: string, generation: number, due: number, next: number | null, at: number | null, overlap: string, last: number | null, run: string | null }, jobs: NewJob[] }

/**
 * Runs the schedules of a queue, together with all other processes.
 *
 * There is no leader. Each process sleeps until the next tick that the database knows of. Then all of them compute what fires and when the next tick is due, and each claims it: one statement
 * compares the due time, moves it and adds the runs, so that the first one has it and the others add nothing. What time it is the database says.
 */
export class ScheduleTicker {
  readonly #context: QueueContext
  readonly #alarm: Alarm
  #working = false
  #looking = false
  /** Whether somebody wants a look since the last one began. */
  #wanted = false
  /** When the last look began, on the monotonic timeline. */
  #lookedAt = -Infinity
  readonly #unreadable = new Set<string>()

  constructor (context: QueueContext) {
    this.#context = context
    const ring = (): void => { void this.#look() }
    this.#alarm = { place: 0, ring, setBack: ring }
  }

  work (): void {
    if (this.#working) return
    this.#working = true
    void this.#look()
  }

  halt (): void {
    this.#working = false
    this.#context.options.clock.cancel(this.#alarm)
  }

  /** Looks soon: a schedule may tick earlier than known, or the connection is back. */
  wake (): void {
    if (!this.#working) return
    this.#wanted = true
    if (this.#looking) return
    const { clock } = this.#context.options
    const known = (clock.dueOf(this.#alarm) ?? Infinity) - clock.wall()
    this.#sleep(Math.max(0, Math.min(known, this.#lookedAt + PACE - clock.now())))
  }

  /** Looks, and goes on until nothing is due. */
  async #look (): Promise<void> {
    if (this.#looking || !this.#working) return
    const { clock } = this.#context.options
    this.#looking = true
    clock.cancel(this.#alarm)
    let wait = AGAIN
    try {
      for (let busy = true; busy && this.#working;) {
        this.#wanted = false
        this.#lookedAt = clock.now()
        const { next, now } = await this.#next()
        busy = next <= now
        if (busy) await this.#claim(await this.#due(now), now)
        wait = Math.min(LONGEST, Math.max(1, next - now))
      }
    } catch {
      // The database is away: the connection says so.
    } finally {
      this.#looking = false
    }
    if (this.#working) this.#sleep(this.#wanted ? Math.min(wait, PACE) : wait)
  }

  #sleep (ms: number): void {
    const { clock } = this.#context.options
    clock.cancel(this.#alarm)
    // By the wall clock, as cron is: it may be set.
    clock.setWall(this.#alarm, clock.wall() + ms)
  }

  /** When the next tick is due, and what time it is, in milliseconds since the epoch. */
  async #next (): Promise<{ next: number, now: number }> {
    const { call, name, scheduleSql } = this.#context
    const { rows: [row] } = await call(async db => await db.executeSql(scheduleSql.next, [name])) as { rows: Array<{ next: number | string | null, now: number }> }
    return { next: Number(row?.next ?? Infinity), now: row?.now ?? 0 }
  }

  async #due (now: number): Promise<DueRow[]> {
    const { call, name, scheduleSql } = this.#context
    const { rows } = await call(async db => await db.executeSql(scheduleSql.due, [name, BATCH, now]))
    return rows as DueRow[]
  }

  async #claim (rows: DueRow[], now: number): Promise<void> {
    const claims = await Promise.all(rows.map(async row => await this.#claimOf(row, now)))
    const { call, name, scheduleSql } = this.#context
    const jobs = claims.flatMap(({ jobs }) => jobs)
    for (const [n, job] of jobs.entries()) job.n = n
    await call(async db => await db.executeSql(scheduleSql.claim, [name, JSON.stringify(claims.map(({ tick }) => tick)), JSON.stringify(jobs)]))
  }

  async #claimOf (row: DueRow, time: number): Promise<Claim> {
    const { key: hex, definition: text, generation } = row
    const [due, at] = [Number(row.due), Number(row.at)]
    const base = { key: hex, generation, due }
    try {
      const definition = decodeDefinition(text)
      const { misfire, jitter, overlap } = definition
      const now = Math.max(time, at)
      const schedule = scheduleOf(definition, true, now)
      return await new Promise<Claim>(resolve => {
        passedTicks(schedule, 0, misfire, { due, at, now }, (fired, next) => {
          const jobs = fired.map(({ due, missed }) => ({ ...jobOf(runOf(keyOf(hex), definition, due, missed), 0), schedule: hex }))
          // JSON has no infinity.
          const isLast = next === Infinity
          const last = fired.at(-1)?.due ?? null
          // Ticks that are made up for one by one are never skipped.
          const tick = { ...base, next: isLast ? null : next, at: isLast ? null : next + (jitter > 0 ? Math.random() * jitter : 0), overlap: jobs.length > 1 ? 'allow' : overlap, last, run: jobs.at(-1)?.id ?? null }
          resolve({ tick, jobs })
        })
      })
    } catch (error) {
      this.#tellUnreadable(keyOf(hex), error)
      // A process with the newer version may run it: leave the tick where it is.
      return { tick: { ...base, next: due, at: time + UNREADABLE, overlap: 'skip', last: null, run: null }, jobs: [] }
    }
  }

  #tellUnreadable (key: string, error: unknown): void {
    if (this.#unreadable.has(key)) return
    if (this.#unreadable.size < 1_000) this.#unreadable.add(key)
    report.scheduleUnreadable(this.#context.options.log, this.#context.options.name, key, error)
  }
}

function runOf (key: string, { payload, priority, retry }: ScheduleDefinition, dueAt: number, missed: number): NewRun {
  return { id: uuid(), payload, options: { delay: 0, runAt: undefined, priority, key: undefined, keyUntil: 'finished', retry, reqId: undefined, tick: { dueAt, missed, schedule: key } } }
}
