/** At most `limit` starts within any `per` milliseconds, wherever they begin to be counted. */
export class Rate {
  readonly #limit: number
  readonly #per: number
  /** When the last `limit` were, as a ring. */
  readonly #starts: number[] = []
  #count = 0

  constructor ({ limit, per }: { limit: number, per: number }) {
    this.#limit = limit
    this.#per = per
  }

  /** When the next one may start; −∞ if none has to be waited for. */
  get next (): number {
    return this.#count < this.#limit ? -Infinity : this.#starts[this.#count % this.#limit] as number + this.#per
  }

  /** Takes note of one that starts now. */
  started (now: number): void {
    this.#starts[this.#count++ % this.#limit] = now
  }
}
