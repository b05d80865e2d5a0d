import { List } from '../list.ts'
import type { Entry } from './entry.ts'
import { Lanes } from './lanes.ts'

/** The runs of a queue that have not ended, by where they stand. */
export class Unfinished {
  readonly waiting: Lanes<Entry> = new Lanes<Entry>()
  readonly delayed: Set<Entry> = new Set<Entry>()
  readonly active: List<Entry> = new List<Entry>()
  /** All of them, by id: made when somebody asks for one, as few queues are ever asked and each of their runs would pay for it. */
  #byId: Map<string, Entry> | undefined

  /** How many wait or are delayed. */
  get size (): number { return this.waiting.size + this.delayed.size }

  /** Takes note of one that is about to stand somewhere. */
  add (entry: Entry): void {
    this.#byId?.set(entry.id, entry)
  }

  /** Takes note of one that stands nowhere any more. */
  remove (entry: Entry): void {
    this.#byId?.delete(entry.id)
  }

  find (id: string): Entry | undefined {
    this.#byId ??= new Map([...this.waiting, ...this.delayed, ...this.active].map(entry => [entry.id, entry]))
    return this.#byId.get(id)
  }

  /** One of the few that are active. */
  findActive (id: string): Entry | undefined {
    for (const entry of this.active) {
      if (entry.id === id) return entry
    }
    return undefined
  }

  /** Those in a state, in the order in which they will run, or began. */
  in (state: 'waiting' | 'delayed' | 'active'): Entry[] {
    if (state !== 'delayed') return [...this[state]]
    const timeOf = ({ more }: Entry): number => Number(more?.runAt)
    return [...this.delayed].sort((a, b) => timeOf(a) - timeOf(b))
  }
}
