// The embedded database: PostgreSQL in this process, by PGlite in a thread.

export { EmbeddedDatabase, type EmbeddedTransaction } from './embedded-database.ts'
export { EngineEnded } from './engine-thread.ts'
export { checkEmbedded } from './engine.ts'
