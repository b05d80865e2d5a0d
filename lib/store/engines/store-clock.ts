import type { Condition } from '../../common/health.ts'
import type { Clock, Timer } from '../../time/index.ts'

/** How often to compare the clocks, in milliseconds. */
const INTERVAL = 60_000
/** How far the clocks may differ, in milliseconds. */
const TOLERANCE = 1_000

/**
 * Compares the clock of this process with that of the store. Each process reckons delays and cluster ticks by its own clock: where one is wrong, its
 * runs begin at wrong times.
 */
export class StoreClock {
  readonly #clock: Clock
  /** Asks the store for its time, in milliseconds since the epoch. */
  readonly #ask: () => Promise<number>
  /** Called when the clocks have begun to differ, with by how much: positive if this process is ahead. */
  readonly #differs: (ms: number) => void
  #timer: Timer | undefined
  #difference = 0

  constructor (clock: Clock, ask: () => Promise<number>, differs: (ms: number) => void) {
    this.#clock = clock
    this.#ask = ask
    this.#differs = differs
  }

  get condition (): Condition {
    if (this.#difference === 0) return { status: 'ok' }
    const seconds = Math.abs(this.#difference / 1_000).toFixed(1)
    return { status: 'degraded', reason: `the clock of this process is ${seconds} s ${this.#difference > 0 ? 'ahead of' : 'behind'} that of the store` }
  }

  /** Compares now, and again each minute. */
  start (): void {
    this.stop()
    this.#timer = this.#clock.after(INTERVAL, () => { this.start() })
    void this.#compare().catch(() => {})
  }

  stop (): void {
    this.#timer?.cancel()
  }

  async #compare (): Promise<void> {
    const [wall, began] = [this.#clock.wall(), this.#clock.now()]
    const theirs = await this.#ask()
    // The store has read its clock at some time between: only what is outside of that is a difference.
    const took = this.#clock.now() - began
    const ahead = wall - theirs
    const difference = ahead > TOLERANCE ? ahead : ahead + took < -TOLERANCE ? ahead + took : 0
    if (difference !== 0 && this.#difference === 0) this.#differs(difference)
    this.#difference = difference
  }
}
