// What the API answers: each answer fits the schema of its route, and says what is so.
import AjvCompiler from '@fastify/ajv-compiler'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { act, read, withDashboard } from '../support/dashboard.ts'
import { fake, START, turns } from '../support/fakes.ts'
import { deferred, logged } from '../support/helper.ts'

/** An application whose every answer of the dashboard is checked against its schema. */
async function checked (t: Test, options: Parameters<typeof withDashboard>[1] = {}): ReturnType<typeof withDashboard> {
  const made = await withDashboard(t, options)
  const compile = AjvCompiler()({}, { customOptions: { coerceTypes: false, useDefaults: false, removeAdditional: false, allErrors: true } })
  made.app.addHook('onSend', async (request, reply, payload) => {
    const { response } = (request.routeOptions.schema ?? {}) as { response?: Record<string, object> }
    const { statusCode } = reply
    if (response === undefined || typeof payload !== 'string') return
    const schema = response[statusCode] ?? response[`${String(statusCode)[0] as string}xx`]
    const validate = compile({ schema } as never)
    await validate(JSON.parse(payload))
    t.same(validate.errors, null, `${request.method} ${request.url} ${statusCode} fits its schema`)
  })
  return made
}

const names = (list: Array<{ name: string }>): string[] => list.map(({ name }) => name)

t.test('the overview: health, problems, what runs, what failed, throughput, queues', async t => {
  const clock = fake(t)
  const { app } = await checked(t)
  const end = deferred()
  app.addBackgroundTask('works', { every: '1m' }, async ({ progress }) => { progress(0.5); await end.promise })
  app.addBackgroundTask('fails', { every: '1m' }, async () => { throw Object.assign(new TypeError('no luck'), { code: 'E_LUCK' }) })
  app.addBackgroundTask('gives-up', { restart: 'never', onGiveUp: 'log' }, async () => { throw new Error('for good') })
  app.addBackgroundTask('lives', async ({ signal }) => { await new Promise(resolve => { signal.addEventListener('abort', resolve) }) })
  const queue = app.addBackgroundQueue('mails', { enabled: false }, async () => {})
  await app.ready()
  await queue.enqueue({})
  await clock.tickAsync(60_000)
  await turns()
  const overview = await read(app, 'overview')
  t.match(overview.health, { status: 'failing', ok: 3, degraded: 1, failing: 1 })
  t.match(overview.problems, [
    { status: 'failing', reason: 'failed for good', tasks: ['gives-up'], count: 1 },
    { status: 'degraded', reason: 'the last run failed', tasks: ['fails'], count: 1 }
  ])
  t.match(overview.active, [{ task: 'works', kind: 'timed', attempt: 1, progress: 0.5 }, { task: 'lives', kind: 'service' }])
  t.equal(overview.activeCount, 2)
  t.match(overview.failures, [{ task: 'fails', error: { name: 'TypeError', message: 'no luck', code: 'E_LUCK' } }, { task: 'gives-up' }])
  t.notOk('stack' in overview.failures[0].error)
  t.match(overview.throughput, [{ succeeded: 0, failed: 1 }, { failed: 1 }])
  t.match(overview.queues, [{ name: 'mails', state: 'idle', counts: { waiting: 1, delayed: 0, active: 0, succeeded: 0, failed: 0 }, oldestWaiting: new Date(START).toISOString() }])
  t.same(overview.tasks, { service: 2, hosted: 0, timed: 2, queue: 1 })
  t.same(overview.visitor, { access: 'full' })
  t.match(overview.process, { pid: process.pid, node: process.version, app: 'fastify-background-tasks', version: /^\d/, timezone: String, uptime: Number })
  end.resolve()
})

t.test('a queue that is behind is a problem, unless somebody has paused it', async t => {
  const clock = fake(t)
  const { app } = await checked(t)
  const end = deferred()
  const queue = app.addBackgroundQueue('mails', async () => { await end.promise })
  await app.ready()
  await queue.enqueue({})
  await queue.enqueue({})
  await clock.tickAsync(150_000)
  t.match((await read(app, 'overview')).problems, [{ status: 'degraded', reason: 'behind: a run has waited for 2 min', tasks: ['mails'] }])
  await queue.pause()
  t.same((await read(app, 'overview')).problems, [])
  end.resolve()
})

t.test('problems that are alike are one, as of a store that is away', async t => {
  const { app } = await checked(t)
  for (let i = 0; i < 8; i++) app.addBackgroundTask(`task-${i}`, { restart: 'never', onGiveUp: 'log' }, async () => { throw new Error('no') })
  await app.ready()
  while ([...app.backgroundTasks].some(({ state }) => state !== 'failed')) await turns()
  t.same((await read(app, 'overview')).problems, [{ status: 'failing', reason: 'failed for good', tasks: ['task-0', 'task-1', 'task-2', 'task-3', 'task-4'], count: 8 }])
})

t.test('GET /tasks lists of each what JSON.stringify writes of its handle', async t => {
  const { app } = await checked(t)
  const done = deferred()
  app.addBackgroundTask('cron', { cron: '0 2 * * MON-FRI', timezone: 'Asia/Seoul' }, async () => {})
  app.addBackgroundTask('every', { every: '1h', immediate: true }, async () => { done.resolve(); throw new Error('no') })
  app.addBackgroundTask('hosted', { start () {} })
  app.addBackgroundQueue('queue', async () => {})
  await app.ready()
  await done.promise
  while (app.backgroundTasks.get('every')?.lastRun === undefined) await turns()
  const { tasks, total, words, cursor } = await read(app, 'tasks')
  t.same(tasks, JSON.parse(JSON.stringify([...app.backgroundTasks])))
  t.equal(total, 4)
  t.equal(cursor, undefined)
  t.same(words, { '0 2 * * MON-FRI': 'At 02:00, Monday through Friday' })
})

t.test('tasks by pages, by a part of their name, and by their health', async t => {
  const { app } = await checked(t)
  for (let i = 0; i < 25; i++) app.addBackgroundTask(`task-${i}`, { every: '1h' }, async () => {})
  app.addBackgroundTask('Other', { restart: 'never', onGiveUp: 'log' }, async () => { throw new Error('no') })
  await app.ready()
  while (app.backgroundTasks.get('Other')?.state !== 'failed') await turns()
  const seen: string[] = []
  for (let cursor: string | undefined = '0'; cursor !== undefined;) {
    const page: { tasks: Array<{ name: string }>, cursor?: string, total: number } = await read(app, `tasks?limit=10&cursor=${cursor}`)
    t.equal(page.total, 26)
    seen.push(...names(page.tasks))
    cursor = page.cursor
  }
  t.same(seen, names([...app.backgroundTasks]))
  t.same(names((await read(app, 'tasks?search=OTHER')).tasks), ['Other'])
  t.same(names((await read(app, 'tasks?status=failing')).tasks), ['Other'])
  t.same((await read(app, 'tasks?search=nothing')).tasks, [])
})

t.test('a task: options, next runs, history with stacks, active runs, p50 and p95', async t => {
  const clock = fake(t)
  const { app } = await checked(t)
  let calls = 0
  const task = app.addBackgroundTask('a', { cron: '*/10 * * * * *', timezone: 'UTC', timeout: '1m', overlap: 'allow' }, async () => {
    if (++calls === 20) throw new RangeError('too far')
    await new Promise(resolve => { setTimeout(resolve, calls * 100) })
  })
  await app.ready()
  await clock.tickAsync(205_000)
  const details = await read(app, 'tasks/a')
  t.same(details.task, JSON.parse(JSON.stringify(task)))
  t.match(details.settings, { cron: '*/10 * * * * *', timezone: 'UTC', timeout: 60_000, overlap: 'allow' })
  t.same(details.nextRuns, task.nextRuns(5).map(next => next.toISOString()))
  t.equal(details.history.length, task.history.length)
  t.match(details.history.find(({ outcome }: { outcome: string }) => outcome === 'failed'), { attempts: 1, error: { name: 'RangeError', message: 'too far', stack: /RangeError: too far/ } })
  t.ok(details.durations.p50 < details.durations.p95 && details.durations.p95 <= 2_000)
  t.same(details.words, { '*/10 * * * * *': 'Every 10 seconds' })
  task.trigger()
  await turns()
  t.match((await read(app, 'tasks/a')).active, [{ task: 'a', attempt: 1, startedAt: String }])
  await clock.tickAsync(4_000)
})

async function failing (app: FastifyInstance, n: number): Promise<ReturnType<typeof app.addBackgroundQueue>> {
  const queue = app.addBackgroundQueue('mails', async ({ payload }: { payload: unknown }) => {
    const { to } = payload as { to: string }
    if (to !== 'fine') throw Object.assign(new Error(`no mailbox ${to}`), { code: 'E_BOX' })
    return { sent: true }
  }) as ReturnType<typeof app.addBackgroundQueue>
  await app.ready()
  for (let i = 0; i < n; i++) await queue.enqueue({ to: `user-${i}` }, { key: `key-${i}`, reqId: `req-${i}` })
  await queue.drain()
  return queue
}

t.test('the runs of a queue, by pages, and searched by id, key and error', async t => {
  const { app } = await checked(t)
  const queue = await failing(app, 30)
  const { id: fine } = await queue.enqueue({ to: 'fine' })
  await queue.drain()
  const seen: string[] = []
  let cursor: string | undefined
  do {
    const from: string = cursor === undefined ? '' : `&cursor=${cursor}`
    const { runs, cursor: next }: { runs: Array<{ key: string }>, cursor?: string } = await read<any>(app, `queues/mails/runs?state=failed&limit=7${from}`)
    seen.push(...runs.map(({ key }) => key))
    t.notOk(runs.some(run => 'payload' in run), 'payloads are on the page of a run only')
    cursor = next
  } while (cursor !== undefined)
  t.equal(new Set(seen).size, 30)
  const [{ id }] = (await read(app, 'queues/mails/runs?state=failed&search=KEY-17')).runs
  t.same((await read(app, 'queues/mails/runs?state=failed&search=mailbox%20user-17')).runs.map((run: { id: string }) => run.id), [id])
  t.same((await read(app, `queues/mails/runs?state=failed&search=${id.slice(0, 20)}`)).runs.map((run: { id: string }) => run.id), [id])
  t.match((await read(app, `queues/mails/runs?state=failed&search=${fine}`)).runs, [{ id: fine, state: 'succeeded' }], 'an exact id is found in any state')
  const all = await read(app, 'queues/mails/runs?state=failed&search=e_box&limit=5')
  t.equal(all.searched, 30)
  t.ok(all.runs.length >= 5)
  t.same((await read(app, 'queues/mails/runs?state=failed&search=nothing')).runs, [])
})

t.test('a run of a queue: payload, result, error, progress', async t => {
  const { app } = await checked(t)
  const queue = await failing(app, 1)
  const { id } = await queue.enqueue({ to: 'fine' })
  await queue.drain()
  t.match((await read(app, `queues/mails/runs/${id}`)).run, {
    id, state: 'succeeded', attempt: 1, payload: { text: JSON.stringify({ to: 'fine' }, null, 2), bytes: 18, cut: false }, value: { text: '{\n  "sent": true\n}' }, enqueuedAt: String, startedAt: String, finishedAt: String
  })
  const [failed] = (await queue.list({ state: 'failed' })).runs
  t.match((await read(app, `queues/mails/runs/${failed?.id as string}`)).run, { key: 'key-0', reqId: 'req-0', error: { message: 'no mailbox user-0', code: 'E_BOX', stack: /Error: no mailbox/ } })
})

t.test('redact says what is shown instead of a payload; one that throws shows nothing', async t => {
  const seen: unknown[] = []
  const { app, lines } = await checked(t, {
    redact: (payload, task) => {
      seen.push(payload, task)
      const { to } = payload as { to: string }
      if (to === 'throws') throw new Error('secret payload')
      if (to === 'later') return Promise.resolve('hidden')
      return to === 'cycle' ? globalThis : to === 'nothing' ? undefined : { to: '***' }
    }
  })
  const queue = app.addBackgroundQueue('mails', { enabled: false }, async () => {})
  await app.ready()
  const shown = async (to: string): Promise<unknown> => {
    const { id } = await queue.enqueue({ to })
    return (await read(app, `queues/mails/runs/${id}`)).run.payload
  }
  t.match(await shown('ada'), { text: '{\n  "to": "***"\n}' })
  t.same(seen, [{ to: 'ada' }, 'mails'])
  t.match(await shown('later'), { text: '"hidden"' })
  t.equal(await shown('nothing'), undefined)
  t.same(await shown('cycle'), { hidden: 'It cannot be shown as JSON.' })
  t.same(await shown('throws'), { hidden: 'The option "redact" failed: nothing is shown.' })
  t.match(await logged(lines, 'the option "redact" of the dashboard failed: the payload is not shown'), { level: 'warn', task: 'mails' })
  await queue.schedule('s', { every: '1h', payload: { to: 'ada' } })
  t.match((await read(app, 'queues/mails/schedules')).schedules, [{ key: 's', payload: { text: '{\n  "to": "***"\n}' } }], 'of schedules, too')
})

t.test('the schedules of a queue', async t => {
  const { app } = await checked(t)
  const queue = app.addBackgroundQueue('mails', async () => {})
  await app.ready()
  await queue.schedule('daily', { cron: '0 7 * * *', timezone: 'Europe/Berlin', payload: { a: 1 } })
  await queue.schedule('often', { every: '90s', payload: {} })
  const { schedules, words } = await read(app, 'queues/mails/schedules')
  t.match(schedules, [{ key: 'daily', cron: '0 7 * * *', timezone: 'Europe/Berlin', nextRunAt: String, payload: { text: '{\n  "a": 1\n}' } }, { key: 'often', every: 90_000 }])
  t.same(words, { '0 7 * * *': 'At 07:00' })
  t.match(await read(app, 'queues/mails/schedules?limit=1'), { schedules: [{ key: 'daily' }], cursor: String })
  t.match(await read(app, 'queues/mails/schedules?prefix=of'), { schedules: [{ key: 'often' }] })
})

t.test('actions on a task, each with one line in the log that says who did it', async t => {
  const { app, lines } = await checked(t, { authorize: () => ({ access: 'full', name: 'ada' }) })
  const ran = deferred()
  const task = app.addBackgroundTask('a', { every: '1h' }, async () => { ran.resolve() })
  await app.ready()
  const triggered = await act(app, 'tasks/a/actions/trigger')
  t.match(triggered.json(), { message: 'A run of "a" has been started.', run: String })
  await ran.promise
  for (const [action, state, message] of [['pause', 'paused', '"a" is paused.'], ['resume', 'idle', '"a" goes on.'], ['stop', 'stopped', '"a" has stopped, in this process.'], ['start', 'idle', '"a" has been started.']] as const) {
    t.match(await act(app, `tasks/a/actions/${action}`).then(response => response.json<object>()), { message })
    t.equal(task.state, state)
  }
  t.match(lines.filter(({ msg }) => msg === 'dashboard action'), [
    { level: 'info', actor: 'ada', action: 'trigger', task: 'a', run: triggered.json<{ run: string }>().run },
    { level: 'info', actor: 'ada', action: 'pause', task: 'a' },
    { action: 'resume' }, { action: 'stop' }, { action: 'start' }
  ])
})

t.test('actions on runs and on a queue', async t => {
  const { app } = await checked(t)
  const queue = await failing(app, 5)
  await queue.pause()
  const [one, two] = (await queue.list({ state: 'failed' })).runs
  t.match((await act(app, `tasks/mails/runs/${one?.id as string}/actions/retry`)).json(), { run: one?.id, message: /waits for a further attempt/ })
  t.match(await queue.counts(), { waiting: 1, failed: 4 })
  t.match((await act(app, `tasks/mails/runs/${one?.id as string}/actions/cancel`)).json(), { message: /has been cancelled/ })
  t.match((await act(app, `tasks/mails/runs/${two?.id as string}/actions/remove`)).json(), { message: /has been removed/ })
  t.match(await queue.counts(), { waiting: 0, failed: 3 })
  t.match((await act(app, 'queues/mails/actions/retryFailed')).json(), { count: 3, message: '3 runs of "mails" wait for a further attempt.' })
  t.match((await act(app, 'queues/mails/actions/clear', { state: 'waiting' })).json(), { count: 3, message: '3 runs that were waiting have been removed from "mails".' })
  t.match(await queue.counts(), { waiting: 0, failed: 0 })
})

t.test('an active run of a task is cancelled', async t => {
  const { app } = await checked(t)
  const begun = deferred()
  const task = app.addBackgroundTask('a', { every: '1h' }, async ({ signal }) => {
    begun.resolve()
    await new Promise((_resolve, reject) => { signal.addEventListener('abort', () => { reject(new Error('told')) }) })
  })
  await app.ready()
  const { id } = task.trigger()
  await begun.promise
  t.equal((await act(app, `tasks/a/runs/${id}/actions/cancel`)).statusCode, 200)
  t.equal(task.lastRun?.outcome, 'cancelled')
  t.match((await act(app, `tasks/a/runs/${id}/actions/cancel`)).json(), { statusCode: 404, message: /has no active run/ }, 'one that has just ended is a sentence')
  t.match((await act(app, `tasks/a/runs/${id}/actions/retry`)).json(), { statusCode: 404, message: /that is for runs of queues/ })
})

t.test('an action that cannot be done is a sentence', async t => {
  const { app, lines } = await checked(t)
  const hosted = app.addBackgroundTask('hosted', { start () { throw new Error('the broker is away') }, enabled: false })
  app.addBackgroundTask('done', { onGiveUp: 'log' }, async () => {})
  app.addBackgroundTask('timed', { every: '1h' }, async () => {})
  app.addBackgroundQueue('queue', async () => {})
  await app.ready()
  while (app.backgroundTasks.get('done')?.state !== 'completed') await turns()
  t.match((await act(app, 'tasks/hosted/actions/start')).json(), { statusCode: 409, message: 'the broker is away' })
  t.equal(hosted.state, 'failed')
  t.match(lines.find(({ msg }) => msg === 'dashboard action refused'), { level: 'info', action: 'start', task: 'hosted', err: { message: 'the broker is away' } })
  t.match((await act(app, 'tasks/done/actions/pause')).json(), { statusCode: 409, message: '"done" cannot be paused: it is completed.' })
  t.match((await act(app, 'tasks/timed/actions/resume')).json(), { statusCode: 409, message: '"timed" is not paused: it is idle.' })
  t.match((await act(app, 'tasks/queue/actions/trigger')).json(), { statusCode: 404, message: /it runs payloads/ })
  t.match((await act(app, 'queues/queue/actions/clear')).json(), { statusCode: 400, message: /Name the state/ })
  t.match((await act(app, 'queues/timed/actions/retryFailed')).json(), { statusCode: 404, message: /is no queue/ })
})

t.test('two operators at once: both get a sentence, and it happens once', async t => {
  const { app } = await checked(t)
  const queue = await failing(app, 1)
  await queue.pause()
  const [run] = (await queue.list({ state: 'failed' })).runs
  const answers = await Promise.all([0, 1].map(async () => await act(app, `tasks/mails/runs/${run?.id as string}/actions/retry`)))
  t.same(answers.map(({ statusCode }) => statusCode).sort(), [200, 404])
  for (const answer of answers) t.match(answer.json(), { message: String })
  t.match(await queue.counts(), { waiting: 1, failed: 0 })
  const paused = await Promise.all([0, 1].map(async () => await act(app, 'tasks/mails/actions/pause')))
  t.same(paused.map(({ statusCode }) => statusCode), [200, 200])
})

t.test('an action does not wait for a handler that takes long to end', async t => {
  const { app } = await checked(t)
  const end = deferred()
  const begun = deferred()
  const task = app.addBackgroundTask('slow', { every: '1h' }, async () => { begun.resolve(); await end.promise })
  await app.ready()
  task.trigger()
  await begun.promise
  const began = performance.now()
  t.match((await act(app, 'tasks/slow/actions/stop')).json(), { message: '"slow" has been told: stop. It has not ended yet.' })
  t.ok(performance.now() - began < 20_000)
  end.resolve()
})

t.test('a trigger that is skipped says so', async t => {
  const { app } = await checked(t)
  const end = deferred()
  const begun = deferred()
  const task = app.addBackgroundTask('a', { every: '1h' }, async () => { begun.resolve(); await end.promise })
  await app.ready()
  task.trigger()
  await begun.promise
  t.match((await act(app, 'tasks/a/actions/trigger')).json(), { message: '"a" runs already: the new run was skipped.' })
  end.resolve()
})

t.test('an unknown name, id or action is not found', async t => {
  const { app } = await checked(t)
  await failing(app, 1)
  for (const path of ['tasks/nothing', 'queues/nothing/runs?state=failed', 'queues/mails/runs/nothing', 'queues/nothing/schedules', 'nothing']) t.equal((await app.inject(`/tasks/api/${path}`)).statusCode, 404, path)
  for (const path of ['tasks/nothing/actions/pause', 'tasks/mails/actions/nothing', 'tasks/mails/actions/constructor', 'tasks/mails/actions/__proto__', 'tasks/mails/runs/nothing/actions/retry', 'tasks/mails/runs/x/actions/toString', 'queues/mails/actions/nothing', 'queues/nothing/actions/clear']) t.equal((await act(app, path)).statusCode, 404, path)
})
