import type { QueueContext } from '../context.ts'
import type { Fetcher } from '../fetcher.ts'

/** How long to wait for the process that runs a job before telling it again, in milliseconds. */
const AGAIN = 1_000

/** Cancels active jobs, in whatever process they run: BullMQ itself cancels jobs of its own process only. */
export class Cancellation {
  readonly #context: QueueContext
  readonly #fetcher: Fetcher
  /** Who waits here for the end of a job that another process runs, by job id. */
  readonly #waiting = new Map<string, Set<() => void>>()

  constructor (context: QueueContext, fetcher: Fetcher) {
    this.#context = context
    this.#fetcher = fetcher
  }

  /** Aborts a job wherever it runs, and waits until it has ended, at most for a second. */
  async cancel (id: string): Promise<void> {
    const here = this.#fetcher.cancel(id)
    if (here !== undefined) return await here
    const { control, redis, options: { clock, name } } = this.#context
    const waiting = this.#waiting.get(id) ?? new Set()
    this.#waiting.set(id, waiting)
    let end!: () => void
    const ended = new Promise<void>(resolve => { end = resolve })
    waiting.add(end)
    const timer = clock.after(AGAIN, end)
    try {
      await redis.call(async () => { await control.publish(name, { type: 'cancel', id }) })
      await ended
    } finally {
      timer.cancel()
      waiting.delete(end)
      if (waiting.size === 0) this.#waiting.delete(id)
    }
  }

  /** Another process tells that a cancelled job has ended. */
  ended (id: string): void {
    for (const end of this.#waiting.get(id) ?? []) end()
  }
}
