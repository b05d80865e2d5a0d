// A PostgreSQL that is away, restarts, hangs, forgets connections, or fails over: each test has a server of its own.
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import t from 'tap'
import { type PgBossOptions, pgBoss } from '../../../lib/store/pg-boss/index.ts'
import type { Run } from '../../../lib/index.ts'
import { ServerDatabase } from '../../../lib/store/pg-boss/server/index.ts'
import { Clock } from '../../../lib/time/index.ts'
import type { Work } from '../../fixtures/durable.ts'
import { built, Child, noSignals } from '../../support/child.ts'
import { aborted, deferred, rejection } from '../../support/helper.ts'
import { needsPostgres, Postgres } from '../../support/postgres.ts'
import { Proxy } from '../../support/proxy.ts'
import { share, until } from '../../support/shared.ts'

const work: Work = { n: 1, do: 'work', ms: 0 }
const LOST = 'the store cannot be reached: it is tried again'
const BACK = 'the store can be reached again'
const store = (connectionString: string, options: PgBossOptions = {}) => pgBoss({ connectionString, ...options })

t.test('PostgreSQL', needsPostgres(true), async t => {
  t.test('away at the start: the app is ready, says so, refuses in time, and works once the server is there', async t => {
    const postgres = await Postgres.start(t)
    await postgres.kill()
    const { app, queue, begun, lines } = await share(t, store(postgres.url))
    await until(async () => lines.some(({ msg }) => msg === LOST))
    t.match(await app.backgroundTasks.health(), { status: 'degraded', tasks: [{ name: 'work', state: 'running', reason: /^the store cannot be reached: .*ECONNREFUSED/ }] })
    const at = Date.now()
    const error = rejection(queue.enqueue(work))
    await Promise.all(['counts', 'pause', 'drain', 'retryFailed'].map(async method => {
      t.match(await rejection((queue as unknown as Record<string, () => Promise<void>>)[method]?.() as Promise<void>), { code: 'FST_BG_STORE_UNAVAILABLE' }, method)
    }))
    t.match(await error, { code: 'FST_BG_STORE_UNAVAILABLE', statusCode: 503, message: /^The store of background runs cannot be reached: .*ECONNREFUSED.*It reconnects by itself/ })
    t.ok(Date.now() - at < 5_500, `it took ${Date.now() - at} ms`)

    // One that is asked just before: it waits for the connection.
    const patient = queue.enqueue(work)
    await postgres.start()
    const { id } = await patient
    t.equal((await begun).id, id)
    await queue.drain()
    t.match(await queue.counts(), { succeeded: 1, failed: 0 }, 'what was refused is not run')
    t.match(await app.backgroundTasks.health(), { status: 'ok' })
    t.match(lines.filter(({ msg }) => msg === LOST || msg === BACK), [{ level: 'error', msg: LOST, err: { message: /ECONNREFUSED/ } }, { level: 'info', msg: BACK }], 'said once, and not at each try')
  })

  t.test('killed in the middle, and back after ten seconds: nothing that was accepted is lost', async t => {
    const postgres = await Postgres.start(t)
    const done: number[] = []
    const held = deferred<Run<Work>>()
    const { app, queue, lines } = await share(t, store(postgres.url, { lease: '2s' }), {}, { concurrency: 5 }, async run => {
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
    await postgres.kill()
    const at = Date.now()
    t.match(await rejection(queue.enqueue(work)), { code: 'FST_BG_STORE_UNAVAILABLE' })
    t.ok(Date.now() - at < 5_500)
    t.equal((await aborted(signal)).code, 'FST_BG_CANCELLED', 'its lease has run out: another process may have it')
    t.match(await app.backgroundTasks.health(), { status: 'degraded' })
    await sleep(10_000 - (Date.now() - at))
    const before = done.length
    await postgres.start()
    await until(async () => done.length > before + 20)
    over.abort()
    await feeding
    await queue.drain()
    t.same(accepted.filter(n => !done.includes(n)), [])
    t.match(await queue.counts(), { waiting: 0, active: 0, failed: 0 })
    t.match(await app.backgroundTasks.health(), { status: 'ok' })
    t.match(lines.map(({ msg }) => msg).filter(msg => msg === LOST || msg === BACK), [LOST, BACK])
    t.same(lines.filter(({ level, msg }) => level === 'error' && msg !== LOST), [])
  })

  t.test('restarts: a run that ends meanwhile is recorded when it is back, and does not run again', async t => {
    const postgres = await Postgres.start(t)
    const gate = deferred()
    let runs = 0
    const { queue, begun } = await share(t, store(postgres.url), {}, {}, async () => {
      runs++
      await gate.promise
      return 'made'
    })
    const { id } = await queue.enqueue(work)
    await begun
    await postgres.stop()
    gate.resolve()
    await sleep(300)
    await postgres.start()
    t.match(await queue.finished(id), { outcome: 'succeeded', value: 'made' })
    t.equal(runs, 1)
  })

  t.test('connections are cut again and again: what was accepted is run', async t => {
    const postgres = await Postgres.start(t)
    const proxy = await Proxy.start(t, postgres.port)
    const done = new Set<number>()
    const { queue } = await share(t, store(postgres.urlOf(proxy.port), { lease: '1s' }), {}, { concurrency: 5 }, async ({ payload }) => { done.add(payload.n) })
    const accepted: number[] = []
    for (let n = 0; n < 200; n++) {
      await queue.enqueue({ ...work, n }).then(() => { accepted.push(n) }, () => {})
      if (n % 20 === 10) proxy.cut()
    }
    t.ok(accepted.length > 190, `${accepted.length} were accepted`)
    await until(async () => accepted.every(n => done.has(n)))
    await queue.drain()
    t.match(await queue.counts(), { waiting: 0, active: 0, failed: 0 })
  })

  t.test('a connection is half-open: calls end in time, and within 15 s all goes on, without options', async t => {
    const postgres = await Postgres.start(t)
    const proxy = await Proxy.start(t, postgres.port)
    const done: number[] = []
    const { app, queue } = await share(t, store(postgres.urlOf(proxy.port)), {}, {}, async ({ payload }) => { done.push(payload.n) })
    const elsewhere = await share(t, store(postgres.url), { autostart: false })
    // Several connections of the pool, so that several are dead.
    await Promise.all(Array.from({ length: 10 }, async () => await queue.enqueue({ ...work, n: 1 })))
    await queue.drain()
    proxy.drop()
    const at = Date.now()
    await elsewhere.queue.enqueue({ ...work, n: 2 })
    await until(async () => done.includes(2))
    t.ok(Date.now() - at < 15_000, `it took ${Date.now() - at} ms`)
    const before = Date.now()
    await queue.enqueue({ ...work, n: 3 }).catch(() => {})
    t.ok(Date.now() - before < 5_500)
    await until(async () => (await app.backgroundTasks.health()).status === 'ok')
    await queue.enqueue({ ...work, n: 4 })
    await until(async () => done.includes(4))
    t.ok(Date.now() - at < 20_000)
  })

  t.test('hangs: calls end in time, health says so, and both mend by themselves', async t => {
    const postgres = await Postgres.start(t)
    const proxy = await Proxy.start(t, postgres.port)
    const { app, queue } = await share(t, store(postgres.urlOf(proxy.port)))
    await queue.enqueue(work)
    await queue.drain()
    proxy.stall()
    const at = Date.now()
    t.match(await rejection(queue.enqueue(work)), { code: 'FST_BG_STORE_UNAVAILABLE' })
    t.ok(Date.now() - at < 5_500)
    t.match(await app.backgroundTasks.health(), { status: 'degraded' })
    proxy.resume()
    // Nobody asks it for anything.
    await until(async () => (await app.backgroundTasks.health()).status === 'ok')
    await queue.enqueue(work)
    await queue.drain()
    t.match(await queue.counts(), { waiting: 0, active: 0, failed: 0 })
  })

  t.test('fails over to another server, while the first refuses to write: it goes where the address leads', async t => {
    const [first, second] = [await Postgres.start(t), await Postgres.start(t)]
    const proxy = await Proxy.start(t, first.port)
    const { queue } = await share(t, store(first.urlOf(proxy.port)))
    await queue.enqueue(work)
    await queue.drain()
    // What a standby says to those who write.
    await first.query('ALTER DATABASE postgres SET default_transaction_read_only = on')
    await first.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = \'client backend\'')
    await sleep(500)
    proxy.redirect(second.port)
    const at = Date.now()
    await until(async () => await queue.enqueue(work).then(() => true, () => false))
    t.ok(Date.now() - at < 15_000)
    await queue.drain()
    t.match(await queue.counts(), { waiting: 0, active: 0, succeeded: 1 })
  })

  t.test('somebody removes the tables: they are made anew, and the queue goes on', async t => {
    const postgres = await Postgres.start(t)
    const { queue } = await share(t, store(postgres.url))
    await queue.enqueue(work)
    await queue.drain()
    await postgres.query('DROP SCHEMA pgboss CASCADE')
    await queue.enqueue(work)
    await queue.drain()
    t.match(await queue.counts(), { waiting: 0, succeeded: 1 })
  })

  for (const end of ['is killed', 'hangs']) {
    t.test(`${end} for good: close ends in time, with a run in hand`, async t => {
      const postgres = await Postgres.start(t)
      const proxy = await Proxy.start(t, postgres.port)
      const { app, queue, begun, lines } = await share(t, store(postgres.urlOf(proxy.port)), { shutdownTimeout: '3s' }, { grace: 0 }, async ({ signal }) => {
        await aborted(signal)
        throw signal.reason
      })
      await queue.enqueue(work)
      await begun
      if (end === 'hangs') proxy.stall()
      else await postgres.kill()
      const at = Date.now()
      await app.close()
      t.ok(Date.now() - at < 6_000, `it took ${Date.now() - at} ms`)
      t.match(await rejection(queue.counts()), { code: 'FST_BG_STORE_UNAVAILABLE' })
      t.same(lines.filter(({ msg }) => msg === 'run failed'), [])
    })
  }

  for (const end of ['is killed', 'hangs']) {
    t.test(`${end} for good: a process ends by itself when it is told to`, { skip: noSignals }, async t => {
      const postgres = await Postgres.start(t)
      const proxy = await Proxy.start(t, postgres.port)
      const { queue } = await share(t, store(postgres.url, { schema: 'p' }), { autostart: false })
      await queue.enqueue({ n: 1, do: 'hold' })
      const child = new Child(t, built('durable'), [`--url=${postgres.urlOf(proxy.port)}`, '--prefix=p'])
      await child.line('begins')
      if (end === 'hangs') proxy.stall()
      else await postgres.kill()
      await sleep(1_000)
      child.signal('SIGTERM')
      t.same(await child.exit, { code: 0, signal: null })
      const exited = Date.now()
      const [closing, closed] = [await child.line('closing'), await child.line('closed')]
      t.ok(Number(closed.time) - Number(closing.time) < 5_500, `it took ${Number(closed.time) - Number(closing.time)} ms`)
      t.ok(exited - Number(closed.time) < 4_000, `it stayed up for ${exited - Number(closed.time)} ms`)
      t.notMatch(child.rest, /error|unhandled/i)
    })
  }

  t.test('a transaction of the store ends on the server after seconds of silence: a machine that vanishes would else hold its locks for hours', async t => {
    const postgres = await Postgres.start(t)
    const database = new ServerDatabase(new pg.Pool({ connectionString: postgres.url }), true, new Clock())
    t.teardown(async () => { await database.close() })
    const { rows } = await database.transaction(async tx => await tx.executeSql('SHOW idle_in_transaction_session_timeout', []))
    t.same(rows, [{ idle_in_transaction_session_timeout: '4s' }])
  })
})
