import { type LinkedItem, LinkedList } from '../../run/index.ts'

/** An item with a priority. */
export interface Prioritised extends LinkedItem {
  readonly priority: number
}

/** A queue by priority, the lower number first; first in, first out within a priority. */
export class PriorityQueue<L extends Prioritised> {
  /** Items of priority 0, which come first. Most queues have no others. */
  readonly #zero: PriorityLevel<L> = { priority: 0, list: new LinkedList() }
  /** The other priorities, ascending; none is empty. */
  readonly #levels: Array<PriorityLevel<L>> = []
  #size = 0

  get size (): number { return this.#size }

  get first (): L | undefined { return this.#zero.list.first ?? this.#levels[0]?.list.first }

  /** The first item of each priority. */
  get firsts (): L[] { return [this.#zero, ...this.#levels].flatMap(({ list }) => list.first ?? []) }

  /** Adds an item behind those of its priority. */
  add (one: L): void {
    this.#levelOf(one.priority).list.add(one)
    this.#size++
  }

  /** Adds an item before those of its priority, but behind the first ones that are `earlier`. */
  putBack (one: L, earlier: (other: L) => boolean): void {
    const { list } = this.#levelOf(one.priority)
    let next = list.first
    while (next !== undefined && earlier(next)) next = next.next
    list.add(one, next)
    this.#size++
  }

  remove (one: L): void {
    const level = this.#levelOf(one.priority)
    level.list.remove(one)
    this.#size--
    if (level.list.size === 0 && level !== this.#zero) this.#levels.splice(this.#placeOf(level.priority), 1)
  }

  /** All items in order. */
  * [Symbol.iterator] (): Generator<L> {
    for (const { list } of [this.#zero, ...this.#levels]) yield * list
  }

  #levelOf (priority: number): PriorityLevel<L> {
    if (priority === 0) return this.#zero
    const place = this.#placeOf(priority)
    const found = this.#levels[place]
    if (found?.priority === priority) return found
    const level = { priority, list: new LinkedList<L>() }
    this.#levels.splice(place, 0, level)
    return level
  }

  /** Index of the level of a priority, or where to insert it. */
  #placeOf (priority: number): number {
    let [from, to] = [0, this.#levels.length]
    while (from < to) {
      const middle = (from + to) >> 1
      if ((this.#levels[middle] as PriorityLevel<L>).priority < priority) from = middle + 1
      else to = middle
    }
    return from
  }
}

interface PriorityLevel<L extends Prioritised> {
  priority: number
  list: LinkedList<L>
}
