import { setImmediate } from 'node:timers'
import { Heap, type Entry } from './heap.ts'

// The only file that reads a clock or touches a timer. The globals are looked up at each call, so that fake clocks move it.

/** The longest delay that `setTimeout` takes; beyond it, it fires at once. */
const LONGEST = 2 ** 31 - 1
/** How long the clock sleeps at most while something waits for a wall time, so that it sees when the wall clock is set. */
const NAP = 30_000
/** By how much `setTimeout` may fire early. Earlier, and it is `performance` that stands still. */
const EARLY = 2
/** By how many milliseconds the two timelines may drift apart before due times are told anew: less is an adjustment of the clock, or only its rounding. */
const DRIFT = 100
/** How far the wall clock may be set back before what waits for it is planned anew. */
export const SET_BACK = 3_600_000

// As they were when this was loaded. Where a fake clock has put its own in place of the timers and of Date, and not of `performance`,
// time is what Date says: `performance` runs on while it stands still, and two tasks that are started at once would be apart.
const { setTimeout: realTimeout, Date: RealDate } = globalThis
const realNow = performance.now
const goesByDate = (): boolean => setTimeout !== realTimeout && Date !== RealDate && performance.now === realNow

/** Something that waits for its time. Reusable: it can be set again once it has fired or was cancelled. */
export interface Alarm extends Entry {
  /** Called when it is due, with the time that counts as now: never before `due`. */
  ring (now: number, due: number): void
  /** Called instead when the wall clock was set back by more than an hour. */
  setBack? (): void
}

/**
 * Two timelines and one armed timer.
 *
 * The monotonic one (`now`) is never set: periods, limits and deadlines go by it. The wall one (`wall`) is what people write
 * cron expressions for, and it jumps. Each has a heap of alarms; the one `setTimeout` is armed for whichever is due first, and
 * ten thousand alarms cost no more than that.
 */
export class Clock {
  readonly #monotonic = new Heap<Alarm>()
  readonly #wall = new Heap<Alarm>()
  #timer: NodeJS.Timeout | undefined
  /** When the armed timer is due, on the monotonic timeline. */
  #armed = Infinity
  /** What `performance` is behind, where a fake clock leaves it alone. */
  #shift = 0
  /** Where a fake clock moves `Date` and leaves `performance` alone: the monotonic time goes by `Date`, less this. */
  #byDate: number | undefined
  /** Wall time less monotonic time when last seen: it changes only when the wall clock is set. */
  #offset = 0
  /** The same, as due times are told. */
  #told = NaN

  /** Milliseconds on the timeline that is never set. */
  now (): number {
    if (this.#byDate === undefined && goesByDate()) this.#byDate = Date.now() - performance.now() - this.#shift
    return this.#byDate === undefined ? performance.now() + this.#shift : Date.now() - this.#byDate
  }

  /** Milliseconds since the epoch. */
  wall (): number { return Date.now() }

  /** What the wall clock shows at a monotonic time: the same each time it is asked, unless the wall clock is set. */
  wallOf (time: number): number {
    const offset = this.wall() - this.now()
    if (!(Math.abs(offset - this.#told) < DRIFT)) this.#told = offset
    return Math.round(time + this.#told)
  }

  /** Sets an alarm for a monotonic time. */
  set (alarm: Alarm, due: number): void {
    this.#set(this.#monotonic, alarm, due)
  }

  /** Sets an alarm for a wall time. */
  setWall (alarm: Alarm, due: number): void {
    if (this.#wall.size === 0) this.#offset = this.wall() - this.now()
    this.#set(this.#wall, alarm, due)
  }

  /** Takes an alarm back; does nothing if it is not set. */
  cancel (alarm: Alarm): void {
    this.#monotonic.remove(alarm)
    this.#wall.remove(alarm)
    if (this.#monotonic.size + this.#wall.size === 0) this.#disarm()
  }

  /** When an alarm is set for, on its timeline; undefined if it is not set. */
  dueOf (alarm: Alarm): number | undefined {
    return this.#monotonic.dueOf(alarm) ?? this.#wall.dueOf(alarm)
  }

  /** Takes all alarms back, at once: each by itself would be felt at ten thousand. */
  clear (): void {
    this.#monotonic.clear()
    this.#wall.clear()
    this.#disarm()
  }

  /** Calls `callback` once, in `ms` milliseconds; any length works, and one that is not finite never comes. */
  after (ms: number, callback: () => void): Timer {
    const alarm: Alarm = { place: 0, ring: callback }
    if (ms !== Infinity) this.set(alarm, this.now() + ms)
    return { cancel: () => { this.cancel(alarm) } }
  }

  #set (heap: Heap<Alarm>, alarm: Alarm, due: number): void {
    heap.set(alarm, due)
    if (heap.top === alarm) this.#arm()
  }

  /** Arms the one timer for what is due first, unless it is armed for that or something earlier: to wake for nothing is cheap. */
  #arm (): void {
    const now = this.now()
    const delay = Math.min(
      LONGEST,
      this.#monotonic.topDue - now,
      this.#wall.size === 0 ? LONGEST : Math.min(this.#wall.topDue - this.wall(), NAP)
    )
    if (this.#timer !== undefined && this.#armed <= now + delay) return
    clearTimeout(this.#timer)
    this.#armed = now + delay
    // Rounded up, as setTimeout cuts a fraction off and would fire early; but not for what is only the error of a subtraction.
    this.#timer = setTimeout(() => { this.#fire() }, Math.max(0, Math.ceil(delay - 0.01)))
  }

  #disarm (): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  #fire (): void {
    const armed = this.#armed
    this.#disarm()
    const early = armed - this.now()
    if (early > EARLY) this.#shift += early
    // Never before the deadline, and without an offset that adds up: what is next is reckoned from this.
    this.#ring(this.#monotonic, Math.max(this.now(), armed))
    if (this.#wall.size > 0) {
      this.#watchWall()
      this.#ring(this.#wall, this.wall())
    }
    if (this.#monotonic.size + this.#wall.size > 0) this.#arm()
  }

  #ring (heap: Heap<Alarm>, now: number): void {
    for (let { top, topDue } = heap; top !== undefined && topDue <= now; { top, topDue } = heap) {
      heap.remove(top)
      top.ring(now, topDue)
    }
  }

  #watchWall (): void {
    const offset = this.wall() - this.now()
    const back = this.#offset - offset
    this.#offset = offset
    if (back <= SET_BACK) return
    for (const alarm of this.#wall.values()) alarm.setBack?.()
  }
}

/** Something that is due at a later time, and can be called off. */
export interface Timer {
  /** Calls it off; does nothing once it has come. */
  cancel (): void
}

/** Milliseconds on a clock that is never set, to measure how long something takes. */
export function now (): number {
  last = performance.now()
  return last
}

let last = 0

/** What `now` gave last: for who would look a moment after somebody has, as a look takes longer than much else. */
export function lastNow (): number {
  return last
}

/** Calls `callback` in a later macrotask. */
export function soon (callback: () => void): void {
  // node:timers, which fake clocks leave alone: it is not about time.
  setImmediate(callback)
}
