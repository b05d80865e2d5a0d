// Runs that are enqueued in a transaction of the application's: what is rolled back was never enqueued.
import Fastify from 'fastify'
import knex from 'knex'
import { Kysely, PostgresDialect, sql } from 'kysely'
import pg from 'pg'
import { createRequire } from 'node:module'
import type * as PgBoss from 'pg-boss'
import t, { type Test } from 'tap'
import backgroundTasks, { type BackgroundQueue, type Transaction } from '../../../lib/index.ts'
import { pgBoss } from '../../../lib/store/pg-boss/index.ts'
import { rejection } from '../../support/helper.ts'
import { held } from '../../support/queues.ts'
import { freshSchema, needsPostgres, postgresUrl } from '../../support/postgres.ts'

t.test('over PostgreSQL', needsPostgres(), async t => {
  const connectionString = await postgresUrl(t)
  // Not with `import`: an older Node than pg-boss needs does not reach this.
  const { fromKnex, fromKysely } = createRequire(import.meta.url)('pg-boss') as typeof PgBoss
  const pool = new pg.Pool({ connectionString, max: 5 })
  t.teardown(async () => { await pool.end() })
  await pool.query('CREATE TABLE IF NOT EXISTS orders (id int PRIMARY KEY)')
  let orders = Date.now() % 1_000_000_000

  /** Runs `work` in a transaction, which commits or rolls back. `add` adds an order in it. */
  type Begin = (work: (tx: Transaction, add: (id: number) => Promise<unknown>) => Promise<void>) => Promise<unknown>
  const ways: Record<string, (t: Test) => Begin> = {
    'a client of pg': () => async work => {
      const client = await pool.connect()
      try {
        await client.query('BEGIN')
        await work(client, async id => await client.query('INSERT INTO orders VALUES ($1)', [id]))
        await client.query('COMMIT')
      } catch (error) {
        await client.query('ROLLBACK')
        throw error
      } finally {
        client.release()
      }
    },
    'anything with query()': () => async work => {
      const client = await pool.connect()
      try {
        await client.query('BEGIN')
        const query = async (text: string, values?: unknown[]): Promise<{ rows: unknown[] }> => await client.query(text, values)
        await work({ query }, async id => await query('INSERT INTO orders VALUES ($1)', [id]))
        await client.query('COMMIT')
      } catch (error) {
        await client.query('ROLLBACK')
        throw error
      } finally {
        client.release()
      }
    },
    knex: t => {
      const db = knex({ client: 'pg', connection: connectionString, pool: { min: 0, max: 2 } })
      t.teardown(async () => { await db.destroy() })
      return async work => { await db.transaction(async trx => { await work(fromKnex(trx), async id => { await trx('orders').insert({ id }) }) }) }
    },
    kysely: t => {
      const db = new Kysely<{ orders: { id: number } }>({ dialect: new PostgresDialect({ pool: new pg.Pool({ connectionString, max: 2 }) }) })
      t.teardown(async () => { await db.destroy() })
      return async work => { await db.transaction().execute(async trx => { await work(fromKysely(trx), async id => { await sql`INSERT INTO orders VALUES (${id})`.execute(trx) }) }) }
    }
  }

  for (const [name, way] of Object.entries(ways)) {
    t.test(`${name}: a run begins after the commit, and never after a rollback`, async t => {
      const hand = held()
      const queue = await open(t, hand.handler)
      const begin = way(t)
      const order = ++orders
      let id = ''
      await begin(async (tx, add) => {
        await add(order)
        id = (await queue.enqueue({ order }, { tx, key: `order:${order}`, reqId: 'r' })).id
        const many = await queue.enqueueMany([{ payload: 1, key: `order:${order}` }, { payload: 2 }, { payload: 3, priority: 9 }], { tx })
        t.match(many, [{ id, duplicate: true }, { duplicate: false }, { duplicate: false }])
        t.equal(await queue.get(id), undefined, 'nobody else sees it yet')
        t.match(await queue.counts(), { waiting: 0, active: 0 })
        t.same(hand.calls, [])
      })
      t.match(await hand.call(0), { payload: { order }, run: { id } })
      hand.endAll()
      await queue.drain()
      t.same(hand.calls.map(({ payload }) => payload), [{ order }, 2, 3])

      const failure = new Error('the order is bad')
      t.equal(await rejection(begin(async (tx, add) => {
        await add(++orders)
        await queue.enqueue('never', { tx, key: 'never' })
        await queue.enqueueMany([{ payload: 'never' }], { tx })
        throw failure
      })), failure)
      t.equal((await queue.enqueue('after', { key: 'never', delay: '1h' })).duplicate, false, 'the key is free')
      await queue.clear('delayed')
      t.match(await queue.counts(), { waiting: 0, delayed: 0, active: 0 })
      t.equal(hand.calls.length, 3)
    })
  }

  t.test('what is no open transaction is refused, and nothing is enqueued', async t => {
    const queue = await open(t, () => {})
    await queue.pause()
    const client = await pool.connect()
    t.teardown(() => { client.release() })
    const refused = { code: 'FST_BG_INVALID_OPTION', message: /option "tx" is in no transaction, or its transaction is over/ }
    t.match(await rejection(queue.enqueue(1, { tx: client })), refused)
    t.match(await rejection(queue.enqueue(1, { tx: pool, key: 'k' })), refused, 'a pool takes another client for each statement')
    await client.query('BEGIN')
    await queue.enqueue('in time', { tx: client })
    await client.query('COMMIT')
    t.match(await rejection(queue.enqueueMany([{ payload: 1 }, { payload: 2, key: 'k' }], { tx: client })), refused, 'one that is over')
    t.match(await queue.counts(), { waiting: 1, delayed: 0, active: 0 })
    t.equal((await queue.enqueue(1, { key: 'k', delay: '1h' })).duplicate, false)

    await client.query('BEGIN')
    await client.query('SELECT 1 / 0').catch(() => {})
    t.match(await rejection(queue.enqueue(1, { tx: client })), { code: '25P02' }, 'what PostgreSQL says of an aborted one is passed on')
    await client.query('ROLLBACK')

    const db = knex({ client: 'pg', connection: connectionString, pool: { min: 0, max: 1 } })
    t.teardown(async () => { await db.destroy() })
    const trx = await db.transaction()
    await trx.commit()
    t.ok(await rejection(queue.enqueue(1, { tx: fromKnex(trx) })), 'knex refuses one that is over by itself')
    for (const tx of [5, 'tx', {}, null, { execute: () => {} }]) t.match(await rejection(queue.enqueue(1, { tx: tx as never })), { code: 'FST_BG_INVALID_OPTION', message: /option "tx" must be/ })
    t.match(await rejection(queue.enqueueMany([{ payload: 1, tx: client } as never])), { code: 'FST_BG_INVALID_OPTION', index: 0, message: /option "tx" belongs to the whole call/ })
    t.match(await queue.counts(), { waiting: 1, delayed: 1, active: 0 })
  })

  t.test('a transaction on a database without the tables is refused', async t => {
    const queue = await open(t, () => {})
    const tx: Transaction = { query: async () => { throw Object.assign(new Error('relation "x.fbt_key" does not exist'), { code: '42P01' }) } }
    t.match(await rejection(queue.enqueue(1, { tx })), { code: 'FST_BG_INVALID_OPTION', message: /a database without the tables of this store/ })
  })

  t.test('any other store refuses a transaction', async t => {
    const app = Fastify()
    t.teardown(async () => { await app.close() })
    await app.register(backgroundTasks)
    const queue = app.addBackgroundQueue('memory', () => {})
    t.match(await rejection(queue.enqueue(1, { tx: pool })), { code: 'FST_BG_INVALID_OPTION', message: /option "tx" needs a store of pgBoss\(\)/ })
    t.match(await rejection(queue.enqueueMany([{ payload: 1 }], { tx: pool })), { code: 'FST_BG_INVALID_OPTION', message: /option "tx" needs a store of pgBoss\(\)/ })
  })

  async function open (t: Test, handler: (run: never) => unknown): Promise<BackgroundQueue> {
    const app = Fastify()
    t.teardown(async () => { await app.close() })
    await app.register(backgroundTasks, { stores: { default: pgBoss({ pool, schema: freshSchema() }) } })
    const queue = app.addBackgroundQueue('orders', handler as () => unknown) as BackgroundQueue
    await app.ready()
    return queue
  }
})
