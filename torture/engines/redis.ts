import { bullmq } from '../../lib/store/bullmq/index.ts'
import { Redis } from '../../test/support/redis.ts'
import { LEASE, MAX_CRASHES, type Listed } from '../rules.ts'
import type { Action, Engine, EngineKind, Monkey } from './engine.ts'
import { leftovers } from './redis-leftovers.ts'

/** One Redis, which keeps everything on disk. */
class RedisEngine implements Engine {
  readonly #redis: Redis

  constructor (redis: Redis) {
    this.#redis = redis
  }

  get port (): number { return this.#redis.port }

  urlOf (port: number): string { return `redis://127.0.0.1:${port}` }

  actions ({ takeServer, below }: Monkey): Action[] {
    const redis = this.#redis
    return [
      { name: 'freeze Redis', weight: 1, act: () => takeServer('freeze', () => { redis.freeze() }, () => { redis.thaw() }, below(4 * LEASE)) },
      { name: 'restart Redis', weight: 1, act: () => takeServer('restart', async () => { await redis.kill() }, async () => { await redis.start() }, below(2 * LEASE)) }
    ]
  }

  async leftovers (listed: Listed[]): Promise<string[]> { return await leftovers(this.#redis.url, listed) }
}

export const redis: EngineKind = {
  unfit: () => undefined,
  start: async t => new RedisEngine(await Redis.start(t)),
  store: url => bullmq({ connection: url, prefix: 'torture', lease: LEASE, maxCrashes: MAX_CRASHES })
}
