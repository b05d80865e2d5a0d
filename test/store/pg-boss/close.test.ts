// A close while PostgreSQL does not answer: what is under way is cut, and nothing is left that would keep the process up.
import type { Socket } from 'node:net'
import pg from 'pg'
import t from 'tap'
import type { Store } from '../../../lib/index.ts'
import { pgBoss } from '../../../lib/store/pg-boss/index.ts'
import { ownPool, ServerDatabase } from '../../../lib/store/pg-boss/server/index.ts'
import { Clock, type Timer } from '../../../lib/time/index.ts'
import { deferred, later, rejection } from '../../support/helper.ts'
import { freshSchema, needsPostgres, Postgres } from '../../support/postgres.ts'
import { Proxy } from '../../support/proxy.ts'
import { share, until } from '../../support/shared.ts'

/** A connection that is left waits for as long. */
const timeout = 30_000

t.test('over PostgreSQL', needsPostgres(true), async t => {
  const postgres = await Postgres.start(t)

  t.test('statements and a LISTEN on half-open connections, or on new ones that nobody answers, end with the close', { timeout }, async t => {
    const proxy = await Proxy.start(t, postgres.port)
    const clock = new CountingClock()
    const { Client, sockets } = counted()
    const database = new ServerDatabase(ownPool({ ...pg, Client }, postgres.urlOf(proxy.port)), true, clock)
    await database.listen('first', () => {})
    await Promise.all([1, 2, 3].map(async () => await database.executeSql('SELECT pg_sleep(0.1)')))
    proxy.stall()
    // One connection stays idle: only a goodbye is said on it, which nobody hears.
    const calls = [rejection(database.executeSql('SELECT 1')), rejection(database.transaction(async tx => await tx.executeSql('SELECT 1')))]
    const listening = rejection(database.listen('second', () => {}))
    await later()
    await database.close()
    for (const call of calls) t.match(await call, { message: 'the store was closed' })
    t.match(await listening, { message: 'the connection was closed' })
    t.match(await rejection(database.listen('third', () => {})), { message: 'the store was closed' })
    await later()
    t.equal(clock.armed, 0)
    t.same(sockets.map(({ destroyed }) => destroyed), [true, true, true, true], 'the one that listens, and three of the pool')
  })

  t.test('the connection that listens beside the pool of the application is half-open: it is cut, and the pool is left alone', { timeout }, async t => {
    const proxy = await Proxy.start(t, postgres.port)
    const { Client, sockets } = counted()
    const pool = new pg.Pool({ connectionString: postgres.urlOf(proxy.port), Client })
    t.teardown(async () => { await pool.end() })
    const database = new ServerDatabase(pool, false, new Clock())
    await database.listen('first', () => {})
    await database.executeSql('SELECT 1')
    proxy.stall()
    await database.close()
    const [listening, pooled] = sockets
    await until(async () => listening?.destroyed === true)
    t.equal(pooled?.destroyed, false)
    proxy.resume()
    t.same((await pool.query('SELECT 1 AS one')).rows, [{ one: 1 }])
  })

  t.test('an application that closes with a claim and an enqueue under way refuses the enqueue, and leaves no timer', { timeout }, async t => {
    const schema = freshSchema()
    const proxy = await Proxy.start(t, postgres.port)
    const clock = new CountingClock()
    const { store, stopped } = timed(pgBoss({ connectionString: postgres.urlOf(proxy.port), schema }), clock)
    const { app, queue } = await share(t, store, { shutdownTimeout: '1s' }, { grace: 0, rate: { limit: 100, per: '1s' } })
    await queue.enqueue({ n: 1, do: 'work' })
    await queue.drain()
    // With a rate a claim waits for the row of its queue.
    const other = new pg.Client({ connectionString: postgres.url })
    other.on('error', () => {})
    await other.connect()
    await other.query(`BEGIN; SELECT FROM ${schema}.fbt_queue FOR UPDATE`)
    await queue.enqueue({ n: 2, do: 'work' })
    await until(async () => (await postgres.query("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'")).length > 0)
    proxy.stall()
    const enqueued = rejection(queue.enqueue({ n: 3, do: 'work' }))
    await app.close()
    await stopped
    t.match(await enqueued, { code: 'FST_BG_STORE_UNAVAILABLE', message: /the store was closed/ })
    await later()
    t.equal(clock.armed, 0)
  })

  t.test('an application that closes while an enqueue waits for the server to be back refuses it at once', { timeout }, async t => {
    const proxy = await Proxy.start(t, postgres.port)
    const { store, stopped } = timed(pgBoss({ connectionString: postgres.urlOf(proxy.port), schema: freshSchema() }))
    const { app, queue } = await share(t, store)
    await queue.enqueue({ n: 1, do: 'work' })
    await queue.drain()
    proxy.stop()
    await until(async () => (await app.backgroundTasks.health()).status === 'degraded')
    let refused: Error | undefined
    void rejection(queue.enqueue({ n: 2, do: 'work' })).then(error => { refused = error })
    await app.close()
    await stopped
    await later()
    t.match(refused, { code: 'FST_BG_STORE_UNAVAILABLE' })
  })
})

/** A client of pg, and the sockets of all that are made. */
function counted (): { Client: typeof pg.Client, sockets: Socket[] } {
  const sockets: Socket[] = []
  class Client extends pg.Client {
    constructor (config: pg.ClientConfig) {
      super(config)
      sockets.push((this as unknown as { connection: { stream: Socket } }).connection.stream)
    }
  }
  return { Client, sockets }
}

/** A store with a clock of its own, and the end of its stop, for which an application waits until its deadline only. */
function timed (real: Store, clock = new Clock()): { store: Store, stopped: Promise<void> } {
  const { promise, resolve, reject } = deferred()
  return {
    store: {
      open: (options, worker) => real.open({ ...options, clock }, worker),
      async stop () { await real.stop().then(resolve, reject) }
    },
    stopped: promise
  }
}

/** Counts its timers that have not rung. */
class CountingClock extends Clock {
  armed = 0

  override after (ms: number, callback: () => void): Timer {
    let over = false
    const end = (): void => {
      if (!over) this.armed--
      over = true
    }
    this.armed++
    const timer = super.after(ms, () => {
      end()
      callback()
    })
    return {
      cancel () {
        end()
        timer.cancel()
      }
    }
  }
}
