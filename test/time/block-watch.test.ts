// A handler that blocks the event loop: who is named, and what it costs when nothing runs. With real blocks, and the real clock.
import { createHook } from 'node:async_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { BlockWatch, type Suspect } from '../../lib/time/index.ts'
import { aborted, build, deferred, type Line } from '../support/helper.ts'

const BLOCKED = /^(".*") has blocked the event loop for (\d\.\d) s: no request, timer or lease got its turn\. Compute in a thread, with worker\(\)$/

function block (ms: number): void {
  const until = performance.now() + ms
  while (performance.now() < until);
}

/** The lines about blocks, after the loop has been looked at. */
async function blocks (lines: Line[]): Promise<Line[]> {
  await sleep(250)
  return lines.filter(({ msg }) => msg.includes('event loop'))
}

t.test('a handler that blocks the loop for more than a second gets one line with its name, the time, and worker()', async t => {
  const { app, lines } = await build(t)
  // One that only waits must not be named.
  app.addBackgroundTask('waits', async ({ signal }) => { await aborted(signal) })
  const task = app.addBackgroundTask('computes', { every: '1h' }, async () => { block(1_500) })
  await app.ready()
  await task.trigger().finished
  const [line, ...more] = await blocks(lines)
  t.same(more, [])
  t.match(line, { level: 'warn', task: 'computes', msg: BLOCKED, tasks: undefined })
  t.equal(BLOCKED.exec(line?.msg ?? '')?.[2], '1.5')
  const { status, tasks } = await app.backgroundTasks.health()
  t.equal(status, 'degraded')
  t.match(tasks, [{ name: 'waits', status: 'ok' }, { name: 'computes', status: 'degraded', reason: 'the event loop was blocked for 1.5 s while it ran: a worker() computes in a thread' }])
})

t.test('so does one that goes on afterwards, a synchronous one, one of a queue, and one in the background', async t => {
  const { app, lines } = await build(t)
  const gate = deferred()
  app.addBackgroundTask('service', async () => {
    block(1_300)
    await gate.promise
  })
  const queue = app.addBackgroundQueue('queue', () => { block(1_300) })
  await app.ready()
  t.match(await blocks(lines), [{ task: 'service' }])
  await queue.enqueue({})
  await queue.drain()
  await blocks(lines)
  await app.runInBackground('background', () => { block(1_300) }).finished
  t.match((await blocks(lines)).map(({ task }) => task), ['service', 'queue', 'background'])
  gate.resolve()
})

t.test('after an await all that go on are suspect, first one that has ended', async t => {
  const { app, lines } = await build(t)
  app.addBackgroundTask('waits', async ({ signal }) => { await aborted(signal) })
  const task = app.addBackgroundTask('computes', { every: '1h' }, async () => {
    await sleep(450)
    block(1_500)
  })
  await app.ready()
  await task.trigger().finished
  const [line, ...more] = await blocks(lines)
  t.same(more, [])
  t.match(line, { level: 'warn', task: 'computes', tasks: ['computes', 'waits'], msg: /^"computes" or "waits" has blocked/ })
  t.match(await app.backgroundTasks.health(), { status: 'degraded' })
})

t.test('less than a second, many short ones, and a block by somebody else while nothing runs get no line', async t => {
  const { app, lines } = await build(t)
  const short = app.addBackgroundTask('short', { every: '1h' }, () => { block(700) })
  await app.ready()
  await short.trigger().finished
  await sleep(250)
  await short.trigger().finished
  await sleep(500)
  block(1_500)
  t.same(await blocks(lines), [])
  t.match(await app.backgroundTasks.health(), { status: 'ok' })
})

t.test('health remembers it for a minute', async t => {
  let now = 1_000
  const task = { log: { warn () {}, isLevelEnabled: () => true } as never }
  const suspect: Suspect = { task, attempt: { task: 'some', startedAt: 100, isInLoop: true } }
  const watch = new BlockWatch({ now: () => now, suspects: () => [suspect] })
  watch.looked({ ms: 1_400, after: 50, until: 1_700, reported: new Set() })
  t.equal(watch.blockOf(task), 1_600, 'from when the handler was called')
  now += 59_999
  t.equal(watch.blockOf(task), 1_600)
  now++
  t.equal(watch.blockOf(task), undefined)
})

t.test('a handler in a thread is no suspect, nor one that is younger than the block; the line of a store is enough', async t => {
  const lines: unknown[] = []
  const task = { log: { warn (...line: unknown[]) { lines.push(line) } } as never }
  const told = { ms: 1_400, after: 50, until: 1_700, reported: new Set<string>() }
  const watchOf = (attempt: Partial<Suspect['attempt']>): BlockWatch => new BlockWatch({ now: () => 0, suspects: () => [{ task, attempt: { task: 'some', startedAt: 100, isInLoop: true, ...attempt } }] })
  watchOf({ isInLoop: false }).looked(told)
  watchOf({ startedAt: 1_600 }).looked(told)
  watchOf({ startedAt: 0 }).looked(told)
  watchOf({}).looked({ ...told, reported: new Set(['some']) })
  t.same(lines, [])
  watchOf({}).looked(told)
  t.equal(lines.length, 1)
})

t.test('no timer runs while no task does', async t => {
  const { app } = await build(t)
  const gate = deferred()
  const task = app.addBackgroundTask('runs', { every: '1h' }, async () => { await gate.promise })
  await app.ready()
  const timers = async (): Promise<number> => {
    let count = 0
    // Besides the one of the measurement itself.
    const hook = createHook({ init (_id, type) { if (type === 'Timeout') count++ } }).enable()
    await sleep(1_000)
    hook.disable()
    return count - 1
  }
  t.equal(await timers(), 0, 'idle')
  const { finished } = task.trigger()
  await sleep(1)
  const looks = await timers()
  t.ok(looks >= 2 && looks <= 6, `${looks} looks in a second while a run is active`)
  gate.resolve()
  await finished
  await sleep(250)
  t.equal(await timers(), 0, 'idle again')
})
