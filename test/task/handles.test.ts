import { setFlagsFromString } from 'node:v8'
import { setImmediate } from 'node:timers/promises'
import { runInNewContext } from 'node:vm'
import Fastify, { type FastifyInstance } from 'fastify'
import t from 'tap'
import backgroundTasks, { GiveUp, type BackgroundTask, type Run, type RunHandle } from '../../lib/index.ts'
import { aborted, build, deferred, later, mortal, rejection, type Deferred } from '../support/helper.ts'
import { fake, linesOf, MINUTE, SECOND, since, START, turns, worker } from '../support/fakes.ts'
import { until } from '../support/queues.ts'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

const error = new Error('of the handler')

/** Whether a promise has settled, as soon as what takes no time has happened. */
async function settled (work: PromiseLike<unknown>): Promise<boolean> {
  let done = false
  const note = (): void => { done = true }
  work.then(note, note)
  await turns()
  return done
}

/** A handler that hangs, whatever its signal says. It tells of each call. */
function hanging (): { handler (run: Run): Promise<void>, gate: Deferred<void>, runs: Run[] } {
  const gate = deferred()
  const runs: Run[] = []
  return {
    gate,
    runs,
    async handler (run) {
      runs.push(run)
      await gate.promise
    }
  }
}

// What a task tells of its runs.

t.test('lastRun and history tell how each run has ended', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker(true)
  const task = app.addBackgroundTask('a', { every: '1s' }, work.handler)
  t.equal(task.lastRun, undefined)
  t.same(task.history, [])
  await app.ready()

  await clock.tickAsync(1_000)
  t.equal(task.lastRun, undefined, 'not of a run that has not ended')
  t.same(task.history, [])
  await clock.tickAsync(250)
  work.calls[0]?.end()
  await turns()
  const [first] = work.calls
  const succeeded = { id: first?.id, outcome: 'succeeded', dueAt: new Date(START + 1_000), startedAt: new Date(START + 1_000), duration: 250, attempts: 1, error: undefined }
  t.same(task.lastRun, succeeded)
  t.same(task.history, [succeeded])

  await clock.tickAsync(850)
  work.calls[1]?.fail(error)
  await turns()
  const failed = { id: work.calls[1]?.id, outcome: 'failed', dueAt: new Date(START + 2_000), startedAt: new Date(START + 2_000), duration: 100, attempts: 1, error }
  t.same(task.lastRun, failed)
  t.equal(task.lastRun?.error, error)
  t.same(task.history, [failed, succeeded], 'the newest first')

  await clock.tickAsync(900)
  const id = work.calls[2]?.id ?? ''
  await task.cancel(id)
  const { signal } = work.calls[2] ?? {}
  t.same(task.lastRun, { id, outcome: 'cancelled', dueAt: new Date(START + 3_000), startedAt: new Date(START + 3_000), duration: 0, attempts: 1, error: signal?.reason })
  t.same(task.stats, { succeeded: 1, failed: 1, cancelled: 1, skipped: 0, active: 0 })
})

t.test('a skipped run is in the history and in the stats, and is not the last run', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker(true)
  const task = app.addBackgroundTask('a', { every: '1s', exclude: due => since(due, SECOND) === 4 }, work.handler)
  await app.ready()
  await clock.tickAsync(1_000)
  work.calls[0]?.end()
  await turns()
  const last = task.lastRun
  await clock.tickAsync(2_000)
  const { id, finished } = task.trigger()
  t.equal((await finished).outcome, 'skipped')
  await clock.tickAsync(1_000)
  t.match(task.history.map(({ outcome, dueAt }) => [outcome, since(dueAt, SECOND)]), [['skipped', 4], ['skipped', 3], ['skipped', 3], ['succeeded', 1]])
  t.ok(task.history.every(({ duration, error }) => duration === 0 && error === undefined))
  t.equal(task.history[1]?.id, id, 'a trigger under the id of its handle')
  t.equal(new Set(task.history.map(({ id }) => id)).size, 4)
  t.same(task.lastRun, last)
  t.same(task.stats, { succeeded: 1, failed: 0, cancelled: 0, skipped: 3, active: 1 })
})

t.test('the history keeps the last 30 runs, the stats count all', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker()
  const task = app.addBackgroundTask('a', { every: '1s' }, work.handler)
  await app.ready()
  await clock.tickAsync(30_000)
  t.equal(task.history.length, 30)
  await clock.tickAsync(15_000)
  t.same(task.history.map(({ dueAt }) => since(dueAt, SECOND)), Array.from({ length: 30 }, (_, i) => 45 - i))
  t.same(task.history.map(({ id }) => id), work.calls.slice(15).map(({ id }) => id).reverse())
  t.equal(task.stats.succeeded, 45)
  task.history.length = 0
  t.equal(task.history.length, 30, 'what it gives is a copy')
})

t.test('a run that is retried is one run, from its first attempt to its last', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const task = app.addBackgroundTask('a', { every: '1h', retry: { limit: 2, delay: '1s', jitter: false } }, async ({ attempt }) => {
    if (attempt < 3) throw error
  })
  const { id, finished } = task.trigger()
  await turns()
  t.same(task.stats, { succeeded: 0, failed: 0, cancelled: 0, skipped: 0, active: 1 }, 'active between two attempts')
  await clock.tickAsync(3_000)
  t.match(await finished, { outcome: 'succeeded', duration: 3_000 })
  t.match(task.history, [{ id, outcome: 'succeeded', startedAt: new Date(START), duration: 3_000, error: undefined }])
  t.equal(task.history.length, 1)
})

t.test('each life of a service, and each start and stop of a hosted one, is a run without a due time', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const service = app.addBackgroundTask('service', { restart: { delay: '1s', jitter: false } }, async ({ signal }) => {
    if (service.stats.failed < 2) throw error
    await aborted(signal)
    throw signal.reason
  })
  const hosted = app.addBackgroundTask('hosted', { start () {}, stop () { throw error } })
  await app.ready()
  await turns()
  await clock.tickAsync(3_000)
  t.match(service.history.map(({ outcome, startedAt }) => [outcome, since(startedAt, SECOND)]), [['failed', 1], ['failed', 0]])
  t.same(service.stats, { succeeded: 0, failed: 2, cancelled: 0, skipped: 0, active: 1 })
  t.match(hosted.history, [{ outcome: 'succeeded' }])
  await service.stop()
  await rejection(hosted.stop())
  t.match(service.lastRun, { outcome: 'cancelled', error: { code: 'FST_BG_CANCELLED' } })
  t.match(hosted.history, [{ outcome: 'failed', error }, { outcome: 'succeeded' }])
  t.ok([...service.history, ...hosted.history].every(({ dueAt }) => dueAt === undefined))
  const { id } = service.trigger()
  await turns()
  await service.stop()
  t.equal(service.lastRun?.id, id, 'the first life after a trigger has the id of its handle')
})

// cancel

t.test('cancel aborts one run of a timed task, resolves when it has ended, and the schedule goes on', async t => {
  const clock = fake(t)
  const { app, lines } = await build(t)
  const runs: Run[] = []
  const gates: Array<Deferred<void>> = []
  const task = app.addBackgroundTask('a', { every: '1s', overlap: 'allow' }, async run => {
    runs.push(run)
    const gate = deferred()
    gates.push(gate)
    await gate.promise
    run.signal.throwIfAborted()
  })
  await app.ready()
  await clock.tickAsync(2_000)
  const [one, two] = runs as [Run, Run]
  const cancelled = task.cancel(one.id)
  t.equal(one.signal.reason.code, 'FST_BG_CANCELLED')
  t.match(one.signal.reason.message, /"a"/)
  t.notOk(two.signal.aborted, 'only that one')
  t.notOk(await settled(cancelled))
  gates[0]?.resolve()
  t.equal(await cancelled, undefined)
  t.match(task.lastRun, { id: one.id, outcome: 'cancelled', error: one.signal.reason })
  t.match(linesOf(lines, 'debug', /^run cancelled$/), [{ task: 'a', run: one.id, err: { code: 'FST_BG_CANCELLED' } }])
  t.equal(task.state, 'running')
  t.equal(since(task.nextRunAt, SECOND), 3)
  gates[1]?.resolve()
  await clock.tickAsync(1_000)
  t.equal(runs.length, 3)
  gates[2]?.resolve()
})

t.test('cancel ends the wait between two attempts, at once', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  let attempts = 0
  const task = app.addBackgroundTask('a', { every: '1h', retry: { limit: 5, delay: '10m' } }, async () => {
    attempts++
    throw error
  })
  await app.ready()
  const { id, finished } = task.trigger()
  await turns()
  t.equal(task.state, 'backoff')
  await task.cancel(id)
  t.match(await finished, { outcome: 'cancelled', error: { code: 'FST_BG_CANCELLED' } })
  t.equal(task.state, 'idle')
  await clock.tickAsync(20 * MINUTE)
  t.equal(attempts, 1)
  t.equal(since(task.nextRunAt, MINUTE), 60, 'the schedule goes on')
})

t.test('cancel of the run of a service stops it, until somebody starts it', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker(true)
  const task = app.addBackgroundTask('a', { restart: 'always' }, work.handler)
  await app.ready()
  await turns()
  await task.cancel(work.calls[0]?.id ?? '')
  t.equal(work.calls[0]?.signal.reason.code, 'FST_BG_CANCELLED')
  t.equal(task.state, 'stopped')
  await clock.tickAsync(10 * MINUTE)
  t.equal(work.calls.length, 1, 'it is not restarted')
  await task.start()
  await turns()
  t.equal(work.calls.length, 2)
  t.equal(task.state, 'running')
})

t.test('cancel of the run of a service stops it, also one that was paused before', async t => {
  const { app } = await build(t)
  const work = worker(true)
  const task = app.addBackgroundTask('a', work.handler)
  await app.ready()
  await turns()
  await task.pause()
  await task.resume()
  await turns()
  await task.cancel(work.calls[1]?.id ?? '')
  t.equal(task.state, 'stopped')
})

t.test('cancel of the start of a hosted service stops it, until somebody starts it', async t => {
  const { app } = await build(t, { autostart: false })
  const work = worker(true)
  let stops = 0
  const task = app.addBackgroundTask('a', { start: work.handler, stop () { stops++ } })
  await app.ready()
  const starting = task.start()
  await turns()
  await task.cancel(work.calls[0]?.id ?? '')
  t.equal((await rejection(starting)).code, 'FST_BG_CANCELLED')
  t.equal(task.state, 'stopped')
  work.hold = false
  await task.start()
  t.equal(task.state, 'running')
  await app.close()
  t.equal(stops, 1)
})

t.test('a task that is stopped or paused while its start is awaited does not keep the server from booting', async t => {
  for (const [ask, state] of [['stop', 'stopped'], ['pause', 'paused']] as const) {
    const { app } = await build(t)
    const events: string[] = []
    app.addBackgroundTask('first', { start () {}, stop () { events.push('first stopped') } })
    const work = worker(true)
    const task = app.addBackgroundTask('second', { start: work.handler })
    const ready = app.ready()
    while (work.calls.length === 0) await turns(1)
    await task[ask]()
    await ready
    t.equal(task.state, state)
    t.same(events, [], 'and the others go on')
    await app.close()
  }
})

t.test('a trigger that is skipped is no tick that is skipped: nothing hangs', async t => {
  const clock = fake(t)
  const { app, lines } = await build(t)
  const work = worker(true)
  const task = app.addBackgroundTask('a', { every: '1h' }, work.handler)
  await app.ready()
  await clock.tickAsync(60 * MINUTE)
  const results = await Promise.all([1, 2, 3, 4].map(async () => await task.trigger().finished))
  t.same(results.map(({ outcome }) => outcome), ['skipped', 'skipped', 'skipped', 'skipped'])
  t.equal(task.stats.skipped, 4)
  t.same(linesOf(lines, 'warn', /./), [])
  t.equal((await app.backgroundTasks.health()).status, 'ok')
  // Each is one's own to change.
  for (const result of results) result.outcome = 'succeeded'
  t.equal((await task.trigger().finished).outcome, 'skipped')
})

t.test('a task whose last run failed is degraded until one succeeds, however many ticks are skipped meanwhile', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  let out = false
  const task = app.addBackgroundTask('a', { every: '1m', exclude: () => out }, () => { if (!out) throw error })
  await app.ready()
  await clock.tickAsync(MINUTE)
  out = true
  await clock.tickAsync(100 * MINUTE)
  t.match(task.lastRun, { outcome: 'failed', error })
  t.equal((await app.backgroundTasks.health()).status, 'degraded')
})

t.test('cancel of a run that is not active is refused, whatever it is given', async t => {
  const { app } = await build(t)
  const task = app.addBackgroundTask('a', { every: '1h' }, async () => {})
  const other = app.addBackgroundTask('b', mortal, async ({ signal }) => { await aborted(signal) })
  const { id, finished } = task.trigger()
  await finished
  const ofAnother = other.trigger().id
  for (const unknown of [id, ofAnother, 'unknown', '', undefined, null, 1, {}, Symbol('a')]) {
    const { code, message, statusCode } = await rejection(task.cancel(unknown as string)) as Error & { code: string, statusCode: number }
    t.same([code, statusCode], ['FST_BG_NOT_FOUND', 404])
    t.match(message, /"a"/)
  }
  t.equal(other.state, 'running')
})

t.test('cancel of one run, twice and while it hangs, waits for its end', async t => {
  const { app } = await build(t)
  const { handler, gate, runs } = hanging()
  const task = app.addBackgroundTask('a', { every: '1h' }, handler)
  const { id, finished } = task.trigger()
  await turns()
  const both = [task.cancel(id), task.cancel(id)]
  t.notOk(await settled(Promise.race(both)))
  gate.resolve()
  await Promise.all(both)
  t.equal(runs.length, 1)
  t.equal((await finished).outcome, 'succeeded', 'what resolves has succeeded, also after an abort')
})

// remove

t.test('remove stops a task and frees its name', async t => {
  const { app } = await build(t)
  const work = worker(true)
  let stops = 0
  await app.register(async child => {
    child.addBackgroundTask('service', work.handler)
    child.addBackgroundTask('timed', { every: '1h', immediate: true }, work.handler)
    child.addBackgroundTask('hosted', { start () {}, stop () { stops++ } })
  })
  await app.ready()
  await turns()
  t.equal(work.calls.length, 2)
  for (const name of ['service', 'timed', 'hosted']) {
    const task = app.backgroundTasks.get(name) as BackgroundTask
    await task.remove()
    t.equal(task.state, 'stopped', name)
    t.equal(task.stats.active, 0)
    t.equal(task.nextRunAt, undefined)
    t.equal(app.backgroundTasks.get(name), undefined)
    t.equal(task.history.length > 0, true, 'what it remembers stays')
    const successor = app.addBackgroundTask(name, { stop () {} })
    t.equal(app.backgroundTasks.get(name), successor)
    await task.remove()
    t.equal(app.backgroundTasks.get(name), successor, 'a second remove leaves the successor alone')
  }
  t.equal(stops, 1)
  t.ok(work.calls.every(({ signal }) => signal.reason.code === 'FST_BG_CANCELLED'))
  t.same([...app.backgroundTasks].map(({ kind }) => kind), ['hosted', 'hosted', 'hosted'])
  t.equal((await app.backgroundTasks.health()).tasks.length, 3)
})

t.test('what a removed task still runs has ended before what was opened before it is closed', async t => {
  for (const kind of ['timed', 'service', 'hosted'] as const) {
    const { app } = await build(t, { shutdownTimeout: 300 })
    const events: string[] = []
    const { handler, gate, runs } = hanging()
    const work = async (run: Run): Promise<void> => {
      await handler(run)
      events.push('it ends')
    }
    let task: BackgroundTask | undefined
    app.register(async child => {
      child.addHook('onClose', async () => { events.push('database closed') })
      if (kind === 'timed') task = child.addBackgroundTask('a', { every: '1h', immediate: true }, work)
      else if (kind === 'service') task = child.addBackgroundTask('a', work)
      else task = child.addBackgroundTask('a', { enabled: false, start: work, stop () { events.push('it is stopped') } })
    })
    await app.ready()
    if (kind === 'hosted') task?.start().catch(() => {})
    while (runs.length === 0) await turns(1)
    // After shutdownTimeout it waits no longer.
    await task?.remove()
    const closed = app.close()
    // Long enough for all the rest to close.
    await turns(30)
    t.same(events, [], 'the close waits')
    gate.resolve()
    await closed
    t.same(events, kind === 'hosted' ? ['it ends', 'it is stopped', 'database closed'] : ['it ends', 'database closed'], kind)
  }
})

t.test('a removed task refuses what would start it, and takes the rest', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const calls: string[] = []
  const tasks = [
    app.addBackgroundTask('service', { restart: 'always', onGiveUp: 'log' }, async () => { calls.push('service') }),
    app.addBackgroundTask('timed', { every: '1s' }, async () => { calls.push('timed') }),
    app.addBackgroundTask('hosted', { start () { calls.push('hosted') } })
  ]
  for (const task of tasks) {
    await task.remove()
    t.equal((await rejection(task.start())).code, 'FST_BG_NOT_FOUND', task.name)
    t.throws(() => { task.trigger() }, { code: 'FST_BG_NOT_FOUND', statusCode: 404, message: new RegExp(`"${task.name}"`) })
    await Promise.all([task.pause(), task.resume(), task.stop(), task.remove()])
    t.equal((await rejection(task.start())).code, 'FST_BG_NOT_FOUND', task.name)
    t.equal((await rejection(task.cancel('unknown'))).code, 'FST_BG_NOT_FOUND')
  }
  await app.ready()
  await app.backgroundTasks.start()
  await clock.tickAsync(10_000)
  t.same(calls, [], 'also when it was removed while plugins load')
})

t.test('a name that is freed while plugins load can be taken again, and only the new task starts', async t => {
  const { app } = await build(t)
  const calls: string[] = []
  const old = app.addBackgroundTask('a', { start () { calls.push('old') } })
  await old.remove()
  app.addBackgroundTask('a', { start () { calls.push('new') }, stop () { calls.push('new stopped') } })
  await app.ready()
  t.same(calls, ['new'])
  await app.close()
  t.same(calls, ['new', 'new stopped'])
})

t.test('remove of a task that waits for its next attempt, that is paused or has failed', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  await app.ready()
  const fails = async (): Promise<void> => { throw error }
  const restarted = app.addBackgroundTask('a', { restart: { delay: '1s', jitter: false } }, fails)
  const retried = app.addBackgroundTask('b', { every: '1h', immediate: true, retry: 3 }, fails)
  const work = worker(true)
  const pausedService = app.addBackgroundTask('c', work.handler)
  const pausedTimed = app.addBackgroundTask('d', { every: '1s' }, work.handler)
  const failed = app.addBackgroundTask('e', mortal, fails)
  await turns()
  await Promise.all([pausedService.pause(), pausedTimed.pause()])
  const tasks = [restarted, retried, pausedService, pausedTimed, failed]
  t.same(tasks.map(({ state }) => state), ['backoff', 'backoff', 'paused', 'paused', 'failed'])
  for (const task of tasks) {
    const removed = task.remove()
    t.ok(await settled(removed), task.name)
    await removed
    await task.resume()
  }
  t.same(tasks.map(({ state }) => state), ['stopped', 'stopped', 'stopped', 'stopped', 'failed'])
  await clock.tickAsync(10 * MINUTE)
  t.same([restarted, retried].map(({ stats }) => stats.failed + stats.cancelled), [1, 1], 'nothing of it comes back')
  t.equal(clock.countTimers(), 0)
  t.same([...app.backgroundTasks], [])
})

t.test('remove rejects as stop does, and frees the name all the same', async t => {
  const { app } = await build(t)
  const task = app.addBackgroundTask('a', { stop () { throw error } })
  await app.ready()
  t.equal(await rejection(task.remove()), error)
  t.equal(app.backgroundTasks.get('a'), undefined)
  app.addBackgroundTask('a', { stop () {} })
})

t.test('remove while the application closes resolves when the task has ended', async t => {
  const { app } = await build(t)
  const service = hanging()
  const timed = hanging()
  const tasks = [
    app.addBackgroundTask('service', service.handler),
    app.addBackgroundTask('timed', { every: '1h', immediate: true }, timed.handler)
  ]
  await app.ready()
  await turns()
  const closed = app.close()
  await later()
  const removed = tasks.map(async task => { await task.remove() })
  t.notOk(await settled(Promise.race([...removed, closed])))
  service.gate.resolve()
  timed.gate.resolve()
  await Promise.all([...removed, closed])
  t.same(tasks.map(({ state }) => state), ['stopped', 'stopped'])
  await Promise.all(tasks.map(async task => { await task.remove() }))
})

t.test('10,000 rounds of declare, run and remove on a live server leave the heap flat', async t => {
  const app = Fastify()
  t.teardown(async () => { await app.close() })
  await app.register(backgroundTasks)
  await app.ready()
  // The first rounds fill caches, of everybody: they are not measured.
  for (let i = 0; i < 5_000; i++) await round(app, i)
  const heap = await usedHeap()
  for (let i = 0; i < 10_000; i++) await round(app, i)
  const perRound = (await usedHeap() - heap) / 10_000
  t.comment(`${Math.round(perRound)} bytes a round`)
  t.ok(perRound < 60, 'the heap is flat', { perRound })
  t.same([...app.backgroundTasks], [])
})

/** Declares a task, of each kind in turn, has it run, and removes it. */
async function round (app: FastifyInstance, i: number): Promise<void> {
  const name = `tenant ${i % 7}`
  const ran = deferred()
  const handler = async ({ signal, log }: Run): Promise<void> => {
    log.debug('up')
    ran.resolve()
    if (i % 2 === 0) await aborted(signal)
  }
  const task = [
    () => app.addBackgroundTask(name, handler),
    () => app.addBackgroundTask(name, { every: '1h', immediate: true, timeout: '1h', retry: 1 }, handler),
    () => app.addBackgroundTask(name, { start () { ran.resolve() }, async stop ({ signal }) { signal.addEventListener('abort', () => {}) } }),
    () => app.addBackgroundTask(name, { restart: { delay: '1h' } }, async () => {
      ran.resolve()
      throw error
    })
  ][i % 4]?.() as BackgroundTask
  await ran.promise
  await task.remove()
}

/** Bytes in use after garbage collection, twice: what the first one finalizes, the second one frees. */
async function usedHeap (): Promise<number> {
  for (let i = 0; i < 2; i++) {
    collectGarbage()
    await setImmediate()
  }
  return process.memoryUsage().heapUsed
}

// From inside the handler.

const STOP_TIMEOUT = 'still runs 2s after it was told to stop: stop() waits no longer'

for (const method of ['stop', 'remove'] as const) {
  t.test(`a handler that awaits ${method}() of its own task waits for shutdownTimeout, and that is said`, async t => {
    const clock = fake(t)
    const { app, lines } = await build(t, { shutdownTimeout: '2s' })
    const took: number[] = []
    const handler = async function (this: FastifyInstance, { task }: Run): Promise<void> {
      await this.backgroundTasks.get(task)?.[method]()
      took.push(clock.now - START)
    }
    const tasks = [
      app.addBackgroundTask('service', handler),
      app.addBackgroundTask('timed', { every: '1h', immediate: true }, handler)
    ]
    await app.ready()
    await turns()
    t.same(tasks.map(({ state }) => state), ['stopping', 'stopping'])
    await clock.tickAsync(1_999)
    t.same(took, [])
    t.same(linesOf(lines, 'error', /./), [])
    await clock.tickAsync(1)
    await turns()
    t.same(took, [2_000, 2_000])
    t.same(linesOf(lines, 'error', /./).map(({ task, msg }) => [task, msg]), [['service', STOP_TIMEOUT], ['timed', STOP_TIMEOUT]])
    t.same(tasks.map(({ state }) => state), ['stopped', 'stopped'])
    t.same(tasks.map(({ stats }) => stats.active), [0, 0])
  })

  t.test(`a handler that calls ${method}() of its own task and does not await it, just ends`, async t => {
    const clock = fake(t)
    const { app, lines } = await build(t)
    const asked: Array<Promise<void>> = []
    const handler = async function (this: FastifyInstance, { task, signal }: Run): Promise<void> {
      asked.push((this.backgroundTasks.get(task) as BackgroundTask)[method]())
      t.equal(signal.reason.code, 'FST_BG_CANCELLED', 'its signal has aborted')
    }
    const tasks = [
      app.addBackgroundTask('service', { restart: 'always' }, handler),
      app.addBackgroundTask('timed', { every: '1s', immediate: true }, handler)
    ]
    await app.ready()
    await turns()
    await Promise.all(asked)
    await clock.tickAsync(MINUTE)
    t.equal(asked.length, 2, 'each has run once')
    t.same(tasks.map(({ state }) => state), ['stopped', 'stopped'])
    t.same(linesOf(lines, 'error', /./), [])
    t.equal(clock.countTimers(), 0)
  })
}

t.test('a service that awaits its own pause waits for shutdownTimeout; a timed task pauses itself at once', async t => {
  const clock = fake(t)
  const { app, lines } = await build(t, { shutdownTimeout: '2s' })
  const took: Record<string, number> = {}
  const handler = async function (this: FastifyInstance, { task }: Run): Promise<void> {
    await this.backgroundTasks.get(task)?.pause()
    took[task] = clock.now - START
  }
  const service = app.addBackgroundTask('service', handler)
  const timed = app.addBackgroundTask('timed', { every: '1s', immediate: true }, handler)
  await app.ready()
  await turns()
  t.same(took, { timed: 0 })
  t.equal(timed.state, 'paused')
  await clock.tickAsync(2_000)
  await turns()
  t.same(took, { timed: 0, service: 2_000 })
  t.equal(service.state, 'paused')
  t.equal(linesOf(lines, 'error', /./).length, 1)
  await timed.resume()
  await clock.tickAsync(1_000)
  t.equal(timed.stats.succeeded, 2, 'it has run again')
  t.equal(timed.state, 'paused')
})

t.test('a handler may cancel its own run, awaited or not, or trigger another', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const cancels: Array<Promise<void>> = []
  const cancelling = app.addBackgroundTask('a', { every: '1h' }, async ({ id, signal }) => {
    cancels.push(cancelling.cancel(id))
    signal.throwIfAborted()
  })
  t.equal((await cancelling.trigger().finished).outcome, 'cancelled')
  await Promise.all(cancels)
  t.equal(cancels.length, 1)

  const nested: RunHandle[] = []
  for (const overlap of ['skip', 'wait', 'allow'] as const) {
    const task = app.addBackgroundTask(overlap, { every: '1h', overlap }, async () => {
      if (nested.length === 0) nested.push(task.trigger())
    })
    await task.trigger().finished
    t.equal((await nested.pop()?.finished)?.outcome, overlap === 'skip' ? 'skipped' : 'succeeded', overlap)
  }

  // Who awaits the end of what it is waits for ever, and for nobody but itself: close ends it.
  const awaiting = app.addBackgroundTask('b', { every: '1h' }, async ({ id }) => { await awaiting.cancel(id) })
  awaiting.trigger()
  await turns()
  t.equal(awaiting.stats.active, 1)
  const closed = app.close()
  await turns(10)
  await clock.tickAsync(8_000)
  await closed
})

t.test('start of a hosted service may stop, pause or remove it', async t => {
  const { app } = await build(t, { autostart: false })
  await app.ready()
  for (const method of ['stop', 'pause', 'remove'] as const) {
    const calls: string[] = []
    const asked: Array<Promise<void>> = []
    const task = app.addBackgroundTask(method, {
      start () {
        calls.push('start')
        asked.push(task[method]())
      },
      stop () { calls.push('stop') }
    })
    await task.start()
    await Promise.all(asked)
    t.same(calls, ['start', 'stop'], method)
    t.equal(task.state, method === 'pause' ? 'paused' : 'stopped')
  }
})

// While the application closes.

t.test('while the application closes, nothing starts any more, and whatever stops is taken', async t => {
  const { app, lines } = await build(t)
  const gate = deferred()
  const handler = async (): Promise<void> => { await gate.promise }
  const tasks = [
    app.addBackgroundTask('service', handler),
    app.addBackgroundTask('timed', { every: '1h', immediate: true }, handler),
    app.addBackgroundTask('hosted', { start () {}, stop: handler }),
    app.addBackgroundTask('not started', { enabled: false }, handler),
    app.addBackgroundTask('paused', { every: '1h' }, handler)
  ]
  await app.ready()
  await turns()
  await tasks[4]?.pause()
  const closed = app.close()
  await later()
  const stops: Array<Promise<void>> = []
  for (const task of tasks) {
    t.equal((await rejection(task.start())).code, 'FST_BG_CLOSING', `start of ${task.name}`)
    t.throws(() => { task.trigger() }, { code: 'FST_BG_CLOSING', statusCode: 503 }, `trigger of ${task.name}`)
    t.equal((await rejection(task.cancel('unknown'))).code, 'FST_BG_NOT_FOUND')
    await task.pause()
    await task.resume()
    stops.push(task.stop(), task.remove())
    t.notOk(task.state === 'paused' || task.state === 'idle', `${task.name} is ${task.state}`)
  }
  t.equal((await app.backgroundTasks.health()).status, 'ok')
  t.notOk(await settled(closed))
  gate.resolve()
  await Promise.all([closed, ...stops])
  await app.backgroundTasks.drain()
  t.same(tasks.map(({ state }) => state), tasks.map(() => 'stopped'))
  for (const task of tasks) {
    await Promise.all([task.stop(), task.pause(), task.resume(), task.remove()])
    t.ok(await rejection(task.start()))
    t.throws(() => { task.trigger() })
  }
  t.same(linesOf(lines, 'error', /./), [])
})

t.test('nothing is armed after close, though a run with a timeout hangs', async t => {
  const clock = fake(t)
  const { app } = await build(t, { shutdownTimeout: '2s' })
  const { handler, gate } = hanging()
  app.addBackgroundTask('service', { timeout: '1h' }, handler)
  app.addBackgroundTask('timed', { every: '1h', timeout: '1h', immediate: true }, handler)
  await app.ready()
  await turns()
  const closed = app.close()
  await turns(10)
  await clock.tickAsync(2_000)
  await closed
  t.equal(clock.countTimers(), 0)
  gate.resolve()
})

t.test('a timed task that is started while it stops starts when what it stops has ended, whatever was triggered since', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const gates = [deferred(), deferred()]
  let calls = 0
  const task = app.addBackgroundTask('a', { every: '1h', overlap: 'allow' }, async () => { await gates[calls++]?.promise })
  await app.ready()
  task.trigger()
  await turns()
  const stopped = task.stop()
  task.trigger()
  await turns()
  const started = task.start()
  gates[0]?.resolve()
  await Promise.all([stopped, started])
  t.equal(task.state, 'running', 'the triggered run goes on')
  t.equal(task.nextRunAt?.getTime(), clock.now + 60 * MINUTE)
  gates[1]?.resolve()
  await turns()
  t.equal(task.state, 'idle')
})

t.test('a stop resolves within shutdownTimeout also where a start waits for a life that hangs', async t => {
  const clock = fake(t)
  const { app } = await build(t, { shutdownTimeout: '2s' })
  const { handler, gate, runs } = hanging()
  const task = app.addBackgroundTask('a', handler)
  await app.ready()
  await turns()
  const first = task.stop()
  await clock.tickAsync(2_000)
  await first
  const started = task.start()
  t.notOk(await settled(started), 'a start waits for the life before, as long as it takes')
  const second = task.stop()
  await clock.tickAsync(2_000)
  t.ok(await settled(second), 'a stop does not')
  gate.resolve()
  await started
  t.equal(task.state, 'stopped')
  t.equal(runs.length, 1)
})

t.test('start() of a paused service is done on resume', async t => {
  const { app } = await build(t, { autostart: false })
  let calls = 0
  const task = app.addBackgroundTask('a', async ({ signal }) => {
    calls++
    await aborted(signal)
  })
  await app.ready()
  await task.pause()
  await task.start()
  await turns()
  t.same([task.state, calls], ['paused', 0])
  await task.resume()
  await turns()
  t.same([task.state, calls], ['running', 1])
})

// drain

t.test('drain resolves at once when nothing runs, whatever services do', async t => {
  const { app } = await build(t)
  t.equal(await app.backgroundTasks.drain(), undefined, 'before the app is ready')
  app.addBackgroundTask('service', async ({ signal }) => { await aborted(signal) })
  app.addBackgroundTask('timed', { every: '1h' }, async () => {})
  app.addBackgroundTask('hosted', { start () {}, stop () {} })
  await app.ready()
  await turns()
  t.ok(await settled(app.backgroundTasks.drain()))
  await app.close()
  t.ok(await settled(app.backgroundTasks.drain()), 'after close')
})

t.test('drain waits for runs, their retries, those that stand by, and those that begin meanwhile', async t => {
  const clock = fake(t)
  const { app } = await build(t, { autostart: false })
  const work = worker(true)
  const one = app.addBackgroundTask('one', { every: '1h', retry: { limit: 1, delay: '1s', jitter: false } }, work.handler)
  const two = app.addBackgroundTask('two', { every: '1h', overlap: 'wait' }, work.handler)
  one.trigger()
  const drained = app.backgroundTasks.drain()
  await turns()
  work.calls[0]?.fail(error)
  t.notOk(await settled(drained), 'in backoff')
  two.trigger()
  two.trigger()
  await clock.tickAsync(1_000)
  t.equal(work.calls.length, 3, 'the retry, and the first run of the other')
  for (const call of work.calls) call.end()
  t.notOk(await settled(drained), 'one stood by')
  t.equal(work.calls.length, 4)
  work.calls[3]?.fail(error)
  t.equal(await drained, undefined, 'a failed one has ended as well')
  t.same([one.stats.active, two.stats.active], [0, 0])
})

t.test('drain waits for the start of a hosted service', async t => {
  const { app } = await build(t, { autostart: false })
  const gate = deferred()
  const task = app.addBackgroundTask('a', { async start () { await gate.promise } })
  await app.ready()
  const started = task.start()
  const drained = app.backgroundTasks.drain()
  t.notOk(await settled(drained))
  gate.resolve()
  await Promise.all([started, drained])
})

// health

/** Health as text: the whole, and each task that is not ok. */
async function health (app: FastifyInstance): Promise<string[]> {
  const { status, tasks } = await app.backgroundTasks.health()
  return [status, ...tasks.filter(task => task.status !== 'ok').map(({ name, status, reason }) => `${name} ${status}: ${reason}`)]
}

t.test('health lists every task, in the order of declaration', async t => {
  const { app } = await build(t)
  t.same(await app.backgroundTasks.health(), { status: 'ok', tasks: [] })
  app.addBackgroundTask('service', async ({ signal }) => { await aborted(signal) })
  app.addBackgroundTask('timed', { every: '1h' }, async () => {})
  app.addBackgroundTask('hosted', { start () {} })
  app.addBackgroundTask('disabled', { enabled: false }, async () => {})
  app.addBackgroundTask('completed', { restart: 'never' }, async () => {})
  await app.ready()
  await turns()
  t.same(await app.backgroundTasks.health(), {
    status: 'ok',
    tasks: [
      { name: 'service', kind: 'service', state: 'running', status: 'ok' },
      { name: 'timed', kind: 'timed', state: 'idle', status: 'ok' },
      { name: 'hosted', kind: 'hosted', state: 'running', status: 'ok' },
      { name: 'disabled', kind: 'service', state: 'idle', status: 'ok' },
      { name: 'completed', kind: 'service', state: 'completed', status: 'ok' }
    ]
  })
})

t.test('health is as bad as the worst task', async t => {
  const { app } = await build(t)
  const degraded = app.addBackgroundTask('degraded', { every: '1h' }, async () => { throw error })
  app.addBackgroundTask('ok', { every: '1h' }, async () => {})
  t.same(await health(app), ['ok'])
  await degraded.trigger().finished
  t.same(await health(app), ['degraded', 'degraded degraded: the last run failed'])
  const failing = app.addBackgroundTask('failing', mortal, async () => { throw error })
  await failing.trigger().finished
  t.same(await health(app), ['failing', 'degraded degraded: the last run failed', 'failing failing: failed for good'])
  await failing.remove()
  t.same((await health(app))[0], 'degraded', 'of a removed task nothing is said')
})

t.test('a timed task whose run waits for a retry, or failed last, is degraded until one succeeds', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker(true)
  app.addBackgroundTask('a', { every: '1h', retry: { limit: 1, delay: '1s', jitter: false } }, work.handler)
  await app.ready()
  await clock.tickAsync(60 * MINUTE)
  work.calls[0]?.fail(error)
  await turns()
  t.same(await health(app), ['degraded', 'a degraded: failed, and waits for the next attempt'])
  await clock.tickAsync(1_000)
  t.same(await health(app), ['ok'], 'the retry runs')
  work.calls[1]?.fail(error)
  await turns()
  t.same(await health(app), ['degraded', 'a degraded: the last run failed'])
  await clock.tickAsync(60 * MINUTE)
  t.same(await health(app), ['degraded', 'a degraded: the last run failed'], 'while the next one runs')
  work.calls[2]?.end()
  await turns()
  t.same(await health(app), ['ok'])
})

t.test('a service in backoff is degraded, and one that failed three lives in a row failing, until a life has lasted', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker(true)
  app.addBackgroundTask('a', { restart: { delay: '1s', factor: 1, jitter: false, within: '1m' } }, work.handler)
  await app.ready()
  await turns()
  const fail = async (): Promise<void> => {
    work.calls.at(-1)?.fail(error)
    await turns()
  }
  for (let lives = 1; lives <= 2; lives++) {
    await fail()
    t.same(await health(app), ['degraded', 'a degraded: failed, and waits for the next attempt'])
    await clock.tickAsync(1_000)
    t.same(await health(app), ['degraded', 'a degraded: the last run failed'])
  }
  await fail()
  t.same(await health(app), ['failing', 'a failing: failed 3 times in a row'])
  await clock.tickAsync(1_000)
  t.same(await health(app), ['failing', 'a failing: failed 3 times in a row'], 'it has only begun')
  await clock.tickAsync(MINUTE - 1)
  t.equal((await health(app))[0], 'failing')
  await clock.tickAsync(1)
  t.same(await health(app), ['ok'], 'a life has lasted')
  await fail()
  t.same(await health(app), ['degraded', 'a degraded: failed, and waits for the next attempt'], 'it counts anew')
})

t.test('a service that returns and is always restarted is ok between two lives: a life that ends well clears what failed before', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker(true)
  app.addBackgroundTask('a', { restart: { when: 'always', delay: '1s', factor: 1, jitter: false } }, work.handler)
  await app.ready()
  await turns()
  for (const fails of [false, false, false, true, true, false, true, true]) {
    if (fails) work.calls.at(-1)?.fail(error)
    else work.calls.at(-1)?.end()
    await turns()
    t.equal((await health(app))[0], fails ? 'degraded' : 'ok')
    await clock.tickAsync(1_000)
    t.equal((await health(app))[0], fails ? 'degraded' : 'ok')
  }
})

t.test('a service that was given up is failing until it is started', async t => {
  const { app } = await build(t)
  let fails = true
  const task = app.addBackgroundTask('a', { onGiveUp: 'log' }, async ({ signal }) => {
    if (fails) throw new GiveUp('enough')
    await aborted(signal)
  })
  await app.ready()
  await turns()
  t.equal(task.state, 'failed')
  t.same(await health(app), ['failing', 'a failing: failed for good'])
  fails = false
  await task.start()
  await turns()
  t.not((await health(app))[0], 'failing')
})

t.test('a hosted service whose start failed is failing until one succeeds', async t => {
  const { app } = await build(t, { autostart: false })
  let fails = true
  const task = app.addBackgroundTask('a', { start () { if (fails) throw error } })
  await app.ready()
  await rejection(task.start())
  t.same(await health(app), ['failing', 'a failing: failed for good'])
  fails = false
  await task.start()
  t.same(await health(app), ['ok'])
})

t.test('three ticks skipped behind one run are a failure until it ends', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const work = worker(true)
  app.addBackgroundTask('a', { every: '1s' }, work.handler)
  await app.ready()
  await clock.tickAsync(3_000)
  t.same(await health(app), ['ok'], 'two')
  await clock.tickAsync(1_000)
  t.same(await health(app), ['failing', `a failing: 3 ticks were skipped behind run ${work.calls[0]?.id}`])
  await clock.tickAsync(1_000)
  t.same(await health(app), ['failing', `a failing: 4 ticks were skipped behind run ${work.calls[0]?.id}`])
  work.calls[0]?.end()
  await turns()
  t.same(await health(app), ['ok'])
  await clock.tickAsync(3_000)
  t.same(await health(app), ['ok'], 'it counts anew')
})

for (const [what, options, before] of [
  ['a tick that waits', { every: '1m', overlap: 'wait' }, 2],
  ['a tick that is caught up', { every: '1m', misfire: 'all' }, 3]
] as const) {
  t.test(`${what} for more than a minute is a failure until it runs`, async t => {
    const clock = fake(t)
    const { app } = await build(t)
    const work = worker(true)
    app.addBackgroundTask('a', options, work.handler)
    await app.ready()
    if (what === 'a tick that waits') {
      await clock.tickAsync(2 * MINUTE)
    } else {
      // The process sleeps until the fourth tick.
      await clock.tickAsync(MINUTE - 1)
      clock.jump(3 * MINUTE + 2 * SECOND)
      await turns()
    }
    t.equal(work.calls.length, 1)
    const due = new Date(START + 2 * MINUTE).toISOString()
    if (what === 'a tick that waits') {
      t.same(await health(app), ['ok'])
      await clock.tickAsync(MINUTE)
      t.same(await health(app), ['ok'], 'for a minute')
      await clock.tickAsync(1)
    }
    t.same(await health(app), ['failing', `a failing: the tick of ${due} has not run`])
    work.hold = false
    for (let i = 0; i < before; i++) {
      work.calls.at(-1)?.end()
      await turns()
    }
    t.same(await health(app), ['ok'])
  })
}

t.test('a run that goes on past its timeout is a failure until it ends', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const { handler, gate, runs } = hanging()
  app.addBackgroundTask('service', { timeout: '10s' }, handler)
  app.addBackgroundTask('timed', { every: '1h', immediate: true, timeout: '20s' }, handler)
  await app.ready()
  await turns()
  const reason = (run: Run | undefined): string => `run ${run?.id} goes on past its timeout`
  const [service, timed] = runs
  await clock.tickAsync(9_999)
  t.same(await health(app), ['ok'])
  await clock.tickAsync(1)
  t.equal(service?.signal.reason.code, 'FST_BG_TIMEOUT')
  t.same(await health(app), ['failing', `service failing: ${reason(service)}`])
  await clock.tickAsync(10_000)
  t.same(await health(app), ['failing', `service failing: ${reason(service)}`, `timed failing: ${reason(timed)}`])
  gate.resolve()
  await turns()
  t.same(await health(app), ['ok'], 'what resolves has succeeded')
})

t.test('the run past its timeout is the one that is named', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const { handler, gate } = hanging()
  const task: BackgroundTask = app.addBackgroundTask('a', { every: '1h', overlap: 'allow', timeout: '10s', retry: { limit: 1, delay: '1s', jitter: false } }, async run => {
    if (run.id === older.id && run.attempt === 1) throw error
    await handler(run)
  })
  await app.ready()
  // Its second attempt is younger than the other run.
  const older = task.trigger()
  const stuck = task.trigger()
  await turns()
  await clock.tickAsync(10_000)
  t.same(await health(app), ['failing', `a failing: run ${stuck.id} goes on past its timeout`])
  gate.resolve()
  await turns()
})

t.test('a start that waits for a life that hangs is refused when close is over', async t => {
  const clock = fake(t)
  const { app } = await build(t, { shutdownTimeout: '2s' })
  const { handler, gate } = hanging()
  const task = app.addBackgroundTask('a', handler)
  await app.ready()
  await turns()
  void task.stop()
  const started = rejection(task.start())
  const closed = app.close()
  await turns(10)
  await clock.tickAsync(2_000)
  await closed
  t.equal((await started).code, 'FST_BG_CLOSING')
  gate.resolve()
})

t.test('close waits for the run of a removed task that hangs, and names it', async t => {
  const clock = fake(t)
  const { app, lines } = await build(t, { shutdownTimeout: '2s' })
  await app.ready()
  const { handler, gate } = hanging()
  const task = app.addBackgroundTask('a', handler)
  await turns()
  const removed = task.remove()
  await clock.tickAsync(2_000)
  await removed
  app.addBackgroundTask('a', { stop () {} })
  await turns()
  const closed = app.close()
  t.notOk(await settled(closed))
  await turns(10)
  await clock.tickAsync(2_000)
  await closed
  t.match(linesOf(lines, 'error', /^shutdown deadline passed$/), [{ tasks: ['a'] }])
  gate.resolve()
})

t.test('every handle can be written as JSON, whatever its last run threw', async t => {
  const { app } = await build(t)
  const service = app.addBackgroundTask('service', { onGiveUp: 'log', restart: 'never' }, () => { throw Object.assign(new TypeError('no'), { code: 'E_NO', request: app }) })
  const hosted = app.addBackgroundTask('hosted', { async start () {} })
  const timed = app.addBackgroundTask('timed', { every: '1h' }, () => {})
  const queue = app.addBackgroundQueue('queue', ({ payload }) => payload)
  await app.ready()
  await queue.enqueue('a secret')
  await queue.drain()
  await until(async () => service.state === 'failed')
  const written = JSON.parse(JSON.stringify([service, hosted, timed, queue])) as Array<Record<string, unknown>>
  t.match(written, [
    { name: 'service', kind: 'service', state: 'failed', stats: { failed: 1 }, lastRun: { outcome: 'failed', error: { name: 'TypeError', message: 'no', code: 'E_NO', stack: String } } },
    { name: 'hosted', kind: 'hosted', state: 'running' },
    { name: 'timed', kind: 'timed', state: 'idle', nextRunAt: /^\d{4}-/, stats: { succeeded: 0, failed: 0, cancelled: 0, skipped: 0, active: 0 } },
    { name: 'queue', kind: 'queue', state: 'running', lastRun: { outcome: 'succeeded' } }
  ])
  for (const one of written) t.same(Object.keys(one).filter(key => !['name', 'kind', 'state', 'condition', 'timing', 'nextRunAt', 'stats', 'lastRun', 'history'].includes(key)), [])
})
