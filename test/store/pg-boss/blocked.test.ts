// An event loop that is blocked, or an answer that is late, for longer than the lease: a run that another process may have is not begun.
import { Worker } from 'node:worker_threads'
import pg from 'pg'
import t, { type Test } from 'tap'
import { pgBoss } from '../../../lib/store/pg-boss/index.ts'
import { freshSchema, needsPostgres, Postgres } from '../../support/postgres.ts'
import { Proxy } from '../../support/proxy.ts'
import { held } from '../../support/queues.ts'
import { share, type Shared, until } from '../../support/shared.ts'

const LEASE = 1_000

t.test('over PostgreSQL', needsPostgres(true), async t => {
  const postgres = await Postgres.start(t)

  for (const way of ['a run whose lease is lost on its way here', 'a run whose lease is lost while its renewal is on its way here']) {
    t.test(`${way} is not begun`, async t => {
      const schema = freshSchema()
      const proxy = await Proxy.start(t, postgres.port)
      const began: number[][] = [[], []]
      const two = held()
      const slow = await share(t, pgBoss({ connectionString: postgres.urlOf(proxy.port), schema, lease: LEASE }), {}, {}, async ({ payload }) => { began[0]?.push(payload.n) })
      const id = await claim(t, slow, proxy, schema)
      const since = async (): Promise<number | undefined> => {
        const [row] = await postgres.query(`SELECT extract(epoch FROM clock_timestamp() - heartbeat_on)::float8 * 1000 AS since FROM ${schema}.job WHERE id = $1 AND state = 'active'`, [id])
        return row?.['since'] as number | undefined
      }
      await until(async () => await since() !== undefined)
      if (way.includes('renewal')) {
        await until(async () => (await since() ?? 0) > LEASE * 0.4)
        // The claim's answer, and what the connection asks before it renews.
        await until(async () => {
          if ((await since() ?? LEASE) < LEASE * 0.3) return true
          proxy.passAnswers()
          return false
        })
      }
      const other = await share(t, pgBoss({ connectionString: postgres.url, schema, lease: LEASE }), {}, {}, async run => {
        began[1]?.push(run.payload.n)
        await two.handler.call(other.app, run)
      })
      const taken = await two.call(0)
      t.equal(taken.run.id, id, 'another process has taken it over')
      proxy.resume()
      // The other one is busy.
      await other.queue.enqueue({ n: 2, do: 'work' })
      await until(async () => began[0]?.includes(2) === true)
      t.same(began, [[2], [1]])
      t.notOk(taken.run.signal.aborted)
      two.endAll()
      await other.queue.drain()
      t.match(await other.queue.counts(), { succeeded: 2, failed: 0 })
    })
  }

  t.test('a run whose lease is lost on its way here counts a crash, once, though it was not begun: with no crash left it has failed, and stays so', { timeout: 60_000 }, async t => {
    const schema = freshSchema()
    const proxy = await Proxy.start(t, postgres.port)
    const began: number[] = []
    const slow = await share(t, pgBoss({ connectionString: postgres.urlOf(proxy.port), schema, lease: LEASE, maxCrashes: 1 }), {}, {}, ({ payload }) => { began.push(payload.n) })
    const id = await claim(t, slow, proxy, schema)
    const other = await share(t, pgBoss({ connectionString: postgres.url, schema, lease: LEASE, maxCrashes: 1 }), {}, {}, ({ payload }) => { began.push(payload.n) })
    t.match(await other.queue.finished(id), { outcome: 'failed', error: { message: /has died, or lost its lease, 1 time: it is not run again/ } })
    await other.app.close()
    proxy.resume()
    const next = await slow.queue.enqueue({ n: 2, do: 'work' })
    t.match(await slow.queue.finished(next.id), { outcome: 'succeeded' })
    t.same(began, [2])
    t.match(await slow.queue.get(id), { state: 'failed', attempt: 1 })
    const crashes = [...slow.lines, ...other.lines].filter(({ msg }) => msg.startsWith('run taken over'))
    t.match(crashes, [{ run: id, crash: 1 }])
    t.equal(crashes.length, 1)
  })

  t.test('a run is not begun whose lease was lost while the handler of another one, claimed with it, blocked the loop', async t => {
    const schema = freshSchema()
    const taken = new Int32Array(new SharedArrayBuffer(4))
    const began: number[] = []
    const store = pgBoss({ connectionString: postgres.url, schema, lease: LEASE })
    const { app, queue } = await share(t, store, { autostart: false }, { concurrency: 2 }, ({ payload }) => {
      began.push(payload.n)
      if (payload.n !== 1) return
      // What another process does to the other run meanwhile: it takes that over, and keeps it for a while.
      const thief = new Worker(`
        const { workerData: { url, schema, taken } } = require('node:worker_threads')
        const client = new (require('pg').Client)(url)
        client.connect()
          .then(() => client.query('UPDATE ' + schema + ".job SET retry_count = retry_count + 1, heartbeat_on = clock_timestamp() + interval '2 seconds' WHERE data #>> '{}' LIKE '%\\"n\\":2%'"))
          .then(({ rowCount }) => { Atomics.store(taken, 0, rowCount); Atomics.notify(taken, 0); return client.end() })
      `, { eval: true, workerData: { url: postgres.url, schema, taken } })
      thief.unref()
      Atomics.wait(taken, 0, 0, 10_000)
      const until = performance.now() + LEASE
      while (performance.now() < until);
    })
    await queue.enqueueMany([{ payload: { n: 1, do: 'work' } }, { payload: { n: 2, do: 'work' } }])
    await app.backgroundTasks.start()
    await until(async () => (await queue.counts()).succeeded === 1)
    t.equal(taken[0], 1)
    t.same(began, [1])
    await queue.drain()
    t.same(began, [1, 2], 'it is taken over when that process gives no sign of life')
    t.match(await queue.counts(), { succeeded: 2, failed: 0 })
  })

  /** Lets `slow` claim a run, of which it does not hear: no answer passes the proxy from then on. Resolves to the id of the run. */
  async function claim (t: Test, slow: Shared, proxy: Proxy, schema: string): Promise<string> {
    await slow.queue.pause()
    const { id } = await slow.queue.enqueue({ n: 1, do: 'work' })
    const lock = new pg.Client({ connectionString: postgres.url })
    await lock.connect()
    t.teardown(async () => { await lock.end() })
    await lock.query(`BEGIN; LOCK TABLE ${schema}.job`)
    await slow.queue.resume()
    await until(async () => (await postgres.query("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%claimed%'")).length > 0)
    proxy.stallAnswers()
    await lock.query('ROLLBACK')
    return id
  }
})
