// Schedules of a queue in memory, on a fake clock.
import { setImmediate } from 'node:timers'
import t from 'tap'
import { build } from '../support/helper.ts'
import { fake, linesOf } from '../support/fakes.ts'
import { pass } from '../support/queues.ts'

const HOUR = 3_600_000

t.test('a period counts from the call, and no slow run shifts it', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const seen: Array<[number, unknown]> = []
  const queue = app.addBackgroundQueue('a', ({ dueAt }) => { seen.push([clock.now, dueAt?.getTime()]) })
  await app.ready()
  await pass(clock, 333)
  const start = clock.now
  await queue.schedule('k', { every: '1h' })
  await pass(clock, 3 * HOUR)
  t.same(seen, [1, 2, 3].map(n => [start + n * HOUR, start + n * HOUR]))
})

t.test('cron follows the wall clock of its zone', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const seen: string[] = []
  const queue = app.addBackgroundQueue('a', ({ dueAt }) => { seen.push(dueAt?.toISOString().slice(11) ?? '') })
  await app.ready()
  await queue.schedule('k', { cron: '0 3 * * *', timezone: 'Asia/Seoul' })
  await pass(clock, 48 * HOUR)
  t.same(seen, ['18:00:00.000Z', '18:00:00.000Z'])
})

t.test('when the application closes no schedule ticks any more', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const queue = app.addBackgroundQueue('a', () => {})
  await app.ready()
  await queue.schedule('k', { every: 100 })
  const closed = app.close()
  await pass(clock, 1_000)
  await closed
  t.match(queue.stats, { succeeded: 0, cancelled: 0 })
  t.equal(clock.countTimers(), 0)
  await t.rejects(queue.schedule('k', { every: 100 }), { code: 'FST_BG_CLOSING' })
})

t.test('a tick that a full queue refuses is a line in the log, and the schedule goes on', async t => {
  const clock = fake(t)
  const { app, lines } = await build(t)
  const queue = app.addBackgroundQueue('a', { maxSize: 1 }, () => {})
  await app.ready()
  await queue.pause()
  await queue.schedule('k', { every: '1h', overlap: 'allow' })
  await pass(clock, 2 * HOUR)
  t.match(linesOf(lines, 'error', /could not be enqueued/), [{ level: 'error', task: 'a', schedule: 'k', err: { code: 'FST_BG_QUEUE_FULL' } }])
  t.match((await queue.schedules()).schedules, [{ nextRunAt: new Date(clock.now + HOUR) }])
})

t.test('a tick that falls due while the missed ones before it are counted comes after them', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const seen: number[] = []
  const queue = app.addBackgroundQueue('a', ({ dueAt }) => { seen.push(Number(dueAt)) })
  await app.ready()
  await queue.schedule('k', { every: 1_000, misfire: 'all', overlap: 'allow' })
  const start = clock.now
  clock.jump(200_000)
  clock.jump(1_000)
  while (seen.length < 101) await new Promise(resolve => { setImmediate(resolve) })
  t.same(seen, Array.from({ length: 101 }, (_, i) => start + (i + 101) * 1_000))
})
