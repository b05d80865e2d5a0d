import type { Queue } from '../queue/index.ts'
import type { HandlerHost } from '../run/index.ts'
import type { Counts } from '../store/index.ts'
import type { Task } from '../task/index.ts'
import { Clock } from '../time/index.ts'

/** An application whose tasks have metrics. */
export interface ObservedApp {
  readonly tasks: Iterable<Task>
  readonly host: HandlerHost
}

/** What a queue says of its store. */
export interface QueueSample {
  readonly name: string
  /** Whether other applications may share its runs, and say the same of them. */
  readonly durable: boolean
  readonly counts: Counts
  /** How long the run waits that has waited longest, in seconds; 0 if none waits. */
  readonly waited: number
}

/** How long to wait for the stores, in milliseconds. Prometheus gives up a scrape after 10 s, and with it the metrics of everything else. */
const LIMIT = 1_000

/**
 * Asks the stores of queues. One that does not answer in time is left out. As long as it has not answered it is not asked again, so that a slow one is not given more to do by
 * every scrape.
 */
export class QueueSampler {
  readonly #clock = new Clock()
  readonly #asked = new Map<Queue, Promise<QueueSample | undefined>>()

  async sample (queues: Queue[]): Promise<QueueSample[]> {
    if (queues.length === 0) return []
    let timeUp!: () => void
    const limit = new Promise<undefined>(resolve => { timeUp = () => { resolve(undefined) } })
    const timer = this.#clock.after(LIMIT, timeUp)
    const answers = await Promise.all(queues.map(async queue => await Promise.race([this.#ask(queue), limit])))
    timer.cancel()
    return answers.filter(answer => answer !== undefined)
  }

  #ask (queue: Queue): Promise<QueueSample | undefined> {
    const asked = this.#asked.get(queue) ?? this.#sample(queue).catch(() => undefined).finally(() => { this.#asked.delete(queue) })
    this.#asked.set(queue, asked)
    return asked
  }

  async #sample (queue: Queue): Promise<QueueSample> {
    const { name, durable } = queue
    const [counts, since] = await Promise.all([queue.counts(), queue.waitingSince()])
    return { name, durable, counts, waited: since === undefined ? 0 : Math.max(0, this.#clock.wall() - since.getTime()) / 1_000 }
  }
}
