// What becomes of a task that fails: restarts, retries, limits of time, and what is logged. Giving up with 'close' is in giveup.test.ts.
import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { GiveUp, type Run, type RunHandle, type TaskHandler } from '../../lib/index.ts'
import { fake, HOUR, linesOf, MINUTE, random, range, SECOND, START, turns } from '../support/fakes.ts'
import { aborted, build, deferred, later, logged, type Line } from '../support/helper.ts'

type FakeClock = ReturnType<typeof fake>

/** One call of a handler, which goes on until it is told how to end. */
interface Attempt {
  run: Run
  id: string
  attempt: number
  signal: AbortSignal
  /** In milliseconds from START. */
  at: number
  end (value?: unknown): void
  fail (error: unknown): void
}

/** A handler, and its calls. A call rejects with the reason when its signal aborts; not the first one, if that is deaf. */
function script ({ deaf = false } = {}): { handler: TaskHandler, calls: Attempt[], last: Attempt } {
  const calls: Attempt[] = []
  return {
    calls,
    get last () { return calls.at(-1) as Attempt },
    async handler (run) {
      const gate = deferred<unknown>()
      const { id, attempt, signal } = run
      calls.push({ run, id, attempt, signal, at: Date.now() - START, end: gate.resolve, fail: gate.reject })
      if (!deaf || calls.length > 1) signal.addEventListener('abort', () => { gate.reject(signal.reason) })
      return await gate.promise
    }
  }
}

async function pass (clock: FakeClock, ms: number): Promise<void> {
  clock.tick(ms)
  await turns()
}

/** Lets a call fail, and the consequences happen. */
async function fail (call: Attempt, error: unknown = new Error('boom')): Promise<void> {
  call.fail(error)
  await turns()
}

/** Lets `call` fail, and tells after how many milliseconds the next one comes. */
async function waitAfter (clock: FakeClock, one: { calls: Attempt[], last: Attempt }, error?: unknown): Promise<number> {
  const { length } = one.calls
  const at = Date.now() - START
  await fail(one.last, error)
  for (let ms = 0; one.calls.length === length && ms < 100 * SECOND; ms += 250) await pass(clock, 250)
  return one.last.at - at
}

const s = (...seconds: number[]): number[] => seconds.map(n => n * SECOND)

/** Every wait is as long as it may be. */
const whole = (t: Parameters<typeof random>[0]): void => { random(t, 1) }

const inBackground = async (app: FastifyInstance): Promise<void> => {
  await app.ready()
  await turns()
}

// Restarts.

t.test('a service that fails is restarted after 1, 2, 4, 8, 16 and then every 30 seconds, for ever', async t => {
  const clock = fake(t)
  whole(t)
  const { app } = await build(t)
  const one = script()
  const task = app.addBackgroundTask('service', one.handler)
  await inBackground(app)
  const waits = []
  for (let i = 0; i < 9; i++) waits.push(await waitAfter(clock, one))
  t.same(waits, s(1, 2, 4, 8, 16, 30, 30, 30, 30))
  t.equal(task.state, 'running')
  t.equal(task.stats.failed, 9)
})

t.test('while it waits a service is in backoff, and not a millisecond too short', async t => {
  const clock = fake(t)
  whole(t)
  const { app } = await build(t)
  const one = script()
  const task = app.addBackgroundTask('service', one.handler)
  await inBackground(app)
  await fail(one.last)
  t.equal(task.state, 'backoff')
  t.match((await app.backgroundTasks.health()).tasks, [{ state: 'backoff', status: 'degraded' }])
  await pass(clock, 999)
  t.equal(one.calls.length, 1)
  t.equal(task.state, 'backoff')
  await pass(clock, 1)
  t.equal(one.calls.length, 2)
  t.equal(task.state, 'running')
})

t.test('jitter shortens a wait to half of it at most', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const one = script()
  app.addBackgroundTask('service', one.handler)
  await inBackground(app)
  random(t, 0, 0.5)
  t.equal(await waitAfter(clock, one), 500)
  t.equal(await waitAfter(clock, one), 1_500)
  t.equal(await waitAfter(clock, one), 2_000)
})

t.test('the waits are those of delay, factor and maxDelay, without jitter if so asked', async t => {
  const clock = fake(t)
  random(t, 0)
  const { app } = await build(t)
  const one = script()
  app.addBackgroundTask('service', { restart: { delay: '2s', factor: 3, maxDelay: '10s', jitter: false } }, one.handler)
  await inBackground(app)
  t.same([await waitAfter(clock, one), await waitAfter(clock, one), await waitAfter(clock, one)], s(2, 6, 10))
})

t.test('the waits begin anew once a life has lasted `within`', async t => {
  const clock = fake(t)
  whole(t)
  const { app } = await build(t)
  const one = script()
  app.addBackgroundTask('service', { restart: { within: '20s' } }, one.handler)
  await inBackground(app)
  t.same([await waitAfter(clock, one), await waitAfter(clock, one)], s(1, 2))
  await pass(clock, 20 * SECOND - 1)
  t.equal(await waitAfter(clock, one), 4 * SECOND, 'almost')
  await pass(clock, 20 * SECOND)
  t.equal(await waitAfter(clock, one), SECOND)
  t.equal(await waitAfter(clock, one), 2 * SECOND)
})

t.test('each life is a run of its own: a new id, attempt 1, a fresh signal, a record in the history', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const one = script()
  const task = app.addBackgroundTask('service', { timeout: '5s' }, one.handler)
  await inBackground(app)
  const boom = new Error('boom')
  await waitAfter(clock, one, boom)
  await pass(clock, 5 * SECOND)
  t.equal(one.last.signal.aborted, true, 'the second life took too long')
  await pass(clock, 2 * SECOND)
  const [first, second, third] = one.calls as [Attempt, Attempt, Attempt]
  t.equal(new Set([first.id, second.id, third.id]).size, 3)
  t.same(one.calls.map(({ attempt }) => attempt), [1, 1, 1])
  t.same(one.calls.map(({ signal }) => signal.aborted), [false, true, false])
  t.match(task.history, [{ id: second.id, outcome: 'failed' }, { id: first.id, outcome: 'failed', error: boom }])
  t.same(task.stats, { succeeded: 0, failed: 2, cancelled: 0, skipped: 0, active: 1 })
})

t.test('with restart never, a service that fails has failed for good', async t => {
  const clock = fake(t)
  const { app, lines } = await build(t)
  const one = script()
  const task = app.addBackgroundTask('service', { restart: 'never', onGiveUp: 'log' }, one.handler)
  await inBackground(app)
  await fail(one.last)
  t.equal(task.state, 'failed')
  t.equal(clock.countTimers(), 0, 'nothing is armed')
  await pass(clock, 5 * MINUTE)
  t.equal(one.calls.length, 1)
  t.match(linesOf(lines, 'error', /./), [{ msg: 'service failed', task: 'service' }])
})

for (const restart of ['never', 'on-failure'] as const) {
  t.test(`with restart ${restart}, a service that returns has completed, and is not restarted`, async t => {
    const clock = fake(t)
    const { app, lines } = await build(t)
    const one = script()
    const task = app.addBackgroundTask('service', { restart }, one.handler)
    await inBackground(app)
    await pass(clock, 1_500)
    one.last.end()
    await turns()
    t.equal(task.state, 'completed')
    t.equal(clock.countTimers(), 0)
    t.match(linesOf(lines, 'info', /^service/), [{ msg: 'service completed', task: 'service', run: one.last.id, attempt: 1, duration: 1_500 }])
    t.equal((await app.backgroundTasks.health()).status, 'ok')
    await pass(clock, 5 * MINUTE)
    t.equal(one.calls.length, 1)
  })
}

t.test('with restart always, a service is restarted after a return and after a failure, with the same growing wait', async t => {
  const clock = fake(t)
  whole(t)
  const { app, lines } = await build(t)
  const one = script()
  const task = app.addBackgroundTask('service', { restart: 'always' }, one.handler)
  await inBackground(app)
  one.last.end()
  await turns()
  t.equal(task.state, 'backoff')
  await pass(clock, 999)
  t.equal(one.calls.length, 1)
  await pass(clock, 1)
  t.equal(one.calls.length, 2)
  t.equal(await waitAfter(clock, one), 2 * SECOND)
  const { at } = one.last
  one.last.end()
  await turns()
  await pass(clock, 4 * SECOND)
  t.equal(one.last.at - at, 4 * SECOND)
  t.same(task.stats, { succeeded: 2, failed: 1, cancelled: 0, skipped: 0, active: 1 })
  t.match(linesOf(lines, 'info', /^service/), [{ msg: 'service ended, and is restarted', run: one.calls[0]?.id }, { run: one.calls[2]?.id }])
})

t.test('more than `limit` restarts within the window: the service is given up', async t => {
  const clock = fake(t)
  whole(t)
  const { app, lines } = await build(t)
  const one = script()
  const told: unknown[] = []
  const task = app.addBackgroundTask('service', { restart: { limit: 3 }, onGiveUp: error => { told.push(error) } }, one.handler)
  await inBackground(app)
  for (let i = 0; i < 3; i++) await waitAfter(clock, one)
  t.same(told, [])
  const last = new Error('the last')
  await fail(one.last, last)
  t.equal(one.calls.length, 4, 'one life, and three restarts')
  t.equal(task.state, 'failed')
  t.equal(told.length, 1)
  t.equal(told[0], last)
  t.match(linesOf(lines, 'error', /^service failed$/), [{ run: one.last.id, err: { message: 'the last' } }])
  t.equal(clock.countTimers(), 0)
  await pass(clock, 5 * MINUTE)
  t.equal(one.calls.length, 4)
})

t.test('restarts that are further apart than the window never add up to the limit', async t => {
  const clock = fake(t)
  whole(t)
  const { app } = await build(t)
  const one = script()
  const task = app.addBackgroundTask('service', { restart: { limit: 1, within: '10s' }, onGiveUp: 'log' }, one.handler)
  await inBackground(app)
  for (let i = 0; i < 5; i++) {
    await pass(clock, 10 * SECOND)
    await waitAfter(clock, one)
  }
  t.equal(one.calls.length, 6)
  await fail(one.last)
  t.equal(task.state, 'failed')
})

t.test('a restart after a return counts for the limit like one after a failure', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const one = script()
  const task = app.addBackgroundTask('service', { restart: { when: 'always', limit: 2 }, onGiveUp: 'log' }, one.handler)
  await inBackground(app)
  one.last.end()
  await turns()
  await pass(clock, SECOND)
  await waitAfter(clock, one)
  t.equal(one.calls.length, 3)
  one.last.end()
  await turns()
  t.equal(task.state, 'failed')
  t.equal((await app.backgroundTasks.health()).status, 'failing')
})

t.test('a limit of 0 allows no restart', async t => {
  fake(t)
  const { app } = await build(t)
  const one = script()
  const task = app.addBackgroundTask('service', { restart: { limit: 0 }, onGiveUp: 'log' }, one.handler)
  await inBackground(app)
  await fail(one.last)
  t.equal(task.state, 'failed')
})

class Gone extends GiveUp {}

for (const restart of ['on-failure', 'always'] as const) {
  t.test(`GiveUp ends a service for good, with restart ${restart} too`, async t => {
    const clock = fake(t)
    const { app, lines } = await build(t)
    const one = script()
    const told: unknown[] = []
    const task = app.addBackgroundTask('service', { restart, onGiveUp: error => { told.push(error) } }, one.handler)
    await inBackground(app)
    await waitAfter(clock, one)
    const gone = new Gone('the feed is gone')
    await fail(one.last, gone)
    t.equal(task.state, 'failed')
    t.equal(told[0], gone)
    t.equal(clock.countTimers(), 0)
    t.match(linesOf(lines, 'error', /^service failed$/), [{ run: one.last.id, err: { message: 'the feed is gone' } }])
    await pass(clock, 5 * MINUTE)
    t.equal(one.calls.length, 2)
  })
}

t.test('a life that exceeds its timeout hears so by its signal, has failed when it rejects, and is restarted', async t => {
  const clock = fake(t)
  whole(t)
  const { app, lines } = await build(t)
  const one = script()
  const task = app.addBackgroundTask('service', { timeout: '10s' }, one.handler)
  await inBackground(app)
  await pass(clock, 9_999)
  t.equal(one.last.signal.aborted, false)
  await pass(clock, 1)
  t.match(one.last.signal.reason, { code: 'FST_BG_TIMEOUT', message: 'Background task "service" did not end within 10s.' })
  t.equal(task.state, 'backoff')
  t.equal(task.lastRun?.outcome, 'failed')
  t.match(linesOf(lines, 'error', /^service failed/), [{ err: { code: 'FST_BG_TIMEOUT' }, duration: 10_000 }])
  await pass(clock, SECOND)
  t.equal(one.calls.length, 2)
})

t.test('a restart begins only after the life before has ended, even if that ignored its signal', async t => {
  const clock = fake(t)
  whole(t)
  const { app } = await build(t)
  const one = script({ deaf: true })
  const task = app.addBackgroundTask('service', { timeout: '10s' }, one.handler)
  await inBackground(app)
  await pass(clock, 5 * MINUTE)
  t.equal(one.last.signal.aborted, true)
  t.equal(one.calls.length, 1)
  t.equal(task.state, 'running', 'it is still active')
  t.match((await app.backgroundTasks.health()).tasks, [{ status: 'failing', reason: `run ${one.last.id} goes on past its timeout` }])
  await fail(one.last)
  t.equal(task.state, 'backoff', 'the wait begins when it has ended')
  await pass(clock, 999)
  t.equal(one.calls.length, 1)
  await pass(clock, 1)
  t.equal(one.calls.length, 2)
})

t.test('a life that returns after its timeout has succeeded', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const one = script({ deaf: true })
  const task = app.addBackgroundTask('service', { timeout: '10s' }, one.handler)
  await inBackground(app)
  await pass(clock, 11 * SECOND)
  one.last.end()
  await turns()
  t.equal(task.state, 'completed')
  t.equal(task.lastRun?.outcome, 'succeeded')
})

t.test('a life that ends in time leaves no timeout armed', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const one = script()
  app.addBackgroundTask('service', { timeout: '10s' }, one.handler)
  await inBackground(app)
  t.equal(clock.countTimers(), 1)
  one.last.end()
  await turns()
  t.equal(clock.countTimers(), 0)
})

t.test('close() in backoff: the service is stopped at once, and no restart comes', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const one = script()
  const task = app.addBackgroundTask('service', one.handler)
  await inBackground(app)
  await fail(one.last)
  await app.close()
  t.equal(task.state, 'stopped')
  t.equal(clock.countTimers(), 0)
  await pass(clock, 5 * MINUTE)
  t.equal(one.calls.length, 1)
})

const ways = [
  { stop: 'stop', rest: 'stopped', go: 'start' },
  { stop: 'pause', rest: 'paused', go: 'resume' }
] as const
for (const { stop, rest, go } of ways) {
  t.test(`${stop}() in backoff: the service is ${rest} at once, and ${go}() begins a new life with its counters reset`, async t => {
    const clock = fake(t)
    whole(t)
    const { app } = await build(t)
    const one = script()
    const task = app.addBackgroundTask('service', { restart: { limit: 2 }, onGiveUp: 'log' }, one.handler)
    await inBackground(app)
    await waitAfter(clock, one)
    await waitAfter(clock, one)
    await fail(one.last)
    t.equal(task.state, 'failed', 'so much for the limit')
    await task.start()
    await turns()
    await waitAfter(clock, one)
    await fail(one.last)
    t.equal(task.state, 'backoff')
    await task[stop]()
    t.equal(task.state, rest)
    t.equal(clock.countTimers(), 0)
    await pass(clock, 5 * MINUTE)
    t.equal(one.calls.length, 5)
    await task[go]()
    await turns()
    t.equal(task.state, 'running')
    t.equal(one.calls.length, 6)
    t.same([await waitAfter(clock, one), await waitAfter(clock, one)], s(1, 2), 'both restarts are there again')
    await fail(one.last)
    t.equal(task.state, 'failed')
  })
}

t.test('a service that fails three times in a row is failing, until a life has lasted', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const one = script()
  app.addBackgroundTask('service', one.handler)
  await inBackground(app)
  const status = async (): Promise<string> => (await app.backgroundTasks.health()).status
  await waitAfter(clock, one)
  await waitAfter(clock, one)
  t.equal(await status(), 'degraded')
  await fail(one.last)
  t.equal(await status(), 'failing')
  await pass(clock, 4 * SECOND)
  t.equal(one.calls.length, 4)
  t.equal(await status(), 'failing', 'it has just been restarted')
  await pass(clock, MINUTE)
  t.equal(await status(), 'ok')
})

t.test('one service that fails all the time touches no other task', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const good = script()
  const timed = script()
  app.addBackgroundTask('bad', { restart: { delay: 1, maxDelay: 10 } }, async () => { throw new Error('boom') })
  app.addBackgroundTask('good', good.handler)
  app.addBackgroundTask('timed', { every: '1s' }, timed.handler)
  await inBackground(app)
  for (let i = 0; i < 100; i++) await pass(clock, 10)
  t.ok(app.backgroundTasks.get('bad')?.stats.failed as number > 50)
  t.equal(good.calls.length, 1)
  t.equal(good.last.signal.aborted, false)
  t.same(timed.calls.map(({ at }) => at), [SECOND])
})

// Retries.

t.test('a timed run that fails is tried again, as attempts 1 to n of one run, each with a fresh signal', async t => {
  const clock = fake(t)
  whole(t)
  const { app } = await build(t)
  const one = script()
  const task = app.addBackgroundTask('timed', { every: '1h', retry: 3 }, one.handler)
  await inBackground(app)
  const { id } = task.trigger()
  await turns()
  t.same([await waitAfter(clock, one), await waitAfter(clock, one), await waitAfter(clock, one)], s(1, 2, 4))
  t.same(one.calls.map(call => call.id), range(1, 4).map(() => id))
  t.same(one.calls.map(({ attempt }) => attempt), [1, 2, 3, 4])
  t.equal(new Set(one.calls.map(({ signal }) => signal)).size, 4)
  t.equal(new Set(one.calls.map(({ run }) => run)).size, 4)
  t.same(new Set(one.calls.map(({ run }) => Number(run.dueAt))), new Set([START]))
  await fail(one.last)
  t.equal(task.state, 'idle')
  await pass(clock, MINUTE)
  t.equal(one.calls.length, 4)
})

t.test('the waits between attempts are at most a minute, and those that an object asks for', async t => {
  const clock = fake(t)
  whole(t)
  const { app } = await build(t)
  const one = script()
  const two = script()
  const first = app.addBackgroundTask('default', { every: '1h', retry: { limit: 8 } }, one.handler)
  const second = app.addBackgroundTask('own', { every: '1h', retry: { limit: 3, delay: '3s', factor: 3, maxDelay: '10s', jitter: false } }, two.handler)
  await inBackground(app)
  first.trigger()
  await turns()
  const waits = []
  for (let i = 0; i < 8; i++) waits.push(await waitAfter(clock, one))
  t.same(waits, s(1, 2, 4, 8, 16, 32, 60, 60))
  one.last.end()
  random(t, 0)
  second.trigger()
  await turns()
  t.same([await waitAfter(clock, two), await waitAfter(clock, two), await waitAfter(clock, two)], s(3, 9, 10))
})

t.test('jitter shortens the wait between two attempts to half of it at most', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const one = script()
  const task = app.addBackgroundTask('timed', { every: '1h', retry: 2 }, one.handler)
  await inBackground(app)
  random(t, 0, 0.5)
  task.trigger()
  await turns()
  t.same([await waitAfter(clock, one), await waitAfter(clock, one)], [500, 1_500])
})

t.test('an attempt that succeeds ends the run: it has succeeded, is counted and recorded once, and the handle knows what it returned', async t => {
  const clock = fake(t)
  whole(t)
  const { app, lines } = await build(t)
  const one = script()
  const task = app.addBackgroundTask('timed', { every: '1h', retry: 3 }, one.handler)
  await inBackground(app)
  const { id, finished } = task.trigger()
  await turns()
  await waitAfter(clock, one)
  await waitAfter(clock, one)
  one.last.end('report')
  t.match(await finished, { outcome: 'succeeded', value: 'report', error: undefined, duration: 3 * SECOND })
  await turns()
  t.same(task.stats, { succeeded: 1, failed: 0, cancelled: 0, skipped: 0, active: 0 })
  t.match(task.history, [{ id, outcome: 'succeeded', error: undefined }])
  t.match(linesOf(lines, 'info', /^run/), [{ msg: 'run succeeded', task: 'timed', run: id, attempt: 3 }])
  t.equal((await app.backgroundTasks.health()).status, 'ok')
})

t.test('a run whose last attempt fails has failed, once, and the schedule goes on', async t => {
  const clock = fake(t)
  whole(t)
  const { app, lines } = await build(t)
  const one = script()
  const task = app.addBackgroundTask('timed', { every: '10s', retry: 1 }, one.handler)
  await inBackground(app)
  await pass(clock, 10 * SECOND)
  t.equal(await waitAfter(clock, one), SECOND)
  const last = new Error('the last')
  await fail(one.last, last)
  t.same(task.stats, { succeeded: 0, failed: 1, cancelled: 0, skipped: 0, active: 0 })
  t.match(task.lastRun, { outcome: 'failed', error: last })
  t.match(linesOf(lines, 'error', /./), [{ msg: 'run failed', run: one.last.id, attempt: 2 }])
  t.match((await app.backgroundTasks.health()).tasks, [{ status: 'degraded', reason: 'the last run failed' }])
  await pass(clock, 9 * SECOND)
  t.match(one.last, { at: 20 * SECOND, attempt: 1 })
  t.equal(one.calls.length, 3)
})

for (const options of [{}, { retry: 0 }, { retry: { limit: 0 } }]) {
  t.test(`with ${JSON.stringify(options)} there is one attempt`, async t => {
    const clock = fake(t)
    const { app } = await build(t)
    const one = script()
    const task = app.addBackgroundTask('timed', { every: '1h', ...options }, one.handler)
    await inBackground(app)
    const { finished } = task.trigger()
    await turns()
    await fail(one.last)
    t.equal((await finished).outcome, 'failed')
    await pass(clock, 5 * MINUTE)
    t.equal(one.calls.length, 1)
  })
}

t.test('between two attempts a timed task is in backoff, and its run active', async t => {
  const clock = fake(t)
  whole(t)
  const { app } = await build(t)
  const one = script()
  const task = app.addBackgroundTask('timed', { every: '1h', retry: 2 }, one.handler)
  await inBackground(app)
  const states: string[] = [task.state]
  const { finished } = task.trigger()
  states.push(task.state)
  await turns()
  await fail(one.last)
  states.push(task.state)
  t.equal(task.stats.active, 1)
  t.equal((await app.backgroundTasks.health()).status, 'degraded')
  let drained = false
  void app.backgroundTasks.drain().then(() => { drained = true })
  await pass(clock, 999)
  t.equal(one.calls.length, 1)
  await pass(clock, 1)
  states.push(task.state)
  t.equal(drained, false, 'drain() waits for the whole run')
  one.last.end()
  await finished
  await turns()
  states.push(task.state)
  t.same(states, ['idle', 'running', 'backoff', 'running', 'idle'])
  t.equal(drained, true)
})

t.test('the timeout is that of one attempt; each one is told by a signal of its own, and then tried again', async t => {
  const clock = fake(t)
  whole(t)
  const { app, lines } = await build(t)
  const one = script()
  const task = app.addBackgroundTask('timed', { every: '1h', retry: 2, timeout: '10s' }, one.handler)
  await inBackground(app)
  const { finished } = task.trigger()
  await turns()
  await pass(clock, 10 * SECOND) // the first attempt is over
  await pass(clock, SECOND)
  await pass(clock, 10 * SECOND) // the second
  await pass(clock, 2 * SECOND)
  await pass(clock, 9_999)
  t.same(one.calls.map(({ at }) => at), s(0, 11, 23))
  t.same(one.calls.map(({ signal }) => signal.reason?.code), ['FST_BG_TIMEOUT', 'FST_BG_TIMEOUT', undefined])
  await pass(clock, 1)
  t.match(await finished, { outcome: 'failed', error: { code: 'FST_BG_TIMEOUT' } })
  t.match(linesOf(lines, 'warn', /./), [{ err: { code: 'FST_BG_TIMEOUT' } }, { err: { code: 'FST_BG_TIMEOUT' } }])
})

t.test('a retry begins only after the attempt before has ended, even if that ignored its signal', async t => {
  const clock = fake(t)
  whole(t)
  const { app } = await build(t)
  const one = script({ deaf: true })
  const task = app.addBackgroundTask('timed', { every: '1h', retry: 1, timeout: '10s' }, one.handler)
  await inBackground(app)
  task.trigger()
  await turns()
  await pass(clock, 5 * MINUTE)
  t.equal(one.last.signal.aborted, true)
  t.equal(one.calls.length, 1)
  t.equal(task.state, 'running')
  t.match((await app.backgroundTasks.health()).tasks, [{ status: 'failing', reason: `run ${one.last.id} goes on past its timeout` }])
  await fail(one.last)
  t.equal((await app.backgroundTasks.health()).status, 'degraded')
  await pass(clock, 999)
  t.equal(one.calls.length, 1)
  await pass(clock, 1)
  t.equal(one.calls.length, 2)
  t.equal(one.last.signal.aborted, false)
})

t.test('an attempt that returns after its timeout has succeeded, and is not tried again', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const one = script({ deaf: true })
  const task = app.addBackgroundTask('timed', { every: '1h', retry: 5, timeout: '10s' }, one.handler)
  await inBackground(app)
  const { finished } = task.trigger()
  await turns()
  await pass(clock, 11 * SECOND)
  one.last.end('late')
  t.match(await finished, { outcome: 'succeeded', value: 'late' })
  await pass(clock, MINUTE)
  t.equal(one.calls.length, 1)
})

t.test('GiveUp ends a run: no further attempt', async t => {
  const clock = fake(t)
  const { app, lines } = await build(t)
  const one = script()
  const task = app.addBackgroundTask('timed', { every: '1h', retry: 5 }, one.handler)
  await inBackground(app)
  const { finished } = task.trigger()
  await turns()
  await waitAfter(clock, one)
  const gone = new Gone('gone')
  await fail(one.last, gone)
  t.match(await finished, { outcome: 'failed', error: gone })
  await pass(clock, 5 * MINUTE)
  t.equal(one.calls.length, 2)
  t.match(linesOf(lines, 'error', /./), [{ msg: 'run failed', attempt: 2, err: { message: 'gone' } }])
})

t.test('the schedule goes on after GiveUp: it ends the run, not the task', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const one = script()
  app.addBackgroundTask('timed', { every: '10s', retry: 5 }, one.handler)
  await inBackground(app)
  await pass(clock, 10 * SECOND)
  await fail(one.last, new GiveUp('gone'))
  await pass(clock, 10 * SECOND)
  t.same(one.calls.map(({ at }) => at), s(10, 20))
})

const ends: Array<[what: string, code: string, level: Line['level'], msg: string, end: (app: FastifyInstance, run: RunHandle) => Promise<void>, state: string]> = [
  ['close()', 'FST_BG_SHUTDOWN', 'warn', 'run cut short by shutdown', async app => { await app.close() }, 'stopped'],
  ['stop()', 'FST_BG_CANCELLED', 'debug', 'run cancelled', async app => { await app.backgroundTasks.get('timed')?.stop() }, 'stopped'],
  ['cancel() of the run', 'FST_BG_CANCELLED', 'debug', 'run cancelled', async (app, { id }) => { await app.backgroundTasks.get('timed')?.cancel(id) }, 'idle']
]
for (const [what, code, level, msg, end, state] of ends) {
  t.test(`${what} between two attempts: the run is cancelled at once, and no attempt follows`, async t => {
    const clock = fake(t)
    const { app, lines } = await build(t)
    const one = script()
    const task = app.addBackgroundTask('timed', { every: '1h', retry: { limit: 5, delay: '1m' } }, one.handler)
    await inBackground(app)
    const run = task.trigger()
    await turns()
    await fail(one.last)
    t.equal(task.state, 'backoff')
    await end(app, run)
    t.match(await run.finished, { outcome: 'cancelled', error: { code } })
    t.equal(task.state, state)
    t.same(task.stats, { succeeded: 0, failed: 0, cancelled: 1, skipped: 0, active: 0 })
    t.match(linesOf(lines, level, /^run c/), [{ msg, task: 'timed', run: run.id, attempt: 1, err: { code } }])
    t.equal(clock.countTimers(), state === 'idle' ? 1 : 0, 'only a schedule that goes on is armed')
    await pass(clock, 5 * MINUTE)
    t.equal(one.calls.length, 1)
  })
}

t.test('an attempt that is cancelled is not tried again', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const one = script()
  const task = app.addBackgroundTask('timed', { every: '1h', retry: 5 }, one.handler)
  await inBackground(app)
  const { id, finished } = task.trigger()
  await turns()
  await task.cancel(id)
  t.equal((await finished).outcome, 'cancelled')
  await pass(clock, 5 * MINUTE)
  t.equal(one.calls.length, 1)
})

t.test('pause() between two attempts: the run that is active goes on to its end', async t => {
  const clock = fake(t)
  whole(t)
  const { app } = await build(t)
  const one = script()
  const task = app.addBackgroundTask('timed', { every: '1h', retry: 1 }, one.handler)
  await inBackground(app)
  const { finished } = task.trigger()
  await turns()
  await fail(one.last)
  await task.pause()
  t.equal(task.state, 'paused')
  await pass(clock, SECOND)
  t.equal(one.calls.length, 2)
  one.last.end()
  t.equal((await finished).outcome, 'succeeded')
  await turns()
  t.equal(task.state, 'paused')
})

for (const [overlap, ats, skipped] of [
  ['skip', s(10, 25, 30), 1],
  ['wait', s(10, 25, 25, 30), 0],
  ['allow', s(10, 20, 25, 30), 0]
] as const) {
  t.test(`overlap ${overlap}: a tick that falls due between two attempts comes behind an active run`, async t => {
    const clock = fake(t)
    whole(t)
    const { app } = await build(t)
    const one = script()
    const task = app.addBackgroundTask('timed', { every: '10s', overlap, retry: { limit: 1, delay: '15s' } }, one.handler)
    await inBackground(app)
    await pass(clock, 10 * SECOND)
    await fail(one.last)
    for (const seconds of [10, 5, 5]) {
      await pass(clock, seconds * SECOND)
      for (const call of one.calls) call.end() // those that stand by have begun by now, and end as well
      await turns()
      for (const call of one.calls) call.end()
      await turns()
    }
    t.same(one.calls.map(({ at }) => at), ats)
    t.equal(task.stats.skipped, skipped)
    t.equal(task.stats.succeeded, ats.length - 1, 'two attempts were one run')
    t.equal(task.state, 'idle')
  })
}

t.test('every attempt goes through onRun', async t => {
  const clock = fake(t)
  const attempts: number[] = []
  const { app } = await build(t, {
    onRun: async (run, next) => {
      attempts.push(run.attempt)
      return await next()
    }
  })
  const one = script()
  app.addBackgroundTask('timed', { every: '1h', retry: 2 }, one.handler).trigger()
  await inBackground(app)
  await waitAfter(clock, one)
  await waitAfter(clock, one)
  t.same(attempts, [1, 2, 3])
})

// The log.

t.test('the first failure of a service and every doubling are logged at error, the others at warn, until a life has lasted', async t => {
  const clock = fake(t)
  whole(t)
  const { app, lines } = await build(t)
  const one = script()
  app.addBackgroundTask('service', one.handler)
  await inBackground(app)
  for (let i = 0; i < 9; i++) await waitAfter(clock, one)
  await pass(clock, MINUTE)
  await waitAfter(clock, one)
  await waitAfter(clock, one)
  await waitAfter(clock, one)
  const failures = lines.filter(({ msg }) => msg === 'service failed, and is restarted')
  t.same(failures.map(({ failures }) => failures), [1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3])
  t.same(failures.map(({ level }) => level), ['error', 'error', 'warn', 'error', 'warn', 'warn', 'warn', 'error', 'warn', 'error', 'error', 'warn'])
  t.same(failures.slice(0, 7).map(({ delay }) => delay), s(1, 2, 4, 8, 16, 30, 30))
})

t.test('the line of a restart says which task and run failed, why, after how long, and when the next comes', async t => {
  const clock = fake(t)
  random(t, 0.123)
  const { app, lines } = await build(t)
  const one = script()
  app.addBackgroundTask('service', one.handler)
  await inBackground(app)
  await pass(clock, 250)
  const error = Object.assign(new TypeError('boom'), { code: 'E_BOOM' })
  await fail(one.last, error)
  const [line] = linesOf(lines, 'error', /./)
  t.match(line, {
    msg: 'service failed, and is restarted',
    task: 'service',
    run: one.last.id,
    attempt: 1,
    duration: 250,
    delay: 562,
    failures: 1,
    err: { type: 'TypeError', message: 'boom', code: 'E_BOOM', stack: error.stack as string }
  })
})

t.test('an attempt that will be tried again is logged at warn, the last at error, with run, attempt, error and times', async t => {
  const clock = fake(t)
  whole(t)
  const { app, lines } = await build(t)
  const one = script()
  const task = app.addBackgroundTask('timed', { every: '1h', retry: 2 }, one.handler)
  await inBackground(app)
  const { id } = task.trigger()
  await turns()
  await pass(clock, 100)
  await fail(one.last, new Error('first'))
  await pass(clock, SECOND)
  await pass(clock, 300)
  await fail(one.last, new Error('second'))
  await pass(clock, 2 * SECOND)
  await fail(one.last, new Error('third'))
  t.match(linesOf(lines, 'warn', /./), [
    { msg: 'attempt failed, and is retried', task: 'timed', run: id, attempt: 1, duration: 100, delay: SECOND, err: { message: 'first' } },
    { msg: 'attempt failed, and is retried', task: 'timed', run: id, attempt: 2, duration: 300, delay: 2 * SECOND, err: { message: 'second' } }
  ])
  t.match(linesOf(lines, 'error', /./), [{ msg: 'run failed', task: 'timed', run: id, attempt: 3, duration: 3_400, err: { message: 'third' } }])
  t.equal(linesOf(lines, 'fatal', /./).length, 0)
})

t.test('run.log bears task and run in every attempt', async t => {
  const clock = fake(t)
  const { app, lines } = await build(t)
  const one = script()
  const task = app.addBackgroundTask('timed', { every: '1h', retry: 1 }, async run => {
    run.log.info('works')
    await one.handler.call(app, run)
  })
  await inBackground(app)
  const { id } = task.trigger()
  await turns()
  await waitAfter(clock, one)
  t.match(lines.filter(({ msg }) => msg === 'works'), [{ task: 'timed', run: id }, { task: 'timed', run: id }])
})

t.test('logger: false takes nothing away from the policies', async t => {
  const clock = fake(t)
  const { app } = await build(t, {}, { logger: false })
  const one = script()
  const two = script()
  app.addBackgroundTask('service', one.handler)
  app.addBackgroundTask('timed', { every: '1h', retry: 1 }, two.handler).trigger()
  await inBackground(app)
  await waitAfter(clock, one)
  await waitAfter(clock, two)
  t.equal(one.calls.length, 2)
  t.equal(two.calls.length, 2)
})

// Whatever a handler does. What is thrown leaves no unhandled rejection: tap fails the test if it does.

const revoked = (): unknown => {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  return proxy
}
const thrown: Record<string, [make: () => unknown, message: string | RegExp]> = {
  undefined: [() => undefined, 'a value that is not an Error was thrown: undefined'],
  null: [() => null, 'a value that is not an Error was thrown: null'],
  'a string': [() => 'boom', "a value that is not an Error was thrown: 'boom'"],
  'a symbol': [() => Symbol('boom'), /Symbol\(boom\)/],
  'a frozen error': [() => Object.freeze(new Error('frozen')), 'frozen'],
  'a frozen object': [() => Object.freeze({ code: 7 }), /\{ code: 7 \}/],
  'a revoked proxy': [revoked, /not an Error/],
  'an object whose inspection throws': [() => ({ [Symbol.for('nodejs.util.inspect.custom')] () { throw new Error('inspect') } }), /not an Error/],
  'an error whose message throws': [() => Object.defineProperty(new Error('hidden'), 'message', { get () { throw new Error('getter') } }), /throws/],
  'an AbortError of its own, while its signal is not aborted': [() => AbortSignal.abort().reason, /aborted/]
}
for (const [what, [make, message]] of Object.entries(thrown)) {
  t.test(`throwing ${what}: a service is restarted, a run is retried, both are logged`, async t => {
    const clock = fake(t)
    whole(t)
    const { app, lines } = await build(t)
    const told: Error[] = []
    const values: unknown[] = []
    const handler: TaskHandler = async () => {
      values.push(make())
      throw values.at(-1)
    }
    const onGiveUp = (error: Error): void => { told.push(error) }
    const service = app.addBackgroundTask('service', { restart: { limit: 1 }, onGiveUp }, handler)
    const timed = app.addBackgroundTask('timed', { every: '1h', retry: 1, onGiveUp }, handler)
    await app.ready()
    const { finished } = timed.trigger()
    await turns()
    t.equal(service.state, 'backoff')
    t.equal(timed.state, 'backoff')
    await pass(clock, SECOND)
    t.equal(service.state, 'failed')
    t.equal(timed.state, 'idle')
    t.equal(values.length, 4)
    const { outcome, error } = await finished
    t.equal(outcome, 'failed')
    t.ok(values.some(value => Object.is(value, error)), 'the handle has the very thing that was thrown')
    const of = (task: string): Line[] => lines.filter(({ level, ...line }) => line.task === task && (level === 'error' || level === 'warn'))
    t.same(of('service').map(({ msg }) => msg), ['service failed, and is restarted', 'service failed'])
    t.same(of('timed').map(({ msg }) => msg), ['attempt failed, and is retried', 'run failed'])
    for (const line of [...of('service'), ...of('timed')]) t.match(line.err?.message, message)
    t.equal(told.length, 2)
    for (const error of told) t.ok(values.some(value => Object.is(value, error) || Object.is(value, error.cause)), 'onGiveUp gets it as an Error, or as the cause of one')
  })
}

t.test('a handler that is not async and throws has failed like any other', async t => {
  const clock = fake(t)
  whole(t)
  const { app, lines } = await build(t)
  let calls = 0
  app.addBackgroundTask('service', () => {
    calls++
    throw new Error('sync')
  })
  await inBackground(app)
  t.match(linesOf(lines, 'error', /./), [{ err: { message: 'sync' } }])
  await pass(clock, SECOND)
  t.equal(calls, 2)
})

for (const [what, value] of Object.entries({ nothing: undefined, 'a number': 5, null: null, 'an object': { then: 'not a function' } })) {
  t.test(`a handler that returns ${what} instead of a promise has succeeded`, async t => {
    fake(t)
    const { app } = await build(t)
    const service = app.addBackgroundTask('service', () => value)
    const timed = app.addBackgroundTask('timed', { every: '1h', retry: 1 }, () => value)
    const { finished } = timed.trigger()
    await inBackground(app)
    t.equal(service.state, 'completed')
    t.match(await finished, { outcome: 'succeeded', value })
  })
}

const thenables: Record<string, [thenable: object, message: string]> = {
  'a thenable that rejects twice': [{ then (_: unknown, reject: (error: Error) => void) { reject(new Error('once')); reject(new Error('twice')) } }, 'once'],
  'a thenable that rejects, and then throws': [{ then (_: unknown, reject: (error: Error) => void) { reject(new Error('once')); throw new Error('twice') } }, 'once'],
  'an object whose then throws when it is looked at': [{ get then () { throw new Error('getter') } }, 'getter']
}
for (const [what, [thenable, message]] of Object.entries(thenables)) {
  t.test(`a handler that returns ${what} has failed once`, async t => {
    const clock = fake(t)
    whole(t)
    const { app, lines } = await build(t)
    const service = app.addBackgroundTask('service', () => thenable)
    const timed = app.addBackgroundTask('timed', { every: '1h', retry: 1 }, () => thenable)
    timed.trigger()
    await inBackground(app)
    t.same([service.stats.failed, service.state, timed.state], [1, 'backoff', 'backoff'])
    t.match(lines.filter(({ err }) => err), [{ err: { message } }, { err: { message } }])
    await pass(clock, SECOND)
    t.same([service.stats.failed, timed.stats.failed], [2, 1])
  })
}

t.test('a handler that resolves, and rejects afterwards, has succeeded', async t => {
  fake(t)
  const { app, lines } = await build(t)
  const service = app.addBackgroundTask('service', () => new Promise((resolve, reject) => {
    resolve('done')
    reject(new Error('late'))
  }))
  await inBackground(app)
  t.equal(service.state, 'completed')
  t.same(linesOf(lines, 'error', /./), [])
})

t.test('a handler that aborts a controller of its own, joined with run.signal, has failed, and is restarted', async t => {
  const clock = fake(t)
  whole(t)
  const { app } = await build(t)
  let calls = 0
  const task = app.addBackgroundTask('service', async run => {
    calls++
    const own = new AbortController()
    const either = AbortSignal.any([run.signal, own.signal])
    own.abort()
    either.throwIfAborted()
  })
  await inBackground(app)
  t.match(task.lastRun, { outcome: 'failed', error: { name: 'AbortError' } })
  await pass(clock, SECOND)
  t.equal(calls, 2)
})

t.test('a service that is stopped and rejects then has not failed: no restart, no error in the log', async t => {
  const clock = fake(t)
  const { app, lines } = await build(t)
  const task = app.addBackgroundTask('service', async ({ signal }) => {
    await aborted(signal)
    throw new Error('whatever')
  })
  await inBackground(app)
  await task.stop()
  t.equal(task.state, 'stopped')
  t.equal(task.lastRun?.outcome, 'cancelled')
  t.same(lines.filter(({ level }) => level === 'error' || level === 'warn'), [])
  t.equal(clock.countTimers(), 0)
})

// onGiveUp. What it does with 'close' is in giveup.test.ts.

t.test('onGiveUp is told once, with the error and the owner, when a service has failed for good', async t => {
  fake(t)
  const { app, lines } = await build(t)
  const error = new Error('boom')
  const told: unknown[][] = []
  let child: FastifyInstance | undefined
  app.register(async instance => {
    child = instance
    instance.addBackgroundTask('service', { restart: 'never', onGiveUp: (...given) => { told.push(given) } }, async () => { throw error })
  })
  await inBackground(app)
  t.equal(told.length, 1)
  t.equal(told[0]?.length, 2)
  t.equal(told[0]?.[0], error)
  t.equal(told[0]?.[1], child)
  t.equal(app.backgroundTasks.get('service')?.state, 'failed')
  t.match(linesOf(lines, 'error', /./), [{ msg: 'service failed', task: 'service', attempt: 1, err: { message: 'boom' } }], 'it is logged all the same')
})

t.test('onGiveUp of a timed task is told of each run whose last attempt has failed, and of none before', async t => {
  const clock = fake(t)
  whole(t)
  const { app } = await build(t)
  const one = script()
  const told: string[] = []
  app.addBackgroundTask('timed', { every: '10s', retry: 1, onGiveUp: error => { told.push(error.message) } }, one.handler)
  await inBackground(app)
  for (const run of ['a', 'b']) {
    await pass(clock, (one.calls.length === 0 ? 10 : 9) * SECOND)
    await fail(one.last, new Error(`${run}1`))
    await pass(clock, SECOND)
    await fail(one.last, new Error(`${run}2`))
  }
  t.same(told, ['a2', 'b2'])
})

const failing: Record<string, () => unknown> = {
  throws: () => { throw new Error('pager is down') },
  rejects: async () => { throw new Error('pager is down') },
  'rejects later': async () => {
    await turns(1)
    throw new Error('pager is down')
  },
  'throws a frozen error': () => { throw Object.freeze(new Error('pager is down')) }
}
for (const [what, onGiveUp] of Object.entries(failing)) {
  t.test(`an onGiveUp that ${what} is logged, and harms nobody`, async t => {
    fake(t)
    const { app, lines } = await build(t)
    const boom = async (): Promise<void> => { throw new Error('boom') }
    const service = app.addBackgroundTask('service', { restart: 'never', onGiveUp }, boom)
    const timed = app.addBackgroundTask('timed', { every: '1h', onGiveUp }, boom)
    await app.ready()
    const { finished } = timed.trigger()
    await turns(6)
    t.equal((await finished).outcome, 'failed')
    t.same([service.state, timed.state], ['failed', 'idle'])
    const match = { msg: 'onGiveUp failed', err: { message: 'pager is down' } }
    t.match(linesOf(lines, 'error', /^onGiveUp/), [{ ...match, task: 'service' }, { ...match, task: 'timed' }])
  })
}

t.test('onGiveUp may start the task anew, with its counters reset', async t => {
  const clock = fake(t)
  whole(t)
  const { app } = await build(t)
  const one = script()
  let given = 0
  const task = app.addBackgroundTask('service', {
    restart: { limit: 1 },
    onGiveUp: async (_, server) => {
      given++
      await server.backgroundTasks.get('service')?.start()
    }
  }, one.handler)
  await inBackground(app)
  t.equal(await waitAfter(clock, one), SECOND)
  t.equal(await waitAfter(clock, one), 0, 'at once')
  t.equal(given, 1)
  t.equal(task.state, 'running')
  t.equal(await waitAfter(clock, one), SECOND)
  t.equal(given, 1)
})

t.test('onGiveUp may close the server', async t => {
  const { app } = await build(t)
  const closed = deferred()
  app.addHook('onClose', async () => { closed.resolve() })
  const task = app.addBackgroundTask('service', { restart: 'never', onGiveUp: async (_, server) => { await server.close() } }, async () => { throw new Error('boom') })
  await app.ready()
  await closed.promise
  t.equal(task.state, 'failed')
  t.equal(process.exitCode, undefined, 'the exit code is its own affair')
})

t.test('onGiveUp log: the server goes on answering, and health says that the service is failing', async t => {
  const { app, lines } = await build(t)
  app.get('/', async () => ({ ok: true }))
  const task = app.addBackgroundTask('service', { restart: 'never', onGiveUp: 'log' }, async () => { throw new Error('boom') })
  await app.ready()
  t.match(await logged(lines, 'service failed'), { level: 'error', err: { message: 'boom' } })
  await later()
  t.same((await app.inject('/')).json(), { ok: true })
  t.match(await app.backgroundTasks.health(), { status: 'failing', tasks: [{ name: 'service', state: 'failed', status: 'failing', reason: 'failed for good' }] })
  t.equal(task.state, 'failed')
  t.equal(linesOf(lines, 'fatal', /./).length, 0)
})

t.test('a timed task only logs by default, however often it fails', async t => {
  const clock = fake(t)
  const { app, lines } = await build(t)
  const task = app.addBackgroundTask('timed', { every: '1s' }, async () => { throw new Error('boom') })
  await inBackground(app)
  for (let i = 0; i < 20; i++) await pass(clock, SECOND)
  t.equal(task.stats.failed, 20)
  t.equal(linesOf(lines, 'error', /^run failed$/).length, 20)
  t.equal(linesOf(lines, 'fatal', /./).length, 0)
  t.equal((await app.inject('/')).statusCode, 404, 'the server is up')
})

// Together.

t.test('a hundred services that fail at once come back spread out', async t => {
  const clock = fake(t)
  const { app } = await build(t, {}, { logger: false })
  const back: number[] = []
  for (const i of range(1, 100)) {
    let lives = 0
    app.addBackgroundTask(`service ${i}`, async ({ signal }) => {
      if (++lives === 1) throw new Error('the database is away')
      back.push(Date.now() - START)
      await aborted(signal)
    })
  }
  await inBackground(app)
  for (let i = 0; i < 100; i++) await pass(clock, 10)
  t.equal(back.length, 100)
  t.ok(Math.min(...back) >= 500)
  t.ok(Math.max(...back) <= SECOND)
  const shares = range(0, 4).map(i => back.filter(at => at >= 500 + 100 * i && at < 600 + 100 * i + (i === 4 ? 1 : 0)).length)
  t.ok(shares.every(share => share > 3 && share < 45), `a fifth of the time each: ${shares.join(', ')}`)
})

t.test('the event loop has air while a hundred services fail and are restarted, again and again', async t => {
  const { app } = await build(t)
  const enough = deferred()
  let failures = 0
  for (const i of range(1, 100)) {
    app.addBackgroundTask(`service ${i}`, { restart: { delay: 50, maxDelay: 100 } }, async () => {
      if (++failures === 1_000) enough.resolve()
      throw new Error('the database is away')
    })
  }
  await app.ready()
  const delay = monitorEventLoopDelay({ resolution: 10 })
  delay.enable()
  await enough.promise
  delay.disable()
  // Nine in ten: what else the machine does is in the others.
  const p90 = delay.percentile(90) / 1e6
  t.ok(p90 < 200, `it is ${p90.toFixed(1)} ms late`)
  await app.close()
  t.same(new Set([...app.backgroundTasks].map(({ state }) => state)), new Set(['stopped']))
})

for (const [ask, rest] of [['stop', 'stopped'], ['pause', 'paused']] as const) {
  t.test(`${ask}() of a service whose life is past its timeout is no reason to give it up`, async t => {
    const clock = fake(t)
    const { app } = await build(t)
    const one = script({ deaf: true })
    const told: unknown[] = []
    const task = app.addBackgroundTask('service', { timeout: '1s', onGiveUp: error => { told.push(error) } }, one.handler)
    await inBackground(app)
    await pass(clock, SECOND)
    const done = task[ask]()
    await fail(one.last)
    await done
    t.equal(task.state, rest)
    t.same(told, [])
  })
}

t.test('a service that returns more often than its limit allows is given up, and nothing says that it threw', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const told: Error[] = []
  app.addBackgroundTask('service', { restart: { when: 'always', limit: 1, delay: 10 }, onGiveUp: error => { told.push(error) } }, async () => {})
  await inBackground(app)
  await pass(clock, SECOND)
  t.match(told, [{ code: 'FST_BG_GAVE_UP', message: /"service" was given up: it returned, after 1 restarts within 1m/ }])
})

t.test('an exclude that throws is not tried again', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const task = app.addBackgroundTask('timed', { every: '1h', retry: 3, exclude () { throw new Error('no calendar') } }, async () => {})
  await inBackground(app)
  await pass(clock, HOUR)
  t.equal(task.stats.failed, 1)
  t.equal(task.state, 'idle')
})

t.test('each life of a service says at debug that it starts', async t => {
  const clock = fake(t)
  const { app, lines } = await build(t)
  let lives = 0
  app.addBackgroundTask('service', async ({ signal }) => {
    if (++lives === 1) throw new Error('once')
    await aborted(signal)
  })
  await inBackground(app)
  await pass(clock, SECOND)
  const started = linesOf(lines, 'debug', /^service started$/)
  t.match(started, [{ task: 'service', attempt: 1, run: String }, { task: 'service', attempt: 1, run: String }])
  t.equal(new Set(started.map(({ run }) => run)).size, 2)
})
