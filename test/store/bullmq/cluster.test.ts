// The store on a Redis cluster of three masters: a real one.
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Cluster as Client } from 'ioredis'
import t from 'tap'
import { bullmq } from '../../../lib/store/bullmq/index.ts'
import type { Work } from '../../fixtures/durable.ts'
import { Cluster } from '../../support/cluster.ts'
import { open, timeUntil } from '../../support/connections.ts'
import { aborted, deferred, logged } from '../../support/helper.ts'
import { needsRedis, type Redis } from '../../support/redis.ts'
import { share, until } from '../../support/shared.ts'
import { conformance } from '../conformance.ts'

const work = (n: number): Work => ({ n, do: 'work', ms: 0 })

t.test('does what every store does', needsRedis(true), async t => {
  const cluster = await Cluster.start(t)
  const connection = cluster.client(t)
  conformance(t, () => {
    const prefix = `{${randomUUID()}}`
    return () => bullmq({ connection, prefix })
  }, { durable: true })
})

t.test('with options that a connection which waits for runs cannot bear, tasks tick, and runs are delayed, cancelled and paused', needsRedis(true), async t => {
  const cluster = await Cluster.start(t)
  const connection = cluster.client(t, { redisOptions: { commandTimeout: 500, socketTimeout: 500, stringNumbers: true, maxRetriesPerRequest: 1 } })
  const { app, queue, lines } = await share(t, { connection, prefix: '{shop}' }, {}, {}, async ({ payload, signal }) => { if (payload.do === 'hold') await aborted(signal) })
  const ticked = deferred<unknown>()
  app.addBackgroundTask('tick', { every: '100ms', cluster: true }, ({ id }) => { ticked.resolve(id) })
  t.match(await ticked.promise, /^tick-\d+$/)
  // Longer than the limits.
  await sleep(1_500)
  await queue.enqueue(work(1), { key: 'k', keyUntil: 'started', delay: 10 })
  await queue.drain()
  const { id } = await queue.enqueue({ ...work(2), do: 'hold' })
  await until(async () => (await queue.counts()).active === 1)
  await queue.cancel(id)
  await queue.pause()
  await queue.enqueue(work(3))
  t.match(await queue.counts(), { waiting: 1, delayed: 0, active: 0, succeeded: 2, failed: 0 })
  t.same(lines.filter(({ level }) => level === 'error'), [])
})

t.test('applications that share a cluster task run each tick once', needsRedis(true), async t => {
  const cluster = await Cluster.start(t)
  const connection = cluster.client(t)
  const ran: string[] = []
  const enough = deferred()
  for (let i = 0; i < 2; i++) {
    const { app } = await share(t, { connection, prefix: '{shop}' })
    app.addBackgroundTask('tick', { every: '100ms', cluster: true, overlap: 'allow' }, ({ id }) => { if (ran.push(id) === 20) enough.resolve() })
  }
  await enough.promise
  t.equal(new Set(ran).size, ran.length)
})

t.test('the log tells of the settings of the node that has the keys', needsRedis(true), async t => {
  const cluster = await Cluster.start(t)
  const connection = cluster.client(t)
  await cluster.ask(async ([first]) => {
    await first.config('SET', 'appendonly', 'no')
    await first.config('SET', 'maxmemory-policy', 'allkeys-lru')
  })
  // Any node may answer what names no key: often enough to meet each.
  for (let i = 0; i < 12; i++) {
    const prefix = `{${i}}`
    const { run, lines } = await open(t, connection, { prefix })
    await run(i)
    const [evicts, notPersisted] = ['Redis removes keys when it is full (maxmemory-policy allkeys-lru): runs can be lost. Set "maxmemory-policy noeviction"', 'Redis keeps nothing on disk: a restart loses all runs. Set "appendonly yes"']
    if (await cluster.numberOf(prefix) === 0) await Promise.all([evicts, notPersisted].map(async line => await logged(lines, line)))
    else t.notOk(lines.find(({ msg }) => msg === notPersisted), prefix)
  }
})

t.test('when a replica takes over, what was accepted runs, and no run that has ended runs again', needsRedis(true), async t => {
  t.jobs = 2 // they mostly wait
  const ways: Record<string, (master: Redis) => unknown> = {
    'from a master that dies': async master => { await master.kill() },
    // Its connections are half-open.
    'from a master that hangs': master => { master.freeze() }
  }
  for (const [what, fail] of Object.entries(ways)) {
    t.test(what, async t => {
      const cluster = await Cluster.start(t, { replicated: true })
      // With options that would give up, or wait for the master.
      const connection = cluster.client(t, { maxRedirections: 1, retryDelayOnFailover: 0, retryDelayOnClusterDown: 0, retryDelayOnTryAgain: 0, clusterNodeRetryStrategy: () => 100 })
      const held = deferred()
      const begun: number[] = []
      const { app, queue, lines } = await share(t, { connection, prefix: '{shop}', lease: '30s' }, {}, { concurrency: 2 }, async ({ payload: { n } }) => {
        begun.push(n)
        if (n === 0) await held.promise
        return n
      })
      const { id } = await queue.enqueue(work(0))
      await queue.enqueueMany([{ payload: work(1), delay: 3_000 }, { payload: work(2), delay: 3_000, priority: 1 }])
      await queue.schedule('prioritised', { every: 1_000, payload: work(3), priority: 2, overlap: 'allow', misfire: 'all' })
      const accepted = [0, 1, 2, 3]
      await until(async () => begun.includes(0) && begun.includes(3))
      const finished = queue.finished(id)
      // Redis replicates after it has answered: this is what a failover may lose.
      const number = await cluster.numberOf('{shop}')
      await cluster.ask(async nodes => { await nodes[number]?.wait(1, 0) })

      await fail(cluster.masters[number] as Redis)
      held.resolve()
      const began = performance.now()
      for (let n = 4; n < 10; n++) {
        await timeUntil(async () => { await queue.enqueueMany([{ payload: work(n) }, { payload: work(n + 10), priority: 1 }]) })
        accepted.push(n, n + 10)
      }
      const took = performance.now() - began
      t.ok(took < 15_000, `${took} ms`)
      t.match(await finished, { outcome: 'succeeded', value: 0 })
      if (what.includes('dies')) {
        t.match(await logged(lines, 'the store cannot be reached: it is tried again'), { level: 'error', err: { code: 'ECONNREFUSED' } })
        await logged(lines, 'the store can be reached again')
      }
      await queue.unschedule('prioritised')
      await queue.drain()
      t.same(accepted.filter(n => !begun.includes(n)), [])
      t.equal(begun.filter(n => n === 0).length, 1)
      await until(async () => (await app.backgroundTasks.health()).status === 'ok')
      t.match(await queue.counts(), { waiting: 0, delayed: 0, active: 0, failed: 0 })
      t.same(lines.filter(({ level }) => level === 'warn'), [])
      cluster.masters[number]?.thaw()
    })
  }
})

t.test('while another node takes the keys over one by one, nothing that was accepted is lost, or runs twice', needsRedis(true), async t => {
  const cluster = await Cluster.start(t)
  const begun: number[] = []
  const { queue, lines } = await share(t, { connection: cluster.client(t), prefix: '{shop}' }, {}, { concurrency: 2 }, ({ payload: { n } }) => { begun.push(n) })
  await queue.enqueueMany(Array.from({ length: 200 }, (_, n) => ({ payload: work(n), delay: 1_000 + n })))
  const from = await cluster.numberOf('{shop}')
  const moving = new AbortController()
  const accepted = Array.from({ length: 200 }, (_, n) => n)
  const feeding = (async () => {
    for (let n = 1_000; !moving.signal.aborted || n < 1_010; n += 2) {
      await timeUntil(async () => { await queue.enqueueMany([{ payload: work(n), key: String(n) }, { payload: work(n + 1), key: String(n + 1), priority: 1 }]) })
      accepted.push(n, n + 1)
    }
  })()
  await cluster.move('{shop}', from, (from + 1) % 3)
  moving.abort()
  await feeding
  await queue.drain()
  t.same(begun.sort((a, b) => a - b), accepted)
  t.match(await queue.counts(), { waiting: 0, delayed: 0, active: 0, failed: 0 })
  t.same(lines.filter(({ level }) => level === 'error'), [])
})

t.test('a worker goes on after its master has hung for longer than BullMQ waits', needsRedis(true), async t => {
  const cluster = await Cluster.start(t)
  const given = cluster.client(t)
  const abandoned = deferred()
  // BullMQ ends the connection that waits for runs, and makes another, which finds the cluster down.
  const watch = (client: Client): Client => {
    const { duplicate } = client
    client.duplicate = (...args) => watch(duplicate.apply(client, args))
    client.on('end', () => { client.once('reconnecting', abandoned.resolve) })
    return client
  }
  const { run } = await open(t, watch(given), { prefix: '{shop}' })
  await run(1)
  const master = cluster.masters[await cluster.numberOf('{shop}')] as Redis
  master.freeze()
  await abandoned.promise
  master.thaw()
  await timeUntil(async () => { await run(2) })
})
