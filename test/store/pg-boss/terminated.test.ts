// Backends that an administrator terminates: runs and messages go on, and nothing reaches the process as an error that nobody handles.
import pg from 'pg'
import t, { type Test } from 'tap'
import { pgBoss, type PgBossOptions } from '../../../lib/store/pg-boss/index.ts'
import { ownPool, ServerDatabase } from '../../../lib/store/pg-boss/server/index.ts'
import { Clock } from '../../../lib/time/index.ts'
import { aborted, rejection, unhandled } from '../../support/helper.ts'
import { freshSchema, needsPostgres, Postgres } from '../../support/postgres.ts'
import { Proxy } from '../../support/proxy.ts'
import { held } from '../../support/queues.ts'
import { share, until } from '../../support/shared.ts'

/** What does not go on would be waited for as long. */
const timeout = 30_000
/** What the store calls its connections. */
const NAME = 'fastify-background-tasks'
/** Nobody renews it while a test runs: a process hears of a cancel by a message, or not at all. */
const lease = '1h'

t.test('over PostgreSQL', needsPostgres(true), async t => {
  const postgres = await Postgres.start(t)

  // The application listens to the errors of its own pool, as `pg` demands, and not to those of a connection that the store has.
  const ways: Record<string, (t: Test, connectionString: string) => PgBossOptions> = {
    'a pool of the store': (_t, connectionString) => ({ connectionString }),
    'the pool of the application': (t, connectionString) => {
      const pool = new pg.Pool({ connectionString, application_name: NAME }).on('error', () => {})
      t.teardown(async () => { await pool.end() })
      return { pool }
    }
  }
  for (const [way, optionsIn] of Object.entries(ways)) {
    t.test(`${way}: idle connections, and the one that listens`, { timeout }, async t => {
      const seen = unhandled(t)
      const options = { ...optionsIn(t, postgres.url), schema: freshSchema(), lease }
      const hand = held()
      const { queue } = await share(t, pgBoss(options), {}, {}, hand.handler as never)
      const { id } = await queue.enqueue({ n: 1, do: 'hold' })
      const { run } = await hand.call(0)
      await until(async () => await isThere("query LIKE 'LISTEN%'"))
      t.ok(await terminate("state = 'idle'") > 1)
      const elsewhere = await share(t, pgBoss({ ...options, connectionString: postgres.url, pool: undefined }), { autostart: false })
      const cancelled = elsewhere.queue.cancel(id)
      t.match(await aborted(run.signal), { code: 'FST_BG_CANCELLED' }, 'messages arrive again')
      await cancelled
      await queue.enqueue({ n: 2, do: 'work' })
      hand.endAll()
      await queue.drain()
      t.match(await queue.counts(), { succeeded: 1 })
      t.same(seen, [])
    })

    t.test(`${way}: a connection in the middle of a call, which is made again`, { timeout }, async t => {
      const seen = unhandled(t)
      const schema = freshSchema()
      const proxy = await Proxy.start(t, postgres.port)
      const { queue } = await share(t, pgBoss({ ...optionsIn(t, postgres.urlOf(proxy.port)), schema }))
      await queue.counts()
      const other = new pg.Client({ connectionString: postgres.url })
      await other.connect()
      t.teardown(async () => { await other.end() })
      const waits = "wait_event_type = 'Lock' AND query LIKE '%INSERT INTO%'"
      for (const end of [async () => { t.equal(await terminate(waits), 1) }, async () => { proxy.cut() }]) {
        await other.query(`BEGIN; LOCK TABLE ${schema}.job`)
        const enqueued = queue.enqueue({ n: 1, do: 'work' })
        await until(async () => await isThere(waits))
        await end()
        await other.query('ROLLBACK')
        t.match(await queue.finished((await enqueued).id), { outcome: 'succeeded' })
      }
      t.match(await queue.counts(), { succeeded: 2 })
      t.same(seen, [])
    })
  }

  t.test('a connection of which the store has not heard yet that it is open: the error comes in one packet with that', { timeout }, async t => {
    const seen = unhandled(t)
    const proxy = await Proxy.start(t, postgres.port)
    const database = new ServerDatabase(ownPool(pg, postgres.urlOf(proxy.port)), true, new Clock())
    t.teardown(async () => { await database.close() })
    proxy.stall()
    const refused = rejection(database.executeSql('SELECT 1'))
    await until(async () => proxy.size === 1)
    proxy.resume()
    proxy.stallAnswers()
    const open = "state = 'idle' AND query = ''"
    await until(async () => await isThere(open))
    t.equal(await terminate(open), 1)
    proxy.passAnswers()
    proxy.resume()
    t.ok(await refused)
    t.same((await database.executeSql('SELECT 1 AS one')).rows, [{ one: 1 }])
    t.same(seen, [])
  })

  /** Terminates the backends of which this is true, and waits until they are gone. Returns their number. */
  async function terminate (condition: string): Promise<number> {
    const pids = (await postgres.query(`SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '${NAME}' AND ${condition}`)).map(({ pid }) => pid)
    await until(async () => !await isThere(`pid IN (${pids.join()})`))
    return pids.length
  }

  async function isThere (condition: string): Promise<boolean> {
    return (await postgres.query(`SELECT FROM pg_stat_activity WHERE application_name = '${NAME}' AND ${condition}`)).length > 0
  }
})
