/** What can stand in a lane: it carries its neighbours, so that to take it out costs nothing, wherever it stands. */
export interface Linked {
  readonly priority: number
  previous: this | undefined
  next: this | undefined
}

/** First in, first out within a priority; the lower priority number first. */
export class Lanes<L extends Linked> {
  /** Of those without a priority, which go before all: always there, as most queues have no other. */
  readonly #plain: Lane<L> = { priority: 0, head: undefined, tail: undefined }
  /** The others, by priority, ascending; none is empty. */
  readonly #lanes: Array<Lane<L>> = []

  get first (): L | undefined { return this.#plain.head ?? this.#lanes[0]?.head }

  /** Puts it behind those of its priority; or, with `ahead`, before them. */
  add (one: L, ahead = false): void {
    const lane = this.#laneOf(one.priority)
    if (ahead) this.#link(lane, one, undefined, lane.head)
    else this.#link(lane, one, lane.tail, undefined)
  }

  remove (one: L): void {
    const lane = this.#laneOf(one.priority)
    const { previous, next } = one
    if (previous === undefined) lane.head = next
    else previous.next = next
    if (next === undefined) lane.tail = previous
    else next.previous = previous
    one.previous = one.next = undefined
    if (lane.head === undefined && lane !== this.#plain) this.#lanes.splice(this.#placeOf(lane.priority), 1)
  }

  /** All of them, the first first. */
  * [Symbol.iterator] (): Generator<L> {
    for (const { head } of [this.#plain, ...this.#lanes]) {
      for (let one = head; one !== undefined; one = one.next) yield one
    }
  }

  #link (lane: Lane<L>, one: L, previous: L | undefined, next: L | undefined): void {
    one.previous = previous
    one.next = next
    if (previous === undefined) lane.head = one
    else previous.next = one
    if (next === undefined) lane.tail = one
    else next.previous = one
  }

  #laneOf (priority: number): Lane<L> {
    if (priority === 0) return this.#plain
    const place = this.#placeOf(priority)
    const found = this.#lanes[place]
    if (found?.priority === priority) return found
    const lane = { priority, head: undefined, tail: undefined }
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

interface Lane<L> {
  priority: number
  head: L | undefined
  tail: L | undefined
}
