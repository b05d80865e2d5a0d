import pg from 'pg'
import { deferred } from './helper.ts'

/** Holds the answers to a statement of PostgreSQL that is asked while it is closed. */
export class Gate {
  readonly #text: string
  #opened = deferred()
  #held = deferred()
  #closed = false

  constructor (text: string) {
    this.#text = text
  }

  /** A pool whose answers come through the gate. */
  pool (t: { teardown (callback: () => unknown): void }, connectionString: string): pg.Pool {
    const pool = new pg.Pool({ connectionString })
    t.teardown(async () => { await pool.end() })
    pool.on('connect', client => {
      const { query } = client
      client.query = ((asked: string | { text: string }, ...rest: unknown[]) => {
        const answer = (query as (...args: unknown[]) => unknown).call(client, asked, ...rest)
        return (typeof asked === 'string' ? asked : asked.text) === this.#text && this.#closed ? this.#hold(answer) : answer
      }) as never
    })
    return pool
  }

  close (): void {
    this.#closed = true
    this.#opened = deferred()
    this.#held = deferred()
  }

  /** Resolves when an answer is held. */
  async held (): Promise<void> { await this.#held.promise }

  open (): void {
    this.#closed = false
    this.#opened.resolve()
  }

  async #hold (answer: unknown): Promise<unknown> {
    const opened = this.#opened.promise
    const result = await answer
    this.#held.resolve()
    await opened
    return result
  }
}
