import type { Timer } from '../../../time/index.ts'
import type { QueueContext } from '../context.ts'

/** How often to look where messages do not arrive, in milliseconds. */
const POLL = 2_000

/** What a look at a queue finds: whether it is paused, whether a run may begin, and in how many milliseconds the next schedule ticks. */
export interface Look { paused: boolean | null, waiting: boolean, next: number | null }

/** Looks at a queue now and then, where messages of PostgreSQL do not arrive: one query for all that they would say. */
export class Poller {
  readonly #context: QueueContext
  readonly #found: (look: Look) => void
  #timer: Timer | undefined

  constructor (context: QueueContext, found: (look: Look) => void) {
    this.#context = context
    this.#found = found
  }

  start (): void {
    this.#timer ??= this.#context.options.clock.after(POLL, () => {
      this.#timer = undefined
      this.start()
      if (this.#context.connection.connected && !this.#context.connection.listening) void this.#look()
    })
  }

  stop (): void {
    this.#timer?.cancel()
    this.#timer = undefined
  }

  async #look (): Promise<void> {
    const { call, sql, name } = this.#context
    try {
      const { rows: [row] } = await call(async db => await db.executeSql(sql.look, [name])) as { rows: Look[] }
      if (row !== undefined && this.#timer !== undefined) this.#found(row)
    } catch {
      // The connection says so.
    }
  }
}
