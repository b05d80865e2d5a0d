import { mock } from 'node:test'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { ticks, type BackgroundTask, type Run } from '../../lib/index.ts'
import { build, deferred, mortal, rejection } from '../support/helper.ts'
import { DAY, dues, fake, fakeClocks, HOUR, linesOf, MINUTE, range, SECOND, since, START, turns, worker } from '../support/fakes.ts'

const SKIPPED = /^tick skipped: the run before it is active$/
const HANGS = /^\d+ ticks skipped behind a run that has not ended: does it hang\?$/

// The grid.

t.test('a task with every runs on a fixed grid from the moment the app is ready', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker()
  const task = app.addBackgroundTask('a', { every: '1s' }, work.handler)
  t.equal(task.kind, 'timed')
  await clock.tickAsync(700)
  await app.ready()
  await clock.tickAsync(999)
  t.same(work.calls, [], 'nothing before the first period is over')
  t.same(task.stats, { succeeded: 0, failed: 0, cancelled: 0, skipped: 0, active: 0 })
  await clock.tickAsync(1)
  t.match(work.calls, [{ due: 1_700, at: 1_700, missed: 0 }])
  await clock.tickAsync(3_000)
  t.same(work.calls.map(({ due, at, missed }) => [due, at, missed]), [1_700, 2_700, 3_700, 4_700].map(ms => [ms, ms, 0]))
  t.equal(new Set(work.calls.map(({ id }) => id)).size, 4, 'each is a run of its own')
  t.equal(task.stats.succeeded, 4)
})

t.test('the grid of a task that is started by hand begins there', async t => {
  const clock = fake(t)
  const { app } = await build(t, { autostart: false })
  const one = worker()
  const all = worker()
  const task = app.addBackgroundTask('one', { every: '1s' }, one.handler)
  app.addBackgroundTask('all', { every: '1s' }, all.handler)
  await app.ready()
  await clock.tickAsync(2_300)
  await task.start()
  await clock.tickAsync(200)
  await app.backgroundTasks.start()
  await task.start()
  await clock.tickAsync(2_000)
  t.same(dues(one, 1), [3_300, 4_300])
  t.same(dues(all, 1), [3_500, 4_500])
})

t.test('the grid of a task that a handler or a route declares begins there', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  await app.ready()
  await clock.tickAsync(300)
  const work = worker()
  app.addBackgroundTask('late', { every: '1s' }, work.handler)
  await clock.tickAsync(2_000)
  t.same(dues(work, 1), [1_300, 2_300])
})

t.test('a task that is not enabled does not tick until it is started', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker()
  const task = app.addBackgroundTask('a', { every: 100, enabled: false, immediate: true }, work.handler)
  await app.ready()
  await app.backgroundTasks.start()
  await clock.tickAsync(1_000)
  t.same(work.calls, [])
  await task.start()
  await clock.tickAsync(100)
  t.same(dues(work, 1), [1_000, 1_100])
})

t.test('a period may be far longer than setTimeout takes', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const month = worker()
  const year = worker()
  app.addBackgroundTask('month', { every: '30d' }, month.handler)
  app.addBackgroundTask('year', { every: 365 * DAY }, year.handler)
  await app.ready()
  await clock.tickAsync(30 * DAY - 1)
  t.same(month.calls, [])
  await clock.tickAsync(1)
  await clock.tickAsync(335 * DAY)
  t.same(dues(month, DAY), range(1, 12).map(i => i * 30))
  t.same(year.calls.map(({ due, at }) => [due, at]), [[365 * DAY, 365 * DAY]])
})

t.test('immediate also runs once at the start, and does not delay it', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker(true)
  await clock.tickAsync(50)
  app.addBackgroundTask('a', { every: '1s', immediate: true }, work.handler)
  let calls: number | undefined
  app.addHook('onReady', async () => { calls = work.calls.length })
  await app.ready()
  t.equal(calls, 0, 'called in a later macrotask')
  await turns()
  t.match(work.calls, [{ due: 50, at: 50, missed: 0 }], 'due at the start')
  work.hold = false
  work.calls[0]?.end()
  await clock.tickAsync(2_000)
  t.same(dues(work, 1), [50, 1_050, 2_050])
})

t.test('a cron task follows the wall clock, not the moment of the start', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker()
  await clock.tickAsync(20 * MINUTE)
  app.addBackgroundTask('a', { cron: '*/15 * * * *', timezone: 'UTC', immediate: true }, work.handler)
  await app.ready()
  await clock.tickAsync(40 * MINUTE)
  t.same(dues(work, MINUTE), [20, 30, 45, 60])
  t.same(work.calls.map(({ at }) => at / MINUTE), [20, 30, 45, 60])
})

t.test('a handler that fails is logged, and the schedule goes on', async t => {
  const clock = fake(t)
  const { app, lines } = await build(t)
  const error = new Error('of the handler')
  let calls = 0
  const task = app.addBackgroundTask('a', { every: '1s' }, async () => {
    if (++calls === 1) throw error
  })
  await app.ready()
  await clock.tickAsync(2_000)
  t.match(linesOf(lines, 'error', /./), [{ task: 'a', msg: 'run failed', err: { message: error.message } }])
  t.match(linesOf(lines, 'info', /^run succeeded$/), [{ task: 'a', attempt: 1, duration: 0 }])
  t.match(task.stats, { succeeded: 1, failed: 1 })
  const [failed, succeeded] = linesOf(lines, 'debug', /^run started$/)
  t.match([failed, succeeded], [{ task: 'a', dueAt: new Date(START + 1_000).toISOString() }, { dueAt: new Date(START + 2_000).toISOString() }])
  t.equal(linesOf(lines, 'error', /./)[0]?.run, failed?.run)
  t.equal(linesOf(lines, 'info', /^run succeeded$/)[0]?.run, succeeded?.run)
})

for (const [name, install] of Object.entries(fakeClocks)) {
  t.test(`the fake clock of ${name} drives many ticks in a row`, async t => {
    for (const [options, period] of [
      [{ every: '1s', misfire: 'skip' }, SECOND],
      [{ every: '45s', overlap: 'wait' }, 45 * SECOND],
      [{ every: '1h' }, HOUR],
      [{ every: '20d' }, 20 * DAY],
      [{ cron: '* * * * * *' }, SECOND],
      [{ cron: '*/10 * * * * *', timezone: 'UTC' }, 10 * SECOND],
      [{ cron: '* * * * *', misfire: 'all' }, MINUTE],
      [{ cron: '@hourly', timezone: 'Asia/Seoul' }, HOUR],
      [{ cron: '0 0 * * *', timezone: 'UTC' }, DAY]
    ] as const) {
      await t.test(JSON.stringify(options), async t => {
        const advance = install(t)
        const { app } = await build(t)
        const work = worker()
        app.addBackgroundTask('a', options, work.handler)
        await app.ready()
        for (let i = 1; i <= 12; i++) {
          await advance(period)
          t.equal(work.calls.length, i, `tick ${i}`)
        }
        // node:test leaves performance alone, which goes on meanwhile.
        const index = (time: number): number => name === 'sinon' ? time / period : Math.round(time / period)
        t.same(work.calls.map(({ due, at, missed }) => [index(due), index(at), missed]), range(1, 12).map(i => [i, i, 0]))
      })
    }
  })
}

t.test('ten thousand timed tasks cost one armed timer', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  let runs = 0
  for (let i = 0; i < 10_000; i++) {
    const options = i % 2 === 0 ? { every: 60_000 + i } : { cron: `${i % 60} * * * *`, timezone: 'UTC' }
    app.addBackgroundTask(`task ${i}`, options, async () => { runs++ })
  }
  await app.ready()
  t.equal(clock.countTimers(), 1)
  await clock.tickAsync(MINUTE + 5_000)
  t.ok(runs > 2_000, `${runs} runs`)
  t.equal(clock.countTimers(), 1)
  await app.close()
  t.equal(clock.countTimers(), 0)
})

// When it is due next.

t.test('nextRunAt and nextRuns tell the due times to come', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const every = app.addBackgroundTask('every', { every: '10m', immediate: true }, worker().handler)
  const cron = app.addBackgroundTask('cron', { cron: '0 */6 * * *', timezone: 'UTC' }, worker().handler)
  const service = app.addBackgroundTask('service', async () => {})
  const tasks = [every, cron]
  const next = (unit: number): unknown => tasks.map(task => [since(task.nextRunAt, unit), ...task.nextRuns(3).map(date => since(date, unit))])

  t.same(next(1), [[undefined], [undefined]], 'not started')
  await app.ready()
  t.same(next(MINUTE), [[10, 10, 20, 30], [360, 360, 720, 1_080]], 'started')
  t.same(service.nextRuns(3), [], 'a service has none')
  t.equal(service.nextRunAt, undefined)
  t.same(every.nextRuns(0), [])
  t.equal(every.nextRuns(1_000).length, 1_000)
  await clock.tickAsync(10 * MINUTE)
  t.same(next(MINUTE), [[20, 20, 30, 40], [360, 360, 720, 1_080]], 'after a tick')

  for (const task of tasks) await task.pause()
  t.same(next(1), [[undefined], [undefined]], 'paused')
  await clock.tickAsync(15 * MINUTE)
  for (const task of tasks) await task.resume()
  t.same(next(MINUTE), [[30, 30, 40, 50], [360, 360, 720, 1_080]], 'resumed')
  for (const task of tasks) await task.stop()
  t.same(next(1), [[undefined], [undefined]], 'stopped')
  for (const task of tasks) await task.start()
  t.same(next(MINUTE), [[35, 35, 45, 55], [360, 360, 720, 1_080]], 'started anew')
  await app.close()
  t.same(next(1), [[undefined], [undefined]], 'closed')
})

t.test('nextRuns refuses what is no whole number from 0 to 1,000', async t => {
  const { app } = await build(t)
  const tasks = [app.addBackgroundTask('a', { every: 1_000 }, async () => {}), app.addBackgroundTask('b', async () => {})]
  for (const task of tasks) {
    for (const [count, received] of [[-1, '-1'], [1.5, '1.5'], [NaN, 'NaN'], [Infinity, 'Infinity'], [1_001, '1001'], ['3', "'3'"], [undefined, 'undefined']] as const) {
      const error = await rejection(async () => { task.nextRuns(count as number) })
      t.equal(error.code, 'FST_BG_INVALID_OPTION')
      t.match(error.message, `nextRuns() takes a whole number from 0 to 1000; received ${received}.`)
    }
  }
})

// A tick that is due while a run is active.

t.test('overlap skip: ticks that fall due during a run are skipped, and the grid stays', async t => {
  const clock = fake(t)
  const { app, lines } = await build(t)
  const work = worker(true)
  const task = app.addBackgroundTask('a', { every: '1s' }, work.handler)
  await app.ready()
  await clock.tickAsync(3_500)
  t.same(dues(work, SECOND), [1])
  t.match(task.stats, { skipped: 2, active: 1, succeeded: 0 })
  t.match(linesOf(lines, 'debug', SKIPPED), [2_000, 3_000].map((ms, i) => (
    { task: 'a', run: work.calls[0]?.id, dueAt: new Date(START + ms).toISOString(), skipped: i + 1 }
  )))
  work.calls[0]?.end()
  await turns()
  t.same(dues(work, SECOND), [1], 'none is made up for')
  await clock.tickAsync(600)
  t.match(work.calls[1], { due: 4_000, at: 4_000, missed: 0 })
  t.same(linesOf(lines, 'warn', /./), [])
})

t.test('overlap wait: one of them waits, and runs as soon as the active run has ended', async t => {
  const clock = fake(t)
  const { app, lines } = await build(t)
  const work = worker(true)
  const task = app.addBackgroundTask('a', { every: '1s', overlap: 'wait' }, work.handler)
  await app.ready()
  await clock.tickAsync(4_500)
  t.same(dues(work, SECOND), [1])
  t.match(task.stats, { skipped: 2, active: 1 }, 'the one that waits is neither')
  t.same(linesOf(lines, 'debug', SKIPPED).map(({ dueAt }) => dueAt), [3, 4].map(s => new Date(START + s * SECOND).toISOString()))
  work.calls[0]?.end()
  await turns()
  t.same(work.calls.map(({ due, at }) => [due, at]), [[1_000, 1_000], [2_000, 4_500]])
  t.equal(task.state, 'running')
  work.calls[1]?.end()
  await turns()
  t.equal(work.calls.length, 2, 'no other was kept')
  t.equal(task.state, 'idle')
  await clock.tickAsync(500)
  t.match(work.calls[2], { due: 5_000, at: 5_000 }, 'the grid stays')
})

t.test('overlap wait: the one that waits runs even when the active run fails', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker(true)
  const task = app.addBackgroundTask('a', { every: '1s', overlap: 'wait' }, work.handler)
  await app.ready()
  await clock.tickAsync(2_000)
  work.calls[0]?.fail(new Error('x'))
  await turns()
  t.same(dues(work, SECOND), [1, 2])
  t.match(task.stats, { failed: 1, active: 1, skipped: 0 })
})

t.test('overlap allow: each tick runs, beside what is active', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker(true)
  const task = app.addBackgroundTask('a', { every: '1s', overlap: 'allow' }, work.handler)
  await app.ready()
  await clock.tickAsync(4_000)
  t.same(work.calls.map(({ due, at }) => [due, at]), [1_000, 2_000, 3_000, 4_000].map(ms => [ms, ms]))
  t.match(task.stats, { active: 4, skipped: 0 })
  for (const { end } of [...work.calls].reverse()) {
    t.equal(task.state, 'running')
    end()
    await turns()
  }
  t.equal(task.state, 'idle')
  t.match(task.stats, { active: 0, succeeded: 4 })
})

for (const overlap of ['skip', 'wait'] as const) {
  t.test(`overlap ${overlap}: the third tick skipped behind one run is warned of, then every doubling`, async t => {
    const clock = fake(t)
    const { app, lines } = await build(t)
    const work = worker(true)
    const task = app.addBackgroundTask('a', { every: '1s', overlap }, work.handler)
    const pending = overlap === 'wait' ? 1 : 0
    await app.ready()
    await clock.tickAsync((1 + pending + 30) * SECOND)
    t.equal(task.stats.skipped, 30)
    const warned = linesOf(lines, 'warn', HANGS)
    t.same(warned.map(({ skipped }) => skipped), [3, 6, 12, 24])
    t.same(new Set(warned.map(({ run }) => run)), new Set([work.calls[0]?.id]), 'they name the run')
    t.same(new Set(warned.map(({ task }) => task)), new Set(['a']))
    t.match(warned[0], { msg: '3 ticks skipped behind a run that has not ended: does it hang?', dueAt: new Date(START + (4 + pending) * SECOND).toISOString() })
    t.equal(linesOf(lines, 'debug', SKIPPED).length, 26)

    for (let i = 0; i <= pending; i++) {
      work.calls[i]?.end()
      await turns()
    }
    await clock.tickAsync((1 + pending + 2) * SECOND)
    t.equal(task.stats.skipped, 32)
    t.equal(linesOf(lines, 'warn', HANGS).length, 4, 'counted anew behind the next run')
    await clock.tickAsync(SECOND)
    t.match(linesOf(lines, 'warn', HANGS)[4], { skipped: 3, run: work.calls[1 + pending]?.id })
  })
}

// Asked for by hand.

t.test('trigger runs a task now, and tells how that ended', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker(true)
  const task = app.addBackgroundTask('a', { every: '1s' }, work.handler)
  await app.ready()
  await clock.tickAsync(250)

  const first = task.trigger()
  t.same(work.calls, [], 'in a later macrotask')
  await turns()
  t.match(work.calls, [{ id: first.id, due: 250, at: 250, missed: 0 }])
  t.equal(task.state, 'running')
  await clock.tickAsync(100)
  work.calls[0]?.end('value')
  t.same(await first.finished, { outcome: 'succeeded', value: 'value', error: undefined, duration: 100 })

  for (const error of [new Error('x'), Object.freeze(new Error('frozen')), undefined, null, 'text']) {
    const { finished } = task.trigger()
    await turns()
    work.calls.at(-1)?.fail(error)
    const result = await finished
    t.match(result, { outcome: 'failed', value: undefined, duration: 0 })
    t.equal(result.error, error)
  }
  t.match(task.stats, { succeeded: 1, failed: 5 })
  await clock.tickAsync(650)
  t.equal(work.calls.at(-1)?.due, 1_000, 'the grid stays')
})

t.test('a triggered run is under overlap like a tick', async t => {
  const clock = fake(t)
  const { app, lines } = await build(t)
  const works = { skip: worker(true), wait: worker(true), allow: worker(true) }
  const tasks = Object.entries(works).map(([overlap, { handler }]) => (
    app.addBackgroundTask(overlap, { every: '1h', overlap: overlap as 'skip' }, handler)
  )) as [BackgroundTask, BackgroundTask, BackgroundTask]
  await app.ready()
  await clock.tickAsync(HOUR)
  const handles = tasks.map(task => [task.trigger(), task.trigger()])
  const [skip, wait, allow] = handles as Array<[ReturnType<BackgroundTask['trigger']>, ReturnType<BackgroundTask['trigger']>]>
  await turns()
  t.same(Object.values(works).map(({ calls }) => calls.length), [1, 1, 3])

  for (const { finished } of skip ?? []) t.same(await finished, { outcome: 'skipped', value: undefined, error: undefined, duration: 0 })
  t.match(tasks[0].stats, { skipped: 2, active: 1 })
  t.equal(linesOf(lines, 'debug', SKIPPED).filter(({ task }) => task === 'skip').length, 2)

  t.same((await wait?.[1].finished)?.outcome, 'skipped', 'one waits already')
  works.wait.calls[0]?.end()
  await turns()
  t.match(works.wait.calls[1], { id: wait?.[0].id, due: HOUR })
  works.wait.calls[1]?.end('waited')
  t.match(await wait?.[0].finished, { outcome: 'succeeded', value: 'waited' })

  t.same(works.allow.calls.slice(1).map(({ id }) => id), allow?.map(({ id }) => id))
  works.allow.calls[2]?.end(2)
  works.allow.calls[1]?.fail(1)
  t.match(await allow?.[0].finished, { outcome: 'failed', error: 1 })
  t.match(await allow?.[1].finished, { outcome: 'succeeded', value: 2 })
  t.equal(tasks[2].stats.active, 1)
})

t.test('trigger works while a task is paused, stopped, not started or not enabled, and starts nothing else', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const cases: Array<[name: string, enabled: boolean, prepare: (task: BackgroundTask) => Promise<void>, state: string]> = [
    ['paused', true, async task => { await task.pause() }, 'paused'],
    ['stopped', true, async task => { await task.stop() }, 'stopped'],
    ['not enabled', false, async () => {}, 'idle']
  ]
  const all = cases.map(([name, enabled, prepare, state]) => {
    const work = worker()
    return { name, prepare, state, work, task: app.addBackgroundTask(name, { every: '1s', enabled }, work.handler) }
  })
  await app.ready()
  await clock.tickAsync(500)
  for (const { name, prepare, state, work, task } of all) {
    await prepare(task)
    for (let i = 1; i <= 2; i++) {
      const { id, finished } = task.trigger()
      t.match(await finished, { outcome: 'succeeded' }, name)
      t.match(work.calls.at(-1), { id, due: 500 })
      t.equal(task.state, state)
      t.equal(task.nextRunAt, undefined)
    }
  }
  await clock.tickAsync(5_000)
  for (const { name, work, task } of all) {
    t.equal(work.calls.length, 2, `${name}: no tick`)
    t.match(task.stats, { succeeded: 2 })
  }
})

t.test('trigger works where autostart is false, and before the app is ready', async t => {
  fake(t)
  const { app } = await build(t, { autostart: false })
  const task = app.addBackgroundTask('a', { every: '1s' }, async () => 'value')
  t.match(await task.trigger().finished, { outcome: 'succeeded', value: 'value' })
  await app.ready()
  t.match(await task.trigger().finished, { outcome: 'succeeded', value: 'value' })
  t.equal(task.state, 'idle')
})

t.test('a handler may trigger its own task', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const results: Record<string, string> = {}
  const calls = { skip: 0, wait: 0, allow: 0 }
  for (const overlap of ['skip', 'wait', 'allow'] as const) {
    const task: BackgroundTask = app.addBackgroundTask(overlap, { every: '1s', overlap }, async () => {
      if (++calls[overlap] > 1) return
      void task.trigger().finished.then(({ outcome }) => { results[overlap] = outcome })
      await turns()
    })
  }
  await app.ready()
  await clock.tickAsync(1_000)
  await turns(10)
  t.same(results, { skip: 'skipped', wait: 'succeeded', allow: 'succeeded' })
  t.same(calls, { skip: 1, wait: 2, allow: 2 })
})

t.test('trigger refuses while the app closes, and after', async t => {
  fake(t)
  const { app } = await build(t)
  const tasks = [
    app.addBackgroundTask('timed', { every: '1s' }, async () => {}),
    app.addBackgroundTask('service', async () => {}),
    app.addBackgroundTask('hosted', { start: async () => {} })
  ]
  const codes: unknown[] = []
  const triggerAll = async (): Promise<void> => {
    for (const task of tasks) codes.push((await rejection(async () => { task.trigger() })).code)
  }
  app.addHook('onClose', triggerAll)
  await app.ready()
  await turns()
  await app.close()
  await triggerAll()
  t.same(codes, Array.from({ length: 6 }, () => 'FST_BG_CLOSING'))
})

t.test('a triggered run that is called off before it begins is cancelled, and its handler not called', async t => {
  fake(t)
  const { app } = await build(t)
  const work = worker()
  const task = app.addBackgroundTask('a', { every: '1s' }, work.handler)
  await app.ready()
  const { finished } = task.trigger()
  await task.stop()
  t.match(await finished, { outcome: 'cancelled', value: undefined, duration: 0, error: { code: 'FST_BG_CANCELLED' } })
  t.same(work.calls, [])
})

t.test('a triggered run that waits is cancelled when the task stops', async t => {
  fake(t)
  const { app } = await build(t)
  const work = worker(true)
  const task = app.addBackgroundTask('a', { every: '1s', overlap: 'wait' }, work.handler)
  await app.ready()
  const first = task.trigger()
  await turns()
  const second = task.trigger()
  await task.stop()
  t.match(await first.finished, { outcome: 'cancelled', error: { code: 'FST_BG_CANCELLED' } })
  t.match(await second.finished, { outcome: 'cancelled', value: undefined })
  await turns()
  t.equal(work.calls.length, 1)
})

t.test('a triggered run that waits is cancelled by its id, and nothing else is', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker(true)
  const task = app.addBackgroundTask('a', { every: '10s', overlap: 'wait' }, work.handler)
  await app.ready()
  await clock.tickAsync(10 * SECOND)
  const waits = task.trigger()
  await task.cancel(waits.id)
  t.match(await waits.finished, { outcome: 'cancelled', error: { code: 'FST_BG_CANCELLED' } })
  t.match(task.history, [{ id: waits.id, outcome: 'cancelled' }])
  t.equal((await rejection(task.cancel(waits.id))).code, 'FST_BG_NOT_FOUND')
  await clock.tickAsync(10 * SECOND)
  work.hold = false
  work.calls[0]?.end()
  await turns()
  t.same(dues(work, SECOND), [10, 20], 'the tick that came then has waited, and has run')
})

t.test('trigger ends the wait of a service that failed: its next life begins now', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker(true)
  const task = app.addBackgroundTask('a', { restart: { delay: '1h', maxDelay: '1h', jitter: false } }, work.handler)
  await app.ready()
  await turns()
  work.calls[0]?.fail(new Error('no database'))
  await turns()
  t.equal(task.state, 'backoff')
  const run = task.trigger()
  t.equal(task.state, 'running')
  await turns()
  t.equal(work.calls[1]?.id, run.id)
  await clock.tickAsync(2 * HOUR)
  t.equal(work.calls.length, 2, 'the wait is over')
  work.calls[1]?.end('done')
  t.match(await run.finished, { outcome: 'succeeded', value: 'done' })
  t.equal(task.state, 'completed')
})

t.test('trigger starts a service that does not run; one that runs skips it', async t => {
  const { app } = await build(t, { autostart: false })
  const work = worker(true)
  const task = app.addBackgroundTask('service', mortal, work.handler)
  await app.ready()
  const first = task.trigger()
  t.match(await task.trigger().finished, { outcome: 'skipped' })
  await turns()
  t.equal(task.state, 'running')
  t.equal(work.calls[0]?.id, first.id)
  t.match(await task.trigger().finished, { outcome: 'skipped' })
  work.calls[0]?.end('done')
  t.match(await first.finished, { outcome: 'succeeded', value: 'done' })
  t.equal(task.state, 'completed')

  const second = task.trigger()
  await turns()
  work.calls[1]?.fail('thrown')
  t.match(await second.finished, { outcome: 'failed', error: 'thrown' })
  t.equal(task.state, 'failed')

  const third = task.trigger()
  await turns()
  await task.stop()
  t.match(await third.finished, { outcome: 'cancelled', error: { code: 'FST_BG_CANCELLED' } })
  t.equal(work.calls.length, 3)
  t.same(task.stats, { succeeded: 1, failed: 1, cancelled: 1, skipped: 2, active: 0 })
})

t.test('trigger starts a hosted service that is not up', async t => {
  const { app } = await build(t, { autostart: false })
  const called: string[] = []
  let fails = false
  const task = app.addBackgroundTask('hosted', {
    async start ({ id }) {
      called.push(id)
      if (fails) throw new Error('of start')
      return 'up'
    },
    async stop () { called.push('stop') }
  })
  await app.ready()
  const first = task.trigger()
  t.match(await first.finished, { outcome: 'succeeded', value: 'up' })
  t.match(await task.trigger().finished, { outcome: 'skipped' }, 'it is up')
  await task.stop()
  fails = true
  const second = task.trigger()
  t.match(await second.finished, { outcome: 'failed', error: { message: 'of start' } })
  t.same(called, [first.id, 'stop', second.id])
  t.equal(task.state, 'failed')
})

// Pause, resume, start and stop.

t.test('pause starts nothing new and lets the active run finish; resume keeps the grid and leaves out what was due meanwhile', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker(true)
  const cron = worker()
  const task = app.addBackgroundTask('a', { every: '1s', misfire: 'all' }, work.handler)
  const byCron = app.addBackgroundTask('b', { cron: '* * * * * *', misfire: 'all' }, cron.handler)
  await app.ready()
  await clock.tickAsync(1_300)
  await task.pause()
  await byCron.pause()
  t.equal(task.state, 'paused')
  t.match(task.stats, { active: 1 })
  t.equal(work.calls[0]?.signal.aborted, false)
  work.calls[0]?.end()
  await turns()
  t.equal(task.state, 'paused')
  t.match(task.stats, { active: 0, succeeded: 1 })
  work.hold = false
  await clock.tickAsync(5_000)
  t.same([dues(work, SECOND), dues(cron, SECOND)], [[1], [1]])
  t.equal(clock.countTimers(), 0, 'nothing is armed')
  await task.resume()
  await byCron.resume()
  t.equal(task.state, 'idle')
  await clock.tickAsync(2_000)
  t.same(work.calls.map(({ due, at, missed }) => [due, at, missed]), [[1_000, 1_000, 0], [7_000, 7_000, 0], [8_000, 8_000, 0]])
  t.same(dues(cron, SECOND), [1, 7, 8])
  t.equal(task.stats.skipped, 0)
})

t.test('resume during the run that was active at the pause goes on under overlap', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker(true)
  const task = app.addBackgroundTask('a', { every: '1s' }, work.handler)
  await app.ready()
  await clock.tickAsync(1_000)
  await task.pause()
  await task.resume()
  t.equal(task.state, 'running')
  await clock.tickAsync(1_000)
  t.match(task.stats, { skipped: 1, active: 1 })
  work.calls[0]?.end()
  await turns()
  t.equal(task.state, 'idle')
  await clock.tickAsync(1_000)
  t.same(dues(work, SECOND), [1, 3])
})

t.test('pause drops a tick that waits, and keeps a triggered run that does', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker(true)
  const task = app.addBackgroundTask('a', { every: '1s', overlap: 'wait' }, work.handler)
  await app.ready()
  await clock.tickAsync(2_000)
  await task.pause()
  work.calls[0]?.end()
  await turns()
  t.equal(work.calls.length, 1)
  await task.resume()
  const one = task.trigger()
  await turns()
  const two = task.trigger()
  await task.pause()
  work.calls[1]?.end(1)
  await turns()
  work.calls[2]?.end(2)
  t.match([await one.finished, await two.finished], [{ value: 1 }, { value: 2 }])
  t.equal(task.state, 'paused')
})

t.test('stop aborts the active run, waits for it and drops what waits; start begins a new grid', async t => {
  const clock = fake(t)
  const { app, lines } = await build(t)
  const work = worker(true)
  const task = app.addBackgroundTask('a', { every: '1s', overlap: 'wait' }, work.handler)
  await app.ready()
  await clock.tickAsync(2_300)
  let reason: unknown
  work.calls[0]?.signal.addEventListener('abort', () => { reason = work.calls[0]?.signal.reason })
  const stopped = task.stop()
  t.equal(task.state, 'stopping')
  t.match(reason, { code: 'FST_BG_CANCELLED' })
  await stopped
  t.equal(task.state, 'stopped')
  t.same(task.stats, { succeeded: 0, failed: 0, cancelled: 1, skipped: 0, active: 0 })
  t.match(linesOf(lines, 'debug', /^run cancelled$/), [{ task: 'a', run: work.calls[0]?.id, err: { code: 'FST_BG_CANCELLED' } }])
  t.same(linesOf(lines, 'warn', /./), [])
  t.equal(clock.countTimers(), 0)
  await clock.tickAsync(3_000)
  t.equal(work.calls.length, 1)
  await task.start()
  t.equal(task.state, 'idle')
  await clock.tickAsync(1_000)
  t.same(dues(work, 1), [1_000, 6_300])
})

t.test('stop waits for a handler that ignores its signal, and a start after it waits too', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const gate = deferred()
  let calls = 0
  const task = app.addBackgroundTask('a', { every: '1s' }, async () => {
    calls++
    await gate.promise
  })
  await app.ready()
  await clock.tickAsync(1_000)
  const done: string[] = []
  const stopped = task.stop().then(() => { done.push('stopped') })
  const started = task.start().then(() => { done.push('started') })
  await clock.tickAsync(5_000)
  t.same(done, [])
  gate.resolve()
  await Promise.all([stopped, started])
  t.same(done, ['stopped', 'started'])
  t.equal(calls, 1)
  await clock.tickAsync(1_000)
  t.equal(calls, 2)
})

t.test('pause, resume, start and stop may come twice, and in any order', async t => {
  const clock = fake(t)
  const orders: Array<[asked: Array<'pause' | 'resume' | 'start' | 'stop'>, state: string]> = [
    [['pause', 'pause'], 'paused'],
    [['pause', 'pause', 'resume'], 'idle'],
    [['pause', 'resume', 'resume'], 'idle'],
    [['resume'], 'idle'],
    [['start', 'start'], 'idle'],
    [['stop', 'stop'], 'stopped'],
    [['stop', 'resume'], 'stopped'],
    [['stop', 'pause'], 'stopped'],
    [['stop', 'pause', 'start'], 'idle'],
    [['stop', 'start', 'start'], 'idle'],
    [['stop', 'start', 'stop'], 'stopped'],
    [['pause', 'stop'], 'stopped'],
    [['pause', 'stop', 'resume'], 'stopped'],
    [['pause', 'stop', 'start'], 'idle'],
    [['pause', 'start'], 'paused'],
    [['pause', 'start', 'resume'], 'idle']
  ]
  for (const active of [false, true]) {
    for (const awaited of [false, true]) {
      for (const [asked, state] of orders) {
        const name = `${asked.join(', ')}${active ? ' during a run' : ''}${awaited ? '' : ', at once'}`
        const { app } = await build(t)
        const work = worker(active)
        const task = app.addBackgroundTask('a', { every: '1s' }, work.handler)
        await app.ready()
        await clock.tickAsync(1_000)
        const asks: Array<Promise<void>> = []
        for (const ask of asked) {
          const done = task[ask]()
          asks.push(done)
          if (awaited) await done
        }
        await Promise.all(asks)
        work.hold = false
        work.calls[0]?.end()
        await turns()
        t.equal(task.state, state, name)
        await clock.tickAsync(2_000)
        t.equal(work.calls.length, state === 'idle' ? 3 : 1, `${name}: ${state === 'idle' ? 'ticks' : 'does not tick'}`)
        await app.close()
      }
    }
  }
})

t.test('they may be asked for from inside the handler', async t => {
  const clock = fake(t)
  for (const [ask, state, calls] of [['pause', 'paused', 1], ['stop', 'stopped', 1], ['resume', 'idle', 3], ['start', 'idle', 3]] as const) {
    for (const first of [true, false]) {
      const { app } = await build(t)
      const work = worker()
      const task: BackgroundTask = app.addBackgroundTask('a', { every: '1s', overlap: 'wait' }, async run => {
        await work.handler.call(app, run)
        if (!first) await turns(1)
        void task[ask]()
        await turns(1)
      })
      await app.ready()
      for (let i = 0; i < 3; i++) {
        await clock.tickAsync(1_000)
        await turns(8)
      }
      const where = first ? 'in its first line' : 'later'
      t.equal(task.state, state, `${ask} ${where}`)
      t.equal(work.calls.length, calls, `${ask} ${where}`)
      await app.close()
    }
  }
})

t.test('a task that was stopped or paused before the app is ready does not tick', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker()
  const tasks = ['stop', 'pause'].map(name => app.addBackgroundTask(name, { every: '1s', immediate: true }, work.handler))
  await tasks[0]?.stop()
  await tasks[1]?.pause()
  await app.ready()
  t.same(tasks.map(({ state }) => state), ['stopped', 'paused'])
  await clock.tickAsync(3_000)
  t.same(work.calls, [])
  t.equal(clock.countTimers(), 0)
})

t.test('while the app closes they change nothing, and nothing hangs', async t => {
  const clock = fake(t)
  for (const ask of ['pause', 'resume', 'stop'] as const) {
    for (const before of ['idle', 'running', 'paused', 'stopped']) {
      const { app } = await build(t)
      const work = worker(true)
      const task = app.addBackgroundTask('a', { every: '1s' }, work.handler)
      const asked: Array<Promise<void>> = []
      app.addHook('preClose', async () => { asked.push(task[ask]()) })
      app.addHook('onClose', async () => { asked.push(task[ask]()) })
      await app.ready()
      if (before === 'running') await clock.tickAsync(1_000)
      if (before === 'paused') await task.pause()
      if (before === 'stopped') await task.stop()
      await app.close()
      await Promise.all(asked)
      t.equal(task.state, 'stopped', `${ask} of one that was ${before}`)
      t.equal(clock.countTimers(), 0)
      t.equal((await rejection(task.start())).code, 'FST_BG_CLOSING')
    }
  }
})

// The end.

t.test('a timed task that is closed before its first tick never runs', async t => {
  const clock = fake(t)
  const { app, lines } = await build(t)
  const work = worker()
  const tasks = [
    app.addBackgroundTask('every', { every: '1s' }, work.handler),
    app.addBackgroundTask('cron', { cron: '* * * * * *' }, work.handler),
    app.addBackgroundTask('jitter', { every: '1s', jitter: '1s' }, work.handler)
  ]
  await app.ready()
  await clock.tickAsync(999)
  await app.close()
  t.equal(clock.countTimers(), 0)
  await clock.tickAsync(10_000)
  t.same(work.calls, [])
  t.same(tasks.map(({ state }) => state), ['stopped', 'stopped', 'stopped'])
  t.same(lines.filter(({ task }) => task !== undefined), [], 'there is nothing to say')
})

t.test('as soon as the app closes, one that does nothing is stopped, and due no more', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker(true)
  const tasks = Object.fromEntries(['idle', 'jitter', 'paused'].map(name => [name, app.addBackgroundTask(name, { every: '1s', jitter: name === 'jitter' ? '1h' : 0 }, work.handler)]))
  const seen: unknown[] = []
  const look = (): void => { seen.push(Object.values(tasks).map(({ name, state, nextRunAt, nextRuns }) => [name, state, nextRunAt, nextRuns.call(tasks[name], 2)])) }
  app.addHook('preClose', async () => { look() })
  app.addHook('onClose', async () => { look() })
  await app.ready()
  await tasks.paused?.pause()
  await tasks.idle?.pause()
  // One tick of the other is put off by its jitter.
  await clock.tickAsync(1_000)
  await tasks.idle?.resume()
  await app.close()
  look()
  const stopped = Object.keys(tasks).map(name => [name, 'stopped', undefined, []])
  t.same(seen, [stopped, stopped, stopped])
  t.equal(clock.countTimers(), 0)
})

t.test('an immediate run whose app closes before it has begun never begins', async t => {
  fake(t)
  const { app } = await build(t, { autostart: false })
  const work = worker()
  const task = app.addBackgroundTask('a', { every: '1s', immediate: true }, work.handler)
  await app.ready()
  const started = task.start()
  const stopped = task.stop()
  await Promise.all([started, stopped])
  await turns()
  t.same(work.calls, [])
  t.equal(task.state, 'stopped')
  await app.close()
})

t.test('close aborts the active run, says so, and drops the tick that waits', async t => {
  const clock = fake(t)
  const { app, lines } = await build(t)
  const work = worker(true)
  const task = app.addBackgroundTask('a', { every: '1s', overlap: 'wait' }, work.handler)
  await app.ready()
  await clock.tickAsync(2_500)
  await app.close()
  t.equal(work.calls.length, 1)
  t.match(work.calls[0]?.signal.reason, { code: 'FST_BG_SHUTDOWN' })
  t.match(linesOf(lines, 'warn', /./), [{ task: 'a', run: work.calls[0]?.id, attempt: 1, duration: 1_500, msg: 'run cut short by shutdown', err: { code: 'FST_BG_SHUTDOWN' } }])
  t.same(linesOf(lines, 'error', /./), [])
  t.match(task.stats, { cancelled: 1, active: 0, skipped: 0 })
  t.equal(task.state, 'stopped')
  t.equal(clock.countTimers(), 0)
})

t.test('a run that ends well after its signal aborted has succeeded', async t => {
  const clock = fake(t)
  const { app, lines } = await build(t)
  const task = app.addBackgroundTask('a', { every: '1s' }, async ({ signal }) => {
    await new Promise<void>(resolve => { signal.addEventListener('abort', () => { resolve() }) })
  })
  await app.ready()
  await clock.tickAsync(1_000)
  await app.close()
  t.match(task.stats, { succeeded: 1, cancelled: 0 })
  t.same(linesOf(lines, 'warn', /./), [])
})

t.test('a triggered run that waits is cancelled when the app closes', async t => {
  fake(t)
  const { app } = await build(t)
  const work = worker(true)
  const task = app.addBackgroundTask('a', { every: '1s', overlap: 'wait' }, work.handler)
  await app.ready()
  const first = task.trigger()
  await turns()
  const second = task.trigger()
  await app.close()
  t.match(await first.finished, { outcome: 'cancelled', error: { code: 'FST_BG_SHUTDOWN' } })
  t.match(await second.finished, { outcome: 'cancelled' })
  t.equal(work.calls.length, 1)
})

t.test('a triggered run whose app closes before it has begun never begins, and is not warned of', async t => {
  fake(t)
  const { app, lines } = await build(t)
  const work = worker()
  const task = app.addBackgroundTask('a', { every: '1s' }, work.handler)
  await app.ready()
  const { finished } = task.trigger()
  await app.close()
  t.match(await finished, { outcome: 'cancelled', error: { code: 'FST_BG_SHUTDOWN' } })
  t.same(work.calls, [])
  t.same(linesOf(lines, 'warn', /./), [])
  t.equal(linesOf(lines, 'debug', /^run cancelled$/).length, 1)
})

t.test('during its grace an active run goes on, and no tick falls due', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker(true)
  const task = app.addBackgroundTask('a', { every: '100ms', overlap: 'wait', grace: '2s' }, work.handler)
  await app.ready()
  await clock.tickAsync(250)
  const closed = app.close()
  await clock.tickAsync(1_900)
  t.equal(work.calls[0]?.signal.aborted, false)
  work.calls[0]?.end()
  await closed
  t.equal(work.calls.length, 1)
  t.match(task.stats, { succeeded: 1, skipped: 0 })
  t.equal(clock.countTimers(), 0)
})

t.test('a run that ignores its signal is named when the deadline passes, and its end afterwards starts nothing', async t => {
  const clock = fake(t)
  const { app, lines } = await build(t, { shutdownTimeout: '1s' })
  const gate = deferred()
  let calls = 0
  const task = app.addBackgroundTask('a', { every: '1s', overlap: 'wait' }, async () => {
    calls++
    await gate.promise
  })
  await app.ready()
  await clock.tickAsync(2_000)
  const closed = app.close()
  await clock.tickAsync(1_000)
  await closed
  t.match(linesOf(lines, 'error', /./), [{ tasks: ['a'], err: { code: 'FST_BG_SHUTDOWN_TIMEOUT' } }])
  gate.resolve()
  await turns()
  t.equal(calls, 1)
  t.equal(task.state, 'stopped')
  t.equal(clock.countTimers(), 0)
})

t.test('on real clocks nothing is left that holds the process', async t => {
  const { app } = await build(t)
  const ran = deferred()
  app.addBackgroundTask('every', { every: 5, jitter: 3 }, async () => { ran.resolve() })
  app.addBackgroundTask('cron', { cron: '* * * * * *' }, async () => {})
  const before = process.getActiveResourcesInfo().filter(name => name === 'Timeout').length
  await app.ready()
  await ran.promise
  t.ok(process.getActiveResourcesInfo().filter(name => name === 'Timeout').length > before)
  await app.close()
  t.equal(process.getActiveResourcesInfo().filter(name => name === 'Timeout').length, before)
})

// What is refused.

t.test('a mistake in the options of a timed task is refused at the declaration', async t => {
  const { app } = await build(t)
  const handler = async (run: Run): Promise<void> => { t.fail(run.id) }
  const cases: Array<[options: object, message: RegExp]> = [
    [{ every: 0 }, /option "every" must be a duration: .*; received 0\./],
    [{ every: '0s' }, /"every" must be .*; received '0s'/],
    [{ every: -1 }, /received -1/],
    [{ every: NaN }, /received NaN/],
    [{ every: Infinity }, /received Infinity/],
    [{ every: '5 parsecs' }, /received '5 parsecs'/],
    [{ every: '1s1s' }, /received '1s1s'/],
    [{ every: '-1s' }, /received '-1s'/],
    [{ every: '' }, /received ''/],
    [{ every: null }, /received null/],
    [{ every: [1_000] }, /"every" must be/],
    [{ cron: 5 }, /option "cron" must be a non-empty string; received 5/],
    [{ cron: '' }, /option "cron" must be a non-empty string; received ''/],
    [{ cron: null }, /option "cron" must be a non-empty string; received null/],
    [{ every: '1s', cron: '* * * * *' }, /"every" and "cron" exclude each other\. Pass one of them/],
    [{ every: '1s', timezone: 'UTC' }, /"timezone" goes with "cron"; a period has none/],
    [{ cron: '* * * * *', timezone: 'Mars/Olympus' }, /option "timezone" must be an IANA time zone.*received 'Mars\/Olympus'/],
    [{ cron: '* * * * *', timezone: 5 }, /option "timezone" must be a non-empty string; received 5/],
    [{ every: '1s', immediate: 1 }, /option "immediate" must be true or false; received 1/],
    [{ every: '1s', overlap: 'skipp' }, /option "overlap" must be one of 'skip', 'wait', 'allow'; received 'skipp'/],
    [{ every: '1s', overlap: true }, /option "overlap" must be one of .*; received true/],
    [{ every: '1s', misfire: 'never' }, /option "misfire" must be one of 'skip', 'once', 'all'; received 'never'/],
    [{ every: '1s', jitter: -1 }, /option "jitter" must be a duration.*received -1/],
    [{ every: '1s', jitter: 'some' }, /option "jitter" must be a duration.*received 'some'/],
    [{ every: '1s', exclude: ['2026-12-25'] }, /option "exclude" must be a function; received \[/],
    [{ every: '1s', logLevel: 'loud' }, /option "logLevel" must be a level/],
    [{ every: '1s', start: handler }, /option "start" belongs to a hosted service/],
    [{ every: '1s', overlapp: 'skip' }, /unknown option "overlapp"\. Did you mean "overlap"\? It takes .*every, cron/],
    [{ every: '1s', missfire: 'skip' }, /Did you mean "misfire"\?/],
    [{ cron: '* * * * *', timeZone: 'UTC' }, /Did you mean "timezone"\?/],
    [{ evry: '1s' }, /unknown option "evry"\. Did you mean "every"\?/],
    [{ crom: '* * * * *' }, /Did you mean "cron"\?/],
    [{ overlap: 'skip' }, /option "overlap" belongs to a timed task, which has "every" or "cron"/],
    [{ timezone: 'UTC' }, /option "timezone" belongs to a timed task/],
    [{ every: undefined }, /option "every" is undefined\. Pass a period, or leave it out for a service\./],
    [{ cron: undefined }, /option "cron" is undefined\. Pass a cron expression, or leave it out/],
    [{ every: undefined, cron: undefined, jitter: 5 }, /option "every" is undefined/]
  ]
  const declare = app.addBackgroundTask as (this: FastifyInstance, ...given: unknown[]) => unknown
  for (const [options, message] of cases) {
    const error = await rejection(async () => { declare.call(app, 'a', options, handler) })
    t.equal(error.code, 'FST_BG_INVALID_OPTION', String(message))
    t.match(error.message, /^Background task "a": /)
    t.match(error.message, message)
  }
  const error = await rejection(async () => { declare.call(app, 'a', { every: '1s', start: async () => {} }) })
  t.match(error.message, /option "every" belongs to a timed task/)
  t.same([...app.backgroundTasks], [], 'nothing is half-declared')
})

t.test('an option of a timed task that is undefined counts as not given', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker()
  const none = { immediate: undefined, overlap: undefined, misfire: undefined, jitter: undefined, exclude: undefined, enabled: undefined }
  app.addBackgroundTask('a', { ...none, every: '1s', cron: undefined, timezone: undefined }, work.handler)
  app.addBackgroundTask('b', { ...none, cron: '* * * * * *', timezone: undefined, every: undefined }, work.handler)
  await app.ready()
  await clock.tickAsync(1_000)
  t.same(dues(work, SECOND), [1, 1])
})

t.test('the options of a timed task are neither kept nor changed', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker()
  const options = { every: '1s', overlap: 'skip' as const }
  app.addBackgroundTask('a', options, work.handler)
  t.same(options, { every: '1s', overlap: 'skip' })
  options.every = '1ms'
  app.addBackgroundTask('b', Object.freeze({ every: '1s' }), work.handler)
  await app.ready()
  await clock.tickAsync(1_000)
  t.same(dues(work, SECOND), [1, 1])
})

t.test('a task that was paused before the app is ready ticks once it is resumed', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker()
  const task = app.addBackgroundTask('a', { every: '1s' }, work.handler)
  await task.pause()
  await app.ready()
  await clock.tickAsync(2_300)
  t.same(work.calls, [])
  await task.resume()
  t.equal(since(task.nextRunAt, 1), 3_300)
  await clock.tickAsync(2_000)
  t.same(dues(work, 1), [3_300, 4_300])
})

t.test('paused before the app is ready, and resumed before: it starts with the app', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker()
  const task = app.addBackgroundTask('a', { every: '1s' }, work.handler)
  await task.pause()
  await task.resume()
  await clock.tickAsync(500)
  await app.ready()
  await clock.tickAsync(1_000)
  t.same(dues(work, 1), [1_500])
})

t.test('a run that was triggered before the app is ready neither delays it nor keeps the task from ticking', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker(true)
  const task = app.addBackgroundTask('a', { every: '1s' }, work.handler)
  const { finished } = task.trigger()
  await turns()
  await app.ready()
  t.equal(task.state, 'running')
  await clock.tickAsync(1_000)
  t.match(task.stats, { active: 1, skipped: 1 })
  work.calls[0]?.end()
  t.match(await finished, { outcome: 'succeeded' })
  t.equal(task.state, 'idle')
  await clock.tickAsync(1_000)
  t.same(dues(work, 1), [0, 2_000])
})

t.test('start does not wait for a run that was triggered while the task was stopped or not started', async t => {
  const clock = fake(t)
  for (const stopped of [false, true]) {
    const { app } = await build(t, { autostart: false })
    const work = worker(true)
    const task = app.addBackgroundTask('a', { every: '1s' }, work.handler)
    await app.ready()
    if (stopped) await task.stop()
    task.trigger()
    await turns()
    await task.start()
    t.equal(task.state, 'running')
    await clock.tickAsync(1_000)
    t.match(task.stats, { active: 1, skipped: 1 })
    await app.close()
  }
})

t.test('a period below a millisecond is refused', async t => {
  const { app } = await build(t)
  for (const period of [0.5, 1e-9, Number.MIN_VALUE]) {
    t.equal((await rejection(async () => { app.addBackgroundTask('a', { every: period }, async () => {}) })).code, 'FST_BG_INVALID_OPTION')
    t.equal((await rejection(async () => { ticks(period) })).code, 'FST_BG_INVALID_OPTION')
  }
})

t.test('a due time that no Date can hold is undefined', async t => {
  fake(t)
  const { app } = await build(t)
  const task = app.addBackgroundTask('a', { every: Number.MAX_SAFE_INTEGER }, async () => {})
  const long = app.addBackgroundTask('b', { every: 50_000_000 * DAY }, async () => {})
  await app.ready()
  t.equal(task.nextRunAt, undefined)
  t.same(task.nextRuns(3), [])
  t.same(long.nextRuns(3).map(date => since(date, DAY)), [50_000_000])
})

t.test('never more than 100 missed ticks wait to be made up for', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker(true)
  app.addBackgroundTask('a', { every: '1s', misfire: 'all' }, work.handler)
  await app.ready()
  await clock.tickAsync(SECOND)
  for (let i = 0; i < 5; i++) {
    clock.jump(200 * SECOND)
    await turns(30)
  }
  work.hold = false
  work.calls[0]?.end()
  await turns(10)
  t.same(dues(work, SECOND), [1, ...range(902, 1_001)])
})

t.test('pause and stop in the first of several that are made up for at once keep the others from starting', async t => {
  const clock = fake(t)
  for (const ask of ['pause', 'stop'] as const) {
    const { app } = await build(t)
    let calls = 0
    const task = app.addBackgroundTask('a', { every: '1s', misfire: 'all', overlap: 'allow' }, async () => {
      calls++
      void task[ask]()
    })
    await app.ready()
    clock.jump(10_500)
    await turns(5)
    t.equal(calls, 1, ask)
    t.equal(task.state, ask === 'stop' ? 'stopped' : 'paused')
  }
})

t.test('cron, set back by up to an hour: paused and resumed, no due time fires twice', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker()
  const task = app.addBackgroundTask('a', { cron: '*/10 * * * *', timezone: 'UTC' }, work.handler)
  await app.ready()
  await clock.tickAsync(25 * MINUTE)
  clock.setSystemTime(Date.now() - HOUR)
  await task.pause()
  await task.resume()
  await clock.tickAsync(85 * MINUTE)
  t.same(dues(work, MINUTE), [10, 20, 30, 40, 50])
})

t.test('node:test mock timers drive every, cron and ticks in one app', async t => {
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: START })
  t.teardown(() => { mock.timers.reset() })
  const { app } = await build(t)
  const works = [{ every: '1m' }, { cron: '* * * * *' }, { every: '5m' }, { every: '20s', overlap: 'allow' as const }].map((options, i) => {
    const work = worker()
    app.addBackgroundTask(`task ${i}`, options, work.handler)
    return work
  })
  await app.ready()
  for (let i = 0; i < 20; i++) {
    mock.timers.tick(MINUTE)
    await turns()
  }
  t.same(works.map(work => work.calls.map(({ due, missed }) => [due / MINUTE, missed])), [
    range(1, 20).map(i => [i, 0]),
    range(1, 20).map(i => [i, 0]),
    [5, 10, 15, 20].map(i => [i, 0]),
    works[3]?.calls.map(({ due, missed }) => [due / MINUTE, missed])
  ])
  t.comment(works[3]?.calls.map(({ due, missed }) => [due / MINUTE, missed]).join(' '))
})

t.test('node:test mock timers, ticks with a slow body', async t => {
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: START })
  t.teardown(() => { mock.timers.reset() })
  const gate = deferred()
  const came: number[] = []
  const loop = async (): Promise<void> => {
    for await (const tick of ticks('1s')) {
      came.push(Date.now() - START + Number(tick ?? 0))
      if (came.length === 1) await gate.promise
    }
  }
  void loop()
  for (let i = 0; i < 4; i++) { mock.timers.tick(SECOND); await turns() }
  mock.timers.tick(300)
  gate.resolve()
  await turns()
  t.same(came, [1_000, 4_300])
  mock.timers.tick(700)
  await turns()
  t.same(came, [1_000, 4_300, 5_000])
})

t.test('misfire once makes one run of a tick that was put off and those after it', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker()
  app.addBackgroundTask('a', { every: '10s', jitter: '8s' }, work.handler)
  await app.ready()
  const { random } = Math
  Math.random = () => 0.5
  t.teardown(() => { Math.random = random })
  await clock.tickAsync(11_000)
  clock.jump(HOUR)
  await turns(40)
  t.same(work.calls.map(({ due, missed }) => [due / SECOND, missed]), [[3_610, 360]])
})

t.test('every minute but for weekends: on a Saturday the next run is on Monday, and nothing is warned of', async t => {
  const clock = fake(t)
  clock.setSystemTime(START + 5 * DAY)
  const { app, lines } = await build(t)
  const weekend = (due: Date): boolean => [0, 6].includes(due.getUTCDay())
  const tasks = [{ cron: '* * * * *', timezone: 'UTC' }, { every: '1s' }].map((options, i) => app.addBackgroundTask(`task ${i}`, { ...options, exclude: weekend }, async () => {}))
  await app.ready()
  t.same(tasks.map(task => since(task.nextRunAt, DAY)), [7, 7])
  t.same(linesOf(lines, 'warn', /./), [])
})

t.test('a start that fails stops the timed tasks, too', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker()
  const task = app.addBackgroundTask('a', { every: '1s' }, work.handler)
  app.addBackgroundTask('b', { start: async () => { throw new Error('of start') } })
  t.equal((await rejection(async () => { await app.ready() })).message, 'of start')
  t.equal(task.state, 'stopped')
  await clock.tickAsync(5_000)
  t.same(work.calls, [])
})

t.test('an AbortSignal in place of the options of ticks() is refused', async t => {
  const error = await rejection(async () => { ticks('5s', new AbortController().signal as never) })
  t.equal(error.code, 'FST_BG_INVALID_OPTION')
})

t.test('stop, start, pause without waiting: paused', async t => {
  const clock = fake(t)
  for (const active of [false, true]) {
    const { app } = await build(t)
    const work = worker(active)
    const task = app.addBackgroundTask('a', { every: '1s' }, work.handler)
    await app.ready()
    await clock.tickAsync(1_000)
    await Promise.all([task.stop(), task.start(), task.pause()])
    t.equal(task.state, 'paused', `active ${active}`)
    await clock.tickAsync(3_000)
    t.equal(work.calls.length, 1)
    await Promise.all([task.resume()])
    work.hold = false
    await clock.tickAsync(3_000)
    t.equal(work.calls.length, 4)
    await app.close()
  }
})

// What a due time is: with the clocks of the machine, which are not in step.

t.test('the due times that are told, before a run and in it, stand on one grid', async t => {
  const { app } = await build(t)
  const told = new Set<number>()
  const task = app.addBackgroundTask('a', { every: 5 }, ({ dueAt }) => { told.add(Number(dueAt)) })
  await app.ready()
  const first = Number(task.nextRunAt)
  for (; task.stats.succeeded < 30; await turns(1)) {
    const [one, two] = task.nextRuns(2)
    told.add(Number(task.nextRunAt)).add(Number(one)).add(Number(two))
  }
  t.same([...told].filter(time => (time - first) % 5 !== 0), [])
})

t.test('a Date that a handler or exclude is given is its own to change', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const seen: number[] = []
  const task = app.addBackgroundTask('a', {
    every: '1h',
    retry: { limit: 2, delay: 1 },
    exclude (due) {
      due.setUTCFullYear(1999)
      return false
    }
  }, ({ dueAt }) => {
    seen.push(Number(dueAt) - START)
    dueAt?.setUTCFullYear(2001)
    throw new Error('again')
  })
  await app.ready()
  await clock.tickAsync(HOUR + SECOND)
  t.same(seen, [HOUR, HOUR, HOUR])
  t.same(task.lastRun?.dueAt, new Date(START + HOUR))
  t.equal(since(task.nextRunAt, HOUR), 2)
})
