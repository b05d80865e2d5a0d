import type { RunResult } from '../../run/index.ts'
import { MAX_CATCH_UP } from '../../time/index.ts'

/** A request for a run, from a tick or from `trigger`. */
export interface RunRequest {
  dueAt: Date
  missed: number
  /** Whether `trigger` made the request: then a skip is no skipped tick. */
  triggered?: boolean
  /** For a triggered run, or a run from a store: its id, and who waits for its end. */
  handle?: { id: string, settle: (result: RunResult) => void }
}

/** A request whose caller waits for the end of the run. */
export type AwaitedRequest = RunRequest & Required<Pick<RunRequest, 'handle'>>

/** What waits while a run of a timed task is active, by `overlap`. */
export class TickBacklog {
  /** The one request that `overlap: 'wait'` keeps. It runs after the missed ticks. */
  #pending: RunRequest | undefined
  /** Missed ticks that run one after another (`misfire: 'all'`), oldest first. */
  #missed: Date[] = []
  /** The number of ticks skipped behind the active run. */
  skips = 0

  /** Due time of the first waiting request. */
  get dueAt (): Date | undefined { return this.#missed[0] ?? this.#pending?.dueAt }

  /** Keeps a request if none is kept yet. Returns whether it did. */
  takes (request: RunRequest): boolean {
    if (this.#pending !== undefined) return false
    this.#pending = request
    return true
  }

  /** Adds missed ticks, and keeps the latest hundred. */
  catchUp (dueAts: Date[]): void {
    this.#missed = [...this.#missed, ...dueAts].slice(-MAX_CATCH_UP)
  }

  /** Removes and returns the next request. */
  next (): RunRequest | undefined {
    const dueAt = this.#missed.shift()
    if (dueAt !== undefined) return { dueAt, missed: 0 }
    const pending = this.#pending
    this.#pending = undefined
    return pending
  }

  /** Drops the requests of ticks: nobody waits for their end. */
  dropTicks (): void {
    this.#missed = []
    if (this.#pending?.handle === undefined) this.#pending = undefined
  }

  /** Removes and returns the request whose caller waits for its end; with `id`, only the one with that id. */
  cancel (id?: string): AwaitedRequest | undefined {
    const pending = this.#pending
    if (pending?.handle === undefined || (id !== undefined && pending.handle.id !== id)) return undefined
    this.#pending = undefined
    return pending as AwaitedRequest
  }
}
