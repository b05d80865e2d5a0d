import { report } from '../../../common/log.ts'
import { uuid } from '../../../run/index.ts'
import { type Alarm, passedTicks } from '../../../time/index.ts'
import { decodeDefinition, type ScheduleDefinition, scheduleOf } from '../../schedules/index.ts'
import type { NewRun } from '../../store.ts'
import type { QueueContext } from '../context.ts'
import { type JobTransaction, plainDataOf } from '../jobs/index.ts'
import { readState, scheduleKeys } from './schedule-state.ts'

/** The most schedules of one look. */
const BATCH = 250
/** The shortest time between two looks that find nothing due, in milliseconds. */
const PACE = 1_000
/** The longest time between two looks, in milliseconds: a message may be lost. */
const LONGEST = 30_000
/** When to look again after a failure, and at a schedule that cannot be read, in milliseconds. */
const [AGAIN, UNREADABLE] = [1_000, 60_000]

/** A schedule that is due: its key, the time of its tick with jitter, its definition and its state. */
type Row = [key: string, at: string, definition: string, state: string]

/** A tick to claim: the arguments of the script, and its jobs. */
interface Claim { args: Array<string | number>, runs: NewRun[] }

/**
 * Runs the schedules of a queue, together with all other processes.
 *
 * There is no leader. Each process sleeps until the next tick that Redis knows of. Then all of them compute what fires and when the next tick is due, and each claims it: a
 * script compares the due time, moves it, and lets the job be added, in one transaction, so that the first one has it and the others add nothing. A process that dies
 * takes nothing with it. Somebody who schedules what ticks before all others tells all processes to look.
 */
export class ScheduleTicker {
  readonly #context: QueueContext
  readonly #transaction: JobTransaction
  readonly #alarm: Alarm
  #working = false
  #looking = false
  /** Whether somebody wants a look since the last one began. */
  #wanted = false
  /** When the last look began, on the monotonic timeline. */
  #lookedAt = -Infinity
  readonly #unreadable = new Set<string>()

  constructor (context: QueueContext, transaction: JobTransaction) {
    this.#context = context
    this.#transaction = transaction
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
    this.#context.options.clock.cancel(this.#alarm)
    let wait = AGAIN
    try {
      for (let busy = true; busy && this.#working;) {
        this.#wanted = false
        this.#lookedAt = clock.now()
        const [next, ...rows] = await this.#due()
        if (rows.length > 0) await this.#claim(rows)
        else busy = false
        wait = next === '' ? LONGEST : Math.min(LONGEST, Math.max(1, Number(next) - clock.wall()))
      }
    } catch {
      // Redis is away: RedisConnection says so.
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

  async #due (): Promise<[next: string, ...rows: Row[]]> {
    const { redis, options: { clock } } = this.#context
    return await redis.call(async () => await redis.client.runCommand('fbtDue', [...this.#keys, clock.wall(), BATCH, Math.random()])) as [string, ...Row[]]
  }

  async #claim (rows: Row[]): Promise<void> {
    const claims = await Promise.all(rows.map(async row => await this.#claimOf(row)))
    const { toKey, options: { name, clock } } = this.#context
    await this.#transaction.run((transaction, add) => {
      const now = clock.wall()
      const byBullmq: NewRun[] = []
      const argsOf = (run: NewRun): string[] => {
        const data = plainDataOf(run, now)
        if (data === undefined) byBullmq.push(run)
        return [run.id, data ?? '']
      }
      transaction.runCommand('fbtClaim', [...this.#keys, toKey('wait'), toKey('marker'), toKey(''), name, now, ...claims.flatMap(({ args, runs }) => [...args, runs.length, ...runs.flatMap(argsOf)])])
      for (const run of byBullmq) add(run)
      if (byBullmq.length > 0) transaction.runCommand('fbtUnclaim', [...this.#keys, toKey(''), ...byBullmq.map(({ id }) => id)])
    })
  }

  async #claimOf ([key, at, text, stored]: Row): Promise<Claim> {
    const { clock } = this.#context.options
    const { generation, due } = readState(stored)
    let definition: ScheduleDefinition
    const now = clock.wall()
    try {
      definition = decodeDefinition(text)
      const schedule = scheduleOf(definition, true, now)
      const { misfire, jitter, overlap } = definition
      return await new Promise<Claim>(resolve => {
        passedTicks(schedule, 0, misfire, { due: Number(due), at: Number(at), now: Math.max(now, Number(at)) }, (fired, next) => {
          const runs = fired.map(({ due, missed }) => runOf(key, definition, due, missed))
          const nextAt = next === Infinity ? 'inf' : next + (jitter > 0 ? Math.random() * jitter : 0)
          // Ticks that are made up for one by one are never skipped.
          resolve({ args: [key, generation, due, String(next), nextAt, runs.length > 1 ? 'allow' : overlap, String(fired.at(-1)?.due ?? '-')], runs })
        })
      })
    } catch (error) {
      this.#tellUnreadable(key, error)
      // A process with the newer version may run it: leave the tick where it is.
      return { args: [key, generation, due, due, now + UNREADABLE, 'skip', '-'], runs: [] }
    }
  }

  #tellUnreadable (key: string, error: unknown): void {
    if (this.#unreadable.has(key)) return
    if (this.#unreadable.size < 1_000) this.#unreadable.add(key)
    report.scheduleUnreadable(this.#context.options.log, this.#context.options.name, key, error)
  }

  get #keys (): string[] { return scheduleKeys(this.#context) }
}

function runOf (key: string, { payload, priority, retry }: ScheduleDefinition, dueAt: number, missed: number): NewRun {
  return { id: uuid(), payload, options: { delay: 0, runAt: undefined, priority, key: undefined, keyUntil: 'finished', retry, reqId: undefined, tick: { dueAt, missed, schedule: key } } }
}
