import type { RunOptions } from '../store.ts'

/** A run that may have a key. */
interface Keyed { readonly id: string, readonly options: Readonly<RunOptions> }

/** The keys that are taken, each with the id of its run. */
export class Keys {
  readonly #owners = new Map<string, string>()

  /** Id of the run that has the same key. */
  ownerOf ({ options: { key } }: Keyed): string | undefined {
    return key === undefined ? undefined : this.#owners.get(key)
  }

  /** How many of some runs would be no duplicates, if they were added in this order. */
  newOf (runs: Keyed[]): number {
    const keys = new Set<string>()
    let count = 0
    for (const { options: { key } } of runs) {
      if (key === undefined) count++
      else if (!this.#owners.has(key)) keys.add(key)
    }
    return count + keys.size
  }

  /** Takes the key for a run. False if another run has it. */
  take ({ id, options: { key } }: Keyed): boolean {
    if (key === undefined) return true
    if (this.#owners.has(key)) return this.#owners.get(key) === id
    this.#owners.set(key, id)
    return true
  }

  /** Frees the key of a run. */
  release ({ id, options: { key } }: Keyed): void {
    if (key !== undefined && this.#owners.get(key) === id) this.#owners.delete(key)
  }
}
