import type { Timer } from '../../time/index.ts'
import { EndListeners } from '../end-listeners.ts'
import type { RunEnd } from '../queued-run.ts'
import type { EndListener } from '../store.ts'
import type { QueueContext } from './context.ts'
import { endOf, errorOf, isUuid, parsed } from './jobs/index.ts'

/** The most runs of one look. */
const CHUNK = 500
/** How long somebody counts as waiting in the database, unless it hears of him again; in milliseconds. */
const WAITS = 60_000
/** How often to look at all runs in any case: where messages arrive, and where they do not; in milliseconds. */
const [LOOK, POLL] = [15_000, 1_000]
/** When to look once more after the first look, in milliseconds: a run may have just ended whose statement did not see yet that somebody waits. */
const ONCE_MORE = 300
/** Who has just begun to wait for a run. */
interface Fresh { since: number, listeners: Set<EndListener> }

/** What a look at a run finds. */
interface Found { id: string, state: string | null, output: unknown, outcome: RunEnd['outcome'] | null, value: string | null, error: string | null, age: number | null }

/**
 * Tells how runs end, in whatever process.
 *
 * A process that waits writes so into the database before it looks. The statement that ends a run finds that there, keeps the end for a while, and notifies. Those who begin to wait at the same
 * time are one statement.
 */
export class EndWatcher {
  readonly #context: QueueContext
  readonly #listeners = new EndListeners()
  /** Ids to look at, and who has just begun to wait for them, and since when, on the monotonic timeline. */
  #fresh = new Map<string, Fresh>()
  #looking = false
  /** Ids of which a message says that they have ended. */
  readonly #heard = new Set<string>()
  #timer: Timer | undefined
  #onceMore: Timer | undefined
  #stopped = false

  constructor (context: QueueContext) {
    this.#context = context
  }

  add (id: string, listener: EndListener): () => void {
    if (!isUuid(id)) {
      listener.gone()
      return () => {}
    }
    const remove = this.#listeners.add(id, listener)
    const fresh = this.#fresh.get(id) ?? { since: this.#context.options.clock.now(), listeners: new Set() }
    this.#fresh.set(id, fresh)
    fresh.listeners.add(listener)
    void this.#lookAll()
    return () => {
      remove()
      fresh.listeners.delete(listener)
    }
  }

  /** This process has recorded the end of a run. */
  ended (id: string, end: RunEnd): void {
    if (this.#listeners.has(id)) this.#listeners.end(id, end)
  }

  /** Another process says that runs have ended. */
  hear (ids: string[]): void {
    for (const id of ids) if (this.#listeners.has(id)) this.#heard.add(id)
    if (this.#heard.size > 0) void this.#lookAll()
  }

  /** Looks at all: messages may have been missed. */
  lookAgain (): void {
    this.hear(this.#listeners.ids)
  }

  stop (): void {
    this.#stopped = true
    this.#timer?.cancel()
    this.#onceMore?.cancel()
  }

  async #lookAll (): Promise<void> {
    if (this.#looking) return
    this.#looking = true
    // Those who come in the same turn.
    await Promise.resolve()
    while (!this.#stopped && (this.#fresh.size > 0 || this.#heard.size > 0)) {
      const fresh = this.#fresh
      this.#fresh = new Map()
      const ids = [...new Set([...fresh.keys(), ...this.#heard])].slice(0, CHUNK)
      // Those beyond the most wait for the next turn.
      for (const [id, listeners] of fresh) if (!ids.includes(id)) this.#fresh.set(id, listeners)
      for (const id of ids) this.#heard.delete(id)
      await this.#look(ids, fresh)
    }
    this.#looking = false
    this.#again()
  }

  async #look (ids: string[], fresh: Map<string, Fresh>): Promise<void> {
    const { call, sql, name } = this.#context
    const isFresh = ids.some(id => fresh.has(id))
    try {
      if (isFresh) await call(async db => await db.executeSql(sql.wait, [name, ids.filter(id => fresh.has(id)), WAITS]))
      const { rows } = await call(async db => await db.executeSql(sql.ends, [name, ids])) as { rows: Found[] }
      for (const row of rows) this.#tell(row, fresh.get(row.id))
      if (isFresh) {
        this.#onceMore ??= this.#context.options.clock.after(ONCE_MORE, () => {
          this.#onceMore = undefined
          this.lookAgain()
        })
      }
    } catch (error) {
      for (const id of ids) {
        const listeners = fresh.get(id)?.listeners ?? []
        for (const listener of [...listeners]) listener.failed(error as Error)
      }
    }
  }

  #tell ({ id, state, output, outcome, value, error, age }: Found, fresh: Fresh | undefined): void {
    if (!this.#listeners.has(id)) return
    const end = state === null
      ? outcome === null ? undefined : { outcome, value: parsed(value), error: errorOf(error) }
      : endOf({ state, output })
    if (end === undefined && state !== null) return
    // Those who have come since this look was asked have a look of their own: the run may have been removed or retried meanwhile.
    const later = this.#fresh.get(id)?.listeners
    if (end === undefined) {
      this.#listeners.lose(id, listener => later?.has(listener) !== true)
      return
    }
    // One that was cancelled, or ended and was not kept, before somebody waited for it is as unknown as one that never was. Others may have waited for it before.
    const isOld = state === null && fresh !== undefined && (age ?? 0) > this.#context.options.clock.now() - fresh.since
    if (isOld) this.#listeners.lose(id, listener => fresh.listeners.has(listener))
    this.#listeners.end(id, end, listener => later?.has(listener) !== true)
  }

  /** Looks at all after a while, as long as somebody waits, and says so in the database anew. */
  #again (): void {
    this.#timer?.cancel()
    if (this.#listeners.size === 0 || this.#stopped) return
    const { connection, options: { clock } } = this.#context
    this.#timer = clock.after(connection.listening ? LOOK : POLL, () => {
      const { ids } = this.#listeners
      const { call, sql, name } = this.#context
      void call(async db => await db.executeSql(sql.wait, [name, ids, WAITS])).catch(() => {})
      this.hear(ids)
      this.#again()
    })
  }
}
