import type { CronPattern } from './cron.ts'

/**
 * The due times of ticks, on one of the two timelines of the clock. A schedule has no state, so that tasks with the same options share one.
 * The `origin` from which a period counts belongs to the task.
 */
export interface Schedule {
  /** Whether its times are wall times, not monotonic ones. */
  readonly wall: boolean
  /** How many ticks a caller may compute in a row without blocking the event loop noticeably: a cron tick takes 50 µs. */
  readonly looks: number
  /** The first tick after `time`; Infinity if there is none. */
  next (time: number, origin: number): number
  /** The last tick before `time`; undefined if there is none. */
  previous (time: number, origin: number): number | undefined
}

/** A tick every `period` milliseconds from the origin: a fixed grid, which no late or slow run shifts. */
export class Every implements Schedule {
  readonly wall = false
  readonly looks = 200_000
  readonly period: number

  constructor (period: number) {
    this.period = period
  }

  next (time: number, origin: number): number {
    const { period } = this
    // The division may round to either side of a tick: the loop corrects that, in one step at most.
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

/** A tick every `period` milliseconds of the wall clock, from the epoch: the same in all processes, whenever they started. */
export class Aligned implements Schedule {
  readonly wall = true
  readonly looks = 200_000
  readonly period: number
  readonly #grid: Every

  constructor (period: number) {
    this.period = period
    this.#grid = new Every(period)
  }

  next (time: number): number { return this.#grid.next(time, 0) }
  previous (time: number): number | undefined { return this.#grid.previous(time, 0) }
}

/** A tick at each wall time of a cron expression. */
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
