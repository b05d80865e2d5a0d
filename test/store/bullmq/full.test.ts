// A Redis that has no memory left, and may remove nothing: maxmemory with noeviction.
import { Redis as IORedis } from 'ioredis'
import { createClient } from 'redis'
import t, { type Test } from 'tap'
import type { Work } from '../../fixtures/durable.ts'
import { deferred, logged, rejection } from '../../support/helper.ts'
import { needsRedis, Redis } from '../../support/redis.ts'
import { share, until } from '../../support/shared.ts'

const work = (n: number): Work => ({ n, do: 'work', ms: 0 })
const FULL = 'the store is full: it takes no new runs until it has room'
const ROOM = 'the store has room again'

/** A Redis, and what fills it. */
async function start (t: Test): Promise<{ redis: Redis, fill (): Promise<unknown>, empty (): Promise<unknown> }> {
  const redis = await Redis.start(t)
  const admin = new IORedis(redis.url)
  t.teardown(() => { admin.disconnect() })
  return { redis, fill: async () => await admin.config('SET', 'maxmemory', '1mb'), empty: async () => await admin.config('SET', 'maxmemory', '0') }
}

t.test('a Redis that is full', needsRedis(true), async t => {
  t.jobs = 4 // they mostly wait

  t.test('takes no run, and says why; it works again when there is room', async t => {
    const { redis, fill, empty } = await start(t)
    for (const connection of [redis.url, createClient({ url: redis.url }).on('error', () => {})]) {
      await empty()
      const { app, queue, lines } = await share(t, { connection: connection as string, prefix: `full-${Math.random()}` })
      await queue.enqueue(work(0))
      await queue.drain()
      await fill()
      const error = await rejection(queue.enqueue(work(1)))
      t.match(error, { code: 'FST_BG_STORE_UNAVAILABLE', statusCode: 503, message: /^The store .*: Redis is full: it has reached its maxmemory, and takes no new runs until it has room \(OOM\)/ })
      t.match(await queue.counts(), { waiting: 0, succeeded: 1 }, 'it answers')
      t.match(await app.backgroundTasks.health(), { status: 'degraded', tasks: [{ name: 'work', state: 'running', reason: /^Redis is full/ }] })
      await rejection(queue.enqueue(work(2)))
      await empty()
      // Nobody asks it for anything.
      await logged(lines, ROOM)
      t.match(await app.backgroundTasks.health(), { status: 'ok' })
      await queue.enqueue(work(3))
      await queue.drain()
      t.equal(queue.stats.succeeded, 2)
      t.match(lines.filter(({ level, msg }) => level === 'error' || msg === ROOM), [{ level: 'error', msg: FULL }, { level: 'info', msg: ROOM }], 'once')
      await app.close()
    }
  })

  t.test('keeps the leases of active runs, and records how they end', async t => {
    const { redis, fill, empty } = await start(t)
    const [success, failure] = [deferred(), deferred()]
    const calls: number[] = []
    const lost: number[] = []
    const { queue, lines } = await share(t, { connection: redis.url, lease: '1s' }, {}, { concurrency: 3, retry: { limit: 1, delay: '1ms' } }, async ({ payload: { n }, attempt, signal }) => {
      calls.push(n)
      signal.addEventListener('abort', () => { lost.push(n) })
      if (n === 0) await success.promise
      if (n === 1 && attempt === 1) {
        await failure.promise
        throw new Error('told to')
      }
    })
    await queue.enqueue(work(0))
    await queue.enqueue(work(1), { key: 'k', keyUntil: 'started' })
    await until(async () => queue.stats.active === 2)
    await fill()
    await rejection(queue.enqueue(work(2)))
    // Longer than a lease.
    await new Promise(resolve => { setTimeout(resolve, 2_000) })
    success.resolve()
    await until(async () => (await queue.counts()).succeeded === 1)
    failure.resolve()
    await until(async () => lines.some(({ msg }) => msg === 'attempt failed, and is retried'))
    await empty()
    await queue.drain()
    t.same(lost, [])
    t.same(calls, [0, 1, 1])
    t.match(await queue.counts(), { succeeded: 2, failed: 0, active: 0, delayed: 0, waiting: 0 })
    t.equal(lines.some(({ err }) => err !== undefined && err.message !== 'told to'), false)
  })

  t.test('begins what waits when there is room again', async t => {
    const { redis, fill, empty } = await start(t)
    const { app, queue, lines } = await share(t, { connection: redis.url }, { autostart: false })
    for (const n of [0, 1, 2]) await queue.enqueue(work(n))
    await fill()
    await queue.start()
    await logged(lines, FULL)
    t.match(await app.backgroundTasks.health(), { status: 'degraded' })
    await empty()
    await queue.drain()
    t.equal(queue.stats.succeeded, 3)
  })

  t.test('does not hold up a close', async t => {
    const { redis, fill } = await start(t)
    const held = deferred()
    const { app, queue, begun } = await share(t, { connection: redis.url }, {}, { grace: 0 }, async ({ signal }) => {
      signal.addEventListener('abort', () => { held.resolve() })
      await held.promise
      throw signal.reason
    })
    await queue.enqueue(work(0))
    await begun
    await fill()
    await rejection(queue.enqueue(work(1)))
    const at = performance.now()
    await app.close()
    t.ok(performance.now() - at < 3_000)
  })
})
