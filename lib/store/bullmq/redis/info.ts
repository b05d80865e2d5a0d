/** A client whose `info` we replace. ioredis calls it with a callback, too. */
interface Informed { info (...args: unknown[]): Promise<string> }

/** What a user without INFO gets to see: no feature of a newer Redis is used then. */
const UNKNOWN = 'redis_version:6.2.0\r\nloading:0\r\n'

/**
 * Replaces a client's `info` by one that also works for a Redis user who may not call it. ioredis and BullMQ call it before anything else: for such
 * a user the one writes to stderr, and the other gives up. BullMQ also writes the eviction policy to stderr for each of its connections: hides it from
 * BullMQ, and passes it to `evicts`, for the log.
 */
export function tameInfo (client: Informed, evicts: (policy: string) => void): void {
  const { info } = client
  client.info = (...args) => {
    const callback = typeof args.at(-1) === 'function' ? args.pop() as (error: unknown, text?: string) => void : undefined
    const answer = info.apply(client, args).then(text => {
      const [, policy = 'noeviction'] = /^maxmemory_policy:(\S+)/m.exec(text) ?? []
      if (policy !== 'noeviction') evicts(policy)
      return text.replace(/^maxmemory_policy:.*$/m, '')
    }, (error: unknown) => {
      if (/NOPERM|unknown command/i.test((error as Error).message)) return UNKNOWN
      throw error
    })
    if (callback !== undefined) answer.then(text => { callback(null, text) }, callback)
    return answer
  }
}
