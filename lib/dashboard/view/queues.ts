import type { BackgroundQueue, BackgroundTask, Counts } from '../../index.ts'
import { type Clock, now } from '../../time/index.ts'

/** What waits in a queue. */
export interface QueueLoad {
  /** The number of runs in each state; undefined while the store does not answer. */
  counts: Counts | undefined
  /** When the run that is the next to begin was enqueued; undefined if none waits. */
  oldestWaiting: Date | undefined
  /** Why the store did not answer, if it did not. */
  problem: string | undefined
}

/** How long a page waits for the store of a queue, in milliseconds. Then it shows what is known. */
const PATIENCE = 250
/** A store gets at most one look in this many milliseconds for each queue. */
const PER_QUEUE = 20
const LEAST = 500

interface Known extends QueueLoad { at: number, look: Promise<void> | undefined }

export function isQueue (task: BackgroundTask): task is BackgroundQueue {
  return task.kind === 'queue'
}

/** Knows what waits in the queues. It looks only when somebody asks, and not more often than their stores can bear. */
export class QueueLoads {
  readonly #clock: Clock
  readonly #known = new WeakMap<BackgroundQueue, Known>()

  constructor (clock: Clock) {
    this.#clock = clock
  }

  /** What waits in one of so many queues: within 250 ms, also while its store is away. */
  async read (queue: BackgroundQueue, queues = 1): Promise<QueueLoad> {
    const known = this.#known.get(queue) ?? { counts: undefined, oldestWaiting: undefined, problem: undefined, at: -Infinity, look: undefined }
    this.#known.set(queue, known)
    if (known.look === undefined && (queues === 1 || now() - known.at >= Math.max(LEAST, queues * PER_QUEUE))) known.look = look(queue, known)
    if (known.look !== undefined) {
      let passed!: () => void
      const timer = this.#clock.after(PATIENCE, () => { passed() })
      await Promise.race([known.look, new Promise<void>(resolve => { passed = resolve })])
      timer.cancel()
      if (known.look !== undefined && known.counts === undefined) known.problem ??= 'its store does not answer'
    }
    const { counts, oldestWaiting, problem } = known
    return { counts, oldestWaiting, problem }
  }
}

async function look (queue: BackgroundQueue, known: Known): Promise<void> {
  try {
    const counts = await queue.counts()
    const [next] = counts.waiting > 0 ? (await queue.list({ state: 'waiting', limit: 1 })).runs : []
    Object.assign(known, { counts, oldestWaiting: next?.enqueuedAt, problem: undefined })
  } catch (error) {
    Object.assign(known, { counts: undefined, oldestWaiting: undefined, problem: (error as Error).message })
  } finally {
    known.at = now()
    known.look = undefined
  }
}
