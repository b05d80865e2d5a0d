// How much of the table the server reads for a run does not depend on how many wait, whatever the server believes to know of the table.
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import pg from 'pg'
import t, { type Test } from 'tap'
import type { BackgroundQueue } from '../../../lib/index.ts'
import { pgBoss } from '../../../lib/store/pg-boss/index.ts'
import { build } from '../../support/helper.ts'
import { freshSchema, needsPostgres, Postgres } from '../../support/postgres.ts'
import { until } from '../../support/queues.ts'

const WAITING = 3_000
const RUNS = 200
/** A claim and a settlement read some forty blocks. One look through all that waits would be hundreds. */
const MOST = 120

t.test('over PostgreSQL', needsPostgres(true), async t => {
  const postgres = await Postgres.start(t)
  const client = new pg.Client({ connectionString: postgres.url })
  await client.connect()
  t.teardown(async () => { await client.end() })

  for (const concurrency of [1, 10]) {
    t.test(`the server knows a table in which nothing waits, and no run of the queue; concurrency ${concurrency}`, { timeout: 60_000 }, async t => {
      const schema = freshSchema()
      const before = await begin(t, schema, { name: 'before' })
      await enqueue(before.queue, 500)
      await before.queue.drain()
      await before.app.close()
      await client.query(`ANALYZE "${schema}".job_common`)

      await produce(t, schema)
      const read = await blocks(schema)
      const consumer = await begin(t, schema, { concurrency })
      await until(async () => consumer.runs() >= RUNS)
      await consumer.app.close()
      isFew(t, await blocks(schema) - read, consumer.runs())
    })
  }

  t.test('the process has planned its statements when the table was empty', { timeout: 60_000 }, async t => {
    const schema = freshSchema()
    const consumer = await begin(t, schema)
    // Each statement often enough for the server to keep its plan.
    for (let n = 0; n < 20; n++) await consumer.queue.enqueue(n)
    await consumer.queue.drain()
    await consumer.queue.pause()
    const open = await connections()
    await produce(t, schema)
    // A connection keeps its plans as long.
    await sleep(5_000)
    const [read, ran] = [await blocks(schema, open), consumer.runs()]
    await consumer.queue.resume()
    await until(async () => consumer.runs() >= ran + RUNS)
    await consumer.app.close()
    isFew(t, await blocks(schema) - read, consumer.runs() - ran)
  })

  interface Opened { app: FastifyInstance, queue: BackgroundQueue, runs: () => number }

  async function begin (t: Test, schema: string, { name = 'next', concurrency = 1, autostart = true } = {}): Promise<Opened> {
    const { app } = await build(t, { autostart, stores: { default: pgBoss({ connectionString: postgres.url, schema }) } })
    let runs = 0
    const queue = app.addBackgroundQueue(name, { concurrency }, () => { runs++ })
    await app.ready()
    return { app, queue, runs: () => runs }
  }

  async function enqueue (queue: BackgroundQueue, count: number): Promise<void> {
    for (let n = 0; n < count; n += 500) await queue.enqueueMany(Array.from({ length: 500 }, (_, i) => ({ payload: n + i })))
  }

  /** Enqueues what is to wait, from a process of its own. */
  async function produce (t: Test, schema: string): Promise<void> {
    const { app, queue } = await begin(t, schema, { autostart: false })
    await enqueue(queue, WAITING)
    await app.close()
  }

  function isFew (t: Test, read: number, runs: number): void {
    const each = read / runs
    t.ok(each > 10 && each < MOST, `${Math.round(each)} blocks for each of ${runs} runs`)
  }

  async function connections (): Promise<number> {
    return (await client.query("SELECT 1 FROM pg_stat_activity WHERE application_name = 'fastify-background-tasks'")).rows.length
  }

  /** Blocks of the table and its indexes that were read so far. A connection tells at its end: waits until there are no more than so many. */
  async function blocks (schema: string, open = 0): Promise<number> {
    await until(async () => await connections() <= open)
    const { rows: [row] } = await client.query(`SELECT (heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read)::int AS n FROM pg_statio_user_tables
      WHERE schemaname = $1 AND relname = 'job_common'`, [schema])
    return row.n
  }
})
