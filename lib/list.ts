/** What can stand in a list: it carries its neighbours, so that to take it out costs nothing, wherever it stands. */
export interface Linked {
  previous: this | undefined
  next: this | undefined
}

/**
 * In order of adding, and from anywhere out.
 *
 * What passes through by the thousand stands in one of these and not in a Set: V8 gives a Set a new table every few dozen additions, and
 * each old one holds on to what was in it until the next full collection, which made a fifth of all garbage outlive its time.
 */
export class List<L extends Linked> {
  #head: L | undefined
  #tail: L | undefined
  #size = 0

  get first (): L | undefined { return this.#head }

  get size (): number { return this.#size }

  /** Puts it behind all others; or, with `next`, right before that one. */
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

  /** All of them, the first first. None may be taken out meanwhile. */
  * [Symbol.iterator] (): Generator<L> {
    for (let one = this.#head; one !== undefined; one = one.next) yield one
  }
}
