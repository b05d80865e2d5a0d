import { createServer } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify, { type FastifyInstance } from 'fastify'
import * as client from 'prom-client'
import t, { type Test } from 'tap'
import backgroundTasks, { type BackgroundTasksOptions, type Store } from '../../lib/index.ts'
import { metrics } from '../../lib/metrics/index.ts'
import { bullmq } from '../../lib/store/bullmq/index.ts'
import { build, deferred, later, rejection } from '../support/helper.ts'
import { held, until } from '../support/queues.ts'
import { needsRedis, Redis } from '../support/redis.ts'

const backoff = { delay: 0, jitter: false }

/** An application with metrics. */
async function given (t: Test, options: BackgroundTasksOptions = {}, registry = new client.Registry()): Promise<{ app: FastifyInstance, registry: client.Registry }> {
  const { app } = await build(t, options)
  await app.register(metrics, { registry })
  return { app, registry }
}

/** The values of a scrape: `name{label="value"}` to number. */
function parse (text: string): Map<string, number> {
  return new Map(text.split('\n').filter(line => line !== '' && !line.startsWith('#')).map(line => {
    const end = line.lastIndexOf(' ')
    return [line.slice(0, end), Number(line.slice(end + 1))]
  }))
}

async function scrape (registry: client.Registry): Promise<Map<string, number>> {
  return parse(await registry.metrics())
}

t.test('over HTTP: what has happened, and what is so', async t => {
  const { app, registry } = await given(t)
  app.get('/metrics', async (_request, reply) => await reply.type(registry.contentType).send(await registry.metrics()))
  const { handler, call, endAll } = held()
  const mails = app.addBackgroundQueue('mails', { retry: { limit: 1, ...backoff } }, async ({ attempt, payload }) => { if (attempt === 1 || payload === 'bad') throw new Error('busy') })
  const slow = app.addBackgroundQueue('slow', handler)
  const hour = app.addBackgroundTask('hour', { every: '1h' }, async () => { await sleep(60) })
  const third = deferred()
  let lives = 0
  app.addBackgroundTask('service', { restart: backoff }, async ({ signal }) => {
    if (++lives < 3) throw new Error('of a life')
    third.resolve()
    await new Promise<void>(resolve => { signal.addEventListener('abort', () => { resolve() }) })
  })
  app.addBackgroundTask('broken', { restart: 'never', onGiveUp: 'log' }, async () => { throw new Error('for good') })
  const address = await app.listen({ port: 0, host: '127.0.0.1' })
  await mails.enqueueMany([{ payload: 'good' }, { payload: 'bad' }])
  await mails.drain()
  await slow.enqueueMany([{ payload: 1 }, { payload: 2 }, { payload: 3, delay: '1h' }])
  await call(0)
  const both = [hour.trigger(), hour.trigger()]
  await Promise.all(both.map(async ({ finished }) => await finished))
  await third.promise

  const response = await fetch(`${address}/metrics`)
  t.equal(response.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8')
  const values = parse(await response.text())
  const expected: Record<string, number> = {
    'background_runs_total{task="mails",kind="queue",outcome="succeeded"}': 1,
    'background_runs_total{task="mails",kind="queue",outcome="failed"}': 1,
    'background_runs_total{task="hour",kind="timed",outcome="succeeded"}': 1,
    'background_runs_total{task="hour",kind="timed",outcome="failed"}': 0,
    'background_runs_total{task="hour",kind="timed",outcome="skipped"}': 1,
    'background_runs_total{task="service",kind="service",outcome="failed"}': 2,
    'background_runs_total{task="broken",kind="service",outcome="failed"}': 1,
    'background_attempts_failed_total{task="mails"}': 3,
    'background_attempts_failed_total{task="hour"}': 0,
    'background_restarts_total{task="service"}': 2,
    'background_restarts_total{task="broken"}': 0,
    'background_run_duration_seconds_count{task="hour"}': 1,
    'background_run_duration_seconds_bucket{le="0.05",task="hour"}': 0,
    'background_run_duration_seconds_bucket{le="5",task="hour"}': 1,
    'background_run_duration_seconds_count{task="mails"}': 2,
    'background_runs_active{task="slow"}': 1,
    'background_runs_active{task="service"}': 1,
    'background_runs_active{task="mails"}': 0,
    'background_runs_active{task="background"}': 0,
    'background_queue_runs{queue="mails",state="failed"}': 1,
    'background_queue_runs{queue="slow",state="waiting"}': 1,
    'background_queue_runs{queue="slow",state="delayed"}': 1,
    'background_queue_runs{queue="slow",state="active"}': 1,
    'background_queue_oldest_waiting_seconds{queue="mails"}': 0,
    'background_health{task="hour"}': 0,
    'background_health{task="mails"}': 0,
    'background_health{task="broken"}': 2
  }
  for (const [series, value] of Object.entries(expected)) t.equal(values.get(series), value, series)
  t.ok(Number(values.get('background_queue_oldest_waiting_seconds{queue="slow"}')) > 0.05)
  t.notOk([...values.keys()].some(series => series.startsWith('background_tick_lateness_seconds')), 'none has ticked')
  endAll()
})

t.test('the lateness of the last tick, and of one that waits', async t => {
  const { app, registry } = await given(t)
  const { handler, call, calls, endAll } = held()
  const task = app.addBackgroundTask('ticks', { every: 20, overlap: 'wait' }, handler)
  await app.ready()
  await call(0)
  const lateness = async (): Promise<number> => (await scrape(registry)).get('background_tick_lateness_seconds{task="ticks"}') ?? NaN
  t.ok(await lateness() < 1)
  await until(async () => task.stats.skipped > 5)
  const waiting = await lateness()
  t.ok(waiting > 0.08, 'it grows')
  calls[0]?.end()
  await call(1)
  await task.pause()
  t.ok(await lateness() >= waiting, 'that was the last one')
  endAll()
})

t.test('background runs are one task, whatever their names', async t => {
  const { app, registry } = await given(t)
  await app.ready()
  const { handler, call, endAll } = held()
  for (let i = 0; i < 5; i++) await app.runInBackground(`user-${i}`, () => {}).finished
  app.runInBackground('user-6', handler)
  await call(0)
  const values = await scrape(registry)
  t.equal(values.get('background_runs_total{task="background",kind="background",outcome="succeeded"}'), 5)
  t.equal(values.get('background_runs_active{task="background"}'), 1)
  t.notOk([...values.keys()].some(series => series.includes('user')))
  endAll()
})

t.test('two applications on one registry share the metrics, and the gauges of one that has closed are gone', async t => {
  const registry = new client.Registry()
  const [one, two] = [await given(t, {}, registry), await given(t, {}, registry)]
  const queues = [one, two].map(({ app }) => app.addBackgroundQueue('mails', { enabled: false }, async () => {}))
  const only = one.app.addBackgroundTask('only', { every: '1h' }, async () => {})
  const other = two.app.addBackgroundTask('other', { every: '1h' }, async () => { throw new Error('x') })
  const tasks = [one, two].map(({ app }) => app.addBackgroundTask('both', { every: '1h' }, async ({ server }) => { if (server === two.app) throw new Error('x') }))
  await Promise.all([one, two].map(async ({ app }) => await app.ready()))
  await queues[0]?.enqueue(1)
  await queues[1]?.enqueueMany([{ payload: 1 }, { payload: 2 }])
  for (const task of [...tasks, only, other]) await task.trigger().finished
  const before = await scrape(registry)
  t.equal(before.get('background_queue_runs{queue="mails",state="waiting"}'), 3, 'two queues in memory')
  t.equal(before.get('background_runs_total{task="both",kind="timed",outcome="succeeded"}'), 1)
  t.equal(before.get('background_runs_total{task="both",kind="timed",outcome="failed"}'), 1)
  t.equal(before.get('background_health{task="both"}'), 1, 'the worse of the two')
  t.equal(before.get('background_health{task="only"}'), 0)

  await one.app.close()
  const after = await scrape(registry)
  t.equal(after.get('background_queue_runs{queue="mails",state="waiting"}'), 2)
  t.equal(after.get('background_health{task="only"}'), undefined)
  t.equal(after.get('background_runs_active{task="only"}'), undefined)
  t.equal(after.get('background_runs_total{task="only",kind="timed",outcome="succeeded"}'), 1, 'counters once more, with their last counts')
  const last = await scrape(registry)
  t.notOk([...last.keys()].some(series => series.includes('"only"')))
  t.equal(last.get('background_runs_total{task="both",kind="timed",outcome="failed"}'), 1)
  await two.app.close()
  await scrape(registry)
  t.same([...(await scrape(registry)).keys()], [], 'nothing is left')
  const three = await given(t, {}, registry)
  three.app.addBackgroundTask('only', { every: '1h' }, async () => {})
  await three.app.ready()
  t.equal((await scrape(registry)).get('background_runs_total{task="only",kind="timed",outcome="succeeded"}'), 0)
})

t.test('a task that was removed has no series left, so that tasks per tenant do not fill the registry', async t => {
  const { app, registry } = await given(t)
  await app.ready()
  for (let i = 0; i < 5; i++) {
    const task = app.addBackgroundTask(`tenant-${i}`, { every: '1h' }, async () => {})
    await task.trigger().finished
    await task.remove()
    t.equal((await scrape(registry)).get(`background_runs_total{task="tenant-${i}",kind="timed",outcome="succeeded"}`), 1, 'its last counts are seen')
  }
  t.notOk([...(await scrape(registry)).keys()].some(series => series.includes('tenant')))
})

t.test('names of any text are labels', async t => {
  const { app, registry } = await given(t)
  const name = 'a "quoted" \\ name\nof two lines 🦊'
  app.addBackgroundTask(name, { every: '1h' }, async () => {})
  await app.ready()
  t.match(await registry.metrics(), 'background_health{task="a \\"quoted\\" \\\\ name\\nof two lines 🦊"} 0')
})

t.test('OpenMetrics, the global registry, and a registry that was cleared', async t => {
  const { app, registry } = await given(t)
  registry.setContentType(client.Registry.OPENMETRICS_CONTENT_TYPE as never)
  app.addBackgroundTask('task', { every: '1h' }, async () => {})
  await app.ready()
  t.match(await registry.metrics(), /background_runs_total\{task="task".*\n[^]*# EOF/)
  registry.clear()
  const second = await given(t, {}, registry)
  second.app.addBackgroundTask('task', { every: '1h' }, async () => {})
  await second.app.ready()
  t.match(await registry.metrics(), /background_health\{task="task"\} 0/)
  t.teardown(() => { client.register.clear() })
  const third = await given(t, {}, client.register as never)
  third.app.addBackgroundTask('task', { every: '1h' }, async () => {})
  await third.app.ready()
  t.match(await client.register.metrics(), /background_health\{task="task"\} 0/)
})

t.test('what cannot be is refused, with what to do', async t => {
  const refused = async (options: unknown, before: 'tasks' | 'metrics' | 'nothing' = 'tasks'): Promise<unknown> => {
    const app = Fastify()
    t.teardown(async () => { await app.close() })
    if (before !== 'nothing') await app.register(backgroundTasks)
    if (before === 'metrics') await app.register(metrics, { registry: new client.Registry() })
    const { code, message } = await rejection(app.register(metrics, options as never))
    return [code, message]
  }
  const registry = new client.Registry()
  const is = (message: RegExp): unknown => ['FST_BG_INVALID_OPTION', message]
  t.match(await refused({}), is(/pass the registry that is to have the metrics: \{ registry: register \}/))
  t.match(await refused(undefined), is(/pass the registry/))
  t.match(await refused({ registry: 5 }), is(/option "registry" must be a registry of prom-client, such as its "register", or new Registry\(\); received 5/))
  t.match(await refused({ registry: null }), is(/received null/))
  t.match(await refused({ registry: client }), is(/this is prom-client itself, pass its "register"/))
  t.match(await refused({ registri: registry }), is(/unknown option "registri"\. Did you mean "registry"\?/))
  t.match(await refused({ registry }, 'nothing'), is(/Register fastify-background-tasks before it/))
  t.match(await refused({ registry }, 'metrics'), is(/is registered already in this application\. Register it once/))
  const taken = new client.Registry()
  const theirs = new client.Gauge({ name: 'background_health', help: 'theirs', registers: [taken] })
  t.match(await refused({ registry: taken }), is(/the registry has a metric "background_health" of somebody else\. Pass another registry/))
  t.same(taken.getMetricsAsArray(), [theirs], 'and nothing was added')
  const app = Fastify()
  app.register(backgroundTasks)
  app.register(metrics, { registry, prefix: '/x', logLevel: 'warn' } as never)
  await app.ready()
  t.ok(app.hasPlugin('fastify-background-tasks/metrics'))
  await app.close()
})

t.test('without metrics nobody is told of a run', async t => {
  const { app } = await build(t)
  t.equal((app as unknown as Record<symbol, { observer: unknown }>)[Symbol.for('fastify-background-tasks.host')]?.observer, undefined)
})

/** A store whose queues answer when they are told to, and how often they were asked. */
function slowStore (): { store: Store, asked: number, answer: () => void, rejects: boolean } {
  const about = { store: undefined as unknown as Store, asked: 0, answer: () => {}, rejects: false }
  const answer = async (): Promise<never> => {
    about.asked++
    if (about.rejects) throw new Error('away')
    return await new Promise(resolve => { about.answer = () => { resolve({ waiting: 7 } as never) } })
  }
  about.store = {
    open: () => ({ durable: true, shared: undefined, paused: false, reachable: true, condition: { status: 'ok' }, counts: answer, waitingSince: async () => undefined, work () {}, halt () {}, close: () => 0, shutDown: () => 0, drained: async () => false, release () {} }) as never,
    stop: async () => {}
  }
  return about
}

t.test('a store that is slow does not hold up a scrape, and is asked once, however many scrape', async t => {
  const about = slowStore()
  const { app, registry } = await given(t, { stores: { slow: about.store } })
  app.addBackgroundQueue('stored', { store: 'slow' }, async () => {})
  app.addBackgroundQueue('memory', async () => {})
  await app.ready()
  const began = performance.now()
  const [first, second] = await Promise.all([scrape(registry), scrape(registry)])
  t.ok(performance.now() - began < 5_000)
  t.equal(about.asked, 1)
  for (const values of [first, second]) {
    t.equal(values.get('background_queue_runs{queue="stored",state="waiting"}'), undefined)
    t.equal(values.get('background_queue_runs{queue="memory",state="waiting"}'), 0, 'the others are there')
    t.equal(values.get('background_health{task="stored"}'), 0)
  }
  await scrape(registry)
  t.equal(about.asked, 1, 'not again while it has not answered')
  about.answer()
  await later()
  const answered = scrape(registry)
  about.answer()
  t.equal((await answered).get('background_queue_runs{queue="stored",state="waiting"}'), 7)
  t.equal(about.asked, 2)
  about.rejects = true
  t.equal((await scrape(registry)).get('background_queue_runs{queue="stored",state="waiting"}'), undefined)
})

t.test('over Redis: processes say the same of a stored queue, and one that is away costs a second and no more', { ...needsRedis(true), timeout: 60_000 }, async t => {
  const redis = await Redis.start(t)
  const registry = new client.Registry()
  const apps = await Promise.all([1, 2].map(async () => (await given(t, { stores: { default: bullmq({ connection: redis.url }) } }, registry)).app))
  const [queue] = apps.map(app => app.addBackgroundQueue('stored', { enabled: false }, async () => {}))
  for (const app of apps) await app.ready()
  await queue?.enqueueMany([{ payload: 1 }, { payload: 2, priority: 3 }, { payload: 3, delay: '1h' }])
  const values = await scrape(registry)
  t.equal(values.get('background_queue_runs{queue="stored",state="waiting"}'), 2, 'not twice')
  t.equal(values.get('background_queue_runs{queue="stored",state="delayed"}'), 1)
  await until(async () => Number((await scrape(registry)).get('background_queue_oldest_waiting_seconds{queue="stored"}')) > 0)
  t.equal(values.get('background_health{task="stored"}'), 0)
  redis.freeze()
  const began = performance.now()
  const frozen = await scrape(registry)
  t.ok(performance.now() - began < 3_000)
  t.equal(frozen.get('background_queue_runs{queue="stored",state="waiting"}'), undefined)
  redis.thaw()
  await until(async () => (await scrape(registry)).get('background_queue_runs{queue="stored",state="waiting"}') === 2)
  await redis.kill()
  await until(async () => (await scrape(registry)).get('background_health{task="stored"}') === 1)
})

t.test('two applications on one http.Server have metrics of their own', async t => {
  const server = createServer()
  const registries = [new client.Registry(), new client.Registry()]
  for (const [i, registry] of registries.entries()) {
    const app = Fastify({ serverFactory: () => server })
    t.teardown(async () => { await app.close() })
    await app.register(backgroundTasks)
    await app.register(metrics, { registry })
    await app.addBackgroundTask(`task-${i}`, { every: '1h' }, async () => {}).trigger().finished
  }
  for (const [i, registry] of registries.entries()) {
    t.same([...(await scrape(registry)).keys()].filter(series => series.startsWith('background_health')), [`background_health{task="task-${i}"}`])
  }
})
