// What nobody meant to send, and what users put into names, payloads and errors.
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { act, read, withDashboard } from '../support/dashboard.ts'
import { turns } from '../support/fakes.ts'
import { evil } from '../support/evil.ts'

t.test('names are found whatever they are, and shown as they are', async t => {
  const { app } = await withDashboard(t)
  for (const name of evil) app.addBackgroundTask(name, { every: '1h' }, async () => { throw new Error(name) })
  await app.ready()
  const { tasks } = await read(app, 'tasks?limit=1000')
  t.equal(tasks.length, evil.length)
  for (const name of evil) {
    // No address can carry half a character.
    let part: string
    try { part = encodeURIComponent(name) } catch { continue }
    t.equal((await read(app, `tasks/${part}`)).task.name, name)
    t.equal((await act(app, `tasks/${part}/actions/pause`)).statusCode, 200, JSON.stringify(name))
  }
})

t.test('a name of 1 MB does no harm', async t => {
  const { app } = await withDashboard(t)
  const name = 'n'.repeat(1_000_000)
  app.addBackgroundTask(name, { restart: 'never', onGiveUp: 'log' }, async () => { throw new Error('no') })
  await app.ready()
  while (app.backgroundTasks.get(name)?.state !== 'failed') await turns()
  t.equal((await app.inject('/tasks/api/overview')).statusCode, 200)
  t.equal((await app.inject('/tasks/api/tasks')).statusCode, 200)
})

t.test('errors of 1 MB are cut', async t => {
  const { app } = await withDashboard(t)
  const task = app.addBackgroundTask('a', { every: '1h' }, async () => { throw Object.assign(new Error('é'.repeat(1_000_000)), { name: 'N'.repeat(100_000), code: 'C'.repeat(100_000) }) })
  const queue = app.addBackgroundQueue('q', async () => { throw new Error('m'.repeat(200_000)) })
  await app.ready()
  await task.trigger().finished
  await queue.enqueue({})
  await queue.drain()
  t.ok(JSON.stringify(await read(app, 'overview')).length < 10_000)
  const [{ error }] = (await read(app, 'tasks/a')).history
  t.ok(Buffer.byteLength(error.message) <= 10_010 && error.message.endsWith('é…'), 'not in the middle of a character')
  t.ok(error.name.length < 1_100 && error.code.length < 1_100 && error.stack.length < 10_100)
  t.ok(JSON.stringify(await read(app, 'queues/q/runs?state=failed')).length < 10_000)
})

t.test('a payload is cut at 10 kB, and its size is told', async t => {
  const { app } = await withDashboard(t)
  const queue = app.addBackgroundQueue('q', { enabled: false, maxPayload: 2_000_000 }, async () => {})
  await app.ready()
  const { id } = await queue.enqueue({ text: '😀'.repeat(250_000) })
  const { payload } = (await read(app, `queues/q/runs/${id}`)).run
  t.ok(Buffer.byteLength(payload.text) <= 10_003)
  t.equal(payload.cut, true)
  t.ok(payload.bytes > 1_000_000)
  t.ok(payload.text.endsWith('😀…'), 'not in the middle of a character')
})

t.test('errors of every kind are shown', async t => {
  const { app } = await withDashboard(t)
  const thrown = [undefined, null, 'text', 5n, Symbol('s'), { toString () { throw new Error('no') } }, Object.freeze(new Error('frozen')), new Proxy({}, { get () { throw new Error('no') } }), Object.assign(new Error('a'), { code: 5 })]
  for (const [i, one] of thrown.entries()) app.addBackgroundTask(`t${i}`, { every: '1h' }, async () => { throw one })
  await app.ready()
  await Promise.all([...app.backgroundTasks].map(async task => await task.trigger().finished))
  for (const i of thrown.keys()) t.match((await read(app, `tasks/t${i}`)).history, [{ outcome: 'failed', error: { name: String, message: String } }])
  t.equal((await read(app, 'overview')).failures.length, thrown.length)
  t.equal((await app.inject('/tasks/api/tasks')).statusCode, 200)
})

t.test('progress of every kind is shown', async t => {
  const { app } = await withDashboard(t)
  const values = [0, 1, 0.5, {}, { text: 'x'.repeat(1_000_000) }, [1, 2], { deep: { er: '<b>' } }]
  for (const [i, value] of values.entries()) app.addBackgroundTask(`t${i}`, async ({ progress, signal }) => { progress(value); await new Promise(resolve => { signal.addEventListener('abort', resolve) }) })
  await app.ready()
  while ([...app.backgroundTasks].some(({ activeRuns }) => activeRuns[0]?.progress === undefined)) await turns()
  const { active } = await read(app, 'overview')
  t.same(active.map(({ progress }: { progress: unknown }) => typeof progress).sort(), ['number', 'number', 'number', 'string', 'string', 'string', 'string'])
  t.ok(JSON.stringify(active).length < 10_000)
})

async function withQueue (t: Parameters<typeof withDashboard>[0]): Promise<FastifyInstance> {
  const { app } = await withDashboard(t)
  app.addBackgroundQueue('mails', { enabled: false }, async () => {})
  await app.ready()
  return app
}

t.test('queries that nobody made are refused with a sentence', async t => {
  const app = await withQueue(t)
  const bad = [
    'tasks?limit=0', 'tasks?limit=1001', 'tasks?limit=ten', 'tasks?cursor=abc', 'tasks?cursor=-1', `tasks?search=${'x'.repeat(2_000)}`, 'tasks?status=sick',
    'queues/mails/runs', 'queues/mails/runs?state=lost', 'queues/mails/runs?state=failed&limit=0', 'queues/mails/runs?state=failed&cursor=nobody', `queues/mails/runs?state=failed&cursor=${Buffer.from('["waiting",[1]]').toString('base64url')}`,
    `queues/mails/runs?state=failed&cursor=${'x'.repeat(5_000)}`, `queues/mails/runs?state=failed&search=${'x'.repeat(2_000)}`, 'queues/mails/schedules?cursor=nobody', 'queues/mails/schedules?limit=0'
  ]
  for (const path of bad) {
    const response = await app.inject(`/tasks/api/${path}`)
    t.equal(response.statusCode, 400, path.slice(0, 80))
    t.match(response.json(), { statusCode: 400, message: /./ })
  }
  for (const path of ['tasks?search=%00%E2%80%AE', 'tasks?unknown=1', 'tasks?cursor=999999', 'queues/mails/runs?state=failed&search=%00', 'queues/mails/runs?state=failed&search=.*(', 'queues/mails/schedules?prefix=%25']) t.equal((await app.inject(`/tasks/api/${path}`)).statusCode, 200, path)
  // Fastify's own limit of a part of a path (maxParamLength).
  t.equal((await app.inject(`/tasks/api/queues/mails/runs/${'x'.repeat(5_000)}`)).statusCode, 414)
})

t.test('bodies that nobody made are refused with a sentence', async t => {
  const app = await withQueue(t)
  const bodies: Array<[string, number]> = [
    ['', 400], ['nothing', 400], ['{', 400], ['[]', 400], ['null', 400], ['"text"', 400], ['5', 400], ['{"__proto__":{"a":1}}', 400], ['{"state":"active"}', 400], ['{"state":5}', 400], ['{"state":{}}', 400], ['\u0000', 400],
    [`{"state":"${'x'.repeat(1_000_000)}"}`, 413], ['['.repeat(100_000), 413], ['{"a":'.repeat(500) + '1' + '}'.repeat(500), 400]
  ]
  for (const [body, status] of bodies) {
    const response = await act(app, 'queues/mails/actions/clear', body)
    t.equal(response.statusCode, status, body.slice(0, 40))
    t.match(response.json(), { statusCode: status, message: /./ })
  }
})

t.test('10,000 tasks: the overview, and a page of them', async t => {
  const { app } = await withDashboard(t)
  for (let i = 0; i < 10_000; i++) app.addBackgroundTask(`task-${i}`, { every: '1h' }, async () => {})
  await app.ready()
  t.match((await read(app, 'overview')).health, { ok: 10_000 })
  t.equal((await read(app, 'tasks')).tasks.length, 100)
  t.same((await read(app, 'tasks?search=task-9999')).tasks.map(({ name }: { name: string }) => name), ['task-9999'])
})

t.test('a store that is away: the pages say so, in time', async t => {
  const { app } = await withDashboard(t)
  const queue = app.addBackgroundQueue('mails', async () => {})
  await app.ready()
  await read(app, 'overview')
  queue.counts = async () => await new Promise(() => {})
  const began = performance.now()
  await new Promise(resolve => { setTimeout(resolve, 600) })
  t.match((await read(app, 'overview')).queues, [{ name: 'mails', counts: { waiting: 0 } }], 'what was known')
  t.match((await read(app, 'tasks/mails')).queue, { counts: { waiting: 0 } })
  t.ok(performance.now() - began < 4_000)
  const other = app.addBackgroundQueue('other', async () => {})
  other.counts = async () => await new Promise(() => {})
  t.match((await read(app, 'tasks/other')).queue, { problem: 'its store does not answer' })
  const third = app.addBackgroundQueue('third', async () => {})
  third.counts = async () => { throw new Error('the store is away') }
  t.same((await read(app, 'tasks/third')).queue, { problem: 'the store is away' })
})
