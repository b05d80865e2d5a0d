import type { RunResult } from './run.ts'
import { RUN } from './ticker.ts'

/** A run that is wanted: by a tick, or by `trigger`. */
export interface Wanted {
  dueAt: Date
  missed: number
  /** By `trigger`: if it is skipped, it was no tick. */
  triggered?: boolean
  /** Of a trigger, or of a run that a store has handed over: who waits for its end. */
  handle?: { id: string, settle: (result: RunResult) => void }
}

/** One that somebody waits for. */
export type Expected = Wanted & Required<Pick<Wanted, 'handle'>>

/** What stands by while a run of a timed task is active. */
export class Standby {
  /** The one that runs next, unless ticks are caught up. */
  #pending: Wanted | undefined
  /** Ticks that are caught up, one after another, oldest first. */
  #backlog: Date[] = []
  /** How many ticks have been skipped behind the run that is active. */
  skips = 0

  /** When the first that stands by was due. */
  get dueAt (): Date | undefined { return this.#backlog[0] ?? this.#pending?.dueAt }

  /** Whether it stands by now: there is room for one. */
  takes (wanted: Wanted): boolean {
    if (this.#pending !== undefined) return false
    this.#pending = wanted
    return true
  }

  /** Ticks to catch up with: the latest hundred. */
  catchUp (dueAts: Date[]): void {
    this.#backlog = [...this.#backlog, ...dueAts].slice(-RUN)
  }

  /** Takes out the next that is to run. */
  next (): Wanted | undefined {
    const dueAt = this.#backlog.shift()
    if (dueAt !== undefined) return { dueAt, missed: 0 }
    const pending = this.#pending
    this.#pending = undefined
    return pending
  }

  /** Forgets what ticks have asked for: nobody waits for that. */
  dropTicks (): void {
    this.#backlog = []
    if (this.#pending?.handle === undefined) this.#pending = undefined
  }

  /** Takes out the one that somebody waits for; with `id`, only if it has that. */
  callOff (id?: string): Expected | undefined {
    const pending = this.#pending
    if (pending?.handle === undefined || (id !== undefined && pending.handle.id !== id)) return undefined
    this.#pending = undefined
    return pending as Expected
  }
}
