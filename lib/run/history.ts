import type { RunOutcome } from './run.ts'

/** A run of the history. */
export interface RunRecord {
  /** The run's id. */
  id: string
  /** How it ended. */
  outcome: RunOutcome
  /** When it was due; undefined for a task without a schedule. */
  dueAt: Date | undefined
  /** When its first attempt began to wait or to run. */
  startedAt: Date
  /** How long it took, in milliseconds. */
  duration: number
  /** What it threw, if it failed or was cancelled. */
  error: unknown
}

/** Length of the history (`task.history`). */
const LENGTH = 30

/** A RunRecord with times as numbers: a Date takes as much memory as all the rest, and few records are ever read. */
type StoredRecord = Omit<RunRecord, 'startedAt' | 'dueAt'> & { startedAt: number, dueAt: number | undefined }

/** The last runs that have ended, in a ring buffer: shifting an array takes ten times as long. */
export class History {
  readonly #ring: StoredRecord[] = []
  #count = 0
  /** The newest run that was not skipped: skipped ones may have pushed it out of the ring. */
  #newest: StoredRecord | undefined

  add (run: StoredRecord): void {
    this.#ring[this.#count++ % LENGTH] = run
    if (run.outcome !== 'skipped') this.#newest = run
  }

  /** The newest first. */
  get records (): RunRecord[] { return this.#inOrder.map(recordOf).reverse() }

  /** The newest that was not skipped. */
  get newest (): RunRecord | undefined {
    return this.#newest && recordOf(this.#newest)
  }

  /** The oldest first. */
  get #inOrder (): StoredRecord[] {
    const oldest = this.#count % LENGTH
    return [...this.#ring.slice(oldest), ...this.#ring.slice(0, oldest)]
  }
}

function recordOf (stored: StoredRecord): RunRecord {
  const { dueAt, startedAt } = stored
  return { ...stored, dueAt: dueAt === undefined ? undefined : new Date(dueAt), startedAt: new Date(startedAt) }
}
