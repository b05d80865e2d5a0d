import { Redis } from 'ioredis'
import type { Listed } from '../rules.ts'

/** The most entries of a collection that does not hold ended runs, and the most keys of a queue besides its jobs. BullMQ trims its streams roughly. */
const [ENTRIES, KEYS] = [1_000, 12]
const STREAM = 15_000

/** Finds what is left in Redis after everything has ended, and would grow. */
export async function leftovers (url: string, listed: Listed[]): Promise<string[]> {
  const redis = new Redis(url)
  const found: string[] = []
  const jobs: Record<string, Set<string>> = {}
  const others: Record<string, string[]> = {}
  for await (const keys of redis.scanStream({ match: 'torture:*', count: 1_000 })) {
    for (const key of keys as string[]) {
      const [, queue = '', rest = '', ...more] = key.split(':')
      if (more[0] === 'lock' || rest === 'de') found.push(`Redis still has ${key}`)
      // The mark of a cancelled run lasts for ten minutes.
      else if (rest === 'cancelled') continue
      else if (/^[\da-f-]{36}$/.test(rest) && more.length === 0) (jobs[queue] ??= new Set()).add(rest)
      else if (!/^(grid|single)-\d+$/.test(rest)) others[queue] = [...others[queue] ?? [], key]
    }
  }
  for (const [queue, keys] of Object.entries(others)) {
    if (keys.length > KEYS) found.push(`Redis has ${keys.length} keys of ${queue}: ${keys.join(' ')}`)
    for (const key of keys) {
      const [size, most] = await sizeOf(redis, key)
      if (size > most && !/:(completed|failed)$/.test(key)) found.push(`Redis has ${size} entries in ${key}`)
    }
  }
  for (const [queue, ids] of Object.entries(jobs)) {
    const known = new Map(listed.filter(one => one.queue === queue).map(one => [one.id, one.state]))
    const [unlisted, lost] = [[...ids].filter(id => !known.has(id)), [...known].filter(([id]) => !ids.has(id))]
    if (unlisted.length > 0) found.push(`Redis has ${unlisted.length} jobs of ${queue} that are not listed: ${unlisted.slice(0, 10).join(' ')}`)
    if (lost.length > 0) found.push(`${queue} lists ${lost.length} runs of which Redis has no job: ${lost.slice(0, 10).map(one => one.join(' ')).join(', ')}`)
  }
  redis.disconnect()
  return found
}

async function sizeOf (redis: Redis, key: string): Promise<[number, number]> {
  switch (await redis.type(key)) {
    case 'zset': return [await redis.zcard(key), ENTRIES]
    case 'list': return [await redis.llen(key), ENTRIES]
    case 'set': return [await redis.scard(key), ENTRIES]
    case 'hash': return [await redis.hlen(key), ENTRIES]
    case 'stream': return [await redis.xlen(key), STREAM]
    default: return [0, 0]
  }
}
