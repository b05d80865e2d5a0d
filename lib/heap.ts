/** What a heap can hold: it knows when it is due, and the heap writes into it where it stands. */
export interface Entry {
  due: number
  /** Its place in the heap, −1 outside of it. The heap's to write. */
  place: number
}

/** A binary heap of entries, the earliest on top. Push, pop and remove in O(log n), with nothing allocated. */
export class Heap<E extends Entry> {
  readonly #entries: E[] = []

  get size (): number { return this.#entries.length }

  /** The earliest entry. */
  get top (): E | undefined { return this.#entries[0] }

  has (entry: E): boolean { return entry.place >= 0 && this.#entries[entry.place] === entry }

  push (entry: E): void {
    this.#put(entry, this.#entries.length)
    this.#up(entry)
  }

  /** Takes an entry out; does nothing if it is not in. */
  remove (entry: E): void {
    const { place } = entry
    if (place < 0) return
    entry.place = -1
    const last = this.#entries.pop() as E
    if (last === entry) return
    this.#put(last, place)
    this.#up(last)
    this.#down(last)
  }

  /** All entries, in no order. */
  values (): E[] {
    return [...this.#entries]
  }

  #up (entry: E): void {
    while (entry.place > 0) {
      const parent = this.#entries[(entry.place - 1) >> 1] as E
      if (parent.due <= entry.due) return
      this.#swap(parent, entry)
    }
  }

  #down (entry: E): void {
    for (;;) {
      const left = this.#entries[entry.place * 2 + 1]
      const right = this.#entries[entry.place * 2 + 2]
      const child = left !== undefined && right !== undefined && right.due < left.due ? right : left
      if (child === undefined || child.due >= entry.due) return
      this.#swap(entry, child)
    }
  }

  #swap (upper: E, lower: E): void {
    const { place } = upper
    this.#put(upper, lower.place)
    this.#put(lower, place)
  }

  #put (entry: E, place: number): void {
    this.#entries[place] = entry
    entry.place = place
  }
}
