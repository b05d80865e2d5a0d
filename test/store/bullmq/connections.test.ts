// What happens to connections in the field: by a proxy that does to them what networks do, and by settings of clients and of Redis.
import type { EventEmitter } from 'node:events'
import { Redis as IORedis } from 'ioredis'
import { createClient } from 'redis'
import t, { type Test } from 'tap'
import { bullmq } from '../../../lib/store/bullmq/index.ts'
import { build, deferred, logged } from '../../support/helper.ts'
import { open, timeUntil } from '../../support/connections.ts'
import { Proxy } from '../../support/proxy.ts'
import { needsRedis, Redis } from '../../support/redis.ts'

t.jobs = 4 // they mostly wait

const options = needsRedis(true)
const fast = ['--appendonly', 'yes', '--appendfsync', 'no']

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

for (const name of ['a URL', 'a client of ioredis', 'a client of redis'] as const) {
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

const cut: Record<string, Make> = {
  'a URL': (_t, url) => url,
  // It would end the tries.
  'options with a retryStrategy': (_t, url) => ({ url, retryStrategy: () => null }) as object,
  'a client of redis with a reconnectStrategy': (_t, url) => createClient({ url, socket: { reconnectStrategy: false } }) as never
}
for (const [name, make] of Object.entries(cut)) {
  t.test(`${name}: connections that are cut come back, and what waits in Redis runs`, options, async t => {
    const redis = await Redis.start(t, fast)
    const proxy = await Proxy.start(t, redis.port)
    const { run } = await open(t, make(t, proxy.url))
    await run(0)
    proxy.cut()
    await timeUntil(async () => { await run(1) })
    t.pass('it ran')
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

/** Makes a client tell of each of its duplicates, and of theirs. */
function watched<Client extends { duplicate (...options: never[]): unknown }> (client: Client, made: Client[]): Client {
  const { duplicate } = client
  client.duplicate = (...options) => {
    const copy = watched(duplicate.apply(client, options) as Client, made)
    made.push(copy)
    return copy
  }
  return client
}

for (const [name, make] of Object.entries(clients).slice(2)) {
  t.test(`${name}: a connection of an application that has closed connects no more, and its errors are neither printed nor thrown`, options, async t => {
    const redis = await Redis.start(t, fast)
    const made: Array<EventEmitter & { connect (): Promise<unknown>, duplicate (): unknown }> = []
    const { app, run } = await open(t, watched(make(t, redis.url) as never, made as never))
    await run(0)
    await app.close()
    t.ok(made.length >= 3, 'one for commands, and two that block')
    // BullMQ does that when a connection that blocks has been lost.
    made[0]?.duplicate()
    for (const client of made) await t.rejects(client.connect(), /closed/)
    const printed = t.capture(console, 'error')
    for (const client of made) client.emit('error', new Error('write EPIPE'))
    t.same(printed().map(({ args }) => args), [])
  })
}

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
