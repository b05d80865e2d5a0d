// The store on BullMQ, over a real Redis.
import { randomUUID } from 'node:crypto'
import t from 'tap'
import { bullmq } from '../../../lib/store/bullmq/index.ts'
import { conformance } from '../conformance.ts'
import { needsRedis, redisUrl } from '../../support/redis.ts'

t.test('does what every store does', needsRedis(), async t => {
  const connection = await redisUrl(t)
  conformance(t, () => {
    const prefix = randomUUID()
    return () => bullmq({ connection, prefix })
  }, { durable: true })
})
