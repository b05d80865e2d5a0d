// What the store needs of a pool. Not by the types of pg, which an application need not have.

/** The application's pool: a `pg.Pool`, of whatever copy of the package. */
export interface PoolLike {
  /** Gives a connection of the pool. */
  connect (): Promise<PooledClient>
  /** How many connections the pool has now. */
  readonly totalCount: number
}

/** A connection of a pool. */
export interface PooledClient {
  /** Runs a statement. */
  query (text: string, values?: unknown[]): Promise<{ rows: unknown[] }>
  /** Gives it back; with an error, the pool closes it. */
  release (error?: Error | boolean): void
  /** Hears of errors. */
  on (event: 'error', listener: (error: Error) => void): unknown
  /** Hears of them no more. */
  off (event: 'error', listener: (error: Error) => void): unknown
}

/** Whether a value is a pool of the package pg. A client has `query` and `connect`, too, but no options of a pool. */
export function isPool (value: unknown): value is PoolLike {
  const { connect, query, totalCount } = Object(value) as Record<string, unknown>
  return typeof connect === 'function' && typeof query === 'function' && typeof totalCount === 'number'
}
