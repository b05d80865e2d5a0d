import type { Keep } from '../store.ts'

/** Ended runs by id, the oldest first: at most `count`, and none older than `age`. */
export class FinishedRuns<R extends { readonly id: string, readonly finishedAt: number }> {
  readonly #count: number
  readonly #age: number
  readonly #runs = new Map<string, R>()
  readonly #wall: () => number

  constructor ({ count = Infinity, age = Infinity }: Keep, wall: () => number) {
    this.#count = count
    this.#age = age
    this.#wall = wall
  }

  /** Whether it keeps no runs. */
  get none (): boolean { return this.#count === 0 }

  get size (): number {
    this.#expire()
    return this.#runs.size
  }

  add (run: R): void {
    this.#runs.set(run.id, run)
    this.#expire()
  }

  find (id: string): R | undefined {
    this.#expire()
    return this.#runs.get(id)
  }

  /** Removes and returns a run. */
  take (id: string): R | undefined {
    this.#expire()
    const run = this.#runs.get(id)
    this.#runs.delete(id)
    return run
  }

  /** Removes all runs, and returns their number. */
  clear (): number {
    const { size } = this
    this.#runs.clear()
    return size
  }

  /** All runs, the newest first. */
  list (): R[] {
    this.#expire()
    return [...this.#runs.values()].reverse()
  }

  #expire (): void {
    const oldest = this.#wall() - this.#age
    for (const { id, finishedAt } of this.#runs.values()) {
      if (this.#runs.size <= this.#count && finishedAt > oldest) return
      this.#runs.delete(id)
    }
  }
}
