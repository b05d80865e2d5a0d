import type * as Bullmq from 'bullmq'
import type { Redis, RedisOptions } from 'ioredis'
import { createRequire } from 'node:module'
import { invalid } from '../../../check.ts'
import { tameInfo } from './info.ts'

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

/** A client of our own, and what goes with it. */
export interface Connected {
  /** Connects, and reconnects, by itself. */
  client: Client
  /** Ends it with all duplicates that BullMQ has made. */
  end (): void
  /** By what policy Redis removes keys when it is full; undefined if it removes none, or does not tell. Known once it is connected. */
  evicts (): string | undefined
}

export function connect ({ createIORedisClient, createNodeRedisClient }: Engine, connection: Connection): Connected {
  const made: Raw[] = []
  let evicts: string | undefined
  const keep = (raw: Raw): Raw => {
    const { duplicate } = raw
    // BullMQ and the control stream duplicate it for commands that block.
    raw.duplicate = (...given) => keep(duplicate.apply(raw, blocking(raw, given)))
    tameInfo(raw, policy => { evicts = policy })
    raw.on('close', () => { forgetSilence(raw) })
    made.push(raw)
    return raw
  }
  const raw = keep(open(connection) as Raw)
  const client = isOfNodeRedis(raw) ? createNodeRedisClient(raw as never) : createIORedisClient(raw as never)
  // A client that is closed already throws or rejects.
  const end = (): void => { for (const one of made) void (async () => { await one.disconnect() })().catch(() => {}) }
  return { client, end, evicts: () => evicts }
}

/** ioredis leaves the timer of its socketTimeout behind: it would keep the process up, or cut the next connection. */
function forgetSilence (raw: Raw): void {
  clearTimeout(raw.socketTimeoutTimer)
  raw.socketTimeoutTimer = undefined
}

/** A client of ioredis or of redis. */
interface Raw {
  socketTimeoutTimer?: NodeJS.Timeout | undefined
  on (event: 'close', listener: () => void): unknown
  options?: { socket?: object } | undefined
  duplicate (...options: unknown[]): Raw
  info (...args: unknown[]): Promise<string>
  disconnect (): unknown
}

/** Sends a command by name: the clients of BullMQ have no method for that. */
export async function command (client: Client, name: string, ...args: string[]): Promise<unknown> {
  const { call, raw } = client as { call? (name: string, ...args: string[]): Promise<unknown>, raw?: { sendCommand (args: string[]): Promise<unknown> } }
  return call === undefined ? await raw?.sendCommand([name, ...args]) : await call.call(client, name, ...args)
}

/** How long to wait before the next try to connect. Short, so that a store that is back is noticed soon. */
const retryDelay = (tries: number): number => Math.min(tries * 100, RETRY)

/** Defaults of ioredis's options. */
const defaults: RedisOptions = { retryStrategy: retryDelay, disconnectTimeout: 100 }

/**
 * What we need, whatever the user's options say. BullMQ needs commands without a limit of time or of retries: the calls of RedisConnection end in
 * time all the same. A connection on which nothing comes back is dead, even if nobody has closed it.
 */
function needs (given: RedisOptions): RedisOptions {
  return {
    maxRetriesPerRequest: null,
    enableOfflineQueue: true,
    commandTimeout: undefined as never,
    socketTimeout: SILENCE,
    // A primary that has become a replica: connect anew, to where the name or the Sentinels point now, and send the command again.
    reconnectOnError: error => error.message.startsWith('READONLY') ? 2 : given.reconnectOnError?.(error) ?? false
  }
}

/** How long a connection may be silent after a command, in milliseconds; and one for commands that block, which BullMQ and the control stream let wait for 10 s at most. */
const [SILENCE, BLOCKED_SILENCE] = [4_000, 12_000]

/** The same for the package redis. It pings a connection that is idle; by itself it does not connect again after a silence. */
const needsOfNodeRedis = (raw: Raw, silence: number): object => ({
  pingInterval: 2_000,
  disableOfflineQueue: false,
  commandOptions: {},
  socket: { ...raw.options?.socket, socketTimeout: silence, reconnectStrategy: retryDelay }
})

function open (connection: Connection): unknown {
  if (isClient(connection)) {
    const given = connection as Raw
    if (isOfNodeRedis(given)) return given.duplicate(needsOfNodeRedis(given, SILENCE))
    const options = given.options as RedisOptions
    return isCluster(connection) ? given.duplicate() : given.duplicate({ ...defaults, ...needs(options) })
  }
  const IORedis = loadIORedis()
  if (typeof connection === 'string') return new IORedis(connection, { ...defaults, ...needs({}) })
  const { url, ...options } = connection as RedisOptions & { url?: string }
  const all = { ...defaults, ...options, ...needs(options) }
  return url === undefined ? new IORedis(all) : new IORedis(url, all)
}

/** The arguments of `duplicate` for a connection whose commands block. */
function blocking (raw: Raw, given: unknown[]): unknown[] {
  if (isOfNodeRedis(raw)) return [{ ...given[0] as object, ...needsOfNodeRedis(raw, BLOCKED_SILENCE) }]
  return isCluster(raw as unknown as Connection) ? given : [{ ...given[0] as object, socketTimeout: BLOCKED_SILENCE }]
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
