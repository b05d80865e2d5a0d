import type { Clock, Timer } from './clock.ts'

/** A moment after which nobody waits any longer. */
export class Deadline {
  readonly #clock: Clock
  #passed = false
  #timer: Timer | undefined
  // Not one promise for Promise.race: a promise that lives as long as the server keeps every race that ever used it.
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

  /** Cancels the deadline: it never passes. */
  clear (): void {
    this.#timer?.cancel()
  }

  /** Resolves when `work` has settled or the deadline passes, whichever is first. */
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
