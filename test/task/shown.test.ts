// What a handle tells to somebody who looks at it, such as the dashboard.
import t from 'tap'
import { fake, START, turns } from '../support/fakes.ts'
import { build, deferred } from '../support/helper.ts'

t.test('a handle tells its active runs, with their progress', async t => {
  const { app } = await build(t)
  const end = deferred()
  const begun = deferred()
  const task = app.addBackgroundTask('a', { every: '1h' }, async ({ progress }) => {
    progress(0.25)
    progress({ done: 5 })
    begun.resolve()
    await end.promise
  })
  const queue = app.addBackgroundQueue('q', async ({ progress }) => {
    progress(0.5)
    await end.promise
  })
  await app.ready()
  t.same(task.activeRuns, [])
  const run = task.trigger()
  await begun.promise
  const { id } = await queue.enqueue({}, { key: 'k', reqId: 'r' })
  while (queue.activeRuns.length === 0) await turns()
  t.match(task.activeRuns, [{ id: run.id, task: 'a', attempt: 1, startedAt: Date, dueAt: Date, key: undefined, reqId: undefined, progress: { done: 5 } }])
  t.match(queue.activeRuns, [{ id, task: 'q', attempt: 1, startedAt: Date, key: 'k', reqId: 'r', progress: 0.5 }])
  app.runInBackground('count', async () => { await end.promise })
  t.same(app.backgroundTasks.activity().active.map(({ task }) => task).sort(), ['a', 'count', 'q'], 'so does the application, with background runs')
  end.resolve()
  await run.finished
  t.same(task.activeRuns, [])
  t.equal(task.lastRun?.attempts, 1)
})

t.test('the application tells what has ended in the last hour, and what failed', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const error = new Error('no')
  let calls = 0
  const task = app.addBackgroundTask('a', { every: '1m', retry: { limit: 1, delay: 1, jitter: false } }, async () => { if (calls++ < 2) throw error })
  await app.ready()
  await clock.tickAsync(60_000)
  await clock.tickAsync(1)
  await turns()
  await clock.tickAsync(60_000)
  await turns()
  const { minutes, failures } = app.backgroundTasks.activity()
  t.same(minutes.map(({ succeeded, failed }) => ({ succeeded, failed })), [{ succeeded: 0, failed: 1 }, { succeeded: 1, failed: 0 }])
  t.match(failures, [{ task: 'a', id: task.history[1]?.id, error }])
  t.same(task.history.map(({ attempts }) => attempts), [1, 2])
})

t.test('a handle tells when it runs, and the options that are in effect', async t => {
  const { app } = await build(t)
  const every = app.addBackgroundTask('every', { every: '1m', retry: { limit: Infinity }, exclude: () => false }, async () => {})
  const cron = app.addBackgroundTask('cron', { cron: '0 2 * * *', timezone: 'Asia/Seoul', timeout: '1m' }, async () => {})
  const local = app.addBackgroundTask('local', { cron: '0 2 * * *' }, async () => {})
  const service = app.addBackgroundTask('service', async () => {})
  const hosted = app.addBackgroundTask('hosted', { start () {} })
  const queue = app.addBackgroundQueue('queue', { concurrency: 3, schema: { payload: { type: 'object' } }, rate: { limit: 5, per: '1s' } }, async () => {})

  t.same(every.timing, { every: 60_000, cron: undefined, timezone: undefined })
  t.same(cron.timing, { every: undefined, cron: '0 2 * * *', timezone: 'Asia/Seoul' })
  t.equal(local.timing?.timezone, Intl.DateTimeFormat().resolvedOptions().timeZone, 'the zone of the process where none is named')
  for (const task of [service, hosted, queue]) t.equal(task.timing, undefined)

  t.match(every.settings, { every: 60_000, overlap: 'skip', misfire: 'once', exclude: true, retry: { limit: 'unlimited', delay: 1_000 } })
  t.match(cron.settings, { cron: '0 2 * * *', timezone: 'Asia/Seoul', timeout: 60_000, onGiveUp: 'log' })
  t.notOk('exclude' in cron.settings, 'nothing that is not set')
  t.match(service.settings, { restart: { when: 'on-failure', limit: 'unlimited' }, onGiveUp: 'close' })
  t.match(hosted.settings, { start: true, startTimeout: 9_500 })
  t.match(queue.settings, { concurrency: 3, schema: true, rate: { limit: 5, per: 1_000 }, grace: 5_000 })
  for (const { settings } of app.backgroundTasks) t.same(JSON.parse(JSON.stringify(settings)), settings, 'as plain data')
})

t.test('JSON.stringify(task) has health, timing, and the last runs in short', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const task = app.addBackgroundTask('a', { every: '1m' }, async () => { throw new TypeError('no') })
  await app.ready()
  await clock.tickAsync(60_000)
  await turns()
  t.match(JSON.parse(JSON.stringify(task)), {
    name: 'a',
    kind: 'timed',
    state: 'idle',
    condition: { status: 'degraded', reason: 'the last run failed' },
    timing: { every: 60_000 },
    nextRunAt: new Date(START + 120_000).toISOString(),
    stats: { succeeded: 0, failed: 1, cancelled: 0, skipped: 0, active: 0 },
    lastRun: { outcome: 'failed', attempts: 1, error: { name: 'TypeError', message: 'no' } },
    history: [{ outcome: 'failed', startedAt: new Date(START + 60_000).toISOString(), duration: 0 }]
  })
})
