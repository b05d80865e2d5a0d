// pgBoss(): what it is given, and what it refuses; and what a server may refuse.
import pg from 'pg'
import t from 'tap'
import { createRequire } from 'node:module'
import type * as PgBoss from 'pg-boss'
import { type PgBossOptions, pgBoss } from '../../../lib/store/pg-boss/index.ts'
import { isOlder } from '../../../lib/store/pg-boss/engine/packages.ts'
import { engineId, engineKey, engineName, keyOf } from '../../../lib/store/pg-boss/jobs/names.ts'
import type { Work } from '../../fixtures/durable.ts'
import { build, logged, rejection } from '../../support/helper.ts'
import { freshSchema, needsPostgres, Postgres } from '../../support/postgres.ts'
import { share, until } from '../../support/shared.ts'

const code = 'FST_BG_INVALID_OPTION'
const work: Work = { n: 1, do: 'work', ms: 0 }
const needs = needsPostgres(true)
const UUID = /^[\da-f]{8}-[\da-f]{4}-[1-8][\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/

t.test('a bad option is refused, and the password of an address is not shown', async t => {
  const connectionString = 'postgres://127.0.0.1/x'
  const bad: Array<[unknown, RegExp]> = [
    [undefined, /options must be an object/],
    [{}, /needs "connectionString".*"pool".* or "dataDir".*one of them; received none/],
    [{ connectionString, pool: new pg.Pool() }, /received "connectionString" and "pool"/],
    [{ connectionString: 5 }, /option "connectionString" must be an address/],
    [{ connectionString: 'mysql://me:secret@127.0.0.1' }, /option "connectionString" must be an address such as 'postgres:.*received 'mysql:\/\/me:…@127/],
    [{ pool: {} }, /option "pool" must be a pool of the package pg/],
    [{ pool: new pg.Client() }, /option "pool" must be a pool/],
    [{ connectionString, schema: 'A' }, /option "schema"/],
    [{ connectionString, schema: '1a' }, /option "schema"/],
    [{ connectionString, schema: 'x'.repeat(51) }, /option "schema"/],
    [{ connectionString, schema: '"; DROP TABLE x' }, /option "schema"/],
    [{ connectionString, lease: 999 }, /option "lease" must be a duration of 1 s or more/],
    [{ connectionString, maxCrashes: 0 }, /option "maxCrashes"/],
    [{ connectionString, prefix: 'x' }, /unknown option "prefix"/],
    [{ connectonString: 'x' }, /Did you mean "connectionString"/]
  ]
  for (const [options, message] of bad) {
    t.throws(() => pgBoss(options as PgBossOptions), { code, message })
    t.notMatch(await rejection(async () => { pgBoss(options as PgBossOptions) }), { message: /secret@/ })
  }
})

t.test('a Node below the floor of pg-boss is refused, and the error says which is needed', async t => {
  const { node } = process.versions
  t.teardown(() => { Object.defineProperty(process.versions, 'node', { value: node, configurable: true }) })
  Object.defineProperty(process.versions, 'node', { value: '20.19.0', configurable: true })
  t.throws(() => pgBoss({ connectionString: 'postgres://127.0.0.1/x' }), { code, message: /needs Node \d+\.\d+\.\d+ or later, as pg-boss does; this is Node 20\.19\.0/ })
  t.equal(isOlder('22.11.9', '22.12.0'), true)
  t.equal(isOlder('22.12.0', '22.12.0'), false)
  t.equal(isOlder('24.0.0', '22.12'), false)
  t.equal(isOlder('9.99.0', '22.12.0'), true)
})

t.test('names, keys and ids are encoded so that no two are the same', async t => {
  const names = ['emails', 'a.b-c_d/e', 'a:b', 'ä', 'fbt-YTpi', '__pgboss__x', 'x'.repeat(300), 'x'.repeat(301), '', ' ', '🦊', 'a\u0000b']
  const encoded = names.map(engineName)
  t.ok(encoded.every(name => /^[\w.\-/]{1,200}$/.test(name)))
  t.equal(new Set(encoded).size, names.length)
  t.same(encoded.slice(0, 2), names.slice(0, 2))
  const keys = ['k', '', 'a"b', 'a\u0000', '\ud800', '\ufffd', 'x'.repeat(10_000), 'x'.repeat(10_001), 'order:5', '🦊'.repeat(20)]
  t.equal(new Set(keys.map(engineKey)).size, keys.length)
  t.ok(keys.map(engineKey).every(key => Buffer.byteLength(key) < 1_000 && !key.includes('\u0000')))
  for (const key of keys.filter(key => key.length < 500)) t.equal(keyOf(engineKey(key)), key)
  t.match(engineId('nightly-1700000000000'), UUID)
  t.not(engineId('a-1'), engineId('a-2'))
})

t.test('with a server', needs, async t => {
  const postgres = await Postgres.start(t)
  const url = postgres.url

  t.test('any name of a queue, any key and any text are kept', async t => {
    const schema = freshSchema()
    const seen: unknown[] = []
    const { app } = await build(t, { stores: { default: pgBoss({ connectionString: url, schema }) } })
    const name = 'a: "ü\u0000🦊 \' ; --'
    const queue = app.addBackgroundQueue(name, ({ payload }) => { seen.push(payload) })
    await app.ready()
    const payload = { b: '\u0000\ud800', a: [1e308, -0, '\\u0000'], 'k\u0000': null }
    await queue.pause()
    const key = 'key \u0000 \ud800 "\' ' + 'x'.repeat(3_000)
    const { id } = await queue.enqueue(payload, { key, reqId: 'req\u0000' })
    t.match(await queue.get(id), { key, reqId: 'req\u0000', payload: JSON.parse(JSON.stringify(payload)) as object })
    t.same(await queue.enqueue(1, { key }), { id, duplicate: true })
    await queue.resume()
    await queue.drain()
    t.equal(JSON.stringify(seen[0]), JSON.stringify(payload), 'in the order of their keys')
  })

  t.test('the application\'s pool is used and not closed, whatever its size', async t => {
    for (const max of [1, 3]) {
      const pool = new pg.Pool({ connectionString: url, max })
      const { app, queue } = await share(t, pgBoss({ pool, schema: freshSchema() }), {}, { concurrency: 5, rate: { limit: 100, per: 1_000 } })
      await queue.enqueueMany(Array.from({ length: 20 }, () => ({ payload: work })))
      await queue.drain()
      t.equal(queue.stats.succeeded, 20)
      t.ok(pool.totalCount <= max)
      await app.close()
      t.equal(pool.ended, false)
      t.same((await pool.query('SELECT 1 AS one')).rows, [{ one: 1 }])
      await pool.end()
    }
  })

  t.test('a role that may not create the schema is told what an administrator has to run, and it works once that is done', async t => {
    const schema = freshSchema()
    await postgres.query('CREATE ROLE app LOGIN')
    const { queue, lines } = await share(t, pgBoss({ connectionString: url.replace('//postgres@', '//app@'), schema }))
    t.match(await rejection(queue.enqueue(work)), { code: 'FST_BG_STORE_UNAVAILABLE', message: new RegExp(`permission denied.*Run this as an administrator.*CREATE SCHEMA IF NOT EXISTS "${schema}"; GRANT USAGE, CREATE ON SCHEMA "${schema}" TO app`) })
    t.match(await logged(lines, 'the store cannot be reached: it is tried again'), { err: { message: /CREATE SCHEMA/ } })
    await postgres.query(`CREATE SCHEMA IF NOT EXISTS "${schema}"; GRANT USAGE, CREATE ON SCHEMA "${schema}" TO app`)
    await until(async () => await queue.enqueue(work).then(() => true, () => false))
    await queue.drain()
    t.equal(queue.stats.succeeded, 1)
  })

  t.test('a role that may not change the tables, which are there, needs no more than that', async t => {
    const schema = freshSchema()
    const first = await share(t, pgBoss({ connectionString: url, schema }), { autostart: false })
    await first.queue.enqueue(work)
    await postgres.query(`CREATE ROLE lesser LOGIN; GRANT USAGE ON SCHEMA "${schema}" TO lesser; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "${schema}" TO lesser`)
    const { queue } = await share(t, pgBoss({ connectionString: url.replace('//postgres@', '//lesser@'), schema }))
    await queue.drain()
    t.equal(queue.stats.succeeded, 1)
  })

  t.test('tables of a newer version are refused, and left as they are', async t => {
    for (const [table, message] of [['version', /the tables of pg-boss in schema .* have version 9999, and the installed pg-boss knows version \d+\. Run: npm install pg-boss@latest/], ['fbt_version', /the tables of fastify-background-tasks .* have version 9999, and this process knows version 1/]] as const) {
      const schema = freshSchema()
      const first = await share(t, pgBoss({ connectionString: url, schema }), { autostart: false })
      await first.queue.enqueue(work)
      await first.app.close()
      await postgres.query(`UPDATE "${schema}".${table} SET version = 9999`)
      const { app, queue } = await share(t, pgBoss({ connectionString: url, schema }))
      t.match(await rejection(queue.enqueue(work)), { code: 'FST_BG_STORE_UNAVAILABLE', message })
      t.match(await app.backgroundTasks.health(), { status: 'degraded', tasks: [{ reason: message }] })
      await app.close()
    }
  })

  t.test('a PostgreSQL that is too old is refused', async t => {
    const pool = new pg.Pool({ connectionString: url })
    t.teardown(async () => { await pool.end() })
    // There is none at hand: this one says that it is.
    const old = Object.create(pool, {
      connect: {
        value: async () => {
          const client = await pool.connect()
          return Object.create(client, {
            query: { value: async (text: string, values: unknown[]) => text.includes('server_version_num') ? { rows: [{ version: 120_020, text: '12.20' }] } : await client.query(text, values) },
            release: { value: (error?: Error) => { client.release(error) } }
          }) as pg.PoolClient
        }
      }
    }) as pg.Pool
    const { queue } = await share(t, pgBoss({ pool: old, schema: freshSchema() }))
    t.match(await rejection(queue.enqueue(work)), { code: 'FST_BG_STORE_UNAVAILABLE', message: /pg-boss needs PostgreSQL 13 or later, and this is 12\.20/ })
  })

  t.test('ten applications that start at once make the tables together', async t => {
    const schema = freshSchema()
    const all = await Promise.all(Array.from({ length: 10 }, async () => await share(t, pgBoss({ connectionString: url, schema }))))
    await Promise.all(all.map(async ({ queue }) => await queue.enqueue(work)))
    await all[0]?.queue.drain()
    t.equal(all.reduce((sum, { queue }) => sum + queue.stats.succeeded, 0), 10)
    t.same(all.flatMap(({ lines }) => lines.filter(({ level }) => level === 'error' || level === 'warn')), [])
  })

  t.test('a job of another producer, by pg-boss itself, is run at once; what cannot be read fails alone', async t => {
    const schema = freshSchema()
    const seen: unknown[] = []
    const { queue } = await share(t, pgBoss({ connectionString: url, schema }), {}, {}, ({ payload }) => { seen.push(payload) })
    await queue.enqueue(work)
    await queue.drain()
    const { PgBoss: Boss } = createRequire(import.meta.url)('pg-boss') as typeof PgBoss
    const boss = new Boss({ connectionString: url, schema, supervise: false, schedule: false })
    await boss.start()
    t.teardown(async () => { await boss.stop() })
    const at = Date.now()
    const id = await boss.send('work', { v: 1, payload: { n: 7 }, reqId: 'r' }, { priority: -3 })
    await until(async () => seen.length === 2)
    t.ok(Date.now() - at < 2_000, 'its notification is heard')
    await queue.drain()
    t.match(await queue.get(id as string), { state: 'succeeded', payload: { n: 7 }, reqId: 'r', priority: 3 })
    const bad = await Promise.all([{ n: 1 }, { v: 99, payload: 1 }, { v: 1, payload: 1, retry: 'often' }].map(async data => await boss.send('work', data)))
    await queue.drain()
    t.equal(seen.length, 2)
    for (const one of bad) t.match(await queue.get(one as string), { state: 'failed', error: { code: 'FST_BG_INVALID_PAYLOAD' } })
  })
})
