/** An entry of a heap. */
export interface HeapEntry {
  /** Index in the heap. Only the heap writes it; before that it may be any number. */
  place: number
}

/**
 * A binary heap of entries, the earliest on top. It allocates nothing per entry.
 *
 * The due times are in an array of their own: that takes a third of the memory of a field in each entry, and the heap compares entries without
 * touching them. `clear` touches no entry either: `has` checks whether the heap holds the entry at its index.
 */
export class Heap<E extends HeapEntry> {
  #entries: E[] = []
  #dues: number[] = []

  get size (): number { return this.#entries.length }

  /** The earliest entry. */
  get top (): E | undefined { return this.#entries[0] }

  /** Due time of the earliest entry; Infinity if the heap is empty. */
  get topDue (): number { return this.#dues[0] ?? Infinity }

  has (entry: E): boolean {
    return this.#entries[entry.place] === entry
  }

  /** Due time of an entry; undefined if it is not in the heap. */
  dueOf (entry: E): number | undefined {
    return this.has(entry) ? this.#dues[entry.place] : undefined
  }

  /** Adds an entry, or moves it to another due time. */
  set (entry: E, due: number): void {
    const place = this.has(entry) ? entry.place : this.#entries.length
    this.#down(entry, due, this.#up(entry, due, place))
  }

  /** Removes an entry; does nothing if it is not in the heap. */
  remove (entry: E): void {
    if (!this.has(entry)) return
    const last = this.#entries.pop() as E
    const due = this.#dues.pop() as number
    if (last !== entry) this.#down(last, due, this.#up(last, due, entry.place))
  }

  /** Removes all entries. */
  clear (): void {
    this.#entries = []
    this.#dues = []
  }

  /** All entries, in no order. */
  values (): E[] {
    return [...this.#entries]
  }

  /** Moves an entry up from `place` to where it belongs, and returns that index. */
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

  /** Moves an entry down from `place` to where it belongs. */
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
