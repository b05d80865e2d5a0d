// A primary, its replica, and a Sentinel that promotes it: real ones.
import { Redis as IORedis } from 'ioredis'
import t, { type Test } from 'tap'
import { deferred } from '../../support/helper.ts'
import { timeUntil } from '../../support/connections.ts'
import { needsRedis, Redis, startSentinel } from '../../support/redis.ts'
import { share, until } from '../../support/shared.ts'

function client (t: Test, url: string): IORedis {
  const client = new IORedis(url)
  client.on('error', () => {})
  t.teardown(() => { client.disconnect() })
  return client
}

t.test('a failover by Sentinel', needsRedis(true), async t => {
  t.jobs = 3 // they mostly wait

  const ways: Record<string, { fail (primary: Redis, sentinel: IORedis): unknown, within: number, form: 'options' | 'client' }> = {
    'a primary that dies': { fail: async primary => { await primary.kill() }, within: 5_000, form: 'options' },
    // Its connections are half-open.
    'a primary that hangs': { fail: primary => { primary.freeze() }, within: 15_000, form: 'client' },
    // The Sentinel refuses until it knows enough of the replica.
    'a primary that is told to become a replica': { fail: async (_primary, sentinel) => { await until(async () => await sentinel.call('SENTINEL', 'FAILOVER', 'main').then(() => true, () => false)) }, within: 5_000, form: 'options' }
  }
  for (const [what, { fail, within, form }] of Object.entries(ways)) {
    t.test(`${what}: what was accepted runs, and the store works with the replica`, async t => {
      const settings = ['--appendonly', 'yes', '--appendfsync', 'no']
      const primary = await Redis.start(t, settings)
      const replica = await Redis.start(t, [...settings, '--replicaof', '127.0.0.1', String(primary.port), '--repl-diskless-sync-delay', '0'])
      const second = client(t, replica.url)
      await until(async () => (await second.info('replication')).includes('master_link_status:up'))
      const { port } = await startSentinel(t, primary.port)
      const sentinel = client(t, `redis://127.0.0.1:${port}`)
      const options = { sentinels: [{ host: '127.0.0.1', port }], name: 'main' }
      const given = new IORedis({ ...options, lazyConnect: true })
      const held = deferred()
      const done = new Set<number>()
      const { app, queue } = await share(t, { connection: form === 'client' ? given : options, lease: '30s' }, {}, { concurrency: 2 }, async ({ payload: { n } }) => {
        if (n === 0) await held.promise
        done.add(n)
      })
      const accepted: number[] = []
      const enqueue = async (n: number): Promise<void> => {
        await queue.enqueue({ n, do: 'work', ms: 0 }, { delay: n === 0 || n > 3 ? 0 : 3_000 })
        accepted.push(n)
      }
      for (const n of [0, 1, 2, 3]) await enqueue(n)
      await until(async () => queue.stats.active === 1)
      // Redis replicates after it has answered: this is what a failover may lose.
      const first = client(t, primary.url)
      await first.wait(1, 0)

      await fail(primary, sentinel)
      const promoted = until(async () => (await second.role())[0] === 'master')
      // As a server does that is asked meanwhile. Not a primary that still answers: it loses what it accepts until it is a replica.
      const told = what.includes('told')
      const feeding = told ? undefined : (async () => { for (let n = 4; n < 10; n++) await timeUntil(async () => { await enqueue(n) }) })()
      await promoted
      if (told) await until(async () => (await first.role())[0] === 'slave')
      const began = performance.now()
      await timeUntil(async () => { await enqueue(100) })
      const took = performance.now() - began
      t.ok(took < within, `${took} ms`)
      await feeding
      held.resolve()
      await queue.drain()
      t.same(accepted.filter(n => !done.has(n)), [])
      await until(async () => (await app.backgroundTasks.health()).status === 'ok')
      t.match(await queue.counts(), { waiting: 0, delayed: 0, active: 0, failed: 0 })
      primary.thaw()
    })
  }
})
