import type { ClusterOptions, RedisOptions } from 'ioredis'

// What we need of a user's client, whatever its options say. BullMQ needs commands without a limit of time or of retries, and answers in their usual
// form: the calls of RedisConnection end in time all the same. A connection on which nothing comes back is dead, even if nobody has closed it.

/** How long a connection may be silent after a command, in milliseconds. */
const SILENCE = 4_000
/** The same where commands block, which BullMQ and the control stream let wait for 10 s at most; in milliseconds. */
export const BLOCKED_SILENCE = 12_000

/** How long to wait before a command is sent again to a node of a cluster, in milliseconds. */
const REDIRECT = 100
/** The same where a node says that another one has the key: two that say so of each other must not be asked without a pause. */
const MOVED = 20
/** How often a command is sent to a node of a cluster: for five minutes of a failover, and not for ever where nodes do not agree. */
const TRIES = 3_000
/** How often a command that blocks is sent to a node of a cluster: as ioredis does by default. */
export const BLOCKED_TRIES = 16

/** How long to wait before the next try to connect, in milliseconds. Short, so that a store that is back is noticed soon. */
const retryDelay = (tries: number): number => Math.min(tries * 100, 2_000)

/** A user's strategy, which must not end the tries. What stands in a URL is a text. */
const lasting = (strategy: unknown) => (tries: number): number => {
  const delay = typeof strategy === 'function' ? strategy(tries) as unknown : undefined
  return typeof delay === 'number' ? delay : retryDelay(tries)
}

/** For ioredis: overrides of the options that a client has. */
export function forRedis ({ retryStrategy, sentinelRetryStrategy, reconnectOnError }: RedisOptions): RedisOptions {
  return {
    ...commands,
    disconnectTimeout: 100,
    enableOfflineQueue: true,
    autoResendUnfulfilledCommands: true,
    retryStrategy: lasting(retryStrategy),
    sentinelRetryStrategy: lasting(sentinelRetryStrategy),
    // A primary that has become a replica: connect anew, to where the name or the Sentinels point now, and send the command again.
    reconnectOnError: error => error.message.startsWith('READONLY') ? 2 : typeof reconnectOnError === 'function' ? reconnectOnError(error) : false
  }
}

/** For each command, and the form of its answer. */
const commands = {
  maxRetriesPerRequest: null,
  commandTimeout: undefined as never,
  blockingTimeout: undefined as never,
  socketTimeout: SILENCE,
  enableReadyCheck: true,
  // A Redis that loads its data says for how long; ioredis would wait for that by a timer which outlives the client, and keeps the process up.
  maxLoadingRetryTime: 500,
  enableAutoPipelining: false,
  readOnly: false,
  stringNumbers: false,
  monitor: false
} satisfies RedisOptions

/**
 * For a cluster of ioredis. It sends a command again where the node is gone, has lost its keys to another one, or says that the cluster is down. By default it gives up after 16
 * tries, which a failover outlasts: the end of a run would not be recorded, and the run begun again.
 */
export function forCluster ({ clusterRetryStrategy, redisOptions }: ClusterOptions): ClusterOptions {
  return {
    enableOfflineQueue: true,
    enableAutoPipelining: false,
    scaleReads: 'master',
    clusterRetryStrategy: lasting(clusterRetryStrategy),
    // A node that is gone leaves: its commands would wait for it, and never ask who has its keys now.
    clusterNodeRetryStrategy: undefined as never,
    maxRedirections: TRIES,
    retryDelayOnMoved: MOVED,
    retryDelayOnFailover: REDIRECT,
    retryDelayOnClusterDown: REDIRECT,
    retryDelayOnTryAgain: REDIRECT,
    redisOptions: { ...redisOptions, ...commands }
  }
}

/** What this needs to know of a client of the package redis. */
interface NodeRedisOptions { socket?: object }

/** For the package redis. It pings a connection that is idle, which counts as life on one that blocks; by itself it does not connect again after a silence. */
export function forNodeRedis ({ socket }: NodeRedisOptions, silence = SILENCE): object {
  return {
    pingInterval: silence === SILENCE ? 2_000 : undefined,
    disableOfflineQueue: false,
    commandsQueueMaxLength: undefined,
    commandOptions: {},
    readonly: false,
    clientSideCache: undefined,
    socket: { ...socket, socketTimeout: silence, reconnectStrategy: retryDelay }
  }
}
