import type * as Bullmq from 'bullmq'
import type { ClusterOptions, RedisOptions } from 'ioredis'
import { invalid, show } from '../../../common/check.ts'
import { toError } from '../../../common/errors.ts'
import { tameInfo } from './info.ts'
import { BLOCKED_SILENCE, BLOCKED_TRIES, forCluster, forNodeRedis, forRedis } from './options.ts'
import { type Engine, loadIORedis } from './packages.ts'

/** A connection to Redis as BullMQ sees it, whichever package made it. */
export type Client = Bullmq.IRedisClient

/** A URL of Redis, options of ioredis, or a client of ioredis or redis, which the store duplicates. */
export type Connection = string | RedisOptions | { duplicate (): unknown }

/** A client of our own, and what goes with it. */
export interface Connected {
  /** Connects, and reconnects, by itself. */
  client: Client
  /** Connects anew, to where the name points now; undefined where the client does so by itself when it is told READONLY. */
  reconnect: (() => void) | undefined
  /** Ends it with all duplicates that BullMQ has made. */
  end (): void
  /** By what policy Redis removes keys when it is full; undefined if it removes none, or does not tell. Known once it is connected. */
  evicts (): string | undefined
}

export function connect ({ createIORedisClient, createNodeRedisClient }: Engine, given: GivenClient): Connected {
  const made: Raw[] = []
  let ended = false
  let evicts: string | undefined
  const tame = (raw: Raw): void => {
    tameInfo(raw, policy => { evicts = policy })
    tameSilence(raw)
  }
  const keep = (raw: Raw): Raw => {
    const { duplicate } = raw
    // BullMQ and the control stream duplicate it for commands that block.
    raw.duplicate = (...given) => keep(duplicate.apply(raw, blocking(raw, given)))
    tame(raw)
    if (isCluster(raw)) settleConnect(raw)
    raw.on('error', ignored)
    // The connections of a cluster to its nodes.
    raw.on('+node', node => { tame(node as Raw) })
    made.push(raw)
    if (ended) drop(raw)
    return raw
  }
  const raw = keep(duplicate(given))
  const client = isOfNodeRedis(raw) ? quiet(createNodeRedisClient(raw as never)) : createIORedisClient(raw as never)
  const end = (): void => {
    ended = true
    made.forEach(drop)
  }
  const reconnect = (): void => { for (const one of made) void renew(one).catch(() => {}) }
  return { client, reconnect: isOfNodeRedis(raw) ? reconnect : undefined, end, evicts: () => evicts }
}

/** Connects a client of redis anew. */
async function renew (raw: Raw): Promise<void> {
  await raw.disconnect()
  await raw.connect()
}

/** Lets `connect` of a cluster reject when the connection closes. ioredis leaves it without an answer where the cluster is down, and BullMQ's worker would wait for that for ever. */
function settleConnect (raw: Raw): void {
  const { connect } = raw
  raw.connect = async () => {
    let closed!: () => void
    const closing = new Promise((_resolve, reject) => { closed = () => { reject(new Error('Connection is closed.')) } })
    raw.on('close', closed)
    try {
      return await Promise.race([connect.call(raw), closing])
    } finally {
      raw.off('close', closed)
    }
  }
}

/** Ends a client for good. BullMQ connects a client for commands that block again when it finds it disconnected, even after this: it would keep the process up. */
function drop (raw: Raw): void {
  raw.connect = async () => { throw new Error('Connection is closed.') }
  // A client that is closed already throws or rejects.
  void (async () => { await raw.disconnect() })().catch(() => {})
  // ioredis leaves the commands of a client that is between two connections without an answer, and those that it is to send again on a connection which is
  // not ready. BullMQ waits for that of a blocking one, by a timer that keeps the process up.
  const closed = new Error('Connection is closed.')
  raw.flushQueue?.(closed)
  for (let sent; (sent = raw.prevCommandQueue?.shift()) !== undefined;) sent.command.reject(closed)
}

/** RedisConnection tells the errors of the first client. One that nobody listens to, such as a duplicate that has been closed, prints its errors, or throws them. */
const ignored = (): void => {}

/** BullMQ's wrapper of a client of redis has events of its own, which it throws as well. */
function quiet (client: Client): Client {
  const { duplicate } = client
  client.duplicate = (...given) => quiet(duplicate.apply(client, given))
  client.on('error', ignored)
  return client
}

/**
 * ioredis leaves the timer of its socketTimeout behind, when the connection closes or it sets another: it would keep the process up, or cut the next
 * connection. So there is one at a time, for which no process stays up, and none when the connection has closed.
 */
function tameSilence (raw: Raw): void {
  let timer: NodeJS.Timeout | undefined
  Object.defineProperty(raw, 'socketTimeoutTimer', {
    get: () => timer,
    set: (next: NodeJS.Timeout | undefined) => {
      if (next !== timer) clearTimeout(timer)
      timer = next?.unref()
    }
  })
  raw.on('close', () => { raw.socketTimeoutTimer = undefined })
}

/** The options of a client of ioredis, of its Cluster, or of redis. */
type Options = RedisOptions & ClusterOptions & { socket?: object }

/** A client of ioredis or of redis that somebody has made, and that we only duplicate. */
export type GivenClient = Raw

/** A client of ioredis or of redis. */
interface Raw {
  isCluster?: boolean
  socketTimeoutTimer?: NodeJS.Timeout | undefined
  on (event: 'close' | 'error' | '+node', listener: (node: unknown) => void): unknown
  off (event: 'close', listener: () => void): unknown
  options?: Options | undefined
  duplicate (...options: unknown[]): Raw
  info (...args: unknown[]): Promise<string>
  connect (): Promise<unknown>
  disconnect (): unknown
  flushQueue? (error: Error): void
  prevCommandQueue?: { shift (): { command: { reject (error: Error): void } } | undefined } | null | undefined
}

/** Sends a command by name: the clients of BullMQ have no method for that. */
export async function command (client: Client, name: string, ...args: string[]): Promise<unknown> {
  const { call, raw } = client as { call? (name: string, ...args: string[]): Promise<unknown>, raw?: { sendCommand (args: string[]): Promise<unknown> } }
  return call === undefined ? await raw?.sendCommand([name, ...args]) : await call.call(client, name, ...args)
}

/** Sends a command without a key, such as TIME. On a cluster it goes to the node that has `key`, as each node has settings, memory and a clock of its own, and ioredis would ask any. */
export async function commandAt (client: Client, key: string, name: string, ...args: string[]): Promise<unknown> {
  if (!client.isCluster) return await command(client, name, ...args)
  // A transaction goes where its keys are.
  const transaction = client.multi()
  queueCommand(transaction, 'EXISTS', key)
  queueCommand(transaction, name, ...args)
  const [, [error, answer]] = await transaction.exec() as [unknown, [error: Error | null, answer: unknown]]
  if (error !== null) throw error
  return answer
}

/** Adds a command to a transaction, by name. */
export function queueCommand (transaction: ReturnType<Client['multi']>, name: string, ...args: string[]): void {
  const { call, raw } = transaction as { call? (name: string, ...args: string[]): unknown, raw?: { addCommand (args: string[]): unknown } }
  if (call === undefined) raw?.addCommand([name, ...args])
  else call.call(transaction, name, ...args)
}

/** Gives the Lua of the scripts that were defined on a client: one of redis has them in a map, one of ioredis in an object. */
export function scriptsOf (client: Client): (name: string) => string {
  const { scripts, scriptsSet } = client as { scripts?: Map<string, { lua: string }>, scriptsSet?: Record<string, { lua: string }> }
  return name => (scripts?.get(name) ?? scriptsSet?.[name] as { lua: string }).lua
}

/**
 * The client whose duplicates the store uses: the given one, or one with the given URL or options, which never connects. So whatever form the options
 * have, they are read in one way. Throws `FST_BG_INVALID_OPTION`.
 */
export function clientOf (connection: Connection): GivenClient {
  const client = isClient(connection) ? connection as GivenClient : make(connection)
  const { options = {} } = client
  const keyPrefix = options.keyPrefix ?? options.redisOptions?.keyPrefix
  if (keyPrefix !== undefined && keyPrefix !== '') throw refused('one without a "keyPrefix", which BullMQ does not take: give the store a "prefix"', keyPrefix)
  if (options.role === 'slave') throw refused("one to the primary, which a store writes to, and so without role: 'slave'", options.role)
  return client
}

function make (connection: string | RedisOptions): GivenClient {
  const IORedis = loadIORedis()
  const { url, ...given } = typeof connection === 'string' ? { url: connection } : connection as RedisOptions & { url?: string }
  const options = { ...given, lazyConnect: true }
  try {
    const client = url === undefined ? new IORedis(options) : new IORedis(url, options)
    // A URL may say otherwise.
    client.disconnect()
    return client as unknown as GivenClient
  } catch (error) {
    // Not as the cause: such an error has the URL, and that the password.
    throw refused(`one that ioredis takes (${toError(error).message})`)
  }
}

function refused (expected: string, received?: unknown): Error {
  return invalid(`bullmq(): option "connection" must be ${expected}${received === undefined ? '' : `; received ${show(received)}`}.`)
}

/** A duplicate with the options that we need. */
function duplicate (client: GivenClient): Raw {
  const { options = {} } = client
  if (isOfNodeRedis(client)) return client.duplicate(forNodeRedis(options))
  return isCluster(client) ? client.duplicate(undefined, forCluster(options)) : client.duplicate({ lazyConnect: false, ...forRedis(options) })
}

/** The arguments of `duplicate` for a connection whose commands block. */
function blocking (raw: Raw, [first, second]: unknown[]): unknown[] {
  if (isOfNodeRedis(raw)) return [{ ...first as object, ...forNodeRedis(raw.options ?? {}, BLOCKED_SILENCE) }]
  if (!isCluster(raw)) return [{ ...first as object, socketTimeout: BLOCKED_SILENCE }]
  const { redisOptions } = { ...raw.options, ...second as ClusterOptions }
  // The caller asks again by itself. BullMQ gives a blocking command up after some time: sent after that, it would take away the marker which says that there are jobs.
  return [first, { ...second as object, maxRedirections: BLOCKED_TRIES, redisOptions: { ...redisOptions, socketTimeout: BLOCKED_SILENCE } }]
}

export function isClient (value: unknown): value is { duplicate (): unknown } {
  return typeof (value as { duplicate?: unknown } | null)?.duplicate === 'function'
}

/** Whether it is a client that BullMQ cannot use: of the package redis, that for a cluster, for Sentinel, or a pool. */
export function isOtherClient (value: object): boolean {
  const { connect, duplicate, nodeClient } = value as Record<string, unknown>
  return typeof nodeClient === 'function' || (typeof connect === 'function' && typeof duplicate !== 'function')
}

/** Whether it is a client of a Redis cluster. */
export function isCluster (client: GivenClient): boolean {
  return client.isCluster === true
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
