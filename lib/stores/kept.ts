import type { Keep } from '../store.ts'

/** Runs that have ended, by id, the oldest first: no more than so many, and none older than that. */
export class Kept<R extends { readonly id: string, readonly finishedAt: number }> {
  readonly #count: number
  readonly #age: number
  readonly #runs = new Map<string, R>()
  readonly #wall: () => number

  constructor ({ count = Infinity, age = Infinity }: Keep, wall: () => number) {
    this.#count = count
    this.#age = age
    this.#wall = wall
  }

  /** Whether it keeps none at all. */
  get none (): boolean { return this.#count === 0 }

  get size (): number {
    this.#expire()
    return this.#runs.size
  }

  add (run: R): void {
    this.#runs.set(run.id, run)
    this.#expire()
  }

  /** Takes a run out. */
  take (id: string): R | undefined {
    this.#expire()
    const run = this.#runs.get(id)
    this.#runs.delete(id)
    return run
  }

  /** Forgets all of them. */
  clear (): number {
    const { size } = this
    this.#runs.clear()
    return size
  }

  /** The newest first. */
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
