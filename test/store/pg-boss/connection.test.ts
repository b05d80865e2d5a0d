// How long a call waits for the database: of a server, and of one that this process starts.
import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import type { FastifyBaseLogger } from 'fastify'
import { install } from '@sinonjs/fake-timers'
import t, { type Test } from 'tap'
import { StoreConnection } from '../../../lib/store/pg-boss/engine/connection.ts'
import type { Database } from '../../../lib/store/pg-boss/database.ts'
import { PgBossQueue } from '../../../lib/store/pg-boss/queue.ts'
import { Supervisor } from '../../../lib/store/pg-boss/runs/index.ts'
import { jobStatements, scheduleStatements } from '../../../lib/store/pg-boss/sql/index.ts'
import { Clock } from '../../../lib/time/index.ts'
import { build as buildApp, deferred, rejection } from '../../support/helper.ts'

const silent = new Proxy({}, { get: () => () => {} }) as FastifyBaseLogger

/** A connection whose engine starts when it is told to. */
function build (t: Test, startsHere: boolean, answersIn = 0): { connection: StoreConnection, call: Promise<unknown>, tick: (ms: number) => Promise<void>, started: () => void, failed: (error: Error) => void } {
  const fake = install({ toFake: ['setTimeout', 'clearTimeout', 'Date', 'performance'] })
  t.teardown(() => { fake.uninstall() })
  let [started, failed]: [() => void, (error: Error) => void] = [() => {}, () => {}]
  const promise = new Promise<void>((resolve, reject) => { [started, failed] = [resolve, reject] })
  const database: Database = {
    startsHere,
    prepares: false,
    executeSql: async () => ({ rows: [{ n: 1, now: Date.now() }] }),
    listen: async () => async () => {},
    transaction: async work => await work(database),
    close: async () => {}
  }
  const engine = { start: async () => { await promise }, stop: async () => {} }
  const connection = new StoreConnection(database, engine as never, 'schema', 'SELECT now', new Clock(), silent)
  t.teardown(async () => { await connection.stop() })
  const call = connection.call(async db => {
    if (answersIn > 0) await new Promise(resolve => { setTimeout(resolve, answersIn) })
    return (await db.executeSql('SELECT 1')).rows.length
  }).catch((error: { code: string }) => error.code)
  return { connection, call, tick: async ms => { await fake.tickAsync(ms) }, started, failed }
}

async function isPending (promise: Promise<unknown>): Promise<boolean> {
  return await Promise.race([promise.then(() => false), Promise.resolve().then(() => {}).then(() => true)])
}

t.test('a call gives up a server within 5 s', async t => {
  const { call, tick } = build(t, false)
  await tick(4_400)
  t.ok(await isPending(call))
  await tick(200)
  t.equal(await call, 'FST_BG_STORE_UNAVAILABLE')
})

t.test('a call waits for a database that this process starts', async t => {
  const { call, tick, started } = build(t, true)
  await tick(20_000)
  t.ok(await isPending(call))
  started()
  // The proof that notifications arrive, of which this database knows nothing.
  await tick(2_000)
  t.equal(await call, 1)
})

t.test('but not for ever', async t => {
  const { call, tick } = build(t, true)
  await tick(29_900)
  t.ok(await isPending(call))
  await tick(200)
  t.equal(await call, 'FST_BG_STORE_UNAVAILABLE')
})

t.test('and not when the start has failed', async t => {
  const { call, tick, failed } = build(t, true)
  await tick(6_000)
  failed(new Error('no space left'))
  await tick(4_500)
  t.equal(await call, 'FST_BG_STORE_UNAVAILABLE')
})

t.test('a call that begins late in its wait has the time of any call', async t => {
  const { call, tick, started } = build(t, true, 3_000)
  // The proof takes 2 s, so the work begins at 8.9 s, and the second look is at 9 s.
  await tick(6_900)
  started()
  await tick(4_900)
  t.ok(await isPending(call))
  await tick(200)
  t.equal(await call, 1)
})

t.test('a queue that closes meanwhile lets nobody wait for the start', async t => {
  const { connection, call, tick } = build(t, true)
  await tick(1_000)
  connection.closing()
  await tick(3_600)
  t.equal(await call, 'FST_BG_STORE_UNAVAILABLE')
})

t.test('an application that closes lets no request wait for the start, as it waits for the request', { timeout: 30_000 }, async t => {
  const { connection, tick } = build(t, true)
  const [sql, leases, clock] = [jobStatements('schema', 'channel'), { lease: 10_000, maxCrashes: 5 }, new Clock()]
  const { app } = await buildApp(t, {
    stores: {
      default: {
        open: (options, worker) => new PgBossQueue({
          connection, sql, scheduleSql: scheduleStatements('schema', 'channel', sql), options, leases, name: options.name, worker, call: async work => await connection.call(work)
        }, new Supervisor(connection, sql, leases, clock)),
        async stop () { await connection.stop() }
      }
    }
  })
  const queue = app.addBackgroundQueue('work', () => {})
  const asked = deferred()
  let refused: Error | undefined
  app.get('/', async () => {
    asked.resolve()
    refused = await rejection(queue.enqueue('payload'))
    throw refused
  })
  const address = await app.listen({ port: 0, host: '127.0.0.1' })
  const answer = once(get(address, { agent: false }), 'response') as Promise<[IncomingMessage]>
  await asked.promise
  await tick(1_000)
  const closed = app.close()
  await tick(3_600)
  t.match(refused, { code: 'FST_BG_STORE_UNAVAILABLE' })
  // Where it waits for the start, it does so no longer.
  await tick(30_000)
  t.equal((await answer)[0].resume().statusCode, 503)
  await closed
})
