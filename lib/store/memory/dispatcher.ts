import { type Clock, defer, lastNow, now, type Timer } from '../../time/index.ts'
import { Rate } from './rate-limiter.ts'

/** How many milliseconds the dispatcher begins run after run before it yields to the event loop, so that short runs do not hold up requests. */
const SLICE = 5

/** The waiting runs. */
export interface RunSource {
  /** Whether a run waits. */
  readonly any: boolean
  /** Begins the first waiting run. `readAt`: the monotonic time, if the clock has just been read. */
  begin (readAt: number | undefined): void
}

/** Decides when to begin the next run: as soon as one waits and `concurrency` and `rate` allow it. */
export class Dispatcher {
  readonly #concurrency: number
  readonly #clock: Clock
  readonly #rate: Rate | undefined
  readonly #runs: RunSource
  /** The number of active runs. */
  #active = 0
  #working = false
  #paused = false
  /** Whether a macrotask is scheduled that will begin runs. */
  #woken = false
  /** Whether the loop that begins runs is active: a run may end inside it. */
  #beginning = false
  /** Monotonic time at which the dispatcher yields. */
  #sliceEnd = 0
  /** Armed while `rate` allows no run to begin. */
  #rateTimer: Timer | undefined

  constructor ({ concurrency, rate, clock }: { concurrency: number, rate: { limit: number, per: number } | undefined, clock: Clock }, runs: RunSource) {
    this.#concurrency = concurrency
    this.#clock = clock
    this.#rate = rate && new Rate(rate)
    this.#runs = runs
  }

  get active (): number { return this.#active }

  get paused (): boolean { return this.#paused }

  /** Whether it may begin runs. */
  get works (): boolean { return this.#working && !this.#paused }

  work (): void {
    this.#working = true
    this.wake()
  }

  halt (): void {
    this.#working = false
    this.#rateTimer?.cancel()
  }

  pause (): void {
    this.#paused = true
  }

  resume (): void {
    this.#paused = false
    this.wake()
  }

  /** Begins runs in a later macrotask, so that the caller of `enqueue` goes on first. */
  wake (): void {
    if (this.#woken || !this.works || this.#active >= this.#concurrency) return
    this.#woken = true
    defer(() => {
      this.#woken = false
      const readAt = now()
      this.#sliceEnd = readAt + SLICE
      this.#beginAll(readAt)
    })
  }

  /** Called when a run has ended: begins the next, at once unless the dispatcher must yield. `readAt`: the monotonic time, if the run has just read the clock. */
  ended (readAt?: number): void {
    this.#active--
    if (!this.#beginning) this.#beginAll(readAt)
  }

  #beginAll (readAt?: number): void {
    this.#beginning = true
    // For the first run only: the handlers of further ones begin after that of the first has returned.
    let justRead = readAt
    try {
      while (this.works && this.#runs.any && this.#active < this.#concurrency && !this.#isRateLimited()) {
        // The run before has read the clock when it began; the first one need not.
        if (lastNow() >= this.#sliceEnd) {
          this.wake()
          return
        }
        this.#active++
        this.#rate?.started(this.#clock.now())
        this.#runs.begin(justRead)
        justRead = undefined
      }
    } finally {
      this.#beginning = false
    }
  }

  /** Whether `rate` allows no run to begin now. */
  #isRateLimited (): boolean {
    if (this.#rate === undefined) return false
    const wait = this.#rate.next - this.#clock.now()
    if (wait <= 0) return false
    this.#rateTimer?.cancel()
    this.#rateTimer = this.#clock.after(wait, () => { this.wake() })
    return true
  }
}
