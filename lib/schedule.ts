import type { CronPattern } from './cron.ts'

/**
 * When ticks fall due, on one of the two timelines of the clock. It has no state, so that tasks declared alike share one: the moment from
 * which a task counts, its `origin`, is the task's.
 */
export interface Schedule {
  /** Whether its times are wall times; else monotonic ones. */
  readonly wall: boolean
  /** How many ticks one may look at in a row before it is felt: a cron tick takes 50 µs. */
  readonly looks: number
  /** The first tick after `time`; Infinity if there is none. */
  next (time: number, origin: number): number
  /** The last tick before `time`; undefined if there is none. */
  previous (time: number, origin: number): number | undefined
}

/** A tick each `period` milliseconds from the origin on: a fixed grid, which no late or slow run shifts. */
export class Every implements Schedule {
  readonly wall = false
  readonly looks = 200_000
  readonly period: number

  constructor (period: number) {
    this.period = period
  }

  next (time: number, origin: number): number {
    const { period } = this
    // The division may round to either side of a tick: the loop settles that, and takes a turn at most.
    let index = Math.max(1, Math.floor((time - origin) / period))
    while (origin + index * period <= time) index++
    return origin + index * period
  }

  previous (time: number, origin: number): number | undefined {
    const { period } = this
    let index = Math.ceil((time - origin) / period)
    while (origin + index * period >= time) index--
    return index < 1 ? undefined : origin + index * period
  }
}

/** A tick each `period` milliseconds of the wall clock, counted from the epoch: the same for all processes, whenever they started. */
export class Aligned implements Schedule {
  readonly wall = true
  readonly looks = 200_000
  readonly #grid: Every

  constructor (period: number) {
    this.#grid = new Every(period)
  }

  next (time: number): number { return this.#grid.next(time, 0) }
  previous (time: number): number | undefined { return this.#grid.previous(time, 0) }
}

/** Ticks at the wall times of a cron expression. */
export class ByCron implements Schedule {
  readonly wall = true
  readonly looks = 3_000
  readonly pattern: CronPattern

  constructor (pattern: CronPattern) {
    this.pattern = pattern
  }

  next (time: number): number { return this.pattern.next(time) }
  previous (time: number): number | undefined { return this.pattern.previous(time) }
}
