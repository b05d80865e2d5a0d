import { Redis } from 'ioredis'
import type { Listed } from './rules.ts'

/** The most entries of a collection that does not hold ended runs, and the most keys of a queue besides its jobs. BullMQ trims its streams roughly. */
const [ENTRIES, KEYS] = [1_000, 12]
const STREAM = 15_000

/** Finds what is left in Redis after everything has ended, and would grow. */
export async function leftovers (url: string, listed: Listed[]): Promise<string[]> {
  const redis = new Redis(url)
  const found: string[] = []
  const jobs: Record<string, number> = {}
  const others: Record<string, string[]> = {}
  for await (const keys of redis.scanStream({ match: 'torture:*', count: 1_000 })) {
    for (const key of keys as string[]) {
      const [, queue = '', rest = '', ...more] = key.split(':')
      if (more[0] === 'lock' || rest === 'de') found.push(`Redis still has ${key}`)
      else if (/^[\da-f-]{36}$/.test(rest) && more.length === 0) jobs[queue] = (jobs[queue] ?? 0) + 1
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
  for (const [queue, count] of Object.entries(jobs)) {
    const known = listed.filter(one => one.queue === queue).length
    if (count !== known) found.push(`Redis has ${count} jobs of ${queue}, of which ${known} are listed`)
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
