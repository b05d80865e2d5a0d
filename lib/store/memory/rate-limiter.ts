/** At most `limit` starts within any window of `per` milliseconds. */
export class Rate {
  readonly #limit: number
  readonly #per: number
  /** Times of the last `limit` starts, as a ring buffer. */
  readonly #starts: number[] = []
  #count = 0

  constructor ({ limit, per }: { limit: number, per: number }) {
    this.#limit = limit
    this.#per = per
  }

  /** When the next start is allowed; −∞ if it is allowed now. */
  get next (): number {
    return this.#count < this.#limit ? -Infinity : this.#starts[this.#count % this.#limit] as number + this.#per
  }

  /** Records a start. */
  started (now: number): void {
    this.#starts[this.#count++ % this.#limit] = now
  }
}
