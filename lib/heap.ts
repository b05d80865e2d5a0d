/** What a heap can hold: it knows when it is due, and the heap writes into it. */
export interface Entry {
  due: number
  /** Its place in the heap, −1 outside of it. The heap's to write. */
  place: number
  /** Whether it is set. One that was cancelled may stay in the heap for a while. The heap's to write. */
  set: boolean
}

/**
 * A binary heap of entries, the earliest on top, with nothing allocated for each.
 *
 * To cancel an entry only marks it: to stop ten thousand at once then costs next to nothing. What is marked goes when it
 * comes to the top, or when it is more than half of the heap.
 */
export class Heap<E extends Entry> {
  #entries: E[] = []
  #size = 0

  /** How many entries are set. */
  get size (): number { return this.#size }

  /** The earliest entry that is set. */
  get top (): E | undefined {
    for (let top = this.#entries[0]; top !== undefined; top = this.#entries[0]) {
      if (top.set) return top
      this.#pop()
    }
    return undefined
  }

  /** Whether the entry stands in this heap, set or cancelled. */
  has (entry: E): boolean {
    return this.#entries[entry.place] === entry
  }

  /** Sets an entry for a time, anew if it was set. */
  set (entry: E, due: number): void {
    entry.due = due
    if (!entry.set) {
      entry.set = true
      this.#size++
    }
    if (entry.place < 0) this.#put(entry, this.#entries.length)
    this.#up(entry)
    this.#down(entry)
  }

  /** Takes the entry on top out. */
  pop (): void {
    const { top } = this
    if (top === undefined) return
    top.set = false
    this.#size--
    this.#pop()
  }

  /** Takes an entry back; does nothing if it is not set. */
  cancel (entry: E): void {
    if (!entry.set) return
    entry.set = false
    this.#size--
    if (this.#size * 2 < this.#entries.length) this.#sweep()
  }

  /** Takes all entries back. */
  clear (): void {
    for (const entry of this.#entries) {
      entry.set = false
      entry.place = -1
    }
    this.#entries = []
    this.#size = 0
  }

  /** All entries that are set, in no order. */
  values (): E[] {
    return this.#entries.filter(entry => entry.set)
  }

  /** Takes out the first, of a heap that is not empty. */
  #pop (): void {
    const top = this.#entries[0] as E
    const last = this.#entries.pop() as E
    top.place = -1
    if (last === top) return
    this.#put(last, 0)
    this.#down(last)
  }

  #sweep (): void {
    for (const entry of this.#entries) entry.place = -1
    this.#entries = this.values()
    this.#entries.forEach((entry, place) => { entry.place = place })
    for (let place = (this.#entries.length >> 1) - 1; place >= 0; place--) this.#down(this.#entries[place] as E)
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
