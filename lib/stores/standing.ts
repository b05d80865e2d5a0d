import type { Enqueued } from '../queue-handle.ts'
import type { NewRun } from '../store.ts'

/** Runs that wait for room in a full queue, first come first. */
export class Standing {
  readonly #runs = new Set<{ run: NewRun, resolve: (enqueued: Enqueued) => void, reject: (error: Error) => void }>()

  get size (): number { return this.#runs.size }

  /** Resolves once it has come in. */
  add (run: NewRun): Promise<Enqueued> {
    return new Promise((resolve, reject) => { this.#runs.add({ run, resolve, reject }) })
  }

  /** Lets in as many as `take` takes, until it has no room. */
  admit (take: (run: NewRun) => Enqueued | undefined): void {
    for (const one of this.#runs) {
      const enqueued = take(one.run)
      if (enqueued === undefined) return
      this.#runs.delete(one)
      one.resolve(enqueued)
    }
  }

  /** Sends all of them away. */
  refuse (error: () => Error): void {
    for (const { reject } of this.#runs) reject(error())
    this.#runs.clear()
  }
}
