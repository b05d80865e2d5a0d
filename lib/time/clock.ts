import { clearTimeout as clearReal, setImmediate, setTimeout as setReal } from 'node:timers'
import { withoutStores } from './async-context.ts'
import { type HeapEntry, Heap } from './heap.ts'

// The only file that reads a clock or sets a timer. It looks the globals up at each call, so that fake clocks move it.

/** The longest delay of `setTimeout`: with a longer one it fires at once. */
const MAX_DELAY = 2 ** 31 - 1
/** The longest sleep while an alarm waits for a wall time, so that the clock notices when somebody sets the wall clock. */
const MAX_WALL_SLEEP = 30_000
/** How many milliseconds early `setTimeout` may fire. If it fires earlier, a fake clock moves the timers and not `performance`. */
const EARLY = 2
/** How many milliseconds the two timelines may drift apart before due times follow: less is an adjustment of the clock, or rounding. */
const DRIFT = 100
/** If somebody sets the wall clock back further than this, its alarms are planned anew. */
export const SET_BACK = 3_600_000

/** Tells by its source whether a global is the real one: a fake clock may have replaced it before this file was loaded. */
function isFake (global: () => unknown, real: RegExp): () => boolean {
  let seen: unknown
  let fake = false
  return () => {
    const now = global()
    if (now === seen) return fake
    seen = now
    fake = !real.test(Function.prototype.toString.call(now))
    return fake
  }
}

const isTimeoutFake = isFake(() => setTimeout, /\bnew Timeout\(|function setTimeout\(\) \{ \[native code\]/)
const isDateFake = isFake(() => Date, /\[native code\]/)
const realNow = performance.now

/**
 * Whether a fake clock replaces the timers and Date, and not `performance`. It stops Date while `performance` goes on, so that two tasks which start
 * at the same moment would differ. The monotonic time then goes by Date.
 */
const goesByDate = (): boolean => isTimeoutFake() && isDateFake() && performance.now === realNow

/** A callback for a time. It can be set again after it has rung or was cancelled. */
export interface Alarm extends HeapEntry {
  /** Called when the alarm is due, with the current time, which is never before `due`. */
  ring (now: number, due: number): void
  /** Called instead when somebody has set the wall clock back by more than an hour. */
  setBack? (): void
}

/**
 * Two timelines and one armed timer.
 *
 * Nobody can set the monotonic timeline (`now`): periods, limits and deadlines use it. The wall clock (`wall`) can jump: cron expressions use
 * it. Each timeline has a heap of alarms. One `setTimeout` is armed for the alarm that is due first, so ten thousand alarms need one timer.
 */
export class Clock {
  readonly #monotonic = new Heap<Alarm>()
  readonly #wall = new Heap<Alarm>()
  #timer: NodeJS.Timeout | undefined
  /** When the armed timer fires, on the monotonic timeline. */
  #armed = Infinity
  /** How far `performance` lags behind a fake clock that does not move it. */
  #shift = 0
  /** Where a fake clock moves `Date` and not `performance`: the monotonic time is `Date` less this. */
  #byDate: number | undefined
  /** Wall time less monotonic time at the last look: it changes only when somebody sets the wall clock. */
  #offset = 0
  /** The offset by which `wallOf` converts. */
  #wallOffset = NaN

  /** Milliseconds on the monotonic timeline. */
  now (): number {
    if (this.#byDate === undefined && goesByDate()) this.#byDate = Date.now() - performance.now() - this.#shift
    return this.#byDate === undefined ? performance.now() + this.#shift : Date.now() - this.#byDate
  }

  /** Milliseconds since the epoch. */
  wall (): number { return Date.now() }

  /** The wall time of a monotonic time: the same at each call, unless somebody sets the wall clock. */
  wallOf (time: number): number {
    const offset = this.wall() - this.now()
    if (!(Math.abs(offset - this.#wallOffset) < DRIFT)) this.#wallOffset = offset
    return Math.round(time + this.#wallOffset)
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

  /** Cancels an alarm; does nothing if it is not set. */
  cancel (alarm: Alarm): void {
    this.#monotonic.remove(alarm)
    this.#wall.remove(alarm)
    if (this.#monotonic.size + this.#wall.size === 0) this.#disarm()
  }

  /** The time of an alarm, on its timeline; undefined if it is not set. */
  dueOf (alarm: Alarm): number | undefined {
    return this.#monotonic.dueOf(alarm) ?? this.#wall.dueOf(alarm)
  }

  /** Cancels all alarms at once: one by one, ten thousand would hold up the close. */
  clear (): void {
    this.#monotonic.clear()
    this.#wall.clear()
    this.#disarm()
  }

  /** Calls `callback` once, in `ms` milliseconds of any length; never if that is Infinity. */
  after (ms: number, callback: () => void): Timer {
    const alarm: Alarm = { place: 0, ring: callback }
    if (ms !== Infinity) this.set(alarm, this.now() + ms)
    return { cancel: () => { this.cancel(alarm) } }
  }

  #set (heap: Heap<Alarm>, alarm: Alarm, due: number): void {
    heap.set(alarm, due)
    if (heap.top === alarm) this.#arm()
  }

  /** Arms the timer for the first alarm, unless it is armed for that time or an earlier one: a timer that fires for nothing is cheap. */
  #arm (): void {
    const now = this.now()
    const delay = Math.min(
      MAX_DELAY,
      this.#monotonic.topDue - now,
      this.#wall.size === 0 ? MAX_DELAY : Math.min(this.#wall.topDue - this.wall(), MAX_WALL_SLEEP)
    )
    if (this.#timer !== undefined && this.#armed <= now + delay) return
    clearTimeout(this.#timer)
    this.#armed = now + delay
    // Rounded up: setTimeout drops the fraction and would fire early. The 0.01 keeps a rounding error of the subtraction from adding 1 ms.
    // Without the stores of the request or run that happens to arm it: the timer rings for others, too.
    this.#timer = withoutStores(ms => setTimeout(() => { this.#fire() }, ms), Math.max(0, Math.ceil(delay - 0.01)))
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
    // The time is never before the armed one, so that no tick fires twice; nothing keeps the difference, so that it does not add up.
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

/** A pending call of `after`. */
export interface Timer {
  /** Cancels the call; does nothing afterwards. */
  cancel (): void
}

/** Monotonic milliseconds, to measure a duration. */
export function now (): number {
  last = performance.now()
  return last
}

let last = 0

/** The last result of `now`, for a caller right after another one: reading the clock costs more than most steps of a short run. */
export function lastNow (): number {
  return last
}

const realPerformance = performance

/** Monotonic milliseconds of the real clock, whatever fake clock there is. */
export function realTime (): number {
  return realNow.call(realPerformance)
}

/** Calls `callback` in `ms` milliseconds of real time, unless the process ends before. Returns what cancels the call. */
export function afterRealTime (ms: number, callback: () => void): () => void {
  const timer = withoutStores(callback => setReal(callback, ms), callback)
  timer.unref()
  return () => { clearReal(timer) }
}

/** Calls `callback` in a later macrotask, without the AsyncLocalStorage stores of its caller. */
export function defer (callback: () => void): void {
  // From node:timers, which fake clocks do not replace: this is about order, not about time.
  withoutStores(setImmediate, callback)
}
