// Redis that is away, hangs, refuses, or keeps nothing: each test has a Redis of its own.
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify from 'fastify'
import { Redis as IORedis } from 'ioredis'
import { createClient } from 'redis'
import t from 'tap'
import type { Run } from '../../../lib/index.ts'
import { built, Child, noSignals } from '../../support/child.ts'
import type { Work } from '../../fixtures/durable.ts'
import { aborted, deferred, logged, rejection, type Line } from '../../support/helper.ts'
import { Proxy } from '../../support/proxy.ts'
import { needsRedis, Redis } from '../../support/redis.ts'
import { share, until } from '../../support/shared.ts'

const { skip } = needsRedis(true)
const program = built('durable')
const work: Work = { n: 1, do: 'work', ms: 0 }
const LOST = 'the store cannot be reached: it is tried again'
const BACK = 'the store can be reached again'

t.test('Redis', skip === undefined ? {} : { skip }, async t => {
  t.jobs = 5 // they mostly wait

  t.test('away at the start: the app is ready, says so, refuses in time, and works once Redis is there', async t => {
    const redis = await Redis.start(t)
    await redis.kill()
    const { app, queue, begun, lines } = await share(t, { connection: redis.url })
    const web = Fastify()
    web.post('/', async () => await queue.enqueue(work))
    t.teardown(async () => { await web.close() })
    t.match(await app.backgroundTasks.health(), { status: 'degraded', tasks: [{ name: 'work', state: 'running', reason: /^the store cannot be reached: / }] })
    const at = Date.now()
    const [response, error] = await Promise.all([web.inject({ method: 'POST', url: '/' }), rejection(queue.enqueue(work)), ...['counts', 'pause', 'drain', 'retryFailed'].map(async method => {
      t.match(await rejection((queue as unknown as Record<string, () => Promise<void>>)[method]?.() as Promise<void>), { code: 'FST_BG_STORE_UNAVAILABLE' }, method)
    })])
    t.ok(Date.now() - at < 5_500, `it took ${Date.now() - at} ms`)
    t.match(response.json(), { statusCode: 503, code: 'FST_BG_STORE_UNAVAILABLE' })
    t.match(error, { code: 'FST_BG_STORE_UNAVAILABLE', statusCode: 503, message: /^The store of background runs cannot be reached: .*ECONNREFUSED.*It reconnects by itself/ })
    t.match(await app.backgroundTasks.health(), { tasks: [{ reason: /ECONNREFUSED/ }] })

    // One that is asked just before: it waits for the connection.
    const patient = queue.enqueue(work)
    await redis.start()
    const { id } = await patient
    t.equal((await begun).id, id)
    await queue.drain()
    t.match(await queue.counts(), { succeeded: 1, failed: 0 }, 'what was refused is not run')
    t.match(await app.backgroundTasks.health(), { status: 'ok' })
    t.match(lines.filter(({ msg }) => msg === LOST || msg === BACK), [{ level: 'error', msg: LOST, err: { message: /ECONNREFUSED/ } }, { level: 'info', msg: BACK }], 'said once, and not at each try')
  })

  t.test('killed in the middle, and back after ten seconds: nothing that was accepted is lost', async t => {
    const redis = await Redis.start(t)
    const done: number[] = []
    const held = deferred<Run<Work>>()
    const { app, queue, lines } = await share(t, { connection: redis.url, lease: '2s' }, {}, { concurrency: 5 }, async run => {
      if (run.payload.do === 'hold') {
        held.resolve(run)
        if (run.attempt === 1 && !done.includes(run.payload.n)) await aborted(run.signal)
      }
      done.push(run.payload.n)
    })
    const accepted: number[] = []
    await queue.enqueue({ n: 0, do: 'hold' })
    accepted.push(0)
    const { signal } = await held.promise
    const over = new AbortController()
    const feeding = (async () => {
      for (let n = 1; !over.signal.aborted; n++) {
        await queue.enqueue({ ...work, n }).then(() => { accepted.push(n) }, () => {})
        await sleep(20)
      }
    })()
    await until(async () => done.length > 20)
    await redis.kill()
    const at = Date.now()
    t.match(await rejection(queue.enqueue(work)), { code: 'FST_BG_STORE_UNAVAILABLE' })
    t.ok(Date.now() - at < 5_500)
    t.equal((await aborted(signal)).code, 'FST_BG_CANCELLED', 'its lease has run out: another process may have it')
    t.match(await app.backgroundTasks.health(), { status: 'degraded' })
    await sleep(10_000 - (Date.now() - at))
    const before = done.length
    await redis.start()
    await until(async () => done.length > before + 20)
    over.abort()
    await feeding
    await queue.drain()
    t.same(accepted.filter(n => !done.includes(n)), [])
    t.match(await queue.counts(), { waiting: 0, active: 0, failed: 0 })
    t.match(await app.backgroundTasks.health(), { status: 'ok' })
    t.match(lines.map(({ msg }) => msg).filter(msg => msg === LOST || msg === BACK), [LOST, BACK])
  })

  t.test('hangs for some seconds: calls end in time, health says so, and both mend by themselves', async t => {
    const redis = await Redis.start(t)
    const { app, queue } = await share(t, { connection: redis.url })
    await queue.enqueue(work)
    redis.freeze()
    const at = Date.now()
    t.match(await rejection(queue.enqueue(work)), { code: 'FST_BG_STORE_UNAVAILABLE', message: /it does not answer/ })
    t.ok(Date.now() - at < 5_500)
    t.match(await app.backgroundTasks.health(), { status: 'degraded', tasks: [{ reason: 'the store cannot be reached: it does not answer' }] })
    redis.thaw()
    // Nobody asks it for anything.
    await until(async () => (await app.backgroundTasks.health()).status === 'ok')
    await queue.enqueue(work)
    await queue.drain()
    t.match(await queue.counts(), { waiting: 0, active: 0, failed: 0 })
  })

  for (const [what, end] of [['is killed', 'kill'], ['hangs', 'freeze']] as const) {
    t.test(`${what} for good: close ends in time, with a run in hand`, async t => {
      const redis = await Redis.start(t)
      const { app, queue, begun, lines } = await share(t, { connection: redis.url }, { shutdownTimeout: '3s' }, { grace: 0 }, async ({ signal }) => {
        await aborted(signal)
        throw signal.reason
      })
      await queue.enqueue(work)
      await begun
      await redis[end]()
      const at = Date.now()
      await app.close()
      t.ok(Date.now() - at < 4_500, `it took ${Date.now() - at} ms`)
      t.match(await rejection(queue.counts()), { code: 'FST_BG_STORE_UNAVAILABLE' })
      t.same(lines.filter(({ msg }) => msg === 'run failed'), [])
    })

    t.test(`${what} for good: a process ends by itself when it is told to`, { skip: noSignals }, async t => {
      const redis = await Redis.start(t)
      const { queue } = await share(t, { connection: redis.url, prefix: 'p' }, { autostart: false })
      await queue.enqueue({ n: 1, do: 'hold' })
      const child = new Child(t, program, [`--url=${redis.url}`, '--prefix=p'])
      await child.line('begins')
      await redis[end]()
      await sleep(1_000)
      child.signal('SIGTERM')
      t.same(await child.exit, { code: 0, signal: null })
      const [closing, closed] = [await child.line('closing'), await child.line('closed')]
      t.ok(Number(closed.time) - Number(closing.time) < 3_500, `it took ${Number(closed.time) - Number(closing.time)} ms`)
      t.notMatch(child.rest, /error|unhandled/i)
    })
  }

  t.test('is back and does not answer yet: a process ends by itself when it is told to', { skip: noSignals }, async t => {
    const redis = await Redis.start(t)
    const proxy = await Proxy.start(t, redis.port)
    const child = new Child(t, program, [`--url=${proxy.url}`, '--prefix=p'])
    const { queue } = await share(t, { connection: redis.url, prefix: 'p' }, { autostart: false })
    await queue.enqueue({ n: 1, do: 'work', ms: 0 })
    await child.line('done')
    const client = new IORedis(redis.url)
    t.teardown(() => { client.disconnect() })
    await until(async () => (await client.call('CLIENT', 'LIST') as string).includes('cmd=bzpopmin'))
    const before = proxy.size
    // Its connections are cut while commands block on them, and new ones wait.
    proxy.cut()
    proxy.stall()
    // On a busy machine they may be back before this looks.
    const cut = performance.now()
    await until(async () => proxy.size === 0 || performance.now() - cut > 2_000)
    await until(async () => proxy.size >= before)
    const since = performance.now()
    child.signal('SIGTERM')
    t.same(await child.exit, { code: 0, signal: null })
    t.ok(performance.now() - since < 4_500, `it took ${performance.now() - since} ms`)
    t.notMatch(child.rest, /error|unhandled/i)
  })

  t.test('is away while a queue stops, starts, and stops again', async t => {
    const redis = await Redis.start(t)
    const { app, queue } = await share(t, { connection: redis.url, lease: '1s' })
    await queue.enqueue(work)
    await queue.drain()
    await redis.kill()
    await until(async () => (await app.backgroundTasks.health()).status === 'degraded')
    await queue.stop()
    await queue.start()
    await redis.start()
    await queue.enqueue(work)
    await queue.drain()
    t.equal(queue.stats.succeeded, 2)
    await redis.kill()
    await until(async () => (await app.backgroundTasks.health()).status === 'degraded')
    const at = Date.now()
    await app.close()
    t.ok(Date.now() - at < 3_000)
  })

  t.test('hangs from the start', async t => {
    const redis = await Redis.start(t)
    redis.freeze()
    const client = createClient({ url: redis.url, disableClientInfo: true })
    client.on('error', () => {})
    await Promise.all([redis.url, client].map(async connection => {
      const { app, queue } = await share(t, { connection })
      t.match(await rejection(queue.enqueue(work)), { code: 'FST_BG_STORE_UNAVAILABLE', message: /not connected|does not answer/ })
      t.match(await app.backgroundTasks.health(), { status: 'degraded' })
      await app.close()
    }))
  })

  for (const kind of ['ioredis', 'redis']) {
    t.test(`goes away when a worker has just begun, by a client of the package ${kind}: it begins again`, async t => {
      const redis = await Redis.start(t)
      const client = kind === 'ioredis' ? new IORedis(redis.url, { lazyConnect: true }) : createClient({ url: redis.url })
      client.on('error', () => {})
      const { app, queue } = await share(t, { connection: client }, { autostart: false })
      const up = async (): Promise<void> => { await until(async () => (await app.backgroundTasks.health()).status === 'ok') }
      await queue.enqueue(work)
      redis.freeze()
      await queue.start()
      await sleep(100)
      await redis.kill()
      await redis.start()
      await up()
      await queue.drain()
      t.equal(queue.stats.succeeded, 1)

      // Stopped before it could begin.
      await queue.stop()
      redis.freeze()
      await queue.start()
      await queue.stop()
      redis.thaw()
      await queue.enqueue(work)
      t.match(await queue.counts(), { waiting: 1 })
      await queue.start()
      await queue.drain()
      t.equal(queue.stats.succeeded, 2)
    })
  }

  t.test('goes away when it is first asked, by a client of the package redis: it is asked again', async t => {
    const redis = await Redis.start(t)
    const client = createClient({ url: redis.url })
    client.on('error', () => {})
    const { app, queue } = await share(t, { connection: client }, { autostart: false })
    await until(async () => (await app.backgroundTasks.health()).status === 'ok')
    redis.freeze()
    const asked = rejection(queue.counts())
    await sleep(100)
    await redis.kill()
    t.match(await asked, { code: 'FST_BG_STORE_UNAVAILABLE' })
    await redis.start()
    await until(async () => (await app.backgroundTasks.health()).status === 'ok')
    await queue.enqueue(work)
    t.match(await queue.counts(), { waiting: 1 })
  })

  t.test('goes away from an idle process: nothing keeps that up when it is closed', { skip: noSignals }, async t => {
    const redis = await Redis.start(t)
    const { queue } = await share(t, { connection: redis.url, prefix: 'p' }, { autostart: false })
    await queue.enqueue(work)
    const child = new Child(t, program, [`--url=${redis.url}`, '--prefix=p'])
    const direct = new IORedis(redis.url)
    t.teardown(() => { direct.disconnect() })
    direct.on('error', () => {})
    await child.line('run succeeded')
    // BullMQ waits for the next job.
    await until(async () => String(await direct.client('LIST')).includes('cmd=bzpopmin'))
    await redis.kill()
    await child.line(LOST)
    child.signal('SIGTERM')
    t.same(await child.exit, { code: 0, signal: null })
    const after = Date.now() - Number((await child.line('closed')).time)
    t.ok(after < 2_000, `it ended ${after} ms after close()`)
  })

  t.test('is never there: a process starts, and ends when it is told to', { skip: noSignals }, async t => {
    const redis = await Redis.start(t)
    await redis.kill()
    const child = new Child(t, program, [`--url=${redis.url}`, '--prefix=p'])
    await child.address()
    await child.line(LOST)
    child.signal('SIGTERM')
    t.same(await child.exit, { code: 0, signal: null })
    t.notMatch(child.rest, /error|unhandled/i)
  })

  t.test('with a password that we lack, or another one', async t => {
    const redis = await Redis.start(t, ['--requirepass', 'secret'])
    const lacks = await share(t, { connection: redis.url })
    t.match(await rejection(lacks.queue.enqueue(work)), { code: 'FST_BG_STORE_UNAVAILABLE', statusCode: 503, message: /cannot be reached: .*NOAUTH/ })
    t.match(await lacks.app.backgroundTasks.health(), { status: 'degraded', tasks: [{ reason: /NOAUTH/ }] })
    const wrong = await share(t, { connection: redis.url.replace('//', '//:guessed-wrong@') })
    t.match(await rejection(wrong.queue.enqueue(work)), { code: 'FST_BG_STORE_UNAVAILABLE', message: /WRONGPASS|NOAUTH/ })
    const client = createClient({ url: redis.url })
    client.on('error', () => {})
    const other = await share(t, { connection: client })
    t.match(await rejection(other.queue.enqueue(work)), { code: 'FST_BG_STORE_UNAVAILABLE', message: /NOAUTH/ })
    t.match(await other.app.backgroundTasks.health(), { status: 'degraded', tasks: [{ reason: /NOAUTH/ }] })
    const right = await share(t, { connection: redis.url.replace('//', '//:secret@') })
    await right.queue.enqueue(work)
    await right.begun
    for (const { lines } of [lacks, wrong, other, right]) t.notMatch(JSON.stringify(lines), /guessed-wrong|secret/)
    t.ok(lacks.lines.length < 20 && other.lines.length < 20, 'the log is not flooded')
  })

  t.test('that refuses to write is away as well, and its complaints do not fill the log', async t => {
    const redis = await Redis.start(t)
    const admin = new IORedis(redis.url)
    t.teardown(() => { admin.disconnect() })
    const { app, queue, lines } = await share(t, { connection: redis.url, lease: '1s' })
    await queue.enqueue(work)
    await queue.drain()
    await admin.config('SET', 'min-replicas-to-write', '1')
    t.match(await rejection(queue.enqueue(work)), { code: 'FST_BG_STORE_UNAVAILABLE', message: /NOREPLICAS/ })
    t.match(await logged(lines, 'the store reports an error', 'work'), { level: 'warn', err: { message: /NOREPLICAS/ } })
    // As long as a worker waits for a job, and is refused then.
    await sleep(7_000)
    t.equal(lines.filter(({ msg }) => msg === 'the store reports an error').length, 1)
    await admin.config('SET', 'min-replicas-to-write', '0')
    await until(async () => (await app.backgroundTasks.health()).status === 'ok')
    await queue.enqueue(work)
    await queue.drain()
    t.equal(queue.stats.succeeded, 2)
  })

  t.test('that does not let a key go: the run is not begun until it does', async t => {
    const redis = await Redis.start(t)
    const admin = new IORedis(redis.url)
    t.teardown(() => { admin.disconnect() })
    // All keys but those that begin with p:work:de:, whatever the id of the run begins with.
    await admin.call('ACL', 'SETUSER', 'limited', 'on', '>pw', '+@all', '~p:fast*', '~p:work:[^d]*', '~p:work:d[^e]*', '~p:work:de[^:]*', '&*')
    const { queue } = await share(t, { connection: redis.url, prefix: 'p' }, { autostart: false })
    const limited = await share(t, { connection: redis.url.replace('//', '//limited:pw@'), prefix: 'p', lease: '1s', maxCrashes: 1_000 })
    await queue.enqueue(work, { key: 'k', keyUntil: 'started' })
    await until(async () => (await queue.counts()).active === 1)
    await until(async () => (await queue.counts()).active === 0)
    t.equal(limited.queue.stats.active, 0)
    await admin.call('ACL', 'SETUSER', 'limited', 'allkeys')
    t.match(await limited.begun, { attempt: 1 })
    t.equal((await queue.enqueue(work, { key: 'k', keyUntil: 'started' })).duplicate, false)
  })

  const warnings = (lines: Line[]): Line[] => lines.filter(({ msg }) => msg.startsWith('Redis keeps'))
  t.test('says at the start if it keeps too little on disk', async t => {
    const of = async (settings: string[], client = false): Promise<Line[]> => {
      const redis = await Redis.start(t, settings)
      const raw = createClient({ url: redis.url, RESP: 3 })
      raw.on('error', () => {})
      const { queue, lines } = await share(t, { connection: client ? raw : redis.url })
      await queue.enqueue(work)
      await queue.drain()
      return warnings(lines)
    }
    const nothing = { level: 'warn', msg: 'Redis keeps nothing on disk: a restart loses all runs. Set "appendonly yes"' }
    const [none, snapshots, aof, unknown, other] = await Promise.all([of([]), of(['--save', '3600 1']), of(['--appendonly', 'yes']), of(['--rename-command', 'CONFIG', '']), of([], true)])
    t.match(none, [nothing])
    t.match(snapshots, [{ level: 'warn', msg: 'Redis keeps snapshots only: a crash loses the runs of the last minutes. Set "appendonly yes"' }])
    t.same(aof, [])
    t.same(unknown, [], 'one that does not tell is taken at its word')
    t.match(other, [nothing], 'by a client of the package redis, too')
  })

  t.test('goes away while a client of the package redis tells it of a success: the run is run again, and is no failure', async t => {
    const redis = await Redis.start(t)
    const client = createClient({ url: redis.url })
    client.on('error', () => {})
    const runs: Array<Run<Work>> = []
    const gate = deferred()
    const { app, queue, lines } = await share(t, { connection: client, lease: '2s' }, {}, {}, async run => {
      runs.push(run)
      if (runs.length === 1) await gate.promise
    })
    const { id } = await queue.enqueue(work)
    await until(async () => runs.length === 1)
    redis.freeze()
    gate.resolve()
    await logged(lines, 'run succeeded')
    await sleep(100)
    await redis.kill()
    await redis.start()
    await until(async () => runs.length === 2)
    await until(async () => (await app.backgroundTasks.health()).status === 'ok')
    await queue.drain()
    t.match(runs.map(({ id, attempt }) => [id, attempt]), [[id, 1], [id, 1]])
    t.match(await queue.counts(), { succeeded: 1, failed: 0 })
  })
})
