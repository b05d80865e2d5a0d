// What metrics are told of runs, as it happens.
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { type HandlerHost, hostKey, type RunObserver } from '../../lib/run/index.ts'
import { build, deferred, later } from '../support/helper.ts'
import { held, until } from '../support/queues.ts'

const backoff = { delay: 0, jitter: false }

/** Notes what an application tells, as texts. */
function observe (app: FastifyInstance): { told: string[], durations: number[], lateness: number[] } {
  const [told, durations, latenesses]: [string[], number[], number[]] = [[], [], []]
  const observer: RunObserver = {
    runsEnded ({ name, kind }, outcome, duration, count) {
      told.push(`${kind} ${name}: ${count} ${outcome}`)
      durations.push(duration)
    },
    attemptFailed ({ name }) { told.push(`${name}: attempt failed`) },
    restarted ({ name }) { told.push(`${name}: restarted`) },
    tickBegan ({ name }, lateness) {
      told.push(`${name}: tick began`)
      latenesses.push(lateness)
    }
  }
  const host = (app as unknown as { [hostKey]: HandlerHost })[hostKey]
  t.equal(host.observer, undefined)
  host.observer = observer
  return { told, durations, lateness: latenesses }
}

t.test('runs of a queue: each failed attempt, each end, and those that were cancelled while they waited', async t => {
  const { app } = await build(t)
  const { told, durations } = observe(app)
  const { handler, call, endAll } = held()
  const bad = app.addBackgroundQueue('bad', { retry: { limit: 1, ...backoff } }, async () => { throw new Error('always') })
  const good = app.addBackgroundQueue('good', handler)
  await app.ready()
  await bad.enqueue(1)
  await bad.drain()
  t.same(told.splice(0), ['bad: attempt failed', 'bad: attempt failed', 'queue bad: 1 failed'])
  t.ok(durations.splice(0).every(duration => duration > 0))
  await good.enqueue(1)
  const { id } = await good.enqueue(2)
  await good.enqueueMany([{ payload: 3 }, { payload: 4 }, { payload: 5, delay: '1h' }])
  await call(0)
  await good.cancel(id)
  await good.clear('waiting')
  await good.remove((await good.list({ state: 'delayed' })).runs[0]?.id)
  t.same(told.splice(0), ['queue good: 1 cancelled', 'queue good: 2 cancelled', 'queue good: 1 cancelled'])
  t.same(durations.splice(0), [0, 0, 0], 'they never began')
  endAll()
  await good.drain()
  t.same(told, ['queue good: 1 succeeded'])
  t.match(good.stats, { succeeded: 1, cancelled: 4 })
})

t.test('a run that is active when the deadline passes is told once, when it ends', async t => {
  const { app } = await build(t, { shutdownTimeout: '50ms' })
  const { told } = observe(app)
  const { handler, calls, call } = held({ deaf: true })
  const queue = app.addBackgroundQueue('deaf', { grace: 0 }, handler)
  await app.ready()
  await queue.enqueueMany([{ payload: 1 }, { payload: 2 }])
  await call(0)
  await app.close()
  t.same(told, ['queue deaf: 1 cancelled'], 'the one that waits')
  calls[0]?.end()
  await later()
  t.same(told, ['queue deaf: 1 cancelled', 'queue deaf: 1 succeeded'])
})

t.test('lives of a service: each restart, whatever has ended the one before, and no start by hand', async t => {
  const { app } = await build(t)
  const { told } = observe(app)
  const third = deferred()
  let lives = 0
  const service = app.addBackgroundTask('service', { restart: backoff }, async ({ signal }) => {
    if (++lives < 3) throw new Error('of a life')
    third.resolve()
    await new Promise<void>(resolve => { signal.addEventListener('abort', () => { resolve() }) })
  })
  await app.ready()
  await third.promise
  t.same(told.splice(0), ['service: attempt failed', 'service service: 1 failed', 'service: restarted', 'service: attempt failed', 'service service: 1 failed', 'service: restarted'])
  await service.stop()
  await service.start()
  await app.close()
  t.same(told, ['service service: 1 succeeded', 'service service: 1 succeeded'])
})

t.test('ticks: each that begins, with how late it is, and none that was triggered or skipped', async t => {
  const { app } = await build(t)
  const { told, lateness } = observe(app)
  const { handler, call, calls } = held()
  const task = app.addBackgroundTask('ticks', { every: 20, overlap: 'wait' }, handler)
  await app.ready()
  await call(0)
  t.same(told.splice(0), ['ticks: tick began'])
  t.ok(Number(lateness[0]) >= 0 && Number(lateness[0]) < 1_000)
  await until(async () => task.stats.skipped > 5)
  const { overdue = 0 } = task as unknown as { overdue?: number }
  t.ok(overdue >= 80, 'the tick that waits is late')
  told.length = 0
  calls[0]?.end()
  await call(1)
  t.same(told.filter(one => !one.includes('skipped')), ['timed ticks: 1 succeeded', 'ticks: tick began'])
  t.ok(Number(lateness[1]) >= overdue)
  await task.pause()
  calls[1]?.end()
  await later()
  told.length = 0
  const { finished } = task.trigger()
  await call(2)
  calls[2]?.end()
  await finished
  t.same(told, ['timed ticks: 1 succeeded'])
})

t.test('the jitter of a tick is no lateness', async t => {
  const { app } = await build(t)
  const { lateness } = observe(app)
  const twice = deferred()
  app.addBackgroundTask('ticks', { every: 20, jitter: '1h', immediate: true }, async () => { twice.resolve() })
  await app.ready()
  await twice.promise
  t.same(lateness, [0])
})

t.test('background runs, under the name of all of them', async t => {
  const { app } = await build(t)
  const { told } = observe(app)
  await app.ready()
  await app.runInBackground('count-click', () => {}).finished
  await app.runInBackground('fails', () => { throw new Error('x') }).finished
  t.same(told, ['background background: 1 succeeded', 'background: attempt failed', 'background background: 1 failed'])
})
