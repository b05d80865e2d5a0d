// worker() as the handler of a stored queue: runs compute in threads, and end in Redis.
import { randomUUID } from 'node:crypto'
import t from 'tap'
import { bullmq } from '../../lib/store/bullmq/index.ts'
import { build } from '../support/helper.ts'
import { needsRedis, redisUrl } from '../support/redis.ts'
import { until } from '../support/shared.ts'
import { job } from '../support/worker.ts'

t.test('over Redis', needsRedis(), async t => {
  const url = await redisUrl(t)
  const open = async (options: object = {}): ReturnType<typeof build> => await build(t, { stores: { default: bullmq({ connection: url, prefix: randomUUID(), ...options }) } })

  t.test('the value, the progress and the error of a thread are those of the run', async t => {
    const { app } = await open()
    const echo = app.addBackgroundQueue('echo', job('echo'))
    const fails = app.addBackgroundQueue('fails', { retry: { limit: 2, delay: 1 } }, job('failTwice'))
    const broken = app.addBackgroundQueue('broken', job('fail'))
    const progresses = app.addBackgroundQueue('progresses', job('progresses'))
    await app.ready()
    const ends = async (queue: typeof echo, payload: unknown): Promise<unknown> => await queue.finished((await queue.enqueue(payload)).id)
    t.match(await ends(echo, { n: 1 }), { outcome: 'succeeded', value: { n: 1 } })
    t.match(await ends(fails, null), { outcome: 'succeeded', value: 3 }, 'its third attempt')
    t.match(await ends(broken, 'plain'), { outcome: 'failed', error: { message: String } })
    const { id } = await progresses.enqueue(null)
    await progresses.finished(id)
    t.ok((await progresses.get(id))?.progress)
  })

  t.test('a thread that never ends is ended by cancel, and by close, after which another process runs it', async t => {
    const prefix = randomUUID()
    const first = await open({ prefix })
    const second = await open({ prefix })
    const [one, two] = [first, second].map(({ app }) => app.addBackgroundQueue('loop', { grace: 0 }, job('loop', { killAfter: '100ms' })))
    await first.app.ready()
    const cancelled = await one?.enqueue(null)
    await until(async () => one?.stats.active === 1)
    await one?.cancel(cancelled?.id ?? '')
    t.match(await one?.counts(), { active: 0, waiting: 0, failed: 0 })
    const interrupted = await one?.enqueue(null)
    await until(async () => one?.stats.active === 1)
    await first.app.close()
    await second.app.ready()
    await until(async () => two?.stats.active === 1)
    t.match(await two?.get(interrupted?.id ?? ''), { state: 'active', attempt: 1 }, 'interrupted, not failed')
    await two?.cancel(interrupted?.id ?? '')
  })
})
