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

/** What a ticker tells the one it ticks for. */
export interface TickerListener {
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

/**
 * Turns a schedule into ticks.
 *
 * It is the alarm for its next due time. When it rings, the tick after it is looked up first. If that lies ahead, as nearly
 * always, this one fires. If it has passed as well, the process was late for several: as long as none of them is late by more
 * than a second, they become one tick; else they were missed, and `misfire` says what becomes of them.
 */
export class Ticker implements Alarm {
  readonly #clock: Clock
  /** From when it counts: a pause does not move it. */
  readonly #origin: number
  readonly #options: TickerOptions
  readonly #listener: TickerListener
  /** Ticks that are due, and put off by their jitter. */
  #delayed: Map<number, Timer> | undefined
  /** Goes up with each stop: what was begun before does not go on. */
  #life = 0
  // Its own alarm: an object less for each of ten thousand tasks.
  due = 0
  place = -1
  set = false
  /** When it rang last: what was due until then has been seen to. */
  #rung = -Infinity
  /** Ticks that the next run for missed ones stands for, besides those. */
  #carried = 0
  /** The first tick from `from` on that is not excluded: the search for it may be long. */
  #sought: { from: number, found: number | undefined } | undefined

  constructor (clock: Clock, options: TickerOptions, listener: TickerListener) {
    this.#clock = clock
    this.#origin = clock.now()
    this.#options = options
    this.#listener = listener
  }

  /** Ticks from now on; or from an earlier time, as if it had stood still since: what was due meanwhile was missed. */
  start (since?: number): void {
    const now = this.#now()
    if (since !== undefined && since < now) {
      this.#plan(this.#next(since))
      return
    }
    // Set back by up to an hour, the wall clock comes a second time by what has fired.
    this.#plan(this.#next(this.#options.schedule.wall && this.#rung - now <= SET_BACK ? Math.max(now, this.#rung) : now))
  }

  /** Ticks no more; what is put off is called off. */
  stop (): void {
    this.#life++
    if (this.set) this.#clock.cancel(this)
    if (this.#delayed === undefined) return
    for (const timer of this.#delayed.values()) timer.cancel()
    this.#delayed = undefined
  }

  /** The next due time that is not excluded; undefined where none is found within reach. */
  get nextAt (): Date | undefined {
    const [put] = this.#delayed?.keys() ?? []
    if (put !== undefined) return this.#date(put)
    const from = this.due
    if (this.#sought?.from !== from) this.#sought = { from, found: this.#search(from, 1)[0] }
    return this.#sought.found === undefined ? undefined : [this.#date(this.#sought.found)].find(isValid)
  }

  /** The next `count` due times that are not excluded; fewer where they are not found within reach. */
  next (count: number): Date[] {
    const put = [...this.#delayed?.keys() ?? []].slice(0, count)
    const dues = this.#search(this.due, count - put.length)
    return [...put, ...dues].map(due => this.#date(due)).filter(isValid)
  }

  /** The clock's to call. */
  ring (now: number): void {
    this.#rung = now
    const { due } = this
    const following = this.#next(due)
    const alone = following > now
    const next = alone ? following : this.#next(now)
    this.#plan(next)
    const putOff = due + (this.#options.jitter > 0 ? Math.random() * this.#options.jitter : 0) - now
    if (putOff < -LATE) this.#missed(due, next)
    else if (alone) this.#due(due, 0, putOff)
    else this.#gather(due, next, (dues, count) => { this.#due(dues[0], count - 1, putOff) })
  }

  /** The clock's to call. */
  setBack (): void {
    this.#rung = -Infinity
    this.#plan(this.#next(this.#now()))
  }

  #search (from: number, count: number): number[] {
    const dues: number[] = []
    if (count === 0) return dues
    let due = from
    for (let looks = this.#options.schedule.looks; looks > 0; looks--) {
      // Not a step further than was asked for: it would cost, and move the shared pattern's memory away from now.
      if (!this.#isOut(due) && dues.push(due) === count) break
      due = this.#next(due)
    }
    return dues
  }

  #next (time: number): number { return this.#options.schedule.next(time, this.#origin) }

  #previous (time: number): number | undefined { return this.#options.schedule.previous(time, this.#origin) }

  #now (): number {
    return this.#options.schedule.wall ? this.#clock.wall() : this.#clock.now()
  }

  #plan (due: number): void {
    if (this.#options.schedule.wall) this.#clock.setWall(this, due)
    else this.#clock.set(this, due)
  }

  /** A tick, which fires in `putOff` milliseconds, or at once. */
  #due (due: number | undefined, missed: number, putOff: number): void {
    if (due === undefined || !this.#admit(due)) return
    if (putOff <= 0) {
      this.#listener.tick(this.#date(due), missed)
      return
    }
    const at = this.#clock.now() + putOff
    this.#delayed ??= new Map()
    this.#delayed.set(due, this.#clock.after(putOff, () => {
      this.#delayed?.delete(due)
      const late = this.#clock.now() - at > LATE
      if (late && this.#options.misfire === 'skip') return
      // The tick after it was missed as well: one run stands for them all.
      if (late && this.#options.misfire === 'once' && this.set && this.due <= this.#now()) this.#carried += missed + 1
      else this.#listener.tick(this.#date(due), missed)
    }))
  }

  #missed (oldest: number, next: number): void {
    switch (this.#options.misfire) {
      case 'skip':
        return
      case 'once':
        this.#gather(oldest, next, (dues, count) => {
          this.#due(dues[0], Math.min(count - 1 + this.#carried, COUNTED), 0)
          this.#carried = 0
        })
        return
      case 'all':
        this.#gather(oldest, next, dues => {
          this.#listener.catchUp(dues.reverse().filter(due => this.#admit(due)).map(due => this.#date(due)))
        })
    }
  }

  /** Finds the ticks from `oldest` up to `next`, less the excluded: the last ones, latest first, and how many there are. */
  #gather (oldest: number, next: number, done: (dues: number[], count: number) => void): void {
    const life = this.#life
    const dues: number[] = []
    let count = 0
    let looks = 0
    let due = this.#previous(next)
    const look = (): void => {
      if (life !== this.#life) return
      do {
        if (due === undefined || due < oldest || count > COUNTED || looks === LOOKS) {
          done(dues, count)
          return
        }
        if (!this.#isOut(due)) {
          count++
          if (dues.length < RUN) dues.push(due)
        }
        due = this.#previous(due)
      } while (++looks % SLICE > 0)
      soon(look)
    }
    look()
  }

  /** Whether a tick fires; tells of one that does not. */
  #admit (due: number): boolean {
    const dueAt = this.#date(due)
    try {
      if (this.#options.exclude === undefined || !this.#options.exclude(dueAt)) return true
      this.#listener.excluded(dueAt)
    } catch (error) {
      this.#listener.excludeFailed(dueAt, error)
    }
    return false
  }

  /** Whether a tick will be left out, for all one can tell: one on which `exclude` throws still makes a failed run. */
  #isOut (due: number): boolean {
    try {
      return Boolean(this.#options.exclude?.(this.#date(due)))
    } catch {
      return false
    }
  }

  #date (due: number): Date {
    return new Date(this.#options.schedule.wall ? due : Math.round(this.#clock.wall() - this.#clock.now() + due))
  }
}

/** A due time may lie beyond what a Date can hold: the year 275760. */
function isValid (date: Date): boolean {
  return !Number.isNaN(date.getTime())
}
