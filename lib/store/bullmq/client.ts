import type * as Bullmq from 'bullmq'
import type { Redis, RedisOptions } from 'ioredis'
import { createRequire } from 'node:module'
import { invalid } from '../../check.ts'

// The optional packages. The first queue that uses the store loads them.

/** A connection to Redis as BullMQ sees it, whichever package made it. */
export type Client = Bullmq.IRedisClient
export type Engine = typeof Bullmq

/** A URL of Redis, options of ioredis, or a client of ioredis or redis, which the store duplicates. */
export type Connection = string | RedisOptions | { duplicate (): unknown }

const require = createRequire(import.meta.url)
const MAJOR = 6
/** The longest wait between two tries to connect, in milliseconds. */
const RETRY = 2_000

/** Throws `FST_BG_INVALID_OPTION` if BullMQ is not installed, or too old. */
export function checkInstalled (): void {
  let version: string
  try {
    ({ version } = require('bullmq/package.json') as { version: string })
  } catch (cause) {
    throw invalid('bullmq() needs the package bullmq, which is not installed. Run: npm install bullmq ioredis', { cause })
  }
  if (parseInt(version, 10) < MAJOR) throw invalid(`bullmq() needs the package bullmq from version ${MAJOR} on; installed is ${version}. Run: npm install bullmq@latest`)
}

export function loadEngine (): Engine {
  return require('bullmq') as Engine
}

/** A client of our own, and a function that ends it with all duplicates that BullMQ has made. It connects, and reconnects, by itself. */
export function connect ({ createIORedisClient, createNodeRedisClient }: Engine, connection: Connection): { client: Client, end (): void } {
  const made: Raw[] = []
  const keep = (raw: Raw): Raw => {
    const { duplicate } = raw
    raw.duplicate = (...given) => keep(duplicate.apply(raw, given))
    made.push(raw)
    return raw
  }
  const raw = keep(open(connection) as Raw)
  const client = isOfNodeRedis(raw) ? createNodeRedisClient(raw as never) : createIORedisClient(raw as never)
  // A client that is closed already throws or rejects.
  const end = (): void => { for (const one of made) void (async () => { await one.disconnect() })().catch(() => {}) }
  return { client, end }
}

/** A client of ioredis or of redis. */
interface Raw {
  duplicate (...options: unknown[]): Raw
  disconnect (): unknown
}

/** Sends a command by name: the clients of BullMQ have no method for that. */
export async function command (client: Client, name: string, ...args: string[]): Promise<unknown> {
  const { call, raw } = client as { call? (name: string, ...args: string[]): Promise<unknown>, raw?: { sendCommand (args: string[]): Promise<unknown> } }
  return call === undefined ? await raw?.sendCommand([name, ...args]) : await call.call(client, name, ...args)
}

// BullMQ needs commands without a limit of retries. The delay is short, so that a store that is back is noticed soon.
const ours: RedisOptions = { maxRetriesPerRequest: null, retryStrategy: tries => Math.min(tries * 100, RETRY), disconnectTimeout: 100 }

function open (connection: Connection): unknown {
  if (isClient(connection)) return isOfNodeRedis(connection) ? connection.duplicate() : (connection as { duplicate (options: RedisOptions): unknown }).duplicate(ours)
  const IORedis = loadIORedis()
  if (typeof connection === 'string') return new IORedis(connection, ours)
  const { url, ...options } = connection as RedisOptions & { url?: string }
  return url === undefined ? new IORedis({ ...ours, ...options, maxRetriesPerRequest: null }) : new IORedis(url, { ...ours, ...options, maxRetriesPerRequest: null })
}

function loadIORedis (): typeof Redis {
  try {
    return (require('ioredis') as { Redis: typeof Redis }).Redis
  } catch (cause) {
    throw invalid('bullmq() needs the package ioredis to connect, which is not installed. Run: npm install ioredis; or pass a client of the package redis as "connection".', { cause })
  }
}

export function isClient (value: unknown): value is { duplicate (): unknown } {
  return typeof (value as { duplicate?: unknown } | null)?.duplicate === 'function'
}

/** Whether it is a client of a Redis cluster. */
export function isCluster (connection: Connection): boolean {
  return (connection as { isCluster?: unknown }).isCluster === true
}

function isOfNodeRedis (client: unknown): boolean {
  const { defineCommand, sendCommand } = client as Record<string, unknown>
  return defineCommand === undefined && typeof sendCommand === 'function'
}

/** Removes the refused command from an error of ioredis: its arguments may be a password, or payloads. */
export function withoutCommand (error: Error): Error {
  delete (error as { command?: unknown }).command
  return error
}
