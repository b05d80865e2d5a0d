// The examples as their readers run them: built, and with plain node.
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { Child, noSignals } from './support/child.ts'
import { noEmbedded, temporaryFolder } from './support/embedded.ts'
import { needsPostgres, postgresUrl } from './support/postgres.ts'
import { needsRedis, Redis } from './support/redis.ts'

const run = promisify(execFile)
const sources = new URL('../example/', import.meta.url)
const built = new URL('../dist/example/', import.meta.url)

/** The application that `npm start` runs; every other example prints what its last lines say. */
const application = ['broker.ts', 'dashboard.ts', 'feed.ts', 'mails.ts', 'server.ts', 'store.ts']

/** What is there for the dashboard to show. */
const shown = new Set(['purge-sessions', 'nightly-report', 'rebuild-index', 'sync-prices', 'read-sensor', 'invoices'])

/** Those that are run in several terminals, and need Redis. */
const together = ['08-durable.ts', '09-cluster-cron.ts']

/** Those that need PostgreSQL, and say so where there is none. */
const postgres = ['13-outbox.ts']

/** Those that an example runs in a thread, or that an application registers. */
const modules = ['hash.ts', 'metrics.ts']

for (const file of readdirSync(sources).filter(name => ![...application, ...together, ...postgres, ...modules].includes(name))) {
  t.test(`example/${file} prints what it says it prints`, async t => {
    const [, block] = readFileSync(new URL(file, sources), 'utf8').split('\n// Output:\n')
    const expected = block?.replaceAll(/^\/\/ /gm, '')
    const { stdout, stderr } = await run(process.execPath, [fileURLToPath(new URL(file.replace('.ts', '.js'), built))])
    t.equal(stdout, expected)
    t.equal(stderr, '')
  })
}

for (const file of postgres) {
  const path = fileURLToPath(new URL(file.replace('.ts', '.js'), built))

  t.test(`example/${file} says what it needs where there is no PostgreSQL`, async t => {
    const { POSTGRES_URL: _, ...env } = process.env
    const { stdout, stderr } = await run(process.execPath, [path], { env })
    t.match(stdout, /^This example needs a PostgreSQL: set POSTGRES_URL to its address/)
    t.equal(stderr, '')
  })

  t.test(`example/${file} prints what it says it prints`, needsPostgres(), async t => {
    const [, block] = readFileSync(new URL(file, sources), 'utf8').split('\n// Output:\n')
    const { stdout, stderr } = await run(process.execPath, [path], { env: { ...process.env, POSTGRES_URL: await postgresUrl(t) } })
    t.equal(stdout, block?.replaceAll(/^\/\/ /gm, ''))
    t.equal(stderr, '')
  })
}

t.test('example/server.ts handles orders and sends mails, and on SIGTERM finishes the order in hand and all mails before anything they need is closed', { skip: noSignals }, async t => {
  const child = new Child(t, '../dist/example/server.js', [], { PORT: '0', MAILS: 'memory' })
  const address = await child.address()
  const post = async (body: object, path = '/orders'): Promise<Response> => await fetch(`${address}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body)
  })
  const read = async (path: string): Promise<unknown> => await (await fetch(`${address}${path}`)).json()

  t.same((await read('/tasks') as Array<{ name: string }>).filter(({ name }) => !shown.has(name)), [
    { name: 'feed', kind: 'hosted', state: 'running' },
    { name: 'mails', kind: 'queue', state: 'running' },
    { name: 'handle-orders', kind: 'service', state: 'running' }
  ])

  t.equal((await fetch(`${address}/dashboard`)).status, 200)
  t.equal((await read('/health') as { status: string }).status, 'ok')
  t.match(await (await fetch(`${address}/metrics`)).text(), /^background_runs_total\{task="purge-sessions"/m)

  const accepted = await post({ item: 'tea' })
  t.equal(accepted.status, 202)
  t.same(await accepted.json(), { id: 1, item: 'tea' })
  t.equal((await post({})).status, 400)
  await child.line('order handled')
  t.same(await read('/orders'), [{ id: 1, item: 'tea' }])

  const mail = await post({ to: 'ada@example.com' }, '/mails')
  t.equal(mail.status, 202)
  t.match(await mail.json(), { id: String, duplicate: false })
  t.equal((await post({ to: 'nobody' }, '/mails')).status, 400)
  await child.line('mail sent')
  t.same(await read('/mails'), { waiting: 0, delayed: 0, active: 0, succeeded: 1, failed: 0 })

  await Promise.all([post({ item: 'cake' }), post({ item: 'pie' })])
  for (const to of ['bob@example.com', 'eve@example.com', 'joe@example.com']) t.equal((await post({ to }, '/mails')).status, 202)
  await child.line(({ msg, order }) => msg === 'order in hand' && (order as { id: number }).id === 2)
  child.signal('SIGTERM')
  t.same(await child.exit, { code: 0, signal: null })
  const messages = child.lines.filter(({ task }) => !shown.has(task as string)).map(({ msg }) => msg)
  const closing = messages.slice(messages.indexOf('closing because of a signal'))
  // Two mails are in hand beside the order, and the third waits for one of them.
  const ofMails = /^mail (in hand|sent)$/
  t.equal(messages.filter(msg => msg === 'mail sent').length, 4)
  t.same(closing.slice(0, -5).filter(msg => !ofMails.test(msg) && msg !== 'run succeeded'), [
    'closing because of a signal',
    'close waits for background tasks',
    'order handled',
    'no more orders are taken'
  ])
  t.same(closing.slice(-5), [
    'feed closing',
    'feed closed',
    'broker closed',
    'background tasks have stopped',
    'closed'
  ])
  t.match(await child.line('broker closed'), { unread: 1 })
  t.equal(child.rest, '')
})

t.test('example/server.ts, killed, sends the mails after its next start', { skip: noEmbedded !== false ? noEmbedded : noSignals }, async t => {
  const env = { PORT: '0', DATA_DIR: temporaryFolder(t) }
  const first = new Child(t, '../dist/example/server.js', [], env)
  await first.line(({ msg }) => msg.startsWith('mails wait in the folder'))
  const address = await first.address()
  const recipients = ['ada@example.com', 'bob@example.com', 'eve@example.com']
  for (const to of recipients) {
    // The database is made at the first start, which may take longer than a request waits.
    for (let status = 503; status !== 202;) {
      status = (await fetch(`${address}/mails`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ to }) })).status
      t.ok([202, 503].includes(status))
    }
  }
  await first.line('mail in hand')
  first.signal('SIGKILL')
  await first.exit
  const sent = (child: Child): unknown[] => child.lines.filter(({ msg }) => msg === 'mail sent').map(({ to }) => to)

  const second = new Child(t, '../dist/example/server.js', [], env)
  await second.count('mail sent', recipients.length - sent(first).length)
  t.same([...sent(first), ...sent(second)].sort(), recipients)
  second.signal('SIGTERM')
  t.same(await second.exit, { code: 0, signal: null })
})

t.test('example/server.ts says that mails wait in memory, where Node is too old for pg-boss', { skip: noEmbedded === false ? 'this Node is new enough' : noSignals }, async t => {
  const child = new Child(t, '../dist/example/server.js', [], { PORT: '0' })
  await child.line(({ msg }) => msg.startsWith('mails wait in memory, and end with this process: pgBoss() needs Node'))
  child.signal('SIGTERM')
  t.same(await child.exit, { code: 0, signal: null })
})

/** A process of an example, and what it prints, line by line. */
function start (t: Test, file: string, redis: Redis, ...given: string[]): { process: ChildProcess, lines: string[], line (wanted: RegExp): Promise<string> } {
  const child = spawn(process.execPath, [fileURLToPath(new URL(file, built)), ...given], { env: { ...process.env, REDIS_URL: redis.url }, stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => { child.kill('SIGKILL') })
  const lines: string[] = []
  const waiting = new Set<() => void>()
  createInterface({ input: child.stdout }).on('line', line => {
    lines.push(line)
    for (const look of waiting) look()
  })
  const line = async (wanted: RegExp): Promise<string> => await new Promise(resolve => {
    const look = (): void => {
      const found = lines.find(one => wanted.test(one))
      if (found === undefined) return
      waiting.delete(look)
      resolve(found)
    }
    waiting.add(look)
    look()
  })
  return { process: child, lines, line }
}

t.test('example/08-durable.ts: what a worker that was killed had in hand, the other one does', { ...needsRedis(true), ...noSignals !== false && { skip: noSignals } }, async t => {
  const redis = await Redis.start(t)
  const one = start(t, '08-durable.js', redis)
  await one.line(/waits for pictures/)
  const enqueuing = start(t, '08-durable.js', redis, 'enqueue')
  await enqueuing.line(/ten pictures are enqueued/)
  await one.line(/picture 2 begins/)
  one.process.kill('SIGKILL')
  const done = one.lines.filter(line => line.endsWith('is done')).map(numberOf)
  const other = start(t, '08-durable.js', redis)
  await Promise.all([1, 2, 3, 4, 5, 6, 7, 8, 9, 10].filter(n => !done.includes(n)).map(async n => await other.line(new RegExp(`picture ${n} is done`))))
  t.ok(other.lines.every(line => !line.includes('attempt 2')), 'a crash uses no attempt')
  other.process.kill('SIGTERM')
  t.same(await once(other.process, 'exit'), [0, null])
})

t.test('example/09-cluster-cron.ts: two processes run each tick once', { ...needsRedis(true), ...noSignals !== false && { skip: noSignals } }, async t => {
  const redis = await Redis.start(t)
  const all = [start(t, '09-cluster-cron.js', redis), start(t, '09-cluster-cron.js', redis)]
  await Promise.all(all.map(async ({ line }) => await line(/is ready/)))
  const ticks = (): string[] => all.flatMap(({ lines }) => lines.flatMap(line => / the tick of (\S+Z)/.exec(line)?.[1] ?? [])).sort()
  while (ticks().length < 4) await setTimeout(100)
  const ends = all.map(async ({ process }) => await once(process, 'exit'))
  for (const { process } of all) process.kill('SIGTERM')
  t.same(await Promise.all(ends), [[0, null], [0, null]])
  const times = ticks().map(tick => Date.parse(tick))
  t.same(times, times.map((_, i) => Number(times[0]) + i * 1_000), 'every second, once')
})

function numberOf (line: string): number {
  return Number(/picture (\d+)/.exec(line)?.[1])
}
