import { LATE, type Misfire, type Schedule, SET_BACK } from '../../time/index.ts'
import { DueTimes, type Exclude } from './due-times.ts'
import { handleMissed, type Missed } from './misfire.ts'
import { type TickTarget, tickStateOf } from './tick-target.ts'

/** Options of a ticker. */
export interface TickerOptions {
  schedule: Schedule
  misfire: Misfire
  /** The ticker delays each tick by a random time below this, in milliseconds. */
  jitter: number
  exclude: Exclude | undefined
}

/**
 * Fires the ticks of tasks, by their schedule.
 *
 * A ticker has no state, so that tasks with the same options share one: it keeps the state of a task in the task. The task is the alarm for its
 * next due time. When the alarm rings, the ticker first computes the following tick. If that is in the future, as nearly always, this tick
 * fires. If it has passed too, the process was late for several ticks. They become one tick as long as none is late by more than a second.
 * Otherwise they are missed, and `misfire` decides.
 */
export class Ticker {
  readonly options: TickerOptions
  readonly #dueTimes: DueTimes

  constructor (options: TickerOptions) {
    this.options = options
    this.#dueTimes = new DueTimes(options.schedule, options.exclude)
  }

  /** Starts the ticks, now or `since` an earlier time: the ticks since then count as missed. */
  start (task: TickTarget, since?: number): void {
    const now = this.#now(task)
    if (since !== undefined && since < now) {
      this.#plan(task, this.#dueTimes.next(task, since))
      return
    }
    // After the wall clock was set back by up to an hour, it passes the ticks that have fired a second time: skip these.
    const { rung = -Infinity } = task.tickState ?? {}
    this.#plan(task, this.#dueTimes.next(task, rung - now <= SET_BACK ? Math.max(now, rung) : now))
  }

  /** Stops the ticks, and cancels those that wait for their jitter. */
  stop (task: TickTarget): void {
    task.scheduleClock.cancel(task)
    const { tickState } = task
    if (tickState === undefined) return
    tickState.life++
    tickState.counting = false
    tickState.waiting.length = 0
    for (const timer of tickState.delayed.values()) timer.cancel()
    tickState.delayed.clear()
  }

  /** The next due time that `exclude` does not leave out; undefined if the search finds none, or the task does not tick. */
  nextAt (task: TickTarget): Date | undefined {
    const from = task.scheduleClock.dueOf(task)
    if (from === undefined || this.options.exclude === undefined) return this.next(task, 1)[0]
    const tickState = tickStateOf(task)
    if (tickState.delayed.size > 0) return this.next(task, 1)[0]
    const sought = tickState.sought?.from === from ? tickState.sought : { from, found: this.#dueTimes.search(task, from, 1) }
    tickState.sought = sought
    return this.#dueTimes.dates(task, sought.found)[0]
  }

  /** The next `count` due times that `exclude` does not leave out; fewer if the search finds fewer, none if the task does not tick. */
  next (task: TickTarget, count: number): Date[] {
    const from = task.scheduleClock.dueOf(task)
    if (from === undefined) return []
    const delayed = [...task.tickState?.delayed.keys() ?? []].slice(0, count)
    const dues = this.#dueTimes.search(task, from, count - delayed.length)
    return this.#dueTimes.dates(task, [...delayed, ...dues])
  }

  /** Handles the alarm of a task. */
  ring (task: TickTarget, now: number, due: number): void {
    const { schedule, jitter } = this.options
    if (schedule.wall) tickStateOf(task).rung = now
    const following = this.#dueTimes.next(task, due)
    const alone = following > now
    const next = alone ? following : this.#dueTimes.next(task, now)
    this.#plan(task, next)
    const delay = due + (jitter > 0 ? Math.random() * jitter : 0) - now
    this.#dueTimes.afterCounting(task, () => { this.#handle(task, { oldest: due, next, now }, alone, delay) })
  }

  /** Fires what has passed: a tick that was alone, or several. */
  #handle (task: TickTarget, passed: Missed, alone: boolean, delay: number): void {
    const { oldest: due, next } = passed
    if (delay < -LATE) handleMissed(this.options.misfire, this.#dueTimes, task, passed, (due, missed) => { this.#fire(task, due, missed, 0) })
    else if (alone) this.#fire(task, due, 0, delay)
    else this.#dueTimes.gather(task, due, next, (dues, count) => { this.#fire(task, dues[0], count - 1, delay) })
  }

  /** Somebody has set the wall clock back by more than an hour: plans anew. */
  setBack (task: TickTarget): void {
    if (task.tickState !== undefined) task.tickState.rung = -Infinity
    this.#plan(task, this.#dueTimes.next(task, this.#now(task)))
  }

  #now ({ scheduleClock }: TickTarget): number {
    return this.options.schedule.wall ? scheduleClock.wall() : scheduleClock.now()
  }

  #plan (task: TickTarget, due: number): void {
    if (this.options.schedule.wall) task.scheduleClock.setWall(task, due)
    else task.scheduleClock.set(task, due)
  }

  /** Fires a tick in `delay` milliseconds, or at once. */
  #fire (task: TickTarget, due: number | undefined, missed: number, delay: number): void {
    if (due === undefined || !this.#dueTimes.admit(task, due)) return
    if (delay <= 0) {
      task.tick(this.#dueTimes.date(task, due), missed)
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
      else task.tick(this.#dueTimes.date(task, due), missed)
    }))
  }
}
