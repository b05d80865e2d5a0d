import type { Keep } from '../store.ts'

/** A run that has ended. */
interface Finished {
  readonly id: string
  /** Written when somebody reads the run: few ended runs are ever read. */
  finishedAt: number
}

/** Slots of a new ring; it grows up to `count`. */
const SLOTS = 16
/** From so many runs on, a lookup makes an index: before, a look at each takes some microseconds. */
const INDEXED = 1_000

/**
 * Ended runs, the oldest first: at most `count`, and none older than `age`. A ring buffer, as every run of a queue comes through here, and few are ever
 * looked up: a map by id takes half the time of a short run, so there is one only where somebody looks runs up among many.
 */
export class FinishedRuns<R extends Finished> {
  readonly #count: number
  readonly #age: number
  readonly #wall: () => number
  #runs: Array<R | undefined>
  /** When each of them ended, in milliseconds since the epoch. */
  #times: number[]
  /** Index of the oldest. */
  #first = 0
  #size = 0
  #byId: Map<string, R> | undefined
  /** How many runs were added since somebody has looked one up. */
  #unasked = 0

  constructor ({ count = Infinity, age = Infinity }: Keep, wall: () => number) {
    this.#count = count
    this.#age = age
    this.#wall = wall
    const slots = Math.min(count, SLOTS)
    this.#runs = new Array<R | undefined>(slots).fill(undefined)
    this.#times = new Array<number>(slots).fill(0)
  }

  /** Whether it keeps no runs. */
  get none (): boolean { return this.#count === 0 }

  get size (): number {
    this.#expire(this.#wall())
    return this.#size
  }

  /** Adds a run that ends now. */
  add (run: R, now: number): void {
    this.#expire(now)
    if (this.#size === this.#count) this.#dropOldest()
    else if (this.#size === this.#runs.length) this.#grow()
    const slot = this.#slotOf(this.#size++)
    this.#runs[slot] = run
    this.#times[slot] = now
    if (this.#byId === undefined) return
    // Nobody looks runs up any more: the next lookup makes the index anew.
    if (++this.#unasked > this.#size) this.#byId = undefined
    else this.#byId.set(run.id, this.#at(this.#size - 1))
  }

  find (id: string): R | undefined {
    this.#expire(this.#wall())
    if (this.#size >= INDEXED) this.#byId ??= new Map(this.list().map(run => [run.id, run]))
    this.#unasked = 0
    if (this.#byId !== undefined) return this.#byId.get(id)
    const place = this.#placeOf(id)
    return place === -1 ? undefined : this.#at(place)
  }

  /** Removes and returns a run. */
  take (id: string): R | undefined {
    const run = this.find(id)
    if (run === undefined) return undefined
    const place = this.#placeOf(id)
    if (place === -1) return undefined
    // The smaller part moves.
    if (place < this.#size / 2) {
      for (let at = place; at > 0; at--) this.#move(at - 1, at)
      this.#emptyFirst()
    } else {
      for (let at = place; at < this.#size - 1; at++) this.#move(at + 1, at)
      this.#runs[this.#slotOf(--this.#size)] = undefined
    }
    this.#byId?.delete(id)
    return run
  }

  /** Removes all runs, and returns their number. */
  clear (): number {
    const { size } = this
    this.#runs.fill(undefined)
    this.#size = 0
    this.#byId = undefined
    return size
  }

  /** All runs, the newest first. */
  list (): R[] {
    return Array.from({ length: this.size }, (_, i) => this.#at(this.#size - 1 - i))
  }

  #slotOf (place: number): number {
    const slot = this.#first + place
    return slot < this.#runs.length ? slot : slot - this.#runs.length
  }

  #at (place: number): R {
    const slot = this.#slotOf(place)
    const run = this.#runs[slot] as R
    run.finishedAt = this.#times[slot] as number
    return run
  }

  /** From both ends: the newest is looked up most, and who retries all begins with the oldest. */
  #placeOf (id: string): number {
    for (let newer = this.#size - 1, older = 0; newer >= older; newer--, older++) {
      if (this.#runs[this.#slotOf(newer)]?.id === id) return newer
      if (this.#runs[this.#slotOf(older)]?.id === id) return older
    }
    return -1
  }

  #move (from: number, to: number): void {
    const [source, target] = [this.#slotOf(from), this.#slotOf(to)]
    this.#runs[target] = this.#runs[source]
    this.#times[target] = this.#times[source] as number
  }

  #dropOldest (): void {
    this.#byId?.delete(this.#runs[this.#first]?.id as string)
    this.#emptyFirst()
  }

  #emptyFirst (): void {
    this.#runs[this.#first] = undefined
    this.#first = this.#slotOf(1)
    this.#size--
  }

  #expire (now: number): void {
    const oldest = now - this.#age
    while (this.#size > 0 && (this.#times[this.#first] as number) <= oldest) this.#dropOldest()
  }

  #grow (): void {
    const length = Math.min(this.#count, this.#runs.length * 2)
    const slots = Array.from({ length: this.#size }, (_, place) => this.#slotOf(place))
    const rest = length - this.#size
    this.#runs = [...slots.map(slot => this.#runs[slot]), ...new Array<undefined>(rest).fill(undefined)]
    this.#times = [...slots.map(slot => this.#times[slot] as number), ...new Array<number>(rest).fill(0)]
    this.#first = 0
  }
}
