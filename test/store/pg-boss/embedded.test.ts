// The embedded database: statements, transactions, notifications, and its end. It starts few times: each takes a second and some hundred MB.
import { readdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import t from 'tap'
import { Clock, type Timer } from '../../../lib/time/index.ts'
import { embedded, noEmbedded, rows, temporaryFolder } from '../../support/embedded.ts'
import { deferred, rejection } from '../../support/helper.ts'
import { until } from '../../support/queues.ts'

t.test('statements, transactions and notifications', { skip: noEmbedded }, async t => {
  const { database, lines } = embedded(t, 'memory://')
  await database.executeSql('CREATE TABLE names (id serial PRIMARY KEY, name text UNIQUE)')

  t.test('a warn line says what the store is', async t => {
    t.match(lines.filter(({ level }) => level === 'warn'), [{ msg: /this process only, and a power cut/, dataDir: 'memory://' }])
    t.equal(lines.length, 1)
  })

  t.test('a statement has values, and rows as the client of PostgreSQL makes them', async t => {
    t.same(await rows(database, 'SELECT $1::text AS text, $2::int AS int, 1::int8 AS big, 1.50::numeric AS exact, \'{"a":[1]}\'::jsonb AS json, $3::text[] AS list, null AS nothing', ['a', 1, ['x', 'y,']]),
      [{ text: 'a', int: 1, big: '1', exact: '1.50', json: { a: [1] }, list: ['x', 'y,'], nothing: null }])
    t.same(await rows(database, 'SELECT 1 AS one; SELECT 2 AS two'), [{ one: 1 }, { two: 2 }], 'several without values')
  })

  t.test('a statement that PostgreSQL refuses rejects with its code, and leaves nothing open', async t => {
    await database.executeSql('INSERT INTO names (name) VALUES ($1)', ['twice'])
    t.match(await rejection(database.executeSql('INSERT INTO names (name) VALUES ($1)', ['twice'])), { code: '23505', constraint: 'names_name_key', message: /duplicate key/ })
    const [failed, after] = await Promise.allSettled([database.executeSql('BEGIN; SELECT 1 / 0; COMMIT'), database.executeSql('SELECT 1')])
    t.match(failed, { status: 'rejected', reason: { code: '22012' } })
    t.equal(after.status, 'fulfilled', 'not in the transaction that was left open')
    t.match(await rejection(database.executeSql('SELECT $1::boolean', ['maybe'])), { message: /boolean/ }, 'a value that does not fit')
    t.match(await rejection(database.executeSql('SELECT $1::text', [() => {}])), { name: 'DataCloneError' }, 'a value that is none')
    t.same(await rows(database, 'SELECT 1 AS one'), [{ one: 1 }])
  })

  t.test('a transaction commits what its function has done, and returns what that returns', async t => {
    const value = await database.transaction(async tx => {
      await tx.query('INSERT INTO names (name) VALUES ($1)', ['committed'])
      return (await tx.executeSql('SELECT count(*)::int AS count FROM names WHERE name = $1', ['committed'])).rows
    })
    t.same(value, [{ count: 1 }])
    t.equal((await rows(database, 'SELECT FROM names WHERE name = $1', ['committed'])).length, 1)
  })

  t.test('a transaction whose function rejects is rolled back', async t => {
    const error = new Error('no')
    t.equal(await rejection(database.transaction(async tx => {
      await tx.query('INSERT INTO names (name) VALUES ($1)', ['gone'])
      throw error
    })), error)
    t.match(await rejection(database.transaction(async tx => {
      await tx.query('INSERT INTO names (name) VALUES ($1)', ['gone'])
      await tx.query('SELECT 1 / 0').catch(() => {})
    })), { message: /was rolled back/ }, 'or one that hides a failure, after which PostgreSQL commits nothing')
    t.equal((await rows(database, 'SELECT FROM names WHERE name = $1', ['gone'])).length, 0)
  })

  t.test('other statements and transactions wait for a transaction, and see all of it or nothing', async t => {
    const middle = deferred()
    const order: string[] = []
    const first = database.transaction(async tx => {
      await tx.query('INSERT INTO names (name) VALUES ($1)', ['first'])
      await middle.promise
      await tx.query('INSERT INTO names (name) VALUES ($1)', ['second'])
      order.push('first')
    })
    const count = rows(database, "SELECT count(*)::int AS count FROM names WHERE name IN ('first', 'second')").then(found => {
      order.push('statement')
      return found
    })
    const second = database.transaction(async tx => { order.push('second') })
    middle.resolve()
    await Promise.all([first, second])
    t.same(await count, [{ count: 2 }])
    t.equal(order[0], 'first')
  })

  t.test('a statement inside of a transaction, but not by it, rejects instead of waiting for ever', async t => {
    const error = await rejection(database.transaction(async () => await database.executeSql('SELECT 1')))
    t.match(error, { code: 'FST_BG_STORE_UNAVAILABLE', message: /a transaction of the application goes on for more than 4s.*\{ tx \}/ })
    t.same(await rows(database, 'SELECT 1 AS one'), [{ one: 1 }])
  })

  t.test('a transaction that has ended takes no statement', async t => {
    const tx = await database.transaction(async tx => tx)
    t.match(await rejection(tx.query('SELECT 1')), { code: 'FST_BG_INVALID_OPTION', message: /has ended/ })
  })

  t.test('a notification reaches those who listen to its channel', async t => {
    const heard: string[] = []
    const ends = [await database.listen('Mixed case', payload => { heard.push(`a ${payload}`) }), await database.listen('Mixed case', payload => { heard.push(`b ${payload}`) })]
    await database.listen('other', payload => { heard.push(`other ${payload}`) })
    await database.executeSql("SELECT pg_notify('Mixed case', 'one')")
    await ends[0]?.()
    await database.executeSql("SELECT pg_notify('Mixed case', 'two')")
    await ends[1]?.()
    await ends[1]?.()
    await database.executeSql("SELECT pg_notify('Mixed case', 'three')")
    await database.transaction(async tx => { await tx.query("SELECT pg_notify('other', 'four')") })
    await database.executeSql('SELECT 1')
    t.same(heard, ['a one', 'b one', 'b two', 'other four'])
  })

  t.test('the event loop stays free while a statement computes', async t => {
    const delay = monitorEventLoopDelay({ resolution: 5 })
    delay.enable()
    const began = performance.now()
    await database.executeSql('SELECT count(*) FROM generate_series(1, 3000000)')
    const took = performance.now() - began
    delay.disable()
    t.ok(delay.max / 1e6 < took / 2, `${Math.round(delay.max / 1e6)} ms of ${Math.round(took)} ms`)
  })

  t.test('after close every call rejects', async t => {
    const last = database.executeSql('SELECT 1 AS one')
    await Promise.all([database.close(), database.close()])
    t.same((await last).rows, [{ one: 1 }], 'what it had is done')
    for (const call of [() => database.executeSql('SELECT 1'), () => database.transaction(async () => {}), () => database.listen('x', () => {})]) {
      t.match(await rejection(call), { code: 'FST_BG_STORE_UNAVAILABLE', message: /the store is closed/ })
    }
  })
})

t.test('an engine that dies fails the calls that it has, and is started anew', { skip: noEmbedded }, async t => {
  const folder = temporaryFolder(t)
  const { database } = embedded(t, folder)
  await database.executeSql('CREATE TABLE numbers (number int)')
  await database.executeSql('INSERT INTO numbers VALUES (1)')
  const lost = deferred<Error>()
  await database.listen('channel', () => {}, lost.resolve)

  // PostgreSQL cannot write its log, and ends.
  const [log, away] = [join(folder, 'postgres/pg_wal'), join(folder, 'postgres/away')]
  renameSync(log, away)
  const calls = await Promise.allSettled([
    database.executeSql('SELECT pg_switch_wal()'),
    ...Array.from({ length: 100 }, async () => await database.executeSql('INSERT INTO numbers VALUES (2)')),
    database.executeSql('CHECKPOINT')
  ])
  const failed = calls.filter(({ status }) => status === 'rejected')
  t.match(failed.at(-1), { reason: { message: /the embedded PostgreSQL has ended, since .*pg_wal/ } })
  t.match(await lost.promise, { message: /has ended/ })

  renameSync(away, log)
  await until(async () => await database.executeSql('SELECT 1').then(() => true, () => false))
  t.same(await rows(database, 'SELECT count(*)::int AS count FROM numbers'), [{ count: 1 + calls.length - 2 - (failed.length - 1) }], 'what was acknowledged, and nothing else')
})

t.test('close ends an engine that starts', { skip: noEmbedded }, async t => {
  const folder = temporaryFolder(t)
  for (const wait of [0, 30, 300]) {
    const { database } = embedded(t, folder)
    const call = rejection(database.executeSql('SELECT 1 / 0'))
    await new Promise(resolve => { setTimeout(resolve, wait) })
    await database.close()
    t.match(await call, { message: /the store is closed|division by zero/ })
  }
  const { database } = embedded(t, folder)
  t.same(await rows(database, 'SELECT 1 AS one'), [{ one: 1 }], 'and the next start works')
  t.same(readdirSync(folder).sort(), ['lock', 'owner.json', 'postgres'])
})

/** Its timers ring a hundred times sooner. */
class HastyClock extends Clock {
  override after (ms: number, callback: () => void): Timer { return super.after(ms / 100, callback) }
}

t.test('after statements it does what a server does in the background: a checkpoint when its log has grown, and vacuum', { skip: noEmbedded }, async t => {
  const { database } = embedded(t, 'memory://', new HastyClock())
  const state = async (): Promise<{ start: string, vacuums: string }> => (await rows(database, `SELECT (SELECT redo_lsn::text FROM pg_control_checkpoint()) AS start,
    (SELECT coalesce(sum(vacuum_count), 0)::text FROM pg_stat_user_tables) AS vacuums`))[0] as { start: string, vacuums: string }
  const { start } = await state()
  await database.executeSql('CREATE TABLE texts AS SELECT repeat(md5(n::text), 30) AS text FROM generate_series(1, 20000) AS n')
  await database.executeSql("UPDATE texts SET text = text || '.'")
  await until(async () => {
    const now = await state()
    return now.start !== start && now.vacuums !== '0'
  })
})
