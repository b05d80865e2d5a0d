// The engine: pg-boss, and our connection to its database.

export { BossEngine } from './boss-engine.ts'
export { loadEngine, loadPg } from './packages.ts'
export { StoreConnection } from './connection.ts'
export { channelOf, type Message } from './messages.ts'
