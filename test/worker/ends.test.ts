// How a run in a thread ends before it is done: its signal, and what happens to one that does not hear it.
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { build, logged, type Line } from '../support/helper.ts'
import { job } from '../support/worker.ts'

/** A task that has begun in its thread. */
async function begun (app: FastifyInstance, lines: Line[], name: string, options: object = {}, killAfter: number | string = '1h'): Promise<{ task: ReturnType<FastifyInstance['addBackgroundTask']>, run: ReturnType<ReturnType<FastifyInstance['addBackgroundTask']>['trigger']> }> {
  const task = app.addBackgroundTask(name, { every: '1h', ...options }, job(name, { killAfter, threads: 4 }))
  await app.ready()
  const run = task.trigger()
  await logged(lines, 'begun', name)
  return { task, run }
}

for (const name of ['polls', 'listens']) {
  t.test(`${name}: the signal in the thread aborts with the same reason, and the thread lives on`, async t => {
    const { app, lines } = await build(t)
    const { task, run } = await begun(app, lines, name)
    await task.cancel(run.id)
    const first = await run.finished
    t.match(first, { outcome: 'succeeded', value: { name: 'FastifyError', code: 'FST_BG_CANCELLED', message: `Background task "${name}" was cancelled: the run was cancelled.`, isError: true } })
    lines.length = 0
    const again = task.trigger()
    await logged(lines, 'begun', name)
    await task.stop()
    t.equal(((await again.finished).value as { threadId: number }).threadId, (first.value as { threadId: number }).threadId, 'the same thread')
  })
}

t.test('a loop that calls throwIfAborted ends, and so does one that passes its signal on', async t => {
  const { app, lines } = await build(t)
  for (const name of ['throwsIfAborted', 'passesOn']) {
    const { task, run } = await begun(app, lines, name)
    await task.cancel(run.id)
    t.match(await run.finished, { outcome: 'cancelled', error: { code: name === 'passesOn' ? 'ABORT_ERR' : 'FST_BG_CANCELLED' } })
  }
})

t.test('timeout ends even an endless loop, as a failure', async t => {
  const { app, lines } = await build(t)
  await app.ready()
  // Its thread is there: on a busy machine the start of one takes longer than the timeout, and the loop would never begin.
  await app.addBackgroundTask('first', { every: '1h' }, job('where', { threads: 4 })).trigger().finished
  const { run } = await begun(app, lines, 'loop', { timeout: 2_500 }, 10)
  const { outcome, error, duration } = await run.finished
  t.equal(outcome, 'failed')
  t.match(error, { code: 'FST_BG_TIMEOUT', message: 'Background task "loop" did not end within 2s500ms.' })
  t.ok(duration < 5_000)
  t.match(await app.addBackgroundTask('next', { every: '1h' }, job('where')).trigger().finished, { outcome: 'succeeded' }, 'the next run gets a thread')
})

t.test('cancel() and stop() end even an endless loop, after killAfter and not before', async t => {
  const { app, lines } = await build(t)
  const { task, run } = await begun(app, lines, 'loop', {}, 200)
  const from = performance.now()
  await task.cancel(run.id)
  t.match(await run.finished, { outcome: 'cancelled', error: { code: 'FST_BG_CANCELLED' } })
  t.ok(performance.now() - from >= 199)
  lines.length = 0
  const second = task.trigger()
  await logged(lines, 'begun', 'loop')
  await task.stop()
  t.match(await second.finished, { outcome: 'cancelled' })
})

t.test('with a killAfter of 0 a run has no time', async t => {
  const { app, lines } = await build(t)
  const { task, run } = await begun(app, lines, 'loop', {}, 0)
  await task.cancel(run.id)
  t.match(await run.finished, { outcome: 'cancelled' })
})

t.test('close() ends even an endless loop, and is not held back by it', async t => {
  const { app, lines } = await build(t, { shutdownTimeout: '20s' })
  const { run } = await begun(app, lines, 'loop', {}, 100)
  const from = performance.now()
  await app.close()
  t.ok(performance.now() - from < 10_000)
  t.match(await run.finished, { outcome: 'cancelled', error: { code: 'FST_BG_SHUTDOWN' } })
  t.match(await logged(lines, 'run cut short by shutdown'), { level: 'warn', task: 'loop' })
})

t.test('a loop with a longer killAfter ends at the shutdown deadline, with its thread', async t => {
  const { app, lines } = await build(t, { shutdownTimeout: 300 })
  const { run } = await begun(app, lines, 'loop', {}, '1h')
  await app.close()
  t.match(await run.finished, { outcome: 'cancelled', error: { code: 'FST_BG_SHUTDOWN' } })
})

t.test('grace: a run may end after close has begun', async t => {
  const { app, lines } = await build(t, { shutdownTimeout: '20s' })
  const memory = new SharedArrayBuffer(4)
  app.setValidatorCompiler(() => () => ({ value: { memory } }))
  const queue = app.addBackgroundQueue('gate', { schema: { payload: {} }, grace: '10s' }, job('gate'))
  await app.ready()
  await queue.enqueue({})
  await logged(lines, 'begun')
  const closed = app.close()
  await logged(lines, 'close waits for background tasks')
  Atomics.store(new Int32Array(memory), 0, 1)
  await closed
  t.match(queue.history, [{ outcome: 'succeeded' }])
})

t.test('a run that is aborted while it waits for a thread never begins', async t => {
  const { app, lines } = await build(t)
  const memory = new SharedArrayBuffer(4)
  app.setValidatorCompiler(() => () => ({ value: { memory } }))
  const queue = app.addBackgroundQueue('gate', { schema: { payload: {} }, concurrency: 3 }, job('gate', { threads: 1 }))
  await app.ready()
  const [, second] = [await queue.enqueue({}), await queue.enqueue({}), await queue.enqueue({})]
  await logged(lines, 'begun')
  await queue.cancel(second.id)
  t.match(queue.history, [{ id: second.id, outcome: 'cancelled', error: { code: 'FST_BG_CANCELLED' } }], 'it ends at once')
  Atomics.store(new Int32Array(memory), 0, 1)
  await queue.drain()
  t.match(queue.stats, { succeeded: 2, cancelled: 1 })
  t.equal(lines.filter(({ msg }) => msg === 'begun').length, 2)
})

t.test('a run that is aborted while its thread starts never begins, and the thread takes the next one', async t => {
  const { app, lines } = await build(t)
  const task = app.addBackgroundTask('loop', { every: '1h', overlap: 'allow' }, job('loop', { threads: 1, killAfter: '1h' }))
  await app.ready()
  const run = task.trigger()
  // The trigger begins in the next turn; a thread takes tens of milliseconds.
  await new Promise(resolve => { setImmediate(resolve) })
  await task.cancel(run.id)
  t.match(await run.finished, { outcome: 'cancelled', error: { code: 'FST_BG_CANCELLED' } })
  t.match(await app.addBackgroundTask('next', { every: '1h' }, job('where')).trigger().finished, { outcome: 'succeeded' })
  t.notOk(lines.some(({ msg }) => msg === 'begun'))
})

t.test('a run that is aborted before its handler is called hears of it', async t => {
  const { app } = await build(t, {
    onRun: async (run, next) => {
      if (run.task === 'first') return await next()
      // The thread is there: the run begins at once, and its signal aborts after the first synchronous part.
      void app.backgroundTasks.get(run.task)?.cancel(run.id)
      return await next()
    }
  })
  await app.ready()
  await app.addBackgroundTask('first', { every: '1h' }, job('where', { threads: 1 })).trigger().finished
  for (const name of ['polls', 'listens']) {
    const { outcome } = await app.addBackgroundTask(name, { every: '1h' }, job(name, { killAfter: '1h' })).trigger().finished
    t.match(outcome, /succeeded|cancelled/, name)
  }
})
