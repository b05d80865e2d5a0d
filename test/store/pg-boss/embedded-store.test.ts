// Queues on the embedded PostgreSQL: what is different from a server.
import { renameSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import type { BackgroundQueue, Run, Store } from '../../../lib/index.ts'
import { pgBoss } from '../../../lib/store/pg-boss/index.ts'
import type { Work } from '../../fixtures/durable.ts'
import { built, Child } from '../../support/child.ts'
import { noEmbedded, temporaryFolder } from '../../support/embedded.ts'
import { build, deferred, refusal, rejection } from '../../support/helper.ts'
import { until } from '../../support/queues.ts'

const program = noEmbedded === false ? built('durable') : ''

t.test('a killed process loses no run, and the next one begins at once what it had in hand', { skip: noEmbedded }, async t => {
  const folder = temporaryFolder(t)
  const first = new Child(t, program, [`--url=${pathToFileURL(folder).href}`, '--feed', '--concurrency=3', '--hang-after=20', '--lease=1h'])
  await first.count('begins', 23)

  const { app: second } = await build(t, { stores: { default: pgBoss({ dataDir: folder }) } })
  t.match(refusal(() => second.addBackgroundQueue('work', () => {})), { code: 'FST_BG_STORE_LOCKED', message: /process \d+ has opened it/ }, 'meanwhile nobody else opens it')

  first.signal('SIGKILL')
  await first.exit
  const ids = (msg: string): unknown[] => first.lines.filter(line => line.msg === msg).map(({ id }) => id)
  const [accepted, done] = [ids('accepted'), ids('done')]
  t.ok(accepted.length >= 23)

  const { app, lines } = await build(t, { stores: { default: pgBoss({ dataDir: folder, lease: '1h' }) } })
  const ran = new Set<unknown>()
  const queue = app.addBackgroundQueue('work', { concurrency: 3 }, ({ id, attempt }: Run<Work>) => {
    t.equal(attempt, 1)
    ran.add(id)
  })
  await app.ready()
  await until(async () => await queue.counts().then(({ waiting, active }) => waiting + active === 0, () => false))
  t.same(accepted.filter(id => !done.includes(id) && !ran.has(id)), [], 'though its leases last an hour')
  t.equal(lines.filter(({ msg }) => msg.startsWith('run taken over')).length, 3)
})

t.test('transactions of the application, and an engine that ends', { skip: noEmbedded }, async t => {
  const folder = temporaryFolder(t)
  const store = pgBoss({ dataDir: folder })
  t.match(await rejection(store.transaction(async () => {})), { code: 'FST_BG_STORE_UNAVAILABLE', message: /no queue of a running application uses it/ })

  const { app, lines } = await build(t, { stores: { default: store } })
  const seen: unknown[] = []
  const queue = app.addBackgroundQueue('mails', ({ payload }: Run<string>) => { seen.push(payload) })
  await app.ready()
  await until(async () => await queue.counts().then(() => true, () => false))

  t.test('a run that is enqueued in a transaction begins after its commit', async t => {
    const middle = deferred()
    const done = store.transaction(async tx => {
      await tx.query('CREATE TABLE orders (item text)')
      await tx.query('INSERT INTO orders VALUES ($1)', ['tea'])
      await queue.enqueue('committed', { tx })
      await queue.enqueueMany([{ payload: 'and' }, { payload: 'many' }], { tx })
      await middle.promise
      return tx
    })
    await new Promise(resolve => { setTimeout(resolve, 50) })
    t.same(seen, [])
    middle.resolve()
    await done
    await until(async () => seen.length === 3)
    t.same(seen, ['committed', 'and', 'many'])
    t.same(await store.transaction(async tx => (await tx.query('SELECT item FROM orders')).rows), [{ item: 'tea' }])
  })

  t.test('rolled back, nothing was enqueued', async t => {
    const error = new Error('no')
    t.equal(await rejection(store.transaction(async tx => {
      await queue.enqueue('gone', { tx })
      throw error
    })), error)
    t.match(await queue.counts(), { waiting: 0, active: 0 })
    t.equal(seen.length, 3)
  })

  t.test('an enqueue that has forgotten its tx is told so, and hangs nothing', async t => {
    t.match(await rejection(store.transaction(async () => await queue.enqueue('lost'))), { code: 'FST_BG_STORE_UNAVAILABLE', message: /inside of store\.transaction\(\) needs \{ tx \}/ })
    await queue.enqueue('next')
    await until(async () => seen.includes('next'))
  })

  t.test('the store outlives the end of its engine', async t => {
    const [log, away] = [join(folder, 'postgres/pg_wal'), join(folder, 'postgres/away')]
    renameSync(log, away)
    const error = await rejection(store.transaction(async tx => await tx.query('SELECT pg_switch_wal(), pg_logical_emit_message(false, $1, $2)', ['x', 'y'.repeat(2_000_000)])))
    t.match(error, { code: 'FST_BG_STORE_UNAVAILABLE', message: /the embedded PostgreSQL has ended/ })
    renameSync(away, log)
    await until(async () => await queue.enqueue('after').then(() => true, () => false))
    await until(async () => seen.includes('after'))
    t.match((await app.backgroundTasks.health()).status, 'ok')
    t.same(lines.filter(({ level }) => level === 'fatal'), [])
  })
})

t.test('a queue moves to another store, as docs/stores.md does it', { skip: noEmbedded }, async t => {
  const embedded = pgBoss({ dataDir: 'memory://' })
  const open = async (stores: { default?: Store }): Promise<BackgroundQueue> => {
    const { app } = await build(t, { stores, autostart: false })
    return app.addBackgroundQueue('mails', async () => {})
  }
  // Here from the store to memory: what is read there is what another store gets.
  const [from, to] = [await open({ default: embedded }), await open({})]
  await until(async () => await from.counts().then(() => true, () => false))
  const later = new Date(Date.now() + 3_600_000)
  await from.enqueue('second', { priority: 2 })
  await from.enqueue('first', { priority: 1, key: 'one' })
  await from.enqueue('later', { runAt: later })
  await from.schedule('daily', { cron: '0 0 * * *', timezone: 'UTC', payload: 'tick' })
  await from.schedule('often', { every: '1m', payload: 'tock' })

  for (const state of ['waiting', 'delayed'] as const) {
    for (let page = await from.list({ state }); page.runs.length > 0; page = await from.list({ state })) {
      for (const { id, payload, priority, key, runAt } of page.runs) {
        await to.enqueue(payload, { priority, key, runAt })
        await from.remove(id)
      }
    }
  }
  for (let cursor: string | undefined; ;) {
    const page = await from.schedules({ cursor })
    for (const { key, every, cron, timezone, payload } of page.schedules) await to.schedule(key, every === undefined ? { cron, timezone, payload } : { every, payload })
    cursor = page.cursor
    if (cursor === undefined) break
  }
  t.match(await from.counts(), { waiting: 0, delayed: 0 })
  t.match((await to.list({ state: 'waiting' })).runs, [{ payload: 'first', priority: 1, key: 'one' }, { payload: 'second', priority: 2 }])
  t.match((await to.list({ state: 'delayed' })).runs, [{ payload: 'later', runAt: later }])
  t.match((await to.schedules()).schedules, [{ key: 'daily', cron: '0 0 * * *', timezone: 'UTC', payload: 'tick' }, { key: 'often', payload: 'tock' }])
})
