// Keys that somebody removes under a running store: FLUSHALL, and an eviction policy.
import { Redis as IORedis } from 'ioredis'
import t from 'tap'
import { aborted, deferred, logged } from '../../support/helper.ts'
import { needsRedis, Redis } from '../../support/redis.ts'
import { share, until } from '../../support/shared.ts'

t.test('keys that are removed under a running store', needsRedis(true), async t => {
  t.jobs = 2 // they mostly wait

  for (const [what, remove] of [
    ['FLUSHALL', async (admin: IORedis) => { await admin.flushall() }],
    ['an eviction of all keys', async (admin: IORedis) => {
      await admin.config('SET', 'maxmemory-policy', 'allkeys-random')
      // Less than what Redis itself needs.
      await admin.config('SET', 'maxmemory', '1mb')
      await until(async () => await admin.dbsize() === 0)
      await admin.config('SET', 'maxmemory', '0')
    }]
  ] as const) {
    t.test(`${what}: active runs hear that they are lost, and new runs and ticks go on`, async t => {
      const redis = await Redis.start(t)
      const admin = new IORedis(redis.url)
      t.teardown(() => { admin.disconnect() })
      const done: number[] = []
      const lost = deferred<string>()
      const { app, queue, lines, begun } = await share(t, { connection: redis.url, lease: '1s' }, {}, { concurrency: 2 }, async ({ payload, signal }) => {
        if (payload.do === 'hold') {
          lost.resolve((await aborted(signal)).code)
          throw signal.reason
        }
        done.push(payload.n)
      })
      let ticks = 0
      let [now, most] = [0, 0]
      app.addBackgroundTask('tick', { every: '100ms', cluster: true }, async () => {
        ticks++
        most = Math.max(most, ++now)
        await new Promise(resolve => { setTimeout(resolve, 250) })
        now--
      })
      const { id } = await queue.enqueue({ n: 0, do: 'hold' })
      await queue.enqueue({ n: 1, do: 'work', ms: 0 }, { delay: '1h' })
      await begun
      await until(async () => ticks > 1)

      await remove(admin)
      t.equal(await lost.promise, 'FST_BG_CANCELLED')
      for (const n of [2, 3]) await queue.enqueue({ n, do: 'work', ms: 0 })
      await until(async () => done.length === 2)
      await queue.drain()
      t.match(await queue.counts(), { waiting: 0, delayed: 0, active: 0 })
      const before = ticks
      await until(async () => ticks > before + 3)
      t.equal(most, 1)
      await until(async () => (await app.backgroundTasks.health()).status === 'ok')
      const said = await logged(lines, 'the store has lost this active run: somebody has removed its keys, or Redis has evicted them', 'work')
      t.match(said, { level: 'warn', run: id })
      const at = performance.now()
      await app.close()
      t.ok(performance.now() - at < 3_000, 'and it closes')
    })
  }
})
