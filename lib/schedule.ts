import type { CronPattern } from './cron.ts'

/** When ticks fall due, on one of the two timelines of the clock. */
export interface Schedule {
  /** Whether its times are wall times; else monotonic ones. */
  readonly wall: boolean
  /** How many ticks one may look at in a row before it is felt: a cron tick takes 50 µs. */
  readonly looks: number
  /** The first tick after `time`; undefined if there is none. */
  next (time: number): number | undefined
  /** The last tick before `time`; undefined if there is none. */
  previous (time: number): number | undefined
}

/** A tick each `period` milliseconds from `origin` on: a fixed grid, which no late or slow run shifts. */
export class Every implements Schedule {
  readonly wall = false
  readonly looks = 100_000
  readonly #origin: number
  readonly #period: number

  constructor (origin: number, period: number) {
    this.#origin = origin
    this.#period = period
  }

  next (time: number): number {
    // The division may round to either side of a tick: the loops settle that, and take a turn at most.
    let index = Math.max(1, Math.floor((time - this.#origin) / this.#period))
    while (this.#at(index) <= time) index++
    return this.#at(index)
  }

  previous (time: number): number | undefined {
    let index = Math.ceil((time - this.#origin) / this.#period)
    while (this.#at(index) >= time) index--
    return index < 1 ? undefined : this.#at(index)
  }

  #at (index: number): number { return this.#origin + index * this.#period }
}

/** Ticks at the wall times of a cron expression. */
export class ByCron implements Schedule {
  readonly wall = true
  readonly looks = 1_000
  readonly #pattern: CronPattern

  constructor (pattern: CronPattern) {
    this.#pattern = pattern
  }

  next (time: number): number | undefined { return this.#pattern.next(time) }
  previous (time: number): number | undefined { return this.#pattern.previous(time) }
}
