import { SET_BACK, soon, type Alarm, type Clock, type Timer } from './clock.ts'
import type { Schedule } from './schedule.ts'

/** What becomes of ticks that were missed: nothing, one run for them all, or one run each. */
export type Misfire = 'skip' | 'once' | 'all'

/** What decides which ticks fire, and when. */
export interface TickerOptions {
  schedule: Schedule
  misfire: Misfire
  /** Each tick is put off by a random time below this, in milliseconds. */
  jitter: number
  exclude: ((due: Date) => boolean) | undefined
}

/** A task that ticks: what it is told, and what is kept of it here. It is its own alarm, which spares each of ten thousand an object. */
export interface Ticking extends Alarm {
  /** What it ticks by. */
  readonly scheduleClock: Clock
  /** From when on its ticks are counted, on the clock's monotonic timeline: a pause does not move it. NaN while it is not started. */
  readonly origin: number
  /** The ticker's to write. */
  past: Past | undefined
  /** A tick: run now. `missed` is how many earlier ticks it stands for. */
  tick (dueAt: Date, missed: number): void
  /** Ticks that were missed, oldest first: run each, one after another. */
  catchUp (dueAts: Date[]): void
  /** A tick that `exclude` leaves out. */
  excluded (dueAt: Date): void
  /** A tick on which `exclude` threw. */
  excludeFailed (dueAt: Date, error: unknown): void
}

/** A tick later than this was missed. */
export const LATE = 1_000
/** How many missed ticks are counted, and how many are run one by one. */
const COUNTED = 1_000
export const RUN = 100
/** How many missed ticks are looked at before others get a turn. */
const SLICE = 50

/** How many missed ticks are looked at in all, where most are excluded. */
const LOOKS = 10_000

/** What has to be remembered of a task that ticks: of most, nothing. */
export class Past {
  /** Goes up with each stop: what was begun before does not go on. */
  life = 0
  /** Ticks that are due, and put off by their jitter. */
  readonly delayed: Map<number, Timer> = new Map()
  /** When it rang last, by the wall clock: what was due until then has been seen to. */
  rung = -Infinity
  /** Ticks that the next run for missed ones stands for, besides those. */
  carried = 0
  /** The first tick from `from` on that is not excluded, if one was found: the search for it may be long. */
  sought: { from: number, found: number[] } | undefined
}

/**
 * Turns a schedule into ticks.
 *
 * It has no state, so that tasks declared alike share one: what it remembers of a task stands in the task. The task is the alarm for its
 * next due time. When it rings, the tick after it is looked up first. If that lies ahead, as nearly always, this one fires. If it has
 * passed as well, the process was late for several: as long as none of them is late by more than a second, they become one tick; else they
 * were missed, and `misfire` says what becomes of them.
 */
export class Ticker {
  readonly options: TickerOptions

  constructor (options: TickerOptions) {
    this.options = options
  }

  /** Ticks from now on; or from an earlier time, as if it had stood still since: what was due meanwhile was missed. */
  start (task: Ticking, since?: number): void {
    const now = this.#now(task)
    if (since !== undefined && since < now) {
      this.#plan(task, this.#next(task, since))
      return
    }
    // Set back by up to an hour, the wall clock comes a second time by what has fired.
    const { rung = -Infinity } = task.past ?? {}
    this.#plan(task, this.#next(task, rung - now <= SET_BACK ? Math.max(now, rung) : now))
  }

  /** Ticks no more; what is put off is called off. */
  stop (task: Ticking): void {
    task.scheduleClock.cancel(task)
    const { past } = task
    if (past === undefined) return
    past.life++
    for (const timer of past.delayed.values()) timer.cancel()
    past.delayed.clear()
  }

  /** The next due time that is not excluded; undefined where none is found within reach, or it does not tick. */
  nextAt (task: Ticking): Date | undefined {
    const from = task.scheduleClock.dueOf(task)
    if (from === undefined || this.options.exclude === undefined) return this.next(task, 1)[0]
    const past = pastOf(task)
    if (past.delayed.size > 0) return this.next(task, 1)[0]
    const sought = past.sought?.from === from ? past.sought : { from, found: this.#search(task, from, 1) }
    past.sought = sought
    return this.#dates(task, sought.found)[0]
  }

  /** The next `count` due times that are not excluded; fewer where they are not found within reach, none where it does not tick. */
  next (task: Ticking, count: number): Date[] {
    const from = task.scheduleClock.dueOf(task)
    if (from === undefined) return []
    const put = [...task.past?.delayed.keys() ?? []].slice(0, count)
    const dues = this.#search(task, from, count - put.length)
    return this.#dates(task, [...put, ...dues])
  }

  /** The alarm of a task has rung. */
  ring (task: Ticking, now: number, due: number): void {
    const { schedule, jitter } = this.options
    if (schedule.wall) pastOf(task).rung = now
    const following = this.#next(task, due)
    const alone = following > now
    const next = alone ? following : this.#next(task, now)
    this.#plan(task, next)
    const putOff = due + (jitter > 0 ? Math.random() * jitter : 0) - now
    if (putOff < -LATE) this.#missed(task, due, next)
    else if (alone) this.#due(task, due, 0, putOff)
    else this.#gather(task, due, next, (dues, count) => { this.#due(task, dues[0], count - 1, putOff) })
  }

  /** The wall clock was set back by more than an hour. */
  setBack (task: Ticking): void {
    if (task.past !== undefined) task.past.rung = -Infinity
    this.#plan(task, this.#next(task, this.#now(task)))
  }

  #search (task: Ticking, from: number, count: number): number[] {
    const dues: number[] = []
    if (count === 0) return dues
    let due = from
    // For as long as it ticks: what it calls is the user's, and may stop it.
    for (let looks = this.options.schedule.looks; looks > 0 && isTicking(task); looks--) {
      // Not a step further than was asked for: it would cost, and move the shared pattern's memory away from now.
      if (!this.#isOut(task, due) && dues.push(due) === count) break
      due = this.#next(task, due)
    }
    return dues
  }

  #next (task: Ticking, time: number): number { return this.options.schedule.next(time, task.origin) }

  #previous (task: Ticking, time: number): number | undefined { return this.options.schedule.previous(time, task.origin) }

  #now ({ scheduleClock }: Ticking): number {
    return this.options.schedule.wall ? scheduleClock.wall() : scheduleClock.now()
  }

  #plan (task: Ticking, due: number): void {
    if (this.options.schedule.wall) task.scheduleClock.setWall(task, due)
    else task.scheduleClock.set(task, due)
  }

  /** A tick, which fires in `putOff` milliseconds, or at once. */
  #due (task: Ticking, due: number | undefined, missed: number, putOff: number): void {
    if (due === undefined || !this.#admit(task, due)) return
    if (putOff <= 0) {
      task.tick(this.#date(task, due), missed)
      return
    }
    const { scheduleClock } = task
    const { misfire } = this.options
    const past = pastOf(task)
    const at = scheduleClock.now() + putOff
    past.delayed.set(due, scheduleClock.after(putOff, () => {
      past.delayed.delete(due)
      const late = scheduleClock.now() - at > LATE
      if (late && misfire === 'skip') return
      // The tick after it was missed as well: one run stands for them all.
      if (late && misfire === 'once' && Number(scheduleClock.dueOf(task)) <= this.#now(task)) past.carried += missed + 1
      else task.tick(this.#date(task, due), missed)
    }))
  }

  #missed (task: Ticking, oldest: number, next: number): void {
    switch (this.options.misfire) {
      case 'skip':
        return
      case 'once':
        this.#gather(task, oldest, next, (dues, count) => {
          const past = pastOf(task)
          this.#due(task, dues[0], Math.min(count - 1 + past.carried, COUNTED), 0)
          past.carried = 0
        })
        return
      case 'all':
        this.#gather(task, oldest, next, dues => {
          const admitted = dues.reverse().filter(due => this.#admit(task, due))
          if (isTicking(task)) task.catchUp(admitted.map(due => this.#date(task, due)))
        })
    }
  }

  /** Finds the ticks from `oldest` up to `next`, less the excluded: the last ones, latest first, and how many there are. */
  #gather (task: Ticking, oldest: number, next: number, done: (dues: number[], count: number) => void): void {
    const past = pastOf(task)
    const { life } = past
    const dues: number[] = []
    let count = 0
    let looks = 0
    let due = this.#previous(task, next)
    const look = (): void => {
      do {
        if (life !== past.life || !isTicking(task)) return
        if (due === undefined || due < oldest || count > COUNTED || looks === LOOKS) {
          done(dues, count)
          return
        }
        if (!this.#isOut(task, due)) {
          count++
          if (dues.length < RUN) dues.push(due)
        }
        due = this.#previous(task, due)
      } while (++looks % SLICE > 0)
      soon(look)
    }
    look()
  }

  /** Whether a tick fires; tells of one that does not. */
  #admit (task: Ticking, due: number): boolean {
    const { exclude } = this.options
    if (!isTicking(task)) return false
    if (exclude === undefined) return true
    const dueAt = this.#date(task, due)
    try {
      // A Date of its own: it may change it.
      const out = exclude(new Date(dueAt))
      if (!isTicking(task)) return false
      if (!out) return true
      task.excluded(dueAt)
    } catch (error) {
      if (isTicking(task)) task.excludeFailed(dueAt, error)
    }
    return false
  }

  /** Whether a tick will be left out, for all one can tell: one on which `exclude` throws still makes a failed run. */
  #isOut (task: Ticking, due: number): boolean {
    try {
      return Boolean(this.options.exclude?.(this.#date(task, due)))
    } catch {
      return false
    }
  }

  /** Those that a Date can hold: a due time may lie beyond, in the year 275760. */
  #dates (task: Ticking, dues: number[]): Date[] {
    return dues.map(due => this.#date(task, due)).filter(date => !Number.isNaN(date.getTime()))
  }

  #date ({ scheduleClock, origin }: Ticking, due: number): Date {
    // From the origin, so that the dates of a grid stand on a grid.
    return new Date(this.options.schedule.wall ? due : scheduleClock.wallOf(origin) + Math.round(due - origin))
  }
}

/** Whether it has not been stopped or paused, also by the close, which takes back all alarms at once. */
function isTicking (task: Ticking): boolean {
  return task.scheduleClock.dueOf(task) !== undefined
}

function pastOf (task: Ticking): Past {
  task.past ??= new Past()
  return task.past
}
