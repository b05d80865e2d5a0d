// The next run is claimed while the database records the end of the one before, and begins after that.
import t, { type Test } from 'tap'
import { channelOf } from '../../../lib/store/pg-boss/engine/index.ts'
import { pgBoss } from '../../../lib/store/pg-boss/index.ts'
import { jobStatements } from '../../../lib/store/pg-boss/sql/index.ts'
import { Gate } from '../../support/gate.ts'
import { deferred, later } from '../../support/helper.ts'
import { freshSchema, needsPostgres, Postgres } from '../../support/postgres.ts'
import { share, type Shared, until } from '../../support/shared.ts'

t.test('over PostgreSQL', needsPostgres(true), async t => {
  const postgres = await Postgres.start(t)

  t.test('it begins when the end is recorded, and not before', async t => {
    const { gate, queue, begun } = await claimed(t)
    t.same(begun, [1])
    gate.open()
    await queue.drain()
    t.same(begun, [1, 2])
  })

  t.test('it does not begin when the queue was paused meanwhile', async t => {
    const { gate, queue, begun } = await claimed(t)
    await queue.pause()
    gate.open()
    await until(async () => (await queue.counts()).active === 0)
    t.match(await queue.counts(), { waiting: 1, succeeded: 1 })
    t.same(begun, [1])
    await queue.resume()
    await queue.drain()
    t.same(begun, [1, 2])
  })

  t.test('it goes back when the application closes meanwhile', async t => {
    const { gate, app, begun, schema } = await claimed(t)
    const closed = app.close()
    await later()
    gate.open()
    await closed
    t.same(begun, [1])
    t.match(await postgres.query(`SELECT state::text, output FROM "${schema}".job ORDER BY created_on`), [{ state: 'completed' }, { state: 'retry', output: {} }])
  })

  t.test('a run that is retried at once comes before it', async t => {
    const schema = freshSchema()
    const gate = new Gate(jobStatements(schema, channelOf(schema)).settle)
    const begun: number[] = []
    const { queue } = await share(t, pgBoss({ pool: gate.pool(t, postgres.url), schema }), {}, { concurrency: 1, retry: { limit: 1, delay: 0, jitter: false } }, ({ payload, attempt }) => {
      begun.push(payload.n)
      if (payload.n === 1 && attempt === 1) throw new Error('no')
    })
    await queue.pause()
    for (const n of [1, 2, 3]) await queue.enqueue({ n, do: 'work' })
    gate.close()
    await queue.resume()
    await gate.held()
    for (let n = 0; n < 10; n++) t.match(await queue.counts(), { active: 0 })
    gate.open()
    await queue.drain()
    t.same(begun, [1, 1, 2, 3])
  })

  t.test('an answer that does not come makes room once', { timeout: 60_000 }, async t => {
    const second = deferred()
    const { gate, queue, begun } = await claimed(t, 3, async n => { if (n === 2) await second.promise })
    // After five seconds the process waits for it no longer.
    await until(async () => begun.length === 2)
    for (let n = 0; n < 10; n++) t.match(await queue.counts(), { waiting: 1, active: 1, succeeded: 1 })
    second.resolve()
    gate.open()
    await queue.drain()
    t.same(begun, [1, 2, 3])
  })

  /** A queue that runs one run at a time: the first has ended, which the database has recorded, but its answer is held. The second is claimed. */
  async function claimed (t: Test, count = 2, work: (n: number) => unknown = later): Promise<Omit<Shared, 'begun'> & { gate: Gate, begun: number[], schema: string }> {
    const schema = freshSchema()
    const gate = new Gate(jobStatements(schema, channelOf(schema)).settle)
    const begun: number[] = []
    let active = 0
    const shared = await share(t, pgBoss({ pool: gate.pool(t, postgres.url), schema }), {}, { concurrency: 1 }, async ({ payload }) => {
      t.equal(++active, 1)
      begun.push(payload.n)
      await work(payload.n)
      active--
    })
    await shared.queue.pause()
    for (let n = 1; n <= count; n++) await shared.queue.enqueue({ n, do: 'work' })
    gate.close()
    await shared.queue.resume()
    await gate.held()
    await until(async () => (await postgres.query(`SELECT FROM "${schema}".job WHERE state = 'active'`)).length === 1)
    return { ...shared, gate, begun, schema }
  }
})
