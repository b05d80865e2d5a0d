// The programs of docs/recipes.md do what the page says of them: each is taken out of it, and runs in a process of its own.
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:http'
import { randomUUID } from 'node:crypto'
import t, { type Test } from 'tap'
import type { LogLine } from './support/child.ts'
import { compiled } from './support/page.ts'
import { needsPostgres, Postgres } from './support/postgres.ts'
import { needsSignals, Program } from './support/program.ts'
import { needsRedis, redisUrl } from './support/redis.ts'

const folder = compiled(t, 'recipes')

const start = (t: Test, name: string, env: NodeJS.ProcessEnv = {}): Program => new Program(t, `${folder}${name}.js`, env)

t.test('a run is a transaction: committed if it succeeds, and rolled back if it fails', needsSignals(needsPostgres(true)), async t => {
  const postgres = await Postgres.start(t)
  const program = start(t, 'transaction', { DATABASE_URL: postgres.url })
  t.equal((await program.send('POST', '/transfers', { from: 'ada', to: 'bob', amount: 5 })).status, 202)
  t.equal((await program.send('POST', '/transfers', { from: 'ada', to: 'nobody', amount: 7 })).status, 202)
  t.match(await program.line('run failed'), { err: { message: 'there is no such account' } })
  t.same(await program.json('/payments'), [{ account: 'ada', amount: -5 }, { account: 'bob', amount: 5 }])
  const [open] = await postgres.query("SELECT count(*)::int AS count FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'")
  t.same(open, { count: 0 })
  await program.end(t)
})

t.test('tasks of tenants come and go while the application runs', needsSignals(), async t => {
  const program = start(t, 'tenants')
  const names = async (): Promise<string[]> => (await program.json<Array<{ name: string }>>('/tenants')).map(({ name }) => name)
  await program.line(({ msg, tenant }) => msg === 'synchronised' && tenant === 'acme')
  t.equal((await program.send('PUT', '/tenants/globex', { every: '1h' })).status, 204)
  await program.line(({ msg, tenant }) => msg === 'synchronised' && tenant === 'globex')
  t.same(await names(), ['sync:acme', 'sync:globex'])
  // Again, with another period.
  t.equal((await program.send('PUT', '/tenants/globex', { every: '20ms' })).status, 204)
  const ofGlobex = ({ msg, tenant }: LogLine): boolean => msg === 'synchronised' && tenant === 'globex'
  await program.line(line => ofGlobex(line) && program.lines.filter(ofGlobex).length >= 4)
  t.equal((await program.send('DELETE', '/tenants/globex')).status, 204)
  t.equal((await program.send('DELETE', '/tenants/globex')).status, 404)
  t.same(await names(), ['sync:acme'])
  await program.end(t)
})

t.test('schedules of tenants are there after a restart, and in each process', needsSignals(needsRedis()), async t => {
  const env = { REDIS_URL: await redisUrl(t), PREFIX: `t${randomUUID()}` }
  const first = start(t, 'tenant-schedules', env)
  t.equal((await first.send('PUT', '/tenants/acme', { every: '100ms' })).status, 200)
  await first.line('synchronised')
  await first.end(t)
  const second = start(t, 'tenant-schedules', env)
  await second.line('synchronised')
  const third = start(t, 'tenant-schedules', env)
  t.match(await third.json('/tenants'), [{ key: 'acme', every: 100 }])
  t.equal((await third.send('DELETE', '/tenants/acme')).status, 204)
  t.same(await second.json('/tenants'), [])
  await Promise.all([second.end(t), third.end(t)])
})

t.test('processes that start together migrate once, before they listen', needsSignals(needsPostgres(true)), async t => {
  const postgres = await Postgres.start(t)
  const programs = [1, 2, 3].map(() => start(t, 'migrations', { DATABASE_URL: postgres.url }))
  for (const program of programs) {
    t.same(await program.json('/people'), [{ name: 'Ada' }])
    t.match(await program.line('good morning'), { people: [{ name: 'Ada' }] })
  }
  t.same(programs.flatMap(({ lines }) => lines.filter(({ msg }) => msg === 'migrated')).map(({ number }) => number), [0, 1])
  for (const { messages } of programs.filter(({ messages }) => messages.includes('migrated'))) {
    t.ok(messages.indexOf('migrated') < messages.indexOf('good morning'))
    t.ok(messages.lastIndexOf('migrated') < messages.findIndex(msg => msg.startsWith('Server listening')))
  }
  await Promise.all(programs.map(async program => { await program.end(t) }))
})

t.test('a migration that fails stops the start, and the process exits with 1', needsSignals(needsPostgres(true)), async t => {
  const postgres = await Postgres.start(t)
  await postgres.query('CREATE TABLE people (name text)')
  const program = start(t, 'migrations', { DATABASE_URL: postgres.url })
  t.match(await program.line('closing because of an error'), { err: { message: 'relation "people" already exists' } })
  t.same(await program.exit, { code: 1, signal: null })
  t.notOk(program.messages.some(msg => msg.startsWith('Server listening') || msg === 'good morning'))
})

t.test('the server answers while a thread computes, and a run can be cancelled', needsSignals(), async t => {
  const program = start(t, 'compute')
  const response = await program.send('POST', '/primes', { below: 100_000 })
  t.equal(response.status, 202)
  const path = response.headers.get('location') as string
  let state: { state: string, value?: unknown }
  do { state = await program.json(path) } while (state.state !== 'succeeded' && state.state !== 'failed')
  t.match(state, { state: 'succeeded', value: { count: 9592 } })

  const { id } = await (await program.send('POST', '/primes', { below: 1_000_000_000 })).json() as { id: string }
  // Each look is a request that is answered while the thread computes.
  do { state = await program.json(`/primes/${id}`) } while (!('progress' in state))
  t.equal(state.state, 'active')
  t.equal((await program.send('DELETE', `/primes/${id}`)).status, 204)
  t.equal((await program.get(`/primes/${id}`)).status, 404)

  // Close ends one that would take minutes.
  await program.send('POST', '/primes', { below: 1_000_000_000 })
  await program.end(t)
})

t.test('each attempt is a span, linked to the request that has enqueued the run', needsSignals(), async t => {
  const program = start(t, 'traced', { NODE_OPTIONS: `--import ${new URL(`${folder}telemetry.js`, import.meta.url).href}` })
  t.equal((await program.send('POST', '/mails', { to: 'ada@example.com' })).status, 202)
  await program.line('mail sent')
  const spanOf = async (name: string, attempt?: number): Promise<LogLine> => await program.line(line => line.msg === 'span' && line['name'] === name && (attempt === undefined || (line['attributes'] as Record<string, unknown>)['background.attempt'] === attempt))
  const request = await spanOf('POST /mails')
  const [first, second] = [await spanOf('process mails', 1), await spanOf('process mails', 2)]
  t.same([first['links'], second['links']], [[request['traceId']], [request['traceId']]])
  t.not(first['traceId'], second['traceId'])
  t.equal((await program.line('mail ordered'))['traceId'], request['traceId'], 'lines of the request')
  t.equal((await program.line('mail sent'))['traceId'], second['traceId'], 'lines of the attempt')
  t.equal((await spanOf('connect to the mail server'))['traceId'], first['traceId'], 'a span of the handler')
  await program.end(t)
})

t.test('each failed attempt is reported, and what has failed for good, but not what was told to end', needsSignals(), async t => {
  const reports: Array<Record<string, unknown>> = []
  const arrived = new Set<() => void>()
  const server = createServer((request, response) => {
    let text = ''
    request.on('data', part => { text += part })
    request.on('end', () => {
      reports.push(JSON.parse(text) as Record<string, unknown>)
      response.end()
      for (const resolve of arrived) resolve()
    })
  }).listen(0, '127.0.0.1')
  t.teardown(() => { server.close() })
  await once(server, 'listening')
  const count = async (wanted: number): Promise<void> => {
    while (reports.length < wanted) await new Promise<void>(resolve => { arrived.add(resolve) })
  }
  const program = start(t, 'reporting', { ERRORS_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}` })

  await program.send('POST', '/mails', { to: 'ada' })
  await count(3)
  t.match(reports, [
    { message: 'the mail server is away', task: 'mails', attempt: 1 },
    { message: 'the mail server is away', task: 'mails', attempt: 2 },
    { message: 'the mail server is away', page: true }
  ])
  await program.send('POST', '/hanging')
  await count(4)
  t.match(reports[3], { message: /did not end within 50ms/, task: 'hanging' })
  await program.send('POST', '/background')
  await count(5)
  t.match(reports[4], { message: 'nobody counts', task: 'count' })
  await program.send('POST', '/patient')
  await program.end(t)
  t.match(await program.line('run cut short by shutdown'), { task: 'patient' })
  t.equal(reports.length, 5)
})

t.test('TypeBox: the handler gets the payload with its defaults, and a route without a schema answers 500', needsSignals(), async t => {
  const program = start(t, 'typebox')
  t.equal((await program.send('POST', '/mails', { to: 'Ada@example.com' })).status, 202)
  t.match(await program.line('mail sent'), { to: 'ada@example.com', copies: 1 })
  t.equal((await program.send('POST', '/mails', { to: 'nobody' })).status, 400)
  const refused = await program.send('POST', '/unchecked', { to: 'nobody' })
  t.equal(refused.status, 500)
  t.match(await refused.json(), { code: 'FST_BG_INVALID_PAYLOAD' })
  await program.end(t)
})

t.test('zod: the queue stores the input, and the handler gets the output', needsSignals(), async t => {
  const program = start(t, 'zod')
  t.equal((await program.send('POST', '/reminders', { to: 'ada@example.com', at: '2030-01-01T00:00:00Z' })).status, 202)
  t.match(await program.line('reminded'), { to: 'ada@example.com', year: 2030 })
  t.equal((await program.send('POST', '/reminders', { to: 'ada@example.com', at: 'tomorrow' })).status, 400)
  await program.end(t)
})

t.test('what the web process enqueues runs in a worker, and in the next one if a deploy interrupts it', needsSignals(needsRedis()), async t => {
  const env = { REDIS_URL: await redisUrl(t), PREFIX: `t${randomUUID()}` }
  const web = start(t, 'web', env)
  const invoice = async (order: number): Promise<string> => {
    const response = await web.send('POST', `/orders/${order}/invoice`)
    t.equal(response.status, 202)
    return response.headers.get('location') as string
  }
  const first = await invoice(1)
  t.equal(await invoice(1), first, 'one run for each order')
  const worker = start(t, 'worker', env)
  t.match(await web.json(first), { outcome: 'succeeded', value: { file: '/invoices/1.pdf' } })
  t.match(await worker.line('invoice begun'), { order: 1 })
  await worker.end(t)

  const slow = start(t, 'worker', { ...env, WORK: '600000' })
  const second = await invoice(2)
  await slow.line('invoice begun')
  await slow.end(t)
  t.match(await slow.line('run cut short by shutdown'), { attempt: 1 })
  const quick = start(t, 'worker', env)
  t.match(await web.json(second), { outcome: 'succeeded' })
  t.match(await quick.line('run succeeded'), { attempt: 1 })
  t.equal((await web.get(`/invoices/${randomUUID()}`)).status, 404)
  t.notOk(web.messages.includes('invoice begun'), 'the web process runs none')
  await Promise.all([quick.end(t), web.end(t)])
})

t.test('an event stream tells the browser of the end, and does not hold up the close', needsSignals(), async t => {
  const program = start(t, 'events')
  t.match(await (await program.get('/')).text(), /new EventSource/)
  const begin = async (takes: number): Promise<Response> => {
    const { events } = await (await program.send('POST', '/exports', { table: 'orders', takes })).json() as { events: string }
    return await program.get(events)
  }
  const text = await (await begin(50)).text()
  t.equal(text, 'retry: 1000\n\nevent: done\ndata: {"outcome":"succeeded","value":{"file":"/files/orders.csv"}}\n\n')
  t.equal((await program.get('/exports/unknown/events')).status, 204)

  const open = await begin(600_000)
  const began = performance.now()
  await program.end(t)
  t.ok(performance.now() - began < 8_000, 'within grace, and before the deadline')
  t.equal(await open.text(), 'retry: 1000\n\n', 'the stream ends, and is not cut')
  t.notOk(program.lines.some(({ level, err }) => level > 40 || (err !== undefined && (err as { code?: string }).code !== 'FST_BG_SHUTDOWN')), 'and nobody is alarmed')
})
