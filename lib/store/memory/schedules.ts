import { uuid } from '../../run/index.ts'
import { type Alarm, type Clock, type Passed, passedTicks, type Schedule } from '../../time/index.ts'
import { decode } from '../codec.ts'
import { cursorOf, positionOf } from '../cursor.ts'
import { encodeDefinition, type QueueSchedule, type ScheduleDefinition, scheduleOf, type SchedulePage } from '../schedules/index.ts'
import type { NewRun, ScheduleStore } from '../store.ts'

/** What schedules need of their queue. */
export interface ScheduledQueue {
  readonly name: string
  readonly clock: Clock
  /** Whether a run waits or runs. */
  isPending (id: string): boolean
  /** Enqueues the run of a tick; logs if that is refused. */
  enqueueTick (run: NewRun): void
}

/** The schedules of a queue in memory: each is an alarm of the process's clock. */
export class MemorySchedules implements ScheduleStore {
  readonly #queue: ScheduledQueue
  readonly #all = new Map<string, MemorySchedule>()
  #working = false

  constructor (queue: ScheduledQueue) {
    this.#queue = queue
  }

  /** Runs the schedules. Ticks that were due before are missed. */
  work (): void {
    this.#working = true
    for (const one of this.#all.values()) one.plan()
  }

  halt (): void {
    this.#working = false
    for (const one of this.#all.values()) one.cancel()
  }

  async set (key: string, definition: ScheduleDefinition): Promise<Date | undefined> {
    const before = this.#all.get(key)
    if (before !== undefined && before.text === encodeDefinition(definition)) return before.nextRunAt
    before?.cancel()
    const schedule = new MemorySchedule(this.#queue, key, definition, before)
    this.#all.set(key, schedule)
    if (this.#working) schedule.plan()
    return schedule.nextRunAt
  }

  async delete (key: string): Promise<boolean> {
    this.#all.get(key)?.cancel()
    return this.#all.delete(key)
  }

  async list (prefix: string, cursor: string | undefined, limit: number): Promise<SchedulePage> {
    const after = cursor === undefined ? undefined : positionOf(this.#queue.name, 'schedules', cursor, (key): key is string => typeof key === 'string')
    const keys = [...this.#all.keys()].filter(key => key.startsWith(prefix) && (after === undefined || compare(key, after) > 0)).sort(compare)
    const page = keys.slice(0, limit)
    const last = page.at(-1)
    return { schedules: page.map(key => (this.#all.get(key) as MemorySchedule).shown), cursor: keys.length > limit && last !== undefined ? cursorOf('schedules', last) : undefined }
  }
}

/** By bytes, as an engine would. */
function compare (a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b))
}

class MemorySchedule implements Alarm {
  place = 0
  readonly text: string
  readonly #queue: ScheduledQueue
  readonly #key: string
  readonly #definition: ScheduleDefinition
  readonly #schedule: Schedule
  /** Monotonic time from which a period counts. */
  readonly #origin: number
  /** The next due time, on the timeline of the schedule. */
  #due: number
  /** The same with its jitter. */
  #at: number
  /** What has passed and is being handled, in order. */
  readonly #passed: Passed[] = []
  #lastRunAt: Date | undefined
  #lastId: string | undefined

  constructor (queue: ScheduledQueue, key: string, definition: ScheduleDefinition, before: MemorySchedule | undefined) {
    this.text = encodeDefinition(definition)
    this.#queue = queue
    this.#key = key
    this.#definition = definition
    this.#schedule = scheduleOf(definition, false, queue.clock.wall())
    this.#origin = queue.clock.now()
    this.#due = this.#schedule.next(this.#now, this.#origin)
    this.#at = this.#jittered
    if (before === undefined) return
    this.#lastRunAt = before.#lastRunAt
    this.#lastId = before.#lastId
  }

  get nextRunAt (): Date | undefined { return this.#due === Infinity ? undefined : this.#date(this.#due) }

  get shown (): QueueSchedule {
    const { every, cron, timezone, payload } = this.#definition
    return { key: this.#key, every, cron, timezone, payload: decode(payload), nextRunAt: this.nextRunAt, lastRunAt: this.#lastRunAt }
  }

  /** Sets the alarm. */
  plan (): void {
    if (this.#at === Infinity) return
    if (this.#schedule.wall) this.#queue.clock.setWall(this, this.#at)
    else this.#queue.clock.set(this, this.#at)
  }

  cancel (): void {
    this.#queue.clock.cancel(this)
  }

  ring (now: number): void {
    const passed = { due: this.#due, at: this.#at, now }
    // The next tick at once: to count missed ones takes its time.
    this.#due = this.#schedule.next(Math.max(now, this.#due), this.#origin)
    this.#at = this.#jittered
    this.plan()
    // Never before the earlier ticks that are still being counted.
    this.#passed.push(passed)
    if (this.#passed.length === 1) this.#handle(passed)
  }

  #handle (passed: Passed): void {
    passedTicks(this.#schedule, this.#origin, this.#definition.misfire, passed, fired => {
      // Ticks that are made up for one by one are never skipped.
      const skips = this.#definition.overlap === 'skip' && fired.length < 2
      for (const { due, missed } of fired) {
        if (!skips || this.#lastId === undefined || !this.#queue.isPending(this.#lastId)) this.#enqueue(due, missed)
      }
      this.#passed.shift()
      const [next] = this.#passed
      if (next !== undefined) this.#handle(next)
    })
  }

  /** Somebody has set the wall clock back by more than an hour. */
  setBack (): void {
    this.#due = this.#schedule.next(this.#now, this.#origin)
    this.#at = this.#jittered
    this.plan()
  }

  get #now (): number { return this.#schedule.wall ? this.#queue.clock.wall() : this.#queue.clock.now() }

  get #jittered (): number {
    const { jitter } = this.#definition
    return jitter === 0 ? this.#due : this.#due + Math.random() * jitter
  }

  #enqueue (due: number, missed: number): void {
    const { payload, priority, retry } = this.#definition
    const id = uuid()
    this.#lastId = id
    this.#lastRunAt = this.#date(due)
    this.#queue.enqueueTick({
      id,
      payload,
      options: { delay: 0, runAt: undefined, priority, key: undefined, keyUntil: 'finished', retry, reqId: undefined, tick: { dueAt: this.#lastRunAt.getTime(), missed, schedule: this.#key } }
    })
  }

  #date (due: number): Date {
    const { clock } = this.#queue
    // From the origin, so that the dates of a period are on a grid, too.
    return new Date(this.#schedule.wall ? due : clock.wallOf(this.#origin) + Math.round(due - this.#origin))
  }
}
