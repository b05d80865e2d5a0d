import { COUNTED, defer, MAX_CATCH_UP, type Schedule, SLICE } from '../../time/index.ts'
import { isTicking, type TickState, type TickTarget, tickStateOf } from './tick-target.ts'

/** How many passed ticks are computed in all, where `exclude` leaves most of them out. */
const LOOKS = 10_000

/** The user's `exclude`: returns true for a due time to leave out. */
export type Exclude = (due: Date) => boolean

/** The due times of a schedule, without those that `exclude` leaves out. It has no state: a period counts from the origin of the task. */
export class DueTimes {
  readonly #schedule: Schedule
  readonly #exclude: Exclude | undefined

  constructor (schedule: Schedule, exclude: Exclude | undefined) {
    this.#schedule = schedule
    this.#exclude = exclude
  }

  /** The first due time after `time`, excluded or not; Infinity if there is none. */
  next (task: TickTarget, time: number): number { return this.#schedule.next(time, task.origin) }

  /** The last due time before `time`, excluded or not. */
  previous (task: TickTarget, time: number): number | undefined { return this.#schedule.previous(time, task.origin) }

  /** Up to `count` due times from `from` on that `exclude` does not leave out. */
  search (task: TickTarget, from: number, count: number): number[] {
    const dues: number[] = []
    if (count === 0) return dues
    let due = from
    // Checks each time whether the task still ticks: `exclude` is the user's function, and may stop the task.
    for (let looks = this.#schedule.looks; looks > 0 && isTicking(task); looks--) {
      // Not a step further than needed: it costs time, and would move the shared pattern's cache away from now.
      if (due === Infinity || (!this.isOut(task, due) && dues.push(due) === count)) break
      due = this.next(task, due)
    }
    return dues
  }

  /** Finds the ticks from `oldest` up to `next` that `exclude` does not leave out: the last hundred, latest first, and the number of all. */
  gather (task: TickTarget, oldest: number, next: number, done: (dues: number[], count: number) => void): void {
    const tickState = tickStateOf(task)
    const { life } = tickState
    const dues: number[] = []
    let count = 0
    let looks = 0
    let due = this.previous(task, next)
    const look = (): void => {
      do {
        if (life !== tickState.life || !isTicking(task)) return
        if (due === undefined || due < oldest || count > COUNTED || looks === LOOKS) {
          done(dues, count)
          this.#endCounting(tickState)
          return
        }
        if (!this.isOut(task, due)) {
          count++
          if (dues.length < MAX_CATCH_UP) dues.push(due)
        }
        due = this.previous(task, due)
      } while (++looks % SLICE > 0)
      tickState.counting = true
      defer(look)
    }
    look()
  }

  /** Handles a tick: now, or after the earlier ones that are being counted. */
  afterCounting (task: TickTarget, handle: () => void): void {
    if (task.tickState?.counting === true) task.tickState.waiting.push(handle)
    else handle()
  }

  #endCounting (tickState: TickState): void {
    tickState.counting = false
    while (!tickState.counting && tickState.waiting.length > 0) tickState.waiting.shift()?.()
  }

  /** Whether `exclude` leaves a tick out. A tick on which it throws becomes a failed run, so that is not left out. */
  isOut (task: TickTarget, due: number): boolean {
    try {
      return Boolean(this.#exclude?.(this.date(task, due)))
    } catch {
      return false
    }
  }

  /** Whether a tick fires. Tells the task if `exclude` leaves it out, or throws. */
  admit (task: TickTarget, due: number): boolean {
    if (!isTicking(task)) return false
    if (this.#exclude === undefined) return true
    const dueAt = this.date(task, due)
    try {
      // A copy: the user's function may change it.
      const out = this.#exclude(new Date(dueAt))
      if (!isTicking(task)) return false
      if (!out) return true
      task.excluded(dueAt)
    } catch (error) {
      if (isTicking(task)) task.excludeFailed(dueAt, error)
    }
    return false
  }

  /** Due times as dates, without those that no Date can hold (after the year 275760). */
  dates (task: TickTarget, dues: number[]): Date[] {
    return dues.map(due => this.date(task, due)).filter(date => !Number.isNaN(date.getTime()))
  }

  /** A due time as a date. */
  date ({ scheduleClock, origin }: TickTarget, due: number): Date {
    // Computed from the origin, so that the dates of a period are on a grid, too.
    return new Date(this.#schedule.wall ? due : scheduleClock.wallOf(origin) + Math.round(due - origin))
  }
}
