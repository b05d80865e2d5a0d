import { type Alarm, type Clock, defer, SET_BACK, type Timer } from './clock.ts'
import type { Schedule } from './schedule.ts'

/** What happens with missed ticks: no run, one run for them all, or one run each. */
export type Misfire = 'skip' | 'once' | 'all'

/** Options of a ticker. */
export interface TickerOptions {
  schedule: Schedule
  misfire: Misfire
  /** The ticker delays each tick by a random time below this, in milliseconds. */
  jitter: number
  exclude: ((due: Date) => boolean) | undefined
}

/** A task that ticks: what the ticker calls, and what it keeps in the task. The task itself is the alarm, which saves an object per task. */
export interface TickTarget extends Alarm {
  /** The clock of its ticks. */
  readonly scheduleClock: Clock
  /** The monotonic time from which a period counts. A pause does not move it. NaN while the task is not started. */
  readonly origin: number
  /** Only the ticker writes this. */
  tickState: TickState | undefined
  /** Runs a tick now. `missed` is how many earlier ticks it stands for. */
  tick (dueAt: Date, missed: number): void
  /** Runs missed ticks, oldest first, one after another. */
  catchUp (dueAts: Date[]): void
  /** Called for a tick that `exclude` leaves out. */
  excluded (dueAt: Date): void
  /** Called for a tick on which `exclude` threw. */
  excludeFailed (dueAt: Date, error: unknown): void
}

/** A tick is missed if it is later than this, in milliseconds. */
export const LATE = 1_000
/** The most missed ticks that one run counts. */
const COUNTED = 1_000
/** The most missed ticks that run one by one. */
export const MAX_CATCH_UP = 100
/** How many missed ticks the ticker computes before it yields to the event loop. */
const SLICE = 50

/** How many missed ticks the ticker computes in all, where `exclude` leaves most of them out. */
const LOOKS = 10_000

/** State of a task that ticks. Most tasks need none. */
export class TickState {
  /** Goes up with each stop, so that a search which has yielded does not go on after it. */
  life = 0
  /** Due ticks that wait for their jitter, by due time. */
  readonly delayed: Map<number, Timer> = new Map()
  /** When the alarm rang last, by the wall clock. Every tick until then has been handled. */
  rung = -Infinity
  /** Further missed ticks that the next run stands for. */
  carried = 0
  /** Cache of the first tick from `from` that `exclude` does not leave out: the search may be long. */
  sought: { from: number, found: number[] } | undefined
}

/**
 * Turns a schedule into ticks.
 *
 * A ticker has no state, so that tasks with the same options share one: it keeps the state of a task in the task. The task is the alarm for its
 * next due time. When the alarm rings, the ticker first computes the following tick. If that is in the future, as nearly always, this tick
 * fires. If it has passed too, the process was late for several ticks. They become one tick as long as none is late by more than a second.
 * Otherwise they are missed, and `misfire` decides.
 */
export class Ticker {
  readonly options: TickerOptions

  constructor (options: TickerOptions) {
    this.options = options
  }

  /** Starts the ticks, now or `since` an earlier time: the ticks since then count as missed. */
  start (task: TickTarget, since?: number): void {
    const now = this.#now(task)
    if (since !== undefined && since < now) {
      this.#plan(task, this.#next(task, since))
      return
    }
    // After the wall clock was set back by up to an hour, it passes the ticks that have fired a second time: skip these.
    const { rung = -Infinity } = task.tickState ?? {}
    this.#plan(task, this.#next(task, rung - now <= SET_BACK ? Math.max(now, rung) : now))
  }

  /** Stops the ticks, and cancels those that wait for their jitter. */
  stop (task: TickTarget): void {
    task.scheduleClock.cancel(task)
    const { tickState } = task
    if (tickState === undefined) return
    tickState.life++
    for (const timer of tickState.delayed.values()) timer.cancel()
    tickState.delayed.clear()
  }

  /** The next due time that `exclude` does not leave out; undefined if the search finds none, or the task does not tick. */
  nextAt (task: TickTarget): Date | undefined {
    const from = task.scheduleClock.dueOf(task)
    if (from === undefined || this.options.exclude === undefined) return this.next(task, 1)[0]
    const tickState = tickStateOf(task)
    if (tickState.delayed.size > 0) return this.next(task, 1)[0]
    const sought = tickState.sought?.from === from ? tickState.sought : { from, found: this.#search(task, from, 1) }
    tickState.sought = sought
    return this.#dates(task, sought.found)[0]
  }

  /** The next `count` due times that `exclude` does not leave out; fewer if the search finds fewer, none if the task does not tick. */
  next (task: TickTarget, count: number): Date[] {
    const from = task.scheduleClock.dueOf(task)
    if (from === undefined) return []
    const put = [...task.tickState?.delayed.keys() ?? []].slice(0, count)
    const dues = this.#search(task, from, count - put.length)
    return this.#dates(task, [...put, ...dues])
  }

  /** Handles the alarm of a task. */
  ring (task: TickTarget, now: number, due: number): void {
    const { schedule, jitter } = this.options
    if (schedule.wall) tickStateOf(task).rung = now
    const following = this.#next(task, due)
    const alone = following > now
    const next = alone ? following : this.#next(task, now)
    this.#plan(task, next)
    const delay = due + (jitter > 0 ? Math.random() * jitter : 0) - now
    if (delay < -LATE) this.#missed(task, due, next, now)
    else if (alone) this.#due(task, due, 0, delay)
    else this.#gather(task, due, next, (dues, count) => { this.#due(task, dues[0], count - 1, delay) })
  }

  /** Somebody has set the wall clock back by more than an hour: plans anew. */
  setBack (task: TickTarget): void {
    if (task.tickState !== undefined) task.tickState.rung = -Infinity
    this.#plan(task, this.#next(task, this.#now(task)))
  }

  #search (task: TickTarget, from: number, count: number): number[] {
    const dues: number[] = []
    if (count === 0) return dues
    let due = from
    // Checks each time whether the task still ticks: `exclude` is the user's function, and may stop the task.
    for (let looks = this.options.schedule.looks; looks > 0 && isTicking(task); looks--) {
      // Not a step further than needed: it costs time, and would move the shared pattern's cache away from now.
      if (due === Infinity || (!this.#isOut(task, due) && dues.push(due) === count)) break
      due = this.#next(task, due)
    }
    return dues
  }

  #next (task: TickTarget, time: number): number { return this.options.schedule.next(time, task.origin) }

  #previous (task: TickTarget, time: number): number | undefined { return this.options.schedule.previous(time, task.origin) }

  #now ({ scheduleClock }: TickTarget): number {
    return this.options.schedule.wall ? scheduleClock.wall() : scheduleClock.now()
  }

  #plan (task: TickTarget, due: number): void {
    if (this.options.schedule.wall) task.scheduleClock.setWall(task, due)
    else task.scheduleClock.set(task, due)
  }

  /** Fires a tick in `delay` milliseconds, or at once. */
  #due (task: TickTarget, due: number | undefined, missed: number, delay: number): void {
    if (due === undefined || !this.#admit(task, due)) return
    if (delay <= 0) {
      task.tick(this.#date(task, due), missed)
      return
    }
    const { scheduleClock } = task
    const { misfire } = this.options
    const tickState = tickStateOf(task)
    const at = scheduleClock.now() + delay
    tickState.delayed.set(due, scheduleClock.after(delay, () => {
      tickState.delayed.delete(due)
      const late = scheduleClock.now() - at > LATE
      if (late && misfire === 'skip') return
      // The following tick is missed, too: one run stands for both.
      if (late && misfire === 'once' && Number(scheduleClock.dueOf(task)) <= this.#now(task)) tickState.carried += missed + 1
      else task.tick(this.#date(task, due), missed)
    }))
  }

  #missed (task: TickTarget, oldest: number, next: number, now: number): void {
    switch (this.options.misfire) {
      case 'skip':
        // The ticks of the last second are not missed: they become one run.
        this.#gather(task, now - LATE, next, (dues, count) => { this.#due(task, dues[0], count - 1, 0) })
        return
      case 'once':
        this.#gather(task, oldest, next, (dues, count) => {
          const tickState = tickStateOf(task)
          this.#due(task, dues[0], Math.min(count - 1 + tickState.carried, COUNTED), 0)
          tickState.carried = 0
        })
        return
      case 'all':
        this.#gather(task, oldest, next, dues => {
          const admitted = dues.reverse().filter(due => this.#admit(task, due))
          if (isTicking(task)) task.catchUp(admitted.map(due => this.#date(task, due)))
        })
    }
  }

  /** Finds the ticks from `oldest` up to `next` that `exclude` does not leave out: the last ones, latest first, and their number. */
  #gather (task: TickTarget, oldest: number, next: number, done: (dues: number[], count: number) => void): void {
    const tickState = tickStateOf(task)
    const { life } = tickState
    const dues: number[] = []
    let count = 0
    let looks = 0
    let due = this.#previous(task, next)
    const look = (): void => {
      do {
        if (life !== tickState.life || !isTicking(task)) return
        if (due === undefined || due < oldest || count > COUNTED || looks === LOOKS) {
          done(dues, count)
          return
        }
        if (!this.#isOut(task, due)) {
          count++
          if (dues.length < MAX_CATCH_UP) dues.push(due)
        }
        due = this.#previous(task, due)
      } while (++looks % SLICE > 0)
      defer(look)
    }
    look()
  }

  /** Whether a tick fires. Tells the task if `exclude` leaves it out, or throws. */
  #admit (task: TickTarget, due: number): boolean {
    const { exclude } = this.options
    if (!isTicking(task)) return false
    if (exclude === undefined) return true
    const dueAt = this.#date(task, due)
    try {
      // A copy: the user's function may change it.
      const out = exclude(new Date(dueAt))
      if (!isTicking(task)) return false
      if (!out) return true
      task.excluded(dueAt)
    } catch (error) {
      if (isTicking(task)) task.excludeFailed(dueAt, error)
    }
    return false
  }

  /** Whether `exclude` leaves a tick out. A tick on which it throws becomes a failed run, so that is not left out. */
  #isOut (task: TickTarget, due: number): boolean {
    try {
      return Boolean(this.options.exclude?.(this.#date(task, due)))
    } catch {
      return false
    }
  }

  /** Due times as dates, without those that no Date can hold (after the year 275760). */
  #dates (task: TickTarget, dues: number[]): Date[] {
    return dues.map(due => this.#date(task, due)).filter(date => !Number.isNaN(date.getTime()))
  }

  #date ({ scheduleClock, origin }: TickTarget, due: number): Date {
    // Computed from the origin, so that the dates of a period are on a grid, too.
    return new Date(this.options.schedule.wall ? due : scheduleClock.wallOf(origin) + Math.round(due - origin))
  }
}

/** Whether the task ticks. A stop, a pause and the close cancel its alarm. */
function isTicking (task: TickTarget): boolean {
  return task.scheduleClock.dueOf(task) !== undefined
}

function tickStateOf (task: TickTarget): TickState {
  task.tickState ??= new TickState()
  return task.tickState
}
