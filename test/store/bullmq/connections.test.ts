// What happens to connections in the field: by a proxy that does to them what networks do, and by settings of clients and of Redis.
import { Redis as IORedis, type RedisOptions } from 'ioredis'
import { createClient } from 'redis'
import t, { type Test } from 'tap'
import { type BackgroundQueue } from '../../../lib/index.ts'
import { bullmq } from '../../../lib/store/bullmq/index.ts'
import { build, deferred, logged } from '../../support/helper.ts'
import { Proxy } from '../../support/proxy.ts'
import { needsRedis, Redis } from '../../support/redis.ts'

t.jobs = 4 // they mostly wait

const options = needsRedis(true)
const fast = ['--appendonly', 'yes', '--appendfsync', 'no']

/** An application with one queue, and what its runs say. */
async function open (t: Test, connection: Parameters<typeof bullmq>[0]['connection']) {
  const { app, lines } = await build(t, { stores: { default: bullmq({ connection, prefix: `test-${Math.random()}` }) } })
  const waiting = new Map<unknown, () => void>()
  const queue: BackgroundQueue<unknown> = app.addBackgroundQueue('work', async ({ payload }) => { waiting.get(payload)?.() })
  await app.ready()
  const run = async (payload: unknown): Promise<void> => {
    const ran = deferred()
    waiting.set(payload, ran.resolve)
    await queue.enqueue(payload)
    await ran.promise
  }
  return { app, lines, queue, run }
}

/** Runs it again until it succeeds; to how many milliseconds that took. */
async function timeUntil (work: () => Promise<unknown>): Promise<number> {
  const began = performance.now()
  for (;;) {
    try {
      await work()
      return performance.now() - began
    } catch (error) {
      if ((error as { code?: string }).code !== 'FST_BG_STORE_UNAVAILABLE') throw error
      await new Promise(resolve => { setTimeout(resolve, 50) })
    }
  }
}

type Make = (t: Test, url: string) => Parameters<typeof bullmq>[0]['connection']
const clients: Record<string, Make> = {
  'a URL': (_t, url) => url,
  'options of ioredis': (_t, url) => ({ port: Number(new URL(url).port), host: '127.0.0.1' }),
  'a client of ioredis': (t, url) => {
    const client = new IORedis(url, { lazyConnect: true })
    t.teardown(() => { client.disconnect() })
    return client
  },
  'a client of redis': (_t, url) => createClient({ url }) as never
}

for (const [name, make] of Object.entries(clients)) {
  t.test(`${name}: connections that are dropped without a word are replaced within 15 s`, options, async t => {
    const redis = await Redis.start(t, fast)
    const proxy = await Proxy.start(t, redis.port)
    const { queue, run } = await open(t, make(t, proxy.url))
    await run(0)
    proxy.drop()
    t.ok(await timeUntil(async () => await queue.enqueue('after')) < 15_000)
    const began = performance.now()
    await run('and runs')
    t.ok(performance.now() - began < 15_000, 'the connection that blocks, too')
  })
}

for (const name of ['a URL', 'a client of ioredis'] as const) {
  t.test(`${name}: a primary that has become a replica is left within 5 s, and no call fails`, options, async t => {
    const [first, second] = [await Redis.start(t, fast), await Redis.start(t, fast)]
    const [one, two] = [first, second].map(redis => {
      const client = new IORedis(redis.url)
      t.teardown(() => { client.disconnect() })
      return client
    }) as [IORedis, IORedis]
    const proxy = await Proxy.start(t, first.port)
    const { queue, run } = await open(t, clients[name]?.(t, proxy.url) as string)
    await run(0)
    proxy.redirect(second.port)
    await one.replicaof('127.0.0.1', String(second.port))
    const began = performance.now()
    await queue.enqueue('after')
    t.ok(performance.now() - began < 5_000)
    t.equal(await two.dbsize() > 0, true, 'it is in the new primary')
    await run('and runs')
  })
}

t.test('connections that are cut come back, and what waits in Redis runs', options, async t => {
  const redis = await Redis.start(t, fast)
  const proxy = await Proxy.start(t, redis.port)
  const { run } = await open(t, proxy.url)
  await run(0)
  proxy.cut()
  await timeUntil(async () => { await run(1) })
  t.pass('it ran')
})

for (const bad of [{ commandTimeout: 500 }, { socketTimeout: 500 }, { maxRetriesPerRequest: 1 }, { enableOfflineQueue: false }, { lazyConnect: true }] as RedisOptions[]) {
  t.test(`the client option ${Object.keys(bad)[0]}, which a connection that blocks cannot bear, does no harm`, options, async t => {
    const redis = await Redis.start(t, fast)
    const { run, lines } = await open(t, { ...bad, port: redis.port })
    await run(0)
    // Longer than the limit that the user has set, while the blocking connection waits.
    await new Promise(resolve => { setTimeout(resolve, 1_500) })
    await run(1)
    t.same(lines.filter(({ level }) => level === 'error'), [])
  })
}

t.test('a Redis user without INFO and CONFIG can use it, and nothing goes to stderr', options, async t => {
  const redis = await Redis.start(t, fast)
  const admin = new IORedis(redis.url)
  t.teardown(() => { admin.disconnect() })
  await admin.call('ACL', 'SETUSER', 'app', 'on', '>secret', '~*', '&*', '+@all', '-info', '-config')
  const warnings: unknown[] = []
  t.intercept(console, 'warn', { value: (...given: unknown[]) => { warnings.push(given) } })
  for (const connection of [`redis://app:secret@127.0.0.1:${redis.port}`, createClient({ url: `redis://app:secret@127.0.0.1:${redis.port}` }) as never]) {
    const { run, lines } = await open(t, connection)
    await run(0)
    t.same(lines.filter(({ level }) => level === 'error'), [])
  }
  t.same(warnings, [])
})

t.test('a Redis that removes keys when it is full: one line at warn, through the log, and none on stderr', options, async t => {
  const redis = await Redis.start(t, [...fast, '--maxmemory-policy', 'allkeys-lru'])
  const warnings: unknown[] = []
  t.intercept(console, 'warn', { value: (...given: unknown[]) => { warnings.push(given) } })
  const { run, lines } = await open(t, redis.url)
  await run(0)
  t.match(lines.filter(({ level, policy }) => level === 'warn' && policy !== undefined), [{ policy: 'allkeys-lru', msg: /noeviction/ }])
  t.same(warnings, [])
})

t.test('a clock that differs from that of the store is told at warn and in health', options, async t => {
  const redis = await Redis.start(t, fast)
  const { now } = Date
  t.teardown(() => { Date.now = now })
  Date.now = () => now() + 3_000
  const { app, lines } = await open(t, redis.url)
  const { difference } = await logged(lines, 'the clock of this process is 3.0 s ahead of that of the store: delays and cluster ticks are off by that')
  t.ok(Math.abs(Number(difference) - 3_000) < 100)
  t.match(await app.backgroundTasks.health(), { status: 'degraded', tasks: [{ name: 'work', reason: 'the clock of this process is 3.0 s ahead of that of the store' }] })
})

t.test('close() with a run in hand and a Redis that hangs ends within 9 s', options, async t => {
  const redis = await Redis.start(t, fast)
  const { app } = await build(t, { stores: { default: bullmq({ connection: redis.url }) } })
  const begun = deferred()
  const queue = app.addBackgroundQueue('work', async ({ signal }) => {
    begun.resolve()
    await new Promise(resolve => { signal.addEventListener('abort', resolve) })
  })
  await app.ready()
  await queue.enqueue(1)
  await begun.promise
  redis.freeze()
  const began = performance.now()
  await app.close()
  const took = performance.now() - began
  redis.thaw()
  t.ok(took < 9_000, `${took} ms`)
})
