/** What a heap can hold. */
export interface Entry {
  /** Its place in the heap that it stands in; it may be any number before. The heap's to write. */
  place: number
}

/**
 * A binary heap of entries, the earliest on top, with nothing allocated for each.
 *
 * When each is due stands in an array beside them, and not in the entry: there it takes a third of the space, and entries are
 * compared without being looked at. To clear it touches none of them: whether an entry stands in it is seen by its place.
 */
export class Heap<E extends Entry> {
  #entries: E[] = []
  #dues: number[] = []

  get size (): number { return this.#entries.length }

  /** The earliest entry. */
  get top (): E | undefined { return this.#entries[0] }

  /** When the earliest is due; Infinity if there is none. */
  get topDue (): number { return this.#dues[0] ?? Infinity }

  has (entry: E): boolean {
    return this.#entries[entry.place] === entry
  }

  /** When an entry is due; undefined if it is not in the heap. */
  dueOf (entry: E): number | undefined {
    return this.has(entry) ? this.#dues[entry.place] : undefined
  }

  /** Sets an entry for a time, anew if it was set. */
  set (entry: E, due: number): void {
    const place = this.has(entry) ? entry.place : this.#entries.length
    this.#down(entry, due, this.#up(entry, due, place))
  }

  /** Takes an entry out; does nothing if it is not in the heap. */
  remove (entry: E): void {
    if (!this.has(entry)) return
    const last = this.#entries.pop() as E
    const due = this.#dues.pop() as number
    if (last !== entry) this.#down(last, due, this.#up(last, due, entry.place))
  }

  /** Takes all entries out. */
  clear (): void {
    this.#entries = []
    this.#dues = []
  }

  /** All entries, in no order. */
  values (): E[] {
    return [...this.#entries]
  }

  /** Puts an entry where it belongs between `place` and the top, and gives where that is. */
  #up (entry: E, due: number, place: number): number {
    while (place > 0) {
      const parent = (place - 1) >> 1
      const parentDue = this.#dues[parent] as number
      if (parentDue <= due) break
      this.#put(this.#entries[parent] as E, parentDue, place)
      place = parent
    }
    this.#put(entry, due, place)
    return place
  }

  /** Puts an entry where it belongs between `place` and the bottom. */
  #down (entry: E, due: number, place: number): void {
    const { length } = this.#entries
    for (let child = place * 2 + 1; child < length; child = place * 2 + 1) {
      if (child + 1 < length && (this.#dues[child + 1] as number) < (this.#dues[child] as number)) child++
      const childDue = this.#dues[child] as number
      if (childDue >= due) break
      this.#put(this.#entries[child] as E, childDue, place)
      place = child
    }
    this.#put(entry, due, place)
  }

  #put (entry: E, due: number, place: number): void {
    this.#entries[place] = entry
    this.#dues[place] = due
    entry.place = place
  }
}
