import type { Client } from './client.ts'
import type { RedisConnection } from './connection.ts'
import { type Fields, fieldsOf } from './fields.ts'

/** An entry of a Redis stream. */
export interface StreamEntry {
  id: string
  fields: Fields
}

/** Reads the entries behind `id`, the oldest first. With `BLOCK` it waits for some, for as many milliseconds. Rejects with `FST_BG_STORE_UNAVAILABLE`. */
export async function readStream (redis: RedisConnection, reader: Client, key: string, id: string, options: { COUNT?: number, BLOCK?: number }): Promise<StreamEntry[]> {
  const streams = await redis.call(async () => await reader.xread([{ key, id }], options)) as Array<[key: string, entries: Array<[id: string, flat: string[]]>]> | null
  return (streams?.[0]?.[1] ?? []).map(([id, flat]) => ({ id, fields: fieldsOf(flat) }))
}

/** A connection of its own for reads that block. `RedisConnection` says it when Redis is away. */
export function readerOf (redis: RedisConnection): Client {
  const reader = redis.client.duplicate()
  reader.on('error', () => {})
  return reader
}
