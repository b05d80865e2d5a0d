// A PostgreSQL server, through the package pg.

export { isPool } from './pool.ts'
export { isOfConnection, poolOptions, ServerDatabase } from './server-database.ts'
