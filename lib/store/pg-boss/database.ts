/** Something that runs SQL: a database, or a transaction on it. */
export interface SqlExecutor {
  /**
   * Runs a statement with its values as `$1`, `$2` …. Without values the text may hold several statements, which are one transaction; then the rows are of no use.
   * A value is a string, a number, a boolean, null, or an array of strings. Rows are as PostgreSQL's own client makes them: `int8` is a string, `json` is parsed.
   * Rejects with an Error whose `code` is the SQLSTATE, if PostgreSQL has refused the statement.
   */
  executeSql (text: string, values?: unknown[]): Promise<{ rows: unknown[] }>
}

/**
 * The database under the store: a PostgreSQL server (`server/`), or the embedded engine (`embedded/`). Nothing else of the store knows which it is.
 */
export interface Database extends SqlExecutor {
  /**
   * Whether statements may be prepared, once for each connection. The store sets it when notifications arrive: then no pooler stands between that gives each statement another
   * connection. A database that prepares nothing need not have it.
   */
  prepares?: boolean
  /** Whether this process starts it, which may take seconds: until then calls wait for longer than for a server. */
  readonly startsHere?: boolean
  /** A server that has not answered within `limit` milliseconds (default 4,000) counts as gone: the promise rejects, and its connection is cut. A database in this process may ignore it. */
  executeSql (text: string, values?: unknown[], limit?: number): Promise<{ rows: unknown[] }>
  /**
   * Calls `onNotify` with the payload of each notification on a channel, from when the promise resolves. Resolves to a function that ends this. Rejects if the database
   * cannot be reached. If the connection is lost it calls `onLost`, once, and is over: the store listens anew. A database in this process never calls it.
   */
  listen (channel: string, onNotify: (payload: string) => void, onLost?: (error: Error) => void): Promise<() => Promise<void>>
  /** Runs `work` in a transaction of its own: commits when that resolves, rolls back when it rejects. */
  transaction<T>(work: (tx: SqlExecutor) => Promise<T>): Promise<T>
  /** Ends its connections. Idempotent. */
  close (): Promise<void>
}
