import { LinkedList } from '../../run/index.ts'
import type { Entry } from './entry.ts'
import { PriorityQueue } from './priority-queue.ts'

/** The runs of a queue that have not ended, by state. */
export class PendingRuns {
  readonly waiting: PriorityQueue<Entry> = new PriorityQueue<Entry>()
  readonly delayed: Set<Entry> = new Set<Entry>()
  readonly active: LinkedList<Entry> = new LinkedList<Entry>()
  /** All of them by id. Created at the first lookup: few queues ever need it, and every run would pay for it. */
  #byId: Map<string, Entry> | undefined

  /** The number of waiting and delayed runs. */
  get size (): number { return this.waiting.size + this.delayed.size }

  /** Indexes a new run; the caller adds it to its state. */
  add (entry: Entry): void {
    this.#byId?.set(entry.id, entry)
  }

  /** Removes a run from the index; the caller removes it from its state. */
  remove (entry: Entry): void {
    this.#byId?.delete(entry.id)
  }

  find (id: string): Entry | undefined {
    this.#byId ??= new Map([...this.waiting, ...this.delayed, ...this.active].map(entry => [entry.id, entry]))
    return this.#byId.get(id)
  }

  /** An active run by id, without the index: there are few. */
  findActive (id: string): Entry | undefined {
    for (const entry of this.active) {
      if (entry.id === id) return entry
    }
    return undefined
  }

  /** The runs in a state, in the order in which they will run, or began. */
  in (state: 'waiting' | 'delayed' | 'active'): Entry[] {
    if (state !== 'delayed') return [...this[state]]
    const timeOf = ({ more }: Entry): number => Number(more?.runAt)
    return [...this.delayed].sort((a, b) => timeOf(a) - timeOf(b))
  }
}
