import { List, type Linked } from '../list.ts'

/** What can stand in a lane. */
export interface Prioritised extends Linked {
  readonly priority: number
}

/** First in, first out within a priority; the lower priority number first. */
export class Lanes<L extends Prioritised> {
  /** Of those without a priority, which go before all: always there, as most queues have no other. */
  readonly #plain: Lane<L> = { priority: 0, list: new List() }
  /** The others, by priority, ascending; none is empty. */
  readonly #lanes: Array<Lane<L>> = []
  #size = 0

  get size (): number { return this.#size }

  get first (): L | undefined { return this.#plain.list.first ?? this.#lanes[0]?.list.first }

  /** Puts it behind those of its priority. */
  add (one: L): void {
    this.#laneOf(one.priority).list.add(one)
    this.#size++
  }

  /** Puts it before those of its priority, but for the first ones that are `earlier`. */
  putBack (one: L, earlier: (other: L) => boolean): void {
    const { list } = this.#laneOf(one.priority)
    let next = list.first
    while (next !== undefined && earlier(next)) next = next.next
    list.add(one, next)
    this.#size++
  }

  remove (one: L): void {
    const lane = this.#laneOf(one.priority)
    lane.list.remove(one)
    this.#size--
    if (lane.list.size === 0 && lane !== this.#plain) this.#lanes.splice(this.#placeOf(lane.priority), 1)
  }

  /** All of them, the first first. */
  * [Symbol.iterator] (): Generator<L> {
    for (const { list } of [this.#plain, ...this.#lanes]) yield * list
  }

  #laneOf (priority: number): Lane<L> {
    if (priority === 0) return this.#plain
    const place = this.#placeOf(priority)
    const found = this.#lanes[place]
    if (found?.priority === priority) return found
    const lane = { priority, list: new List<L>() }
    this.#lanes.splice(place, 0, lane)
    return lane
  }

  /** Where the lane of a priority stands, or is to stand. */
  #placeOf (priority: number): number {
    let [from, to] = [0, this.#lanes.length]
    while (from < to) {
      const middle = (from + to) >> 1
      if ((this.#lanes[middle] as Lane<L>).priority < priority) from = middle + 1
      else to = middle
    }
    return from
  }
}

interface Lane<L extends Prioritised> {
  priority: number
  list: List<L>
}
