// What the store and the thread of the embedded engine tell each other. Every statement gets one reply, in the order in which they were sent.

/** What the thread is started with. */
export interface ThreadData {
  /** Path or address of PGlite. */
  engine: string
  /** Folder of the data, or `memory://`. */
  dataDir: string
  /** A tar of a new database, for one in memory. Without it PGlite runs `initdb` where there is no database. */
  template: Uint8Array | undefined
  /** Lines of `postgresql.conf`. */
  settings: string[]
  /** Options of `initdb`. */
  initdb: string[]
}

/** To the thread. */
export type ToThread = Statement | 'close'

export interface Statement {
  number: number
  text: string
  /** Without them the text may hold several statements. */
  values: unknown[] | undefined
  /** Whether the thread rolls back what a failed statement has left open: true outside of a transaction. */
  rollBack: boolean
}

/** From the thread. */
export type FromThread =
  | { type: 'ready' }
  /** The engine cannot start, or cannot go on; the thread ends. */
  | { type: 'dead', why: string, log: string[] }
  | { type: 'result', number: number, result: Result }
  | { type: 'refused', number: number, error: Refusal }
  | { type: 'notification', channel: string, payload: string }

/** What became of a statement, or of the last of several. */
export interface Result {
  rows: unknown[]
  /** Its tag, such as `COMMIT`. */
  command: string | undefined
}

/** An error of PostgreSQL, by its fields: `message`, `code` (the SQLSTATE), `severity`, `detail`, `constraint` and so on. */
export type Refusal = Record<string, string | undefined>
