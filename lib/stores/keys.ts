import type { RunOptions } from '../store.ts'

/** What has a key, if it has one. */
interface Keyed { readonly id: string, readonly options: Readonly<RunOptions> }

/** Which run has which key. */
export class Keys {
  readonly #owners = new Map<string, string>()

  /** Id of the run that has the key of this one. */
  ownerOf ({ options: { key } }: Keyed): string | undefined {
    return key === undefined ? undefined : this.#owners.get(key)
  }

  /** Gives a run its key. False if another has it. */
  take ({ id, options: { key } }: Keyed): boolean {
    if (key === undefined) return true
    if (this.#owners.has(key)) return this.#owners.get(key) === id
    this.#owners.set(key, id)
    return true
  }

  /** Takes it from the run, if that has it. */
  letGo ({ id, options: { key } }: Keyed): void {
    if (key !== undefined && this.#owners.get(key) === id) this.#owners.delete(key)
  }
}
