import type { RunRecord } from './handle.ts'

/** How many runs are remembered. */
const REMEMBERED = 30

/** A RunRecord, as it is remembered: few are ever looked at, and a Date takes as much as all the rest. */
type Remembered = Omit<RunRecord, 'startedAt' | 'dueAt'> & { startedAt: number, dueAt: number | undefined }

/** The last runs that have ended, in a ring: to shift a list costs ten times as much. */
export class History {
  readonly #ring: Remembered[] = []
  #count = 0
  /** The newest that was not skipped: those that were may have pushed it out. */
  #newest: Remembered | undefined

  add (run: Remembered): void {
    this.#ring[this.#count++ % REMEMBERED] = run
    if (run.outcome !== 'skipped') this.#newest = run
  }

  /** The newest first. */
  get records (): RunRecord[] { return this.#inOrder.map(recordOf).reverse() }

  /** The newest that was not skipped. */
  get newest (): RunRecord | undefined {
    return this.#newest && recordOf(this.#newest)
  }

  /** The oldest first. */
  get #inOrder (): Remembered[] {
    const oldest = this.#count % REMEMBERED
    return [...this.#ring.slice(oldest), ...this.#ring.slice(0, oldest)]
  }
}

function recordOf (remembered: Remembered): RunRecord {
  const { dueAt, startedAt } = remembered
  return { ...remembered, dueAt: dueAt === undefined ? undefined : new Date(dueAt), startedAt: new Date(startedAt) }
}
