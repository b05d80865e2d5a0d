import t from 'tap'
import type { BackgroundTask, Run } from '../../lib/index.ts'
import { build, deferred, type Deferred } from '../support/helper.ts'
import { DAY, dues, fake, HOUR, linesOf, MINUTE, random, range, SECOND, since, START, turns, worker, type Worker } from '../support/fakes.ts'

const overlaps = ['skip', 'wait', 'allow'] as const
const misfires = ['skip', 'once', 'all'] as const

/** The due times and the missed ticks of the calls, due times in units of `unit`. */
function seen ({ calls }: Worker, unit: number): number[][] {
  return calls.map(({ due, missed }) => [due / unit, missed])
}

/** Ends the calls one after another; returns the largest number that was active at once. */
async function endAll (work: Worker, from = 0): Promise<number> {
  let most = 0
  for (let i = from; i < work.calls.length; i++) {
    most = Math.max(most, work.calls.length - i)
    work.calls[i]?.end()
    await turns(1)
  }
  return most
}

// Missed ticks: due more than a second ago, without having been fired.

for (const [how, options, move] of [
  ['every, asleep for a day', { every: '1h' }, async clock => { clock.jump(DAY) }],
  ['cron, asleep for a day', { cron: '0 * * * *', timezone: 'UTC' }, async clock => { clock.jump(DAY) }],
  ['cron, the wall clock set forward by a day', { cron: '0 * * * *', timezone: 'UTC' }, async clock => {
    clock.setSystemTime(Date.now() + DAY)
    await clock.tickAsync(30 * SECOND)
  }]
] as Array<[string, { every: string } | { cron: string, timezone: string }, (clock: ReturnType<typeof fake>) => Promise<void>]>) {
  for (const misfire of misfires) {
    for (const overlap of overlaps) {
      t.test(`${how}: misfire ${misfire}, overlap ${overlap}`, async t => {
        const clock = fake(t)
        const { app, lines } = await build(t)
        const work = worker(true)
        const task = app.addBackgroundTask('a', { ...options, misfire, overlap }, work.handler)
        const make = misfire === 'skip' ? [] : misfire === 'once' ? [[26, 23]] : range(3, 26).map(i => [i, 0])
        await app.ready()

        await t.test('with no run active', async t => {
          await clock.tickAsync(2.5 * HOUR)
          await endAll(work)
          work.calls.length = 0
          await move(clock)
          await turns()
          t.equal(since(task.nextRunAt, HOUR), 27, 'goes on with the next that is ahead')
          t.equal(work.calls.length, overlap === 'allow' ? make.length : Math.min(make.length, 1))
          const most = await endAll(work)
          t.same(seen(work, HOUR), make)
          t.equal(most, overlap === 'allow' || make.length === 0 ? make.length : 1, 'active at once')
          t.match(task.stats, { active: 0, skipped: overlap === 'skip' ? 1 : 0 }, 'the second tick, behind the first')
          work.calls.length = 0
          await clock.tickAsync(HOUR)
          t.same(seen(work, HOUR), [[27, 0]])
          await endAll(work)
        })

        await t.test('with one active', async t => {
          await clock.tickAsync(HOUR)
          work.calls.length = 0
          const { skipped } = task.stats
          t.equal(task.stats.active, 1, 'that of 28:00')
          await move(clock)
          await turns()
          const later = make.map(([due = 0, missed]) => [due + 26, missed])
          t.equal(work.calls.length, overlap === 'allow' ? make.length : 0)
          if (overlap === 'allow') t.same(seen(work, HOUR), later)
          t.equal(task.stats.skipped - skipped, misfire === 'once' && overlap === 'skip' ? 1 : 0)
          await app.close()
          await turns()
          t.equal(work.calls.length, overlap === 'allow' ? make.length : 0, 'what was to be made up for is dropped on close')
          t.equal(clock.countTimers(), 0)
        })
        t.same(linesOf(lines, 'error', /./), [])
      })
    }
  }
}

t.test('ticks that were missed behind an active run are made up for when it ends', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const works: Record<string, Worker> = {}
  for (const misfire of ['once', 'all'] as const) {
    for (const overlap of ['skip', 'wait'] as const) {
      const work = works[`${misfire} ${overlap}`] = worker(true)
      app.addBackgroundTask(`${misfire} ${overlap}`, { every: '1h', misfire, overlap }, work.handler)
    }
  }
  await app.ready()
  await clock.tickAsync(HOUR)
  clock.jump(4.5 * HOUR)
  await turns()
  for (const work of Object.values(works)) {
    t.equal(work.calls.length, 1)
    t.equal(await endAll(work), 1)
  }
  t.same(Object.entries(works).map(([name, work]) => [name, ...seen(work, HOUR)]), [
    ['once skip', [1, 0]],
    ['once wait', [1, 0], [5, 3]],
    ['all skip', [1, 0], [2, 0], [3, 0], [4, 0], [5, 0]],
    ['all wait', [1, 0], [2, 0], [3, 0], [4, 0], [5, 0]]
  ])
})

t.test('while missed ticks are made up for, those that fall due are under overlap', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const skip = worker(true)
  const wait = worker(true)
  const task = app.addBackgroundTask('skip', { every: '1h', misfire: 'all' }, skip.handler)
  app.addBackgroundTask('wait', { every: '1h', misfire: 'all', overlap: 'wait' }, wait.handler)
  await app.ready()
  clock.jump(3.5 * HOUR)
  await turns()
  await clock.tickAsync(2 * HOUR)
  await endAll(skip)
  await endAll(wait)
  t.same(dues(skip, HOUR), [1, 2, 3])
  t.equal(task.stats.skipped, 2)
  t.same(dues(wait, HOUR), [1, 2, 3, 4], 'the one that waits comes last')
  await clock.tickAsync(HOUR)
  t.same([skip.calls.at(-1)?.due, wait.calls.at(-1)?.due], [6 * HOUR, 6 * HOUR])
})

t.test('a tick may be late by a second; late by more, it was missed', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const works = misfires.map(misfire => {
    const work = worker()
    app.addBackgroundTask(misfire, { every: '10s', misfire }, work.handler)
    return work
  })
  await app.ready()
  clock.jump(11_000)
  await turns()
  t.same(works.map(work => seen(work, SECOND)), [[[10, 0]], [[10, 0]], [[10, 0]]], 'late by a second')
  await clock.tickAsync(0)
  clock.jump(10_001)
  await turns()
  t.same(works.map(work => seen(work, SECOND).slice(1)), [[], [[20, 0]], [[20, 0]]], 'late by more')
  await clock.tickAsync(9_000)
  t.same(works.map(work => work.calls.at(-1)?.due), [30_000, 30_000, 30_000])
})

t.test('several ticks that are late by less than a second become one run', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const works = misfires.flatMap(misfire => overlaps.map(overlap => {
    const work = worker()
    app.addBackgroundTask(`${misfire} ${overlap}`, { every: 100, misfire, overlap }, work.handler)
    return work
  }))
  await app.ready()
  await clock.tickAsync(100)
  clock.jump(1_050)
  await turns()
  for (const work of works) t.same(seen(work, 1), [[100, 0], [1_100, 9]])
})

t.test('misfire once counts at most 1,000 earlier ticks', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const every = worker()
  const cron = worker()
  app.addBackgroundTask('every', { every: '1m' }, every.handler)
  app.addBackgroundTask('cron', { cron: '* * * * *' }, cron.handler)
  await app.ready()
  clock.jump(1_001 * MINUTE + 30 * SECOND)
  for (const work of [every, cron]) {
    while (work.calls.length === 0) await turns(1)
    t.same(seen(work, MINUTE), [[1_001, 1_000]])
  }
  clock.jump(3_000 * MINUTE)
  for (const work of [every, cron]) {
    while (work.calls.length === 1) await turns(1)
    t.same(seen(work, MINUTE)[1], [4_001, 1_000])
  }
})

t.test('misfire all runs the latest 100, oldest first', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  for (const options of [{ every: '1m' }, { cron: '* * * * *' }]) {
    for (const overlap of overlaps) {
      const name = `${JSON.stringify(options)} ${overlap}`
      const work = worker(true)
      const task = app.addBackgroundTask(name, { ...options, overlap, misfire: 'all' as const }, work.handler)
      await app.ready()
      const began = Date.now() - START
      clock.jump(DAY + 30 * SECOND)
      while (work.calls.length === 0) await turns(1)
      await turns()
      t.equal(work.calls.length, overlap === 'allow' ? 100 : 1, name)
      await endAll(work)
      const latest = Math.floor((began + DAY + 30 * SECOND) / MINUTE)
      if ('cron' in options) t.same(seen(work, MINUTE), range(latest - 99, latest).map(i => [i, 0]), name)
      else t.same(seen(work, 1), range(1_341, 1_440).map(i => [began + i * MINUTE, 0]), name)
      await task.stop()
    }
  }
})

t.test('ten years of missed minutes do not block the event loop', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const once = worker()
  const all = worker()
  const skip = worker()
  app.addBackgroundTask('once', { cron: '* * * * *', timezone: 'Europe/Berlin' }, once.handler)
  app.addBackgroundTask('all', { cron: '* * * * *', timezone: 'Europe/Berlin', misfire: 'all' }, all.handler)
  app.addBackgroundTask('skip', { cron: '* * * * *', timezone: 'Europe/Berlin', misfire: 'skip' }, skip.handler)
  await app.ready()
  const began = process.hrtime.bigint()
  clock.jump(3_652 * DAY)
  const looked = Number(process.hrtime.bigint() - began) / 1e6
  t.ok(looked < 5_000, `${looked} ms`)
  let turned = 0
  while (once.calls.length === 0 || all.calls.length < 100) {
    await turns(1)
    turned++
  }
  t.ok(turned >= 15, `others got ${turned} turns meanwhile`)
  t.same(seen(once, DAY), [[3_652, 1_000]])
  t.equal(all.calls.at(-1)?.due, 3_652 * DAY)
  t.same(seen(skip, DAY), [[3_652, 0]], 'only the tick that is on time')
  await clock.tickAsync(MINUTE)
  t.same([once, all, skip].map(({ calls }) => calls.at(-1)?.due), [1, 1, 1].map(i => 3_652 * DAY + i * MINUTE))
})

t.test('a tick that falls due while the missed ones before it are counted comes after them', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker()
  app.addBackgroundTask('a', { every: '1s', misfire: 'all', overlap: 'allow' }, work.handler)
  await app.ready()
  clock.jump(200 * SECOND)
  t.same(work.calls, [], 'they are being counted')
  clock.jump(SECOND)
  while (work.calls.length < 101) await turns(1)
  t.same(seen(work, SECOND).map(([due]) => due), range(101, 201))
})

t.test('what is counted when the task is paused, stopped or closed does not run', async t => {
  const clock = fake(t)
  for (const ask of ['pause', 'stop', 'close'] as const) {
    for (const misfire of ['once', 'all'] as const) {
      const { app } = await build(t)
      const work = worker()
      const task = app.addBackgroundTask('a', { every: '1s', misfire }, work.handler)
      await app.ready()
      clock.jump(2_000 * SECOND)
      t.same(work.calls, [], 'they are being counted')
      if (ask === 'close') await app.close()
      else await task[ask]()
      await turns(40)
      t.same(work.calls, [], `${ask}, misfire ${misfire}`)
      await app.close()
    }
  }
})

t.test('pause, stop and close drop what is to be made up for', async t => {
  const clock = fake(t)
  for (const ask of ['pause', 'stop', 'close'] as const) {
    const { app } = await build(t)
    const work = worker(true)
    const task = app.addBackgroundTask('a', { every: '1s', misfire: 'all' }, work.handler)
    await app.ready()
    clock.jump(5_500)
    await turns()
    t.equal(work.calls.length, 1)
    if (ask === 'close') await app.close()
    else await task[ask]()
    work.calls[0]?.end()
    await turns()
    t.equal(work.calls.length, 1, ask)
    t.equal(task.stats.skipped, 0)
    await app.close()
    t.equal(clock.countTimers(), 0)
  }
})

t.test('an event loop that was blocked: each misfire, on real clocks', async t => {
  const { app } = await build(t)
  const period = 150
  const runs: Record<string, Array<{ due: number, missed: number }>> = { skip: [], once: [], all: [] }
  let wanted: { count: number, reached: Deferred<void> } | undefined
  for (const misfire of misfires) {
    app.addBackgroundTask(misfire, { every: period, misfire }, async ({ dueAt, missed }: Run) => {
      runs[misfire]?.push({ due: Number(dueAt), missed })
      if (wanted !== undefined && Object.values(runs).every(({ length }) => length >= (wanted?.count ?? 0))) wanted.reached.resolve()
    })
  }
  const until = async (count: number): Promise<void> => {
    wanted = { count, reached: deferred() }
    await wanted.reached.promise
  }
  await app.ready()
  await until(2)
  await turns()
  const before = { skip: runs.skip?.length ?? 0, once: runs.once?.length ?? 0, all: runs.all?.length ?? 0 }
  const blocked = performance.now() + 1_500
  while (performance.now() < blocked);
  await until(Math.max(...Object.values(before)) + 3)

  for (const misfire of misfires) {
    const mine = runs[misfire] ?? []
    // How many periods each lies behind the one before, less those that it stands for.
    const left = mine.slice(1).map(({ due, missed }, i) => (due - (mine[i]?.due ?? NaN)) / period - missed)
    t.same(left.filter(periods => Math.abs(periods - Math.round(periods)) > 0.05), [], `${misfire}: on the grid`)
    const lost = left.filter(periods => Math.round(periods) !== 1).map(Math.round)
    if (misfire === 'skip') t.match(lost, [Number], 'skip: one gap')
    else t.same(lost, [], `${misfire}: none is lost`)
    const [first] = mine.slice(before[misfire])
    // Those late by less than a second are not missed: they become one run.
    if (misfire === 'skip') t.ok((lost[0] ?? 0) >= 4, `${lost[0]} ticks`)
    if (misfire === 'once') t.ok((first?.missed ?? 0) >= 7, `${first?.missed} ticks`)
    if (misfire === 'all') t.ok(mine.length >= (runs.once?.length ?? 0) + 7, `${mine.length} runs`)
  }
})

// The wall clock is set.

t.test('every does not notice that the wall clock is set', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker()
  const task = app.addBackgroundTask('a', { every: '1m' }, work.handler)
  await app.ready()
  let elapsed = 0
  let set = 0
  for (const ms of [0, DAY, -2 * DAY, 5 * SECOND, -HOUR]) {
    set += ms
    clock.setSystemTime(START + elapsed + set)
    t.equal(since(task.nextRunAt, 1), elapsed + MINUTE + set, 'nextRunAt is a wall time')
    await clock.tickAsync(MINUTE - 1)
    t.equal(work.calls.length, elapsed / MINUTE)
    await clock.tickAsync(1)
    elapsed += MINUTE
    t.match(work.calls.at(-1), { due: elapsed + set, missed: 0 })
  }
})

for (const back of [SECOND, 20 * MINUTE, HOUR]) {
  t.test(`cron, the wall clock set back by ${back / SECOND} s: no due time fires twice`, async t => {
    const clock = fake(t)
    const { app } = await build(t)
    const works = misfires.map(misfire => {
      const work = worker()
      app.addBackgroundTask(misfire, { cron: '*/10 * * * *', timezone: 'UTC', misfire }, work.handler)
      return work
    })
    await app.ready()
    await clock.tickAsync(25 * MINUTE)
    clock.setSystemTime(Date.now() - back)
    await clock.tickAsync(back)
    await clock.tickAsync(25 * MINUTE)
    for (const work of works) t.same(seen(work, MINUTE), [10, 20, 30, 40, 50].map(i => [i, 0]))
  })
}

t.test('cron, the wall clock set back just as a tick has fired: it does not fire again', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker()
  app.addBackgroundTask('a', { cron: '* * * * * *' }, work.handler)
  await app.ready()
  for (let i = 0; i < 5; i++) {
    await clock.tickAsync(SECOND)
    clock.setSystemTime(Date.now() - 20)
  }
  await clock.tickAsync(SECOND)
  t.same(dues(work, SECOND), [1, 2, 3, 4, 5])
})

t.test('cron, the wall clock set back by more than an hour: planned anew within 30 s', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker()
  const task = app.addBackgroundTask('a', { cron: '*/10 * * * *', timezone: 'UTC' }, work.handler)
  await app.ready()
  await clock.tickAsync(25 * MINUTE)
  clock.setSystemTime(Date.now() - 2 * HOUR)
  await clock.tickAsync(30 * SECOND)
  t.equal(since(task.nextRunAt, MINUTE), -90)
  await clock.tickAsync(25 * MINUTE)
  t.same(seen(work, MINUTE), [[10, 0], [20, 0], [-90, 0], [-80, 0], [-70, 0]])
})

// Jitter.

t.test('jitter puts each tick off by less than that, and leaves the grid alone', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  for (const options of [{ every: '10s' }, { cron: '*/10 * * * * *' }]) {
    const name = JSON.stringify(options)
    const began = Date.now() - START
    const work = worker()
    const task = app.addBackgroundTask(name, { ...options, jitter: '4s' }, work.handler)
    await app.ready()
    random(t, 0, 0.5, 0.999999, 0.25)
    for (const [i, late] of [0, 2_000, 4_000, 1_000].entries()) {
      const due = began + (i + 1) * 10_000
      t.equal(since(task.nextRunAt, 1), due, 'nextRunAt is without jitter')
      await clock.tickAsync(due - 1 - (Date.now() - START))
      t.equal(work.calls.length, i)
      await clock.tickAsync(1)
      if (late > 0) {
        t.equal(since(task.nextRunAt, 1), due, 'it is still to come')
        t.same(task.nextRuns(2).map(date => since(date, 1)), [due, due + 10_000])
        await clock.tickAsync(late - 1)
        t.equal(work.calls.length, i, 'not before its time')
        await clock.tickAsync(1)
      }
      t.match(work.calls[i], { due, missed: 0, at: due + late }, `${name}, put off by ${late} ms`)
    }
    await task.stop()
    await clock.tickAsync(10_000 - (Date.now() - START) % 10_000)
  }
})

t.test('jitter may be longer than the period', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker()
  app.addBackgroundTask('a', { every: '1s', jitter: '3s' }, work.handler)
  await app.ready()
  random(t, 0.9, 0.1)
  await clock.tickAsync(5_000)
  t.same(work.calls.map(({ due, at }) => [due, at]), [[2_000, 2_300], [1_000, 3_700], [4_000, 4_300]])
})

t.test('an immediate or triggered run is not put off', async t => {
  const clock = fake(t)
  random(t, 0.5)
  const { app } = await build(t)
  const work = worker()
  const task = app.addBackgroundTask('a', { every: '10s', jitter: '5s', immediate: true }, work.handler)
  await app.ready()
  await turns()
  await task.trigger().finished
  t.same(work.calls.map(({ due, at }) => [due, at]), [[0, 0], [0, 0]])
  t.equal(clock.countTimers(), 1)
})

t.test('a tick that is put off is called off by pause, stop and close', async t => {
  const clock = fake(t)
  random(t, 0.5)
  for (const ask of ['pause', 'stop', 'close'] as const) {
    const { app } = await build(t)
    const work = worker()
    const task = app.addBackgroundTask('a', { every: '10s', jitter: '5s' }, work.handler)
    await app.ready()
    await clock.tickAsync(11_000)
    t.equal(clock.countTimers(), 1)
    if (ask === 'close') await app.close()
    else await task[ask]()
    t.equal(clock.countTimers(), 0, `${ask}: nothing is armed`)
    await clock.tickAsync(10_000)
    t.same(work.calls, [])
    if (ask === 'pause') {
      const began = Date.now() - START
      await task.resume()
      await clock.tickAsync(20_000)
      t.equal(work.calls[0]?.at, began - 21_000 + 30_000 + 2_500, 'the next one comes')
    }
    await app.close()
  }
})

t.test('a tick was missed when it is late by more than a second after its jitter', async t => {
  const clock = fake(t)
  random(t, 0.5)
  const { app } = await build(t)
  const works = misfires.map(misfire => {
    const work = worker()
    app.addBackgroundTask(misfire, { every: '1m', jitter: '20s', misfire }, work.handler)
    return work
  })
  await app.ready()
  clock.jump(MINUTE + 10_500)
  await turns()
  t.same(works.map(work => seen(work, MINUTE)), [[[1, 0]], [[1, 0]], [[1, 0]]], 'half a second late')
  await clock.tickAsync(49_500)
  clock.jump(11_500)
  await turns()
  t.same(works.map(work => seen(work, MINUTE).slice(1)), [[], [[2, 0]], [[2, 0]]], 'while it was put off')
  await clock.tickAsync(0)
  clock.jump(MINUTE)
  await turns()
  t.same(works.map(work => seen(work, MINUTE).slice(1)), [[], [[2, 0], [3, 0]], [[2, 0], [3, 0]]], 'with its jitter')
})

// Exclude.

t.test('ticks that exclude leaves out are skipped outcomes, and nextRunAt passes over them', async t => {
  const clock = fake(t)
  for (const options of [{ every: '1h' }, { cron: '0 * * * *', timezone: 'UTC' }]) {
    const { app, lines } = await build(t)
    const work = worker()
    const began = Date.now() - START
    const asked = new Set<number>()
    const task = app.addBackgroundTask('a', {
      ...options,
      exclude (due: Date) {
        t.ok(due instanceof Date)
        const hour = (Number(due) - START - began) / HOUR
        asked.add(hour)
        return hour === 2 || hour === 3
      }
    }, work.handler)
    await app.ready()
    const hours = (date: Date | undefined): number => (since(date, HOUR) ?? NaN) - began / HOUR
    t.same([hours(task.nextRunAt), ...task.nextRuns(3).map(hours)], [1, 1, 4, 5])
    await clock.tickAsync(HOUR)
    t.equal(hours(task.nextRunAt), 4)
    await clock.tickAsync(3 * HOUR)
    t.same(dues(work, HOUR).map(hour => hour - began / HOUR), [1, 4])
    t.match(task.stats, { succeeded: 2, skipped: 2, failed: 0 })
    t.match(linesOf(lines, 'debug', /^tick skipped: excluded$/), [2, 3].map(hour => (
      { task: 'a', dueAt: new Date(START + began + hour * HOUR).toISOString() }
    )))
    t.same(linesOf(lines, 'warn', /./), [])
    t.ok(range(1, 4).every(hour => asked.has(hour)))
    await app.close()
  }
})

t.test('exclude is not asked about immediate and triggered runs', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker()
  const task = app.addBackgroundTask('a', { every: '1h', immediate: true, exclude: due => Number(due) < START + 2.5 * HOUR }, work.handler)
  await app.ready()
  await turns()
  await task.trigger().finished
  t.same(dues(work, HOUR), [0, 0])
  await clock.tickAsync(3 * HOUR)
  t.same(dues(work, HOUR), [0, 0, 3])
})

t.test('an exclude that throws makes that tick a failed run, and the schedule goes on', async t => {
  const clock = fake(t)
  const { app, lines } = await build(t)
  const work = worker()
  const task = app.addBackgroundTask('a', {
    every: '1h',
    exclude (due) {
      if (Number(due) === START + 2 * HOUR) throw new Error('of exclude')
      return false
    }
  }, work.handler)
  await app.ready()
  t.same(task.nextRuns(3).map(date => since(date, HOUR)), [1, 2, 3])
  await clock.tickAsync(2 * HOUR)
  await turns()
  t.match(linesOf(lines, 'error', /./), [{ task: 'a', msg: 'run failed', attempt: 1, err: { message: 'of exclude' } }])
  t.type(linesOf(lines, 'error', /./)[0]?.run, 'string')
  t.match(task.stats, { succeeded: 1, failed: 1, skipped: 0, active: 0 })
  t.equal(task.state, 'idle')
  await clock.tickAsync(HOUR)
  t.same(dues(work, HOUR), [1, 3])
})

t.test('an exclude that always throws fails each tick, and nothing else', async t => {
  const clock = fake(t)
  const { app, lines } = await build(t)
  const work = worker()
  const task = app.addBackgroundTask('a', { cron: '0 * * * *', exclude () { throw new Error('of exclude') } }, work.handler)
  await app.ready()
  t.equal(since(task.nextRunAt, HOUR), 1)
  await clock.tickAsync(3 * HOUR)
  t.match(task.stats, { succeeded: 0, failed: 3, skipped: 0 })
  t.equal(linesOf(lines, 'error', /^run failed$/).length, 3)
  t.same(linesOf(lines, 'warn', /./), [])
  t.same(work.calls, [])
})

t.test('missed ticks that exclude leaves out are neither counted nor run', async t => {
  const clock = fake(t)
  const { app, lines } = await build(t)
  const even = (due: Date): boolean => (Number(due) - START) / HOUR % 2 === 0
  const works = misfires.map(misfire => {
    const work = worker()
    app.addBackgroundTask(misfire, { every: '1h', misfire, exclude: even }, work.handler)
    return work
  })
  await app.ready()
  clock.jump(6.5 * HOUR)
  await turns()
  t.same(works.map(work => seen(work, HOUR)), [[], [[5, 2]], [[1, 0], [3, 0], [5, 0]]])
  t.same(linesOf(lines, 'error', /./), [])
})

t.test('while a tick is put off by its jitter, that is the next, also with an exclude', async t => {
  const clock = fake(t)
  random(t, 0.5, 0.5)
  const { app } = await build(t)
  const work = worker()
  const task = app.addBackgroundTask('a', { every: '1h', jitter: '1h', exclude: () => false }, work.handler)
  await app.ready()
  await clock.tickAsync(1.25 * HOUR)
  t.equal(since(task.nextRunAt, HOUR), 1)
  await clock.tickAsync(0.25 * HOUR)
  t.equal(since(task.nextRunAt, HOUR), 2)
  t.same(dues(work, HOUR), [1])
})

for (const [back, next] of [[0.5, 6], [2, 4]] as const) {
  t.test(`a task that is resumed after the clock was set back by ${back} hours`, async t => {
    const clock = fake(t)
    const { app } = await build(t)
    const work = worker()
    const task = app.addBackgroundTask('a', { cron: '0 * * * *', timezone: 'UTC' }, work.handler)
    await app.ready()
    await clock.tickAsync(5.25 * HOUR)
    await task.pause()
    clock.setSystemTime(Date.now() - back * HOUR)
    await task.resume()
    t.equal(since(task.nextRunAt, HOUR), next, 'no due time fires twice, unless it was set back by more than an hour')
  })
}

t.test('an exclude that stops, pauses or removes its own task is not called again, and nothing runs', async t => {
  const clock = fake(t)
  for (const ask of ['stop', 'pause', 'remove'] as const) {
    for (const misfire of ['once', 'all'] as const) {
      for (const [when, at, move] of [
        ['at a tick', 1, async () => { await clock.tickAsync(HOUR) }],
        ['at a missed one', 1, async () => { clock.jump(DAY) }],
        // Each of 24 is looked at to find those that are to run, and again before it is run.
        ['at one that is to be made up for', misfire === 'all' ? 30 : 25, async () => { clock.jump(DAY) }],
        ['as the next run is asked for', 1, async (task: BackgroundTask) => { task.nextRuns(5) }]
      ] as const) {
        const { app, lines } = await build(t)
        const work = worker()
        let looks = -Infinity
        const task = app.addBackgroundTask('a', {
          every: '1h',
          misfire,
          exclude () {
            if (++looks === at) void task[ask]()
            return false
          }
        }, work.handler)
        await app.ready()
        looks = 0
        await move(task)
        await turns()
        t.same([work.calls, looks, task.history], [[], at, []], `${ask} ${when}, ${misfire}`)
        t.equal(task.nextRunAt, undefined)
        t.same(linesOf(lines, 'error', /./), [])
        await app.close()
      }
    }
  }
})

t.test('an exclude that throws on a missed tick fails that one', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const works = (['once', 'all'] as const).map(misfire => {
    const work = worker()
    const task = app.addBackgroundTask(misfire, {
      every: '1h',
      misfire,
      exclude (due) {
        if (Number(due) === START + 3 * HOUR) throw new Error('of exclude')
        return false
      }
    }, work.handler)
    return { work, task }
  })
  await app.ready()
  clock.jump(3.5 * HOUR)
  await turns(5)
  t.same(works.map(({ work }) => dues(work, HOUR)), [[], [1, 2]])
  t.same(works.map(({ task }) => task.stats.failed), [1, 1])
  await clock.tickAsync(HOUR)
  t.same(works.map(({ work }) => work.calls.at(-1)?.due), [4 * HOUR, 4 * HOUR])
})

t.test('an exclude that leaves out everything: one warning, no next run, and the task lives on', async t => {
  const clock = fake(t)
  for (const [options, period] of [[{ every: '1h' }, HOUR], [{ cron: '0 * * * *', timezone: 'UTC' }, HOUR], [{ cron: '* * * * * *' }, SECOND]] as const) {
    const name = JSON.stringify(options)
    const { app, lines } = await build(t)
    const work = worker()
    let out = true
    const task = app.addBackgroundTask('a', { ...options, exclude: () => out }, work.handler)
    const began = process.hrtime.bigint()
    await app.ready()
    t.equal(task.nextRunAt, undefined, name)
    t.same(task.nextRuns(5), [])
    const ms = Number(process.hrtime.bigint() - began) / 1e6
    t.ok(ms < 5_000, `the search is bounded: ${ms} ms`)
    t.match(linesOf(lines, 'warn', /./), [{ task: 'a', msg: 'exclude leaves out every tick within reach: the next run is not known' }])
    await clock.tickAsync(3 * period)
    t.equal(task.stats.skipped, 3)
    t.equal(task.state, 'idle')
    clock.jump(1_000 * period)
    await turns(40)
    t.same(work.calls, [], 'nor are missed ones run')
    out = false
    await clock.tickAsync(period)
    t.equal(work.calls.length, 1, 'the next that is not left out runs')
    t.equal(linesOf(lines, 'warn', /./).length, 1)
    await app.close()
    t.equal(clock.countTimers(), 0)
  }
})
