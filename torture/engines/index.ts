// The servers that can be tormented, and their stores.
import type { EngineKind } from './engine.ts'
import { postgres } from './postgres.ts'
import { redis } from './redis.ts'

export type { Action, Engine, EngineKind, Monkey } from './engine.ts'

/** By the value of `--store`. */
export const engines: Record<string, EngineKind> = { redis, 'pg-boss': postgres }
