import { lastNow, now, soon, type Clock, type Timer } from '../clock.ts'
import { Rate } from './rate.ts'

/** How many milliseconds it may go from run to run before the event loop gets a turn: a backlog of short runs must not hold up requests. */
const SLICE = 5

/** The runs that wait to begin. */
export interface Waiting {
  /** Whether there is one. */
  readonly any: boolean
  /** Begins the first. */
  begin (): void
}

/** When to begin the next run: as soon as there is one, not too many at a time, and no more often than the rate allows. */
export class Pump {
  readonly #concurrency: number
  readonly #clock: Clock
  readonly #rate: Rate | undefined
  readonly #runs: Waiting
  /** How many have begun and not ended. */
  #active = 0
  #working = false
  #paused = false
  /** Whether it is about to look what there is to do. */
  #woken = false
  /** Whether it is beginning runs: one may end at once. */
  #beginning = false
  /** When the slice is over, by the clock. */
  #sliceEnd = 0
  /** Armed while the rate allows no start. */
  #held: Timer | undefined

  constructor ({ concurrency, rate, clock }: { concurrency: number, rate: { limit: number, per: number } | undefined, clock: Clock }, runs: Waiting) {
    this.#concurrency = concurrency
    this.#clock = clock
    this.#rate = rate && new Rate(rate)
    this.#runs = runs
  }

  get active (): number { return this.#active }

  get paused (): boolean { return this.#paused }

  /** Whether it begins runs at all. */
  get works (): boolean { return this.#working && !this.#paused }

  work (): void {
    this.#working = true
    this.wake()
  }

  halt (): void {
    this.#working = false
    this.#held?.cancel()
  }

  pause (): void {
    this.#paused = true
  }

  resume (): void {
    this.#paused = false
    this.wake()
  }

  /** There is something to do: seen to in a later macrotask, so that who has enqueued goes on first. */
  wake (): void {
    if (this.#woken || !this.works || this.#active >= this.#concurrency) return
    this.#woken = true
    soon(() => {
      this.#woken = false
      this.#sliceEnd = now() + SLICE
      this.#beginAll()
    })
  }

  /** A run has ended: the next begins, at once unless it is the event loop's turn. */
  ended (): void {
    this.#active--
    if (!this.#beginning) this.#beginAll()
  }

  #beginAll (): void {
    this.#beginning = true
    try {
      while (this.works && this.#runs.any && this.#active < this.#concurrency && !this.#isHeld()) {
        // The begin of the one before, or its end, has just been measured.
        if (lastNow() >= this.#sliceEnd) {
          this.wake()
          return
        }
        this.#active++
        this.#rate?.started(this.#clock.now())
        this.#runs.begin()
      }
    } finally {
      this.#beginning = false
    }
  }

  /** Whether the rate allows no start now. */
  #isHeld (): boolean {
    if (this.#rate === undefined) return false
    const wait = this.#rate.next - this.#clock.now()
    if (wait <= 0) return false
    this.#held?.cancel()
    this.#held = this.#clock.after(wait, () => { this.wake() })
    return true
  }
}
