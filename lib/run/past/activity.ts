import type { ActiveRun, RunOutcome } from '../run.ts'

/** The runs of one minute by outcome. */
export interface ActivityMinute {
  /** When the minute began. */
  at: Date
  /** The number of runs that succeeded in it. */
  succeeded: number
  /** The number of runs that failed for good in it. */
  failed: number
  /** The number of runs that were cancelled in it. */
  cancelled: number
}

/** A run that has failed for good. */
export interface FailedRun {
  /** Name of its task. */
  task: string
  /** The run's id. */
  id: string
  /** When it failed. */
  at: Date
  /** What it threw. */
  error: unknown
}

/** What the tasks of this process do, and have done in the last hour. */
export interface ActivityReport {
  /** The minutes of the last hour in which a run has ended, the oldest first. Skipped runs do not count. */
  minutes: ActivityMinute[]
  /** The last 20 runs that have failed for good, the newest first. */
  failures: FailedRun[]
  /** The active runs of all tasks, with background runs. */
  active: ActiveRun[]
}

const MINUTE = 60_000
const HOUR = 60
/** The number of failures that are remembered. */
const FAILURES = 20

/** Runs of one minute, as a ring keeps them. */
interface Slot extends Record<RunOutcome, number> { minute: number }

/**
 * Counts the runs that have ended, minute by minute, for an hour; and remembers the last failures, as the history of one task may have lost them.
 *
 * It never reads the clock, which would cost more than all the rest: a run says when it ended.
 */
export class Activity {
  readonly #slots: Slot[] = []
  readonly #failures: FailedRun[] = []

  /** Counts a run that ended at a time in milliseconds since the epoch. */
  ended (outcome: RunOutcome, at: number): void {
    const minute = Math.floor(at / MINUTE)
    const place = minute % HOUR
    let slot = this.#slots[place]
    if (slot === undefined || slot.minute < minute) {
      slot = { minute, succeeded: 0, failed: 0, cancelled: 0, skipped: 0 }
      this.#slots[place] = slot
    }
    slot[outcome]++
  }

  /** Remembers a run that has failed for good. */
  failed (task: string, id: string, at: number, error: unknown): void {
    this.#failures.unshift({ task, id, at: new Date(at), error })
    if (this.#failures.length > FAILURES) this.#failures.pop()
  }

  /** The minutes of the hour before `now` in which a run has ended, the oldest first. */
  minutes (now: number): ActivityMinute[] {
    const last = Math.floor(now / MINUTE)
    return Object.values(this.#slots)
      .filter(({ minute }) => minute > last - HOUR && minute <= last)
      .sort((one, other) => one.minute - other.minute)
      .map(({ minute, succeeded, failed, cancelled }) => ({ at: new Date(minute * MINUTE), succeeded, failed, cancelled }))
  }

  /** The newest first. */
  get failures (): FailedRun[] { return [...this.#failures] }
}
