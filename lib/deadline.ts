import type { Clock, Timer } from './clock.ts'

/** A moment after which nobody waits any more. */
export class Deadline {
  readonly #clock: Clock
  #passed = false
  #timer: Timer | undefined
  // A set, not one promise to race against: a promise that lives as long as the server would keep every race ever run.
  readonly #waiting = new Set<() => void>()

  constructor (clock: Clock) {
    this.#clock = clock
  }

  /** Whether the moment has come. */
  get passed (): boolean { return this.#passed }

  /** Sets the moment to `ms` milliseconds from now; calls `onPassed` then. */
  start (ms: number, onPassed?: () => void): void {
    this.#timer = this.#clock.after(Math.max(0, ms), () => {
      this.#passed = true
      onPassed?.()
      for (const giveUp of this.#waiting) giveUp()
      this.#waiting.clear()
    })
  }

  /** Disarms it: the moment never comes. */
  clear (): void {
    this.#timer?.cancel()
  }

  /** Resolves when `work` has settled, or when the moment comes, whichever is first. */
  async until (work: Promise<unknown>): Promise<void> {
    if (this.#passed) return
    await new Promise<void>(resolve => {
      const done = (): void => {
        this.#waiting.delete(done)
        resolve()
      }
      this.#waiting.add(done)
      work.then(done, done)
    })
  }
}
