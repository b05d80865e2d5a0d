import { defer } from '../../../time/index.ts'
import type { RunEnd } from '../../queued-run.ts'
import type { Keep } from '../../store.ts'
import type { QueueContext } from '../context.ts'
import { errorText, parsed } from '../jobs/index.ts'
import type { ActiveRun } from './active-runs.ts'

/** The most settlements of one statement: a notification names them all, for which PostgreSQL takes 8,000 bytes. */
const MOST = 100
const DAY = 86_400_000
const SUCCEEDED = { count: 100, age: DAY }
const FAILED = { count: 1_000, age: 14 * DAY }
/** Fewer kept runs than this are trimmed at once. */
const FEW = 100
/** How long to wait after a settlement that the database has refused, in milliseconds. */
const AGAIN = 1_000

/** What a settler tells its fetcher. */
export interface SettlerHooks {
  /** The database is about to be told the ends of runs. */
  recording (): void
  /** The database has recorded the ends of runs, or another process has them. */
  recorded (all: ActiveRun[]): void
  /** How a run has ended for good. */
  ended (id: string, end: RunEnd): void
}

/** Tells the database how attempts have ended: one statement at a time, for all that have ended since the last one. It keeps trying while the database is away. */
export class Settler {
  readonly #context: QueueContext
  readonly #hooks: SettlerHooks
  #ended: ActiveRun[] = []
  #settling = false
  #stopped = false
  /** Ended runs since the last trim, by state. */
  readonly #untrimmed = { completed: 0, failed: 0 }

  constructor (context: QueueContext, hooks: SettlerHooks) {
    this.#context = context
    this.#hooks = hooks
  }

  /** Records the end of an attempt soon. */
  settle (active: ActiveRun): void {
    this.#ended.push(active)
    if (!this.#settling) void this.#settleAll()
  }

  /** Tries no more. */
  stop (): void { this.#stopped = true }

  /** Deletes what is to be kept no longer by its age. */
  async trim (): Promise<void> {
    this.#untrimmed.completed++
    this.#untrimmed.failed++
    await this.#trim(true)
  }

  async #settleAll (): Promise<void> {
    this.#settling = true
    // Those that end in the same turn are one statement.
    await new Promise<void>(resolve => { defer(resolve) })
    while (this.#ended.length > 0 && !this.#stopped) {
      const batch = this.#ended.splice(0, MOST)
      // A run that waits again may be the next one: nothing is claimed before that is recorded.
      const makesRoom = !batch.some(({ again }) => again)
      for (const active of batch) active.recording = makesRoom
      this.#hooks.recording()
      try {
        await this.#record(batch)
      } catch {
        // The connection says so. The runs stay ours while nobody else has claimed them.
        for (const active of batch) active.recording = false
        this.#ended.unshift(...batch)
        await new Promise<void>(resolve => { this.#context.options.clock.after(AGAIN, resolve) })
      }
    }
    this.#settling = false
  }

  async #record (batch: ActiveRun[]): Promise<void> {
    const { call, sql, name, options: { keep, exclusive } } = this.#context
    const given = batch.map(settlementOf)
    const { rows: [row] } = await call(async db => await db.executeSql(sql.settle, [name, JSON.stringify(given), keptFor(keep.succeeded, SUCCEEDED), keptFor(keep.failed, FAILED), exclusive === true])) as { rows: Array<{ ids: string[] }> }
    const ours = new Set(row?.ids)
    for (const one of given) {
      if (!ours.has(one.id)) continue
      if (one.outcome === 'succeeded') this.#untrimmed.completed++
      if (one.outcome === 'failed') this.#untrimmed.failed++
    }
    await this.#trim()
    for (const [i, active] of batch.entries()) {
      const end = endOf(given[i] as Given)
      if (ours.has(active.id) && end !== undefined) this.#hooks.ended(active.id, end)
    }
    this.#hooks.recorded(batch)
  }

  /**
   * Trims each state of which enough have ended since. Where few are kept, before anybody hears of the end, so that what is listed is what is kept. Where many are, beside what
   * else is to do, so that up to twice as many are there for up to a minute.
   */
  async #trim (all = false): Promise<void> {
    const { call, sql, name, options: { keep } } = this.#context
    for (const [state, own, defaults] of [['completed', keep.succeeded, SUCCEEDED], ['failed', keep.failed, FAILED]] as const) {
      const { count, age } = own.count === undefined && own.age === undefined ? defaults : own
      const ended = this.#untrimmed[state]
      if (ended === 0 || count === 0 || (!all && count === undefined)) continue
      const isFew = count !== undefined && count < FEW
      if (!all && !isFew && ended < (count ?? 0)) continue
      this.#untrimmed[state] = 0
      const trimmed = call(async db => await db.executeSql(sql.trim, [name, state, count ?? null, age ?? null])).catch(() => {})
      if (all || isFew) await trimmed
    }
  }
}

/** A settlement, as the statement reads it from JSON. */
interface Given { id: string, starts: number, outcome: string, value?: string | undefined, error?: string | undefined, wait?: number }

function settlementOf ({ id, starts, settlement }: ActiveRun): Given {
  switch (settlement?.outcome) {
    case 'succeeded':
      return { id, starts, outcome: 'succeeded', value: settlement.value?.() }
    case 'failed': {
      const error = errorText(settlement.error)
      return settlement.retryIn === undefined ? { id, starts, outcome: 'failed', error } : { id, starts, outcome: 'retry', error, wait: settlement.retryIn }
    }
    case 'cancelled':
      return { id, starts, outcome: 'cancelled' }
    case 'interrupted':
    case undefined:
      return { id, starts, outcome: 'interrupted' }
  }
}

function endOf ({ outcome, value, error }: Given): RunEnd | undefined {
  switch (outcome) {
    case 'succeeded':
      return { outcome, value: parsed(value), error: undefined }
    case 'failed':
      return { outcome, value: undefined, error: parsed(error) as RunEnd['error'] }
    case 'cancelled':
      return { outcome, value: undefined, error: undefined }
    default:
      return undefined
  }
}

/** For how many seconds pg-boss is to keep an ended run: 0 for ever, -1 not at all. */
function keptFor ({ count, age }: Keep, defaults: { count: number, age: number }): number {
  if (count === 0) return -1
  const ms = count === undefined && age === undefined ? defaults.age : age
  return ms === undefined ? 0 : Math.max(1, Math.min(2 ** 31 - 1, Math.ceil(ms / 1_000)))
}
