/** An item of a linked list. It has links to its neighbours, so that removing it costs the same anywhere in the list. */
export interface LinkedItem {
  previous: this | undefined
  next: this | undefined
}

/**
 * A doubly linked list.
 *
 * For items that come and go by the thousand, instead of a Set: V8 gives a Set a new table every few dozen additions, and each old table keeps
 * its items alive until the next full garbage collection. That was a fifth of all garbage.
 */
export class LinkedList<L extends LinkedItem> {
  #head: L | undefined
  #tail: L | undefined
  #size = 0

  get first (): L | undefined { return this.#head }

  get size (): number { return this.#size }

  /** Adds an item at the end, or right before `next`. */
  add (one: L, next?: L): void {
    const previous = next === undefined ? this.#tail : next.previous
    one.previous = previous
    one.next = next
    if (previous === undefined) this.#head = one
    else previous.next = one
    if (next === undefined) this.#tail = one
    else next.previous = one
    this.#size++
  }

  remove (one: L): void {
    const { previous, next } = one
    if (previous === undefined) this.#head = next
    else previous.next = next
    if (next === undefined) this.#tail = previous
    else next.previous = previous
    one.previous = one.next = undefined
    this.#size--
  }

  /** All items in order. Remove none during the iteration. */
  * [Symbol.iterator] (): Generator<L> {
    for (let one = this.#head; one !== undefined; one = one.next) yield one
  }
}
