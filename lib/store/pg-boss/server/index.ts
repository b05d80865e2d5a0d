// A PostgreSQL server, through the package pg.

export { isPool } from './pool.ts'
export { isOfConnection, ownPool, ServerDatabase } from './server-database.ts'
