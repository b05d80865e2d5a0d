import type { Enqueued } from '../queued-run.ts'
import type { NewRun } from '../store.ts'

/** Runs whose `enqueue` waits for room in a full queue (`onFull: 'wait'`), first come, first served. */
export class Backpressure {
  readonly #runs = new Set<{ run: NewRun, resolve: (enqueued: Enqueued) => void, reject: (error: Error) => void }>()

  get size (): number { return this.#runs.size }

  /** Resolves when the queue has accepted the run. */
  add (run: NewRun): Promise<Enqueued> {
    return new Promise((resolve, reject) => { this.#runs.add({ run, resolve, reject }) })
  }

  /** Passes the runs to `take`, until it has no room and returns undefined. */
  admit (take: (run: NewRun) => Enqueued | undefined): void {
    for (const one of this.#runs) {
      const enqueued = take(one.run)
      if (enqueued === undefined) return
      this.#runs.delete(one)
      one.resolve(enqueued)
    }
  }

  /** Rejects all waiting runs. */
  refuse (error: () => Error): void {
    for (const { reject } of this.#runs) reject(error())
    this.#runs.clear()
  }
}
