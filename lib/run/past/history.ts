import { inspect, type InspectOptions } from 'node:util'
import { errorJson, inspected, type StoredError } from '../../common/readable.ts'
import type { RunHandle, RunOutcome, RunResult } from '../run.ts'

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
  /** How many attempts it took; 0 if its handler was never called. */
  attempts: number
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

/** A record whose error JSON shows: of an Error, JSON has nothing. */
class Recorded implements RunRecord {
  id: string
  outcome: RunOutcome
  dueAt: Date | undefined
  startedAt: Date
  duration: number
  attempts: number
  error: unknown

  constructor ({ id, outcome, dueAt, startedAt, duration, attempts, error }: StoredRecord) {
    this.id = id
    this.outcome = outcome
    this.dueAt = dueAt === undefined ? undefined : new Date(dueAt)
    this.startedAt = new Date(startedAt)
    this.duration = duration
    this.attempts = attempts
    this.error = error
  }

  toJSON (): Omit<RunRecord, 'error'> & { error: StoredError | undefined } {
    return { ...this, error: errorJson(this.error) }
  }
}

function recordOf (stored: StoredRecord): RunRecord {
  return new Recorded(stored)
}

/** A result whose error JSON shows: of an Error, JSON has nothing. */
export class Result implements RunResult {
  outcome: RunOutcome
  value: unknown
  error: unknown
  duration: number

  constructor (outcome: RunOutcome, value: unknown, error: unknown, duration: number) {
    this.outcome = outcome
    this.value = value
    this.error = error
    this.duration = duration
  }

  toJSON (): Omit<RunResult, 'error'> & { error: StoredError | undefined } {
    return { ...this, error: errorJson(this.error) }
  }
}

/** The handle of a run that somebody has asked for. */
export class Handle implements RunHandle {
  readonly id: string
  readonly finished: Promise<RunResult>

  constructor (id: string, finished: Promise<RunResult>) {
    this.id = id
    this.finished = finished
  }

  toJSON (): { id: string } {
    return { id: this.id }
  }

  [inspect.custom] (depth: number, options: InspectOptions): string {
    return inspected('RunHandle', { id: this.id, finished: this.finished }, depth, options)
  }
}
