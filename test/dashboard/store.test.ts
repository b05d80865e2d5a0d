// The dashboard of a stored queue: its runs of all processes, and a store that goes away while somebody looks.
import t from 'tap'
import { bullmq } from '../../lib/store/bullmq/index.ts'
import { act, read, withDashboard } from '../support/dashboard.ts'
import { needsRedis, Redis } from '../support/redis.ts'

t.test('runs on Redis are listed, searched, retried and removed', needsRedis(true), async t => {
  const redis = await Redis.start(t)
  const { app } = await withDashboard(t, {}, { stores: { default: bullmq({ connection: redis.url }) } })
  let broken = true
  const queue = app.addBackgroundQueue('mails', async ({ payload }: { payload: string }) => { if (broken) throw new Error(`no mailbox ${payload}`) })
  await app.ready()
  for (const name of ['ada', 'bob', 'eve']) await queue.enqueue(name, { key: `key-${name}` })
  while ((await queue.counts()).failed < 3) await new Promise(resolve => { setTimeout(resolve, 20) })
  t.equal((await read(app, 'queues/mails/runs?state=failed')).runs.length, 3)
  const { runs: [bob] } = await read(app, 'queues/mails/runs?state=failed&search=key-bob')
  t.match((await read(app, `queues/mails/runs/${bob.id as string}`)).run, { key: 'key-bob', payload: { text: '"bob"' }, error: { message: 'no mailbox bob' } })
  t.equal((await act(app, `tasks/mails/runs/${bob.id as string}/actions/remove`)).statusCode, 200)
  broken = false
  t.match((await act(app, 'queues/mails/actions/retryFailed')).json(), { count: 2 })
  await queue.drain()
  t.match((await read(app, 'overview')).queues, [{ name: 'mails', counts: { succeeded: 2, failed: 0 } }])
})

t.test('a Redis that is away: the overview says so in time, and an action is a sentence', needsRedis(true), async t => {
  const redis = await Redis.start(t)
  const { app } = await withDashboard(t, {}, { stores: { default: bullmq({ connection: redis.url }) } })
  const queue = app.addBackgroundQueue('mails', { enabled: false }, async () => {})
  await app.ready()
  await queue.enqueue('ada')
  t.match((await read(app, 'overview')).queues, [{ counts: { waiting: 1 } }])
  await redis.kill()
  let problems: Array<{ tasks: string[], reason: string }> = []
  while (problems.length === 0) {
    const began = performance.now()
    problems = (await read(app, 'overview')).problems
    t.ok(performance.now() - began < 3_000, 'whatever the store does')
  }
  t.match(problems, [{ tasks: ['mails'], reason: /cannot be reached/ }])
  for (const answer of [await app.inject('/tasks/api/queues/mails/runs?state=waiting'), await act(app, 'queues/mails/actions/retryFailed')]) {
    t.match(answer.json(), { statusCode: 503, code: 'FST_BG_STORE_UNAVAILABLE', message: /cannot be reached/ })
  }
  t.match(await read(app, 'tasks/mails'), { task: { name: 'mails' }, queue: {} }, 'its page is there')
  await redis.start()
  while ((await read(app, 'overview')).problems.length > 0) await new Promise(resolve => { setTimeout(resolve, 50) })
  t.match((await read(app, 'overview')).queues, [{ counts: { waiting: 1 } }])
})
