import type { Enqueued } from '../queued-run.ts'
import type { NewRun } from '../store.ts'

/** Runs whose `enqueue`, or `enqueueMany`, waits for room in a full queue (`onFull: 'wait'`), first come, first served. */
export class Backpressure {
  readonly #calls = new Set<{ runs: NewRun[], resolve: (enqueued: Enqueued[]) => void, reject: (error: Error) => void }>()

  get size (): number { return this.#calls.size }

  /** Resolves when the queue has accepted all the runs. */
  add (runs: NewRun[]): Promise<Enqueued[]> {
    return new Promise((resolve, reject) => { this.#calls.add({ runs, resolve, reject }) })
  }

  /** Passes the runs of each call to `take`, until it has no room for them and returns undefined. */
  admit (take: (runs: NewRun[]) => Enqueued[] | undefined): void {
    for (const one of this.#calls) {
      const enqueued = take(one.runs)
      if (enqueued === undefined) return
      this.#calls.delete(one)
      one.resolve(enqueued)
    }
  }

  /** Rejects all waiting calls. */
  refuse (error: () => Error): void {
    for (const { reject } of this.#calls) reject(error())
    this.#calls.clear()
  }
}
