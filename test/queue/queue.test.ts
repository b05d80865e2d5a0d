// Queues in memory: their handles and states, and what is not the same in every store. What is, stands in conformance.ts; how
// they close, in queue-shutdown.test.ts.
import t from 'tap'
import { GiveUp, type BackgroundQueue, type OnRun } from '../../lib/index.ts'
import { fake, linesOf, range, SECOND, turns } from '../support/fakes.ts'
import { aborted, build, deferred, logged, rejection, type Deferred } from '../support/helper.ts'
import { held, list, pass, until } from '../support/queues.ts'

const noop = (): void => {}

// Routes.

t.test('a route enqueues, and answers 202 with the id', async t => {
  const { app } = await build(t)
  const hand = held()
  const queue = app.addBackgroundQueue('emails', hand.handler)
  app.post('/signup', async (request, reply) => await reply.code(202).send(await queue.enqueue(request.body, { reqId: request.id })))
  const { statusCode, body } = await app.inject({ method: 'POST', url: '/signup', payload: { to: 'a@b.c' } })
  t.equal(statusCode, 202)
  const { run, end } = await hand.call(0)
  t.same(JSON.parse(body), { id: run.id, duplicate: false })
  t.same(run.payload, { to: 'a@b.c' })
  end()
  await queue.drain()
})

t.test('a route answers 503 when the queue is full, and 500 when the payload is not what its schema asks for', async t => {
  const { app } = await build(t, { autostart: false })
  const queue = app.addBackgroundQueue('emails', { maxSize: 1, schema: { payload: { type: 'object', required: ['to'] } } }, noop)
  app.post('/signup', async (request, reply) => await reply.code(202).send(await queue.enqueue(request.body as object)))
  const post = async (payload: object) => await app.inject({ method: 'POST', url: '/signup', payload })
  t.equal((await post({ to: 1 })).statusCode, 202)
  t.match((await post({ to: 1 })).json(), { statusCode: 503, code: 'FST_BG_QUEUE_FULL', message: /"emails" is full: 1 runs wait/ })
  t.match((await post({})).json(), { statusCode: 500, code: 'FST_BG_INVALID_PAYLOAD' }, 'which is checked before the size')
  t.match(await queue.counts(), { waiting: 1 })
})

t.test('enqueue goes on before the handler is called', async t => {
  const { app } = await build(t)
  const seen: string[] = []
  const queue = app.addBackgroundQueue('a', { concurrency: 2 }, () => { seen.push('handler') })
  await app.ready()
  await queue.enqueue(1)
  seen.push('accepted')
  await queue.enqueue(2)
  seen.push('accepted')
  await queue.drain()
  t.same(seen, ['accepted', 'accepted', 'handler', 'handler'])
})

t.test('a queue takes as much as its owner\'s child does, and needs neither options nor a schema', async t => {
  const { app } = await build(t)
  const seen: unknown[] = []
  await app.register(async child => {
    child.decorate('mailer', 'the mailer')
    const queue = child.addBackgroundQueue('a', async function ({ server, payload }) { seen.push(Object.getOwnPropertyDescriptor(this, 'mailer')?.value, server === child, payload) })
    child.addHook('onReady', async () => { await queue.enqueue(5) })
  })
  await app.ready()
  await app.backgroundTasks.drain()
  t.same(seen, ['the mailer', true, 5])
})

t.test('onRun wraps every attempt of a queue', async t => {
  const seen: unknown[] = []
  const onRun: OnRun = async ({ task, attempt, payload, id }, next) => {
    seen.push(`${task} ${attempt} ${String(payload)} ${typeof id}`)
    try {
      return await next()
    } finally {
      seen.push('after')
    }
  }
  const { app } = await build(t, { onRun })
  const queue = app.addBackgroundQueue('a', { retry: { limit: 1, delay: 0 } }, () => { throw new Error('no') })
  await app.ready()
  await queue.enqueue(5)
  await queue.drain()
  t.same(seen, ['a 1 5 string', 'after', 'a 2 5 string', 'after'])
})

t.test('a run does not inherit the AsyncLocalStorage store of the request that enqueued it', async t => {
  const { AsyncLocalStorage } = await import('node:async_hooks')
  const storage = new AsyncLocalStorage<string>()
  const { app } = await build(t)
  const seen: unknown[] = []
  const queue = app.addBackgroundQueue('a', { retry: { limit: 1, delay: 0 } }, () => {
    seen.push(storage.getStore())
    throw new Error('no')
  })
  await app.ready()
  await storage.run('request', async () => { await queue.enqueue(1) })
  await queue.drain()
  t.same(seen, [undefined, undefined])
})

// What is logged, and remembered.

t.test('each attempt is logged, at the level of the queue', async t => {
  const { app, lines } = await build(t)
  const queue = app.addBackgroundQueue('a', noop)
  const quiet = app.addBackgroundQueue('quiet', { logLevel: 'error' }, ({ log }) => { log.info('not written') })
  await app.ready()
  const { id } = await queue.enqueue(1)
  await quiet.enqueue(1)
  await app.backgroundTasks.drain()
  t.match(lines.filter(({ task }) => task === 'a'), [
    { level: 'debug', msg: 'run started', run: id, attempt: 1 },
    { level: 'info', msg: 'run succeeded', run: id, attempt: 1, duration: Number }
  ])
  t.same(lines.filter(({ task }) => task === 'quiet'), [])
})

t.test('a queue without a logger works', async t => {
  const { app } = await build(t, {}, { logger: false })
  const queue = app.addBackgroundQueue('a', ({ log, payload }) => {
    log.info('hello')
    if (payload === 2) throw new Error('no')
  })
  await app.ready()
  await queue.enqueue(1)
  await queue.enqueue(2)
  await queue.drain()
  t.match(queue.stats, { succeeded: 1, failed: 1 })
})

t.test('the duration of a run is its own: neither the first part of the handler before it, nor what that has returned, nor its validator counts', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const hold = (): void => { clock.tick(SECOND) }
  const holds = app.addBackgroundQueue('holds', { concurrency: 2 }, ({ payload }) => { if (payload === 'holds') hold() })
  // Written as JSON after the run has ended, and before the next one begins.
  const returns = app.addBackgroundQueue('returns', () => ({ toJSON: () => { hold() } }))
  app.setValidatorCompiler(() => () => {
    hold()
    return true
  })
  const validated = app.addBackgroundQueue('validated', { schema: { payload: {} } }, () => {})
  await app.ready()
  for (const payload of ['holds', 'short', 'short']) await holds.enqueue(payload)
  await holds.drain()
  t.same(holds.history.map(({ duration }) => duration), [0, 0, SECOND])
  for (const i of range(1, 3)) await returns.enqueue(i)
  await returns.drain()
  t.same(returns.history.map(({ duration }) => duration), [0, 0, 0])
  for (const i of range(1, 2)) await validated.enqueue({ i })
  await validated.drain()
  t.same(validated.history.map(({ duration }) => duration), [0, 0])
})

t.test('a queue remembers its last runs, and what it has counted', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const queue = app.addBackgroundQueue('a', async ({ payload }) => {
    if (payload === 0) throw new RangeError('no')
    await new Promise(resolve => { setTimeout(resolve, 7) })
  })
  await app.ready()
  t.equal(queue.lastRun, undefined)
  const { id } = await queue.enqueue(0)
  await turns()
  t.match(queue.lastRun, { id, outcome: 'failed', dueAt: undefined, error: { message: 'no' }, duration: 0 })
  for (const i of range(1, 31)) await queue.enqueue(i)
  await pass(clock, 31 * 7)
  await turns()
  t.same(queue.stats, { succeeded: 31, failed: 1, cancelled: 0, skipped: 0, active: 0 })
  t.equal(queue.history.length, 30)
  t.match(queue.lastRun, { outcome: 'succeeded', duration: 7, error: undefined })
  t.equal(queue.nextRunAt, undefined)
  t.same(queue.nextRuns(5), [])
})

t.test('what becomes of a run that failed for good is the queue\'s to say', async t => {
  const { app, lines } = await build(t)
  const told: unknown[] = []
  const queue = app.addBackgroundQueue('a', { retry: { limit: 1, delay: 0 }, onGiveUp: (error, server) => { told.push(error.message, server === app) } }, ({ payload }) => {
    throw payload === 1 ? new GiveUp('at once') : new Error('at last')
  })
  await app.ready()
  await queue.enqueue(1)
  await queue.enqueue(2)
  await queue.drain()
  t.same(told, ['at once', true, 'at last', true])
  t.equal(linesOf(lines, 'error', /^run failed$/).length, 2)
  t.equal(queue.state, 'running', 'the queue goes on')
})

// Health.

t.test('a queue that is over 80 % full is degraded, and so is one of which most of the last ten runs failed: not for one bad payload', async t => {
  const { app } = await build(t, { autostart: false })
  const queue = app.addBackgroundQueue('a', { maxSize: 10 }, ({ payload }) => { if (payload === 'fails') throw new Error('no') })
  await app.ready()
  const health = async () => await app.backgroundTasks.health()
  for (let i = 0; i < 7; i++) await queue.enqueue(i)
  await queue.enqueue('delayed', { delay: '1h' })
  t.match(await health(), { status: 'ok', tasks: [{ name: 'a', kind: 'queue', state: 'idle', status: 'ok', reason: undefined }] })
  await queue.enqueue('fails')
  t.match(await health(), { status: 'degraded', tasks: [{ name: 'a', status: 'degraded', reason: '9 runs wait, of at most 10' }] })
  await queue.clear('delayed')
  t.match(await health(), { status: 'ok' })
  await queue.start()
  await queue.drain()
  const after = async (...payloads: string[]): Promise<object> => {
    for (const payload of payloads) await queue.enqueue(payload)
    await queue.drain()
    return await health()
  }
  t.match(await after(), { status: 'ok' }, 'one failed of eight')
  t.match(await after('fails', 'fails', 'fails', 'fails'), { status: 'ok' }, 'five of the last ten')
  t.match(await after('fails'), { status: 'degraded', tasks: [{ state: 'running', status: 'degraded', reason: '6 of the last 10 runs failed' }] })
  t.match(await after('succeeds'), { status: 'degraded' }, 'six of the last ten still')
  t.match(await after('succeeds', 'succeeds', 'succeeds', 'succeeds'), { status: 'ok' })

  const fresh = app.addBackgroundQueue('b', async () => { throw new Error('no') })
  await fresh.start()
  for (const status of ['ok', 'ok', 'degraded']) {
    await fresh.enqueue('fails')
    await fresh.drain()
    t.match(await health(), { status })
  }
})

t.test('a run past its time limit makes the queue failing, as long as it goes on', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const hand = held({ deaf: true })
  const queue = app.addBackgroundQueue('a', { timeout: 100 }, hand.handler)
  await app.ready()
  const { id } = await queue.enqueue(1)
  await turns()
  await pass(clock, 100)
  t.match(await app.backgroundTasks.health(), { status: 'failing', tasks: [{ reason: `run ${id} goes on past its timeout` }] })
  hand.endAll()
  await queue.drain()
  t.match(await app.backgroundTasks.health(), { status: 'ok' })
})

// What is full.

t.test('a queue holds what waits and what is delayed up to its size, and what runs besides', async t => {
  const { app } = await build(t)
  const hand = held()
  const queue = app.addBackgroundQueue('a', { maxSize: 2, retry: { limit: 1, delay: '1h', maxDelay: '1h' } }, hand.handler)
  await app.ready()
  await queue.enqueue('runs')
  const { fail } = await hand.call(0)
  await queue.enqueue('waits')
  const { id } = await queue.enqueue('delayed', { delay: '1h', key: 'k' })
  t.match(await rejection(queue.enqueue('too many')), { code: 'FST_BG_QUEUE_FULL', message: /"a" is full: 2 runs wait/ })
  t.same(await queue.enqueue('again', { key: 'k' }), { id, duplicate: true }, 'a duplicate takes no room')
  fail(new Error('again'))
  await hand.call(1)
  t.same(await queue.counts(), { waiting: 0, delayed: 2, active: 1, succeeded: 0, failed: 0 }, 'one that backs off does')
  await queue.cancel(id)
  await queue.enqueue('fits')
})

t.test('where one too many waits, it comes in as room is made, first come first', async t => {
  const { app } = await build(t)
  const hand = held()
  const queue = app.addBackgroundQueue('a', { maxSize: 1, onFull: 'wait' }, hand.handler)
  await app.ready()
  await queue.enqueue('runs')
  await hand.call(0)
  await queue.enqueue('waits')
  const accepted: unknown[] = []
  const enqueue = (payload: string, key?: string): void => {
    void queue.enqueue(payload, { key, priority: payload === 'third' ? 0 : 5 }).then(({ duplicate }) => { accepted.push([payload, duplicate]) })
  }
  enqueue('first', 'k')
  enqueue('second', 'k')
  enqueue('third')
  await turns()
  t.same(accepted, [])
  t.match(await queue.counts(), { waiting: 1 })
  ;(await hand.call(0)).end()
  await hand.call(1)
  await turns()
  t.same(accepted, [['first', false], ['second', true]], 'the second is a duplicate now')
  const [first] = await list(queue, 'waiting')
  await queue.cancel(String(first?.id))
  await turns()
  t.same(accepted, [['first', false], ['second', true], ['third', false]])
  hand.endAll()
  await queue.drain()
  t.same(hand.calls.map(({ payload }) => payload), ['runs', 'waits', 'third'])
})

t.test('a retried run takes its place also in a full queue', async t => {
  const { app } = await build(t)
  const queue = app.addBackgroundQueue('a', { maxSize: 1 }, () => { throw new Error('no') })
  await app.ready()
  const { id } = await queue.enqueue(1)
  await queue.drain()
  await queue.pause()
  await queue.enqueue(2)
  await queue.retry(id)
  t.match(await queue.counts(), { waiting: 2, failed: 0 })
})

t.test('by default a queue holds ten thousand', async t => {
  const { app } = await build(t, { autostart: false })
  const queue = app.addBackgroundQueue('a', noop)
  for (let i = 0; i < 10_000; i++) await queue.enqueue(i)
  t.equal((await rejection(queue.enqueue('too many'))).code, 'FST_BG_QUEUE_FULL')
})

// Time.

for (const [what, end] of [['succeed', () => {}], ['fail before they return', () => { throw new Error('at once') }]] as const) {
  t.test(`no more attempts begin within any span than the rate allows, wherever it begins, when they ${what}`, async t => {
    const clock = fake(t)
    const { app } = await build(t)
    const starts: number[] = []
    const queue = app.addBackgroundQueue('a', { concurrency: 10, rate: { limit: 2, per: '1s' } }, () => {
      starts.push(clock.now - t0)
      end()
    })
    await app.ready()
    const t0 = clock.now
    const enqueue = async (count: number) => { for (let i = 0; i < count; i++) await queue.enqueue(i) }
    await enqueue(1)
    await turns()
    await pass(clock, 900)
    await enqueue(4)
    await pass(clock, 3_000)
    t.same(starts, [0, 900, 1_000, 1_900, 2_000])
  })

  t.test(`a backlog of runs that ${what} leaves the event loop a turn every few milliseconds`, async t => {
    const clock = fake(t)
    for (const concurrency of [1, 50]) {
      const { app } = await build(t)
      let runs = 0
      const queue = app.addBackgroundQueue('a', { concurrency }, () => {
        runs++
        clock.tick(1)
        end()
      })
      await app.ready()
      for (let i = 0; i < 50; i++) await queue.enqueue(i)
      const each: number[] = []
      for (let before = 0; before < 50; before = runs) {
        await turns(1)
        each.push(runs - before)
      }
      // The last that begins may have begun when the one before had not ended.
      t.ok(Math.max(...each) <= (concurrency === 1 ? 5 : 6), `${String(each)} at a concurrency of ${concurrency}`)
    }
  })
}

t.test('a run takes no longer for what those beside it do before they first wait', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const queue = app.addBackgroundQueue('a', { concurrency: 3 }, () => {
    clock.tick(2)
    throw new Error('at once')
  })
  await app.ready()
  for (let i = 0; i < 6; i++) await queue.enqueue(i)
  await queue.drain()
  t.same(queue.history.map(({ duration }) => duration), [2, 2, 2, 2, 2, 2])
})

t.test('a long backlog of runs that fail at once, while no time passes, ends', async t => {
  fake(t)
  const { app } = await build(t)
  const queue = app.addBackgroundQueue('a', () => { throw new Error('at once') })
  await app.ready()
  for (let i = 0; i < 5_000; i++) await queue.enqueue(i)
  await queue.drain()
  t.match(queue.stats, { failed: 5_000, active: 0 })
})

t.test('runs that a stop has interrupted come first again, in their order', async t => {
  const { app } = await build(t)
  const hand = held()
  const queue = app.addBackgroundQueue('a', { concurrency: 3 }, hand.handler)
  await app.ready()
  for (const payload of 'abcde') await queue.enqueue(payload)
  await hand.call(2)
  await queue.stop()
  t.same((await list(queue, 'waiting')).map(({ payload }) => payload).join(''), 'abcde')
  await queue.start()
  hand.endAll()
  await queue.drain()
  t.equal(hand.calls.slice(3).map(({ payload }) => payload).join(''), 'abcde')
})

t.test('a run that a stop has interrupted goes before those that wait for another attempt', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const hand = held()
  const queue = app.addBackgroundQueue('a', { retry: { limit: 1, delay: '1s', jitter: false } }, hand.handler)
  await app.ready()
  for (const payload of 'ab') await queue.enqueue(payload)
  ;(await hand.call(0)).fail(new Error('again'))
  await hand.call(1)
  await pass(clock, SECOND)
  t.same((await list(queue, 'waiting')).map(({ payload }) => payload), ['a'])
  await queue.stop()
  t.same((await list(queue, 'waiting')).map(({ payload }) => payload), ['b', 'a'])
})

t.test('a pause and a stop hold for what the rate has put off', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const starts: number[] = []
  const queue = app.addBackgroundQueue('a', { rate: { limit: 1, per: '1s' } }, () => { starts.push(clock.now - t0) })
  await app.ready()
  const t0 = clock.now
  for (let i = 0; i < 4; i++) await queue.enqueue(i)
  await pass(clock, 10)
  await queue.pause()
  await pass(clock, 2_000)
  await queue.resume()
  await pass(clock, 10)
  await queue.stop()
  await pass(clock, 2_000)
  await queue.start()
  await pass(clock, 1_000)
  t.same(starts, [0, 2_010, 4_020, 5_020])
  await app.close()
  t.equal(clock.countTimers(), 0, 'and nothing is armed after the close')
})

t.test('ended runs are kept for as long as the queue says', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const queue = app.addBackgroundQueue('a', { keep: { succeeded: { age: '1m' }, failed: { age: '1h', count: 2 } } }, ({ payload }) => { if (payload === 'f') throw new Error('no') })
  const byDefault = app.addBackgroundQueue('default', ({ payload }) => { if (payload === 'f') throw new Error('no') })
  await app.ready()
  const enqueue = async (...payloads: string[]) => {
    for (const payload of payloads) {
      await queue.enqueue(payload)
      await byDefault.enqueue(payload)
    }
    await turns()
  }
  await enqueue('s', 's', 'f', 'f', 'f')
  t.match(await queue.counts(), { succeeded: 2, failed: 2 })
  await pass(clock, 30 * SECOND)
  await enqueue('s', 'f')
  t.match(await queue.counts(), { succeeded: 3, failed: 2 })
  await pass(clock, 30 * SECOND)
  t.match(await queue.counts(), { succeeded: 1, failed: 2 })
  t.equal((await list(queue, 'succeeded')).length, 1)
  const [, old] = await list(queue, 'failed')
  await pass(clock, 3_560 * SECOND)
  t.equal((await rejection(queue.retry(String(old?.id)))).code, 'FST_BG_NOT_FOUND')
  t.match(await queue.counts(), { succeeded: 0, failed: 1 })
  t.equal(await queue.clear('failed'), 1)
  t.match(await byDefault.counts(), { succeeded: 1, failed: 4 })
  for (let i = 0; i < 101; i++) await byDefault.enqueue('f')
  await byDefault.drain()
  t.match(await byDefault.counts(), { failed: 100 }, 'by default none that succeeded, and the last hundred that failed')
})

t.test('runs that are due at the same time begin in the order of their priority', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const seen: unknown[] = []
  const queue = app.addBackgroundQueue('a', ({ payload }) => { seen.push(payload) })
  await app.ready()
  for (const [payload, priority] of [['c', 7], ['b1', 3], ['a', 0], ['b2', 3]] as const) await queue.enqueue(payload, { delay: '1h', priority })
  await queue.enqueue('late', { delay: '60d' })
  await pass(clock, 3_600 * SECOND)
  await turns()
  t.same(seen, ['a', 'b1', 'b2', 'c'])
  for (let i = 0; i < 3; i++) await pass(clock, 20 * 86_400 * SECOND)
  t.same(seen.at(-1), 'late', 'longer than setTimeout takes')
})

t.test('an interrupted run goes before those of its priority, and behind those of a lower number', async t => {
  const { app } = await build(t)
  const hand = held()
  const queue = app.addBackgroundQueue('a', hand.handler)
  await app.ready()
  await queue.enqueue('b1', { priority: 2 })
  await hand.call(0)
  for (const [payload, priority] of [['b2', 2], ['a', 1], ['c', 3]] as const) await queue.enqueue(payload, { priority })
  await queue.stop()
  t.same((await list(queue, 'waiting')).map(({ payload }) => payload), ['a', 'b1', 'b2', 'c'])
  await queue.clear('waiting')
})

// The handle.

t.test('the state of a queue says whether it takes runs', async t => {
  const { app } = await build(t)
  const hand = held({ deaf: true })
  const queue = app.addBackgroundQueue('a', hand.handler)
  t.equal(queue.kind, 'queue')
  t.equal(queue.name, 'a')
  t.equal(app.backgroundTasks.get('a'), queue)
  t.equal(queue.state, 'idle')
  await app.ready()
  t.equal(queue.state, 'running')
  await queue.enqueue(1)
  await hand.call(0)
  const paused = queue.pause()
  t.equal(queue.pause(), paused, 'who asks for what is being done gets the same promise')
  await paused
  t.equal(queue.state, 'paused')
  await queue.resume()
  t.equal(queue.state, 'running')
  const stopped = queue.stop()
  t.equal(queue.state, 'stopping')
  hand.endAll()
  await stopped
  t.equal(queue.state, 'stopped')
  await queue.resume()
  t.equal(queue.state, 'stopped', 'it was not paused')
  await queue.start()
  t.equal(queue.state, 'running')
  await queue.start()
  await app.close()
  t.equal(queue.state, 'stopped')
  await queue.pause()
  await queue.resume()
  await queue.stop()
  t.equal(queue.state, 'stopped')
})

t.test('a queue that is paused before the app is ready begins when it is resumed', async t => {
  const { app } = await build(t)
  const seen: unknown[] = []
  const queue = app.addBackgroundQueue('a', ({ payload }) => { seen.push(payload) })
  await queue.enqueue(1)
  await queue.pause()
  await app.ready()
  t.equal(queue.state, 'paused')
  await turns()
  t.same(seen, [])
  await queue.resume()
  await queue.drain()
  t.same(seen, [1])
})

t.test('a pause outlasts stop and start', async t => {
  for (const autostart of [true, false]) {
    const { app } = await build(t, { autostart })
    const seen: unknown[] = []
    const queue = app.addBackgroundQueue('a', ({ payload }) => { seen.push(payload) })
    await app.ready()
    await queue.pause()
    await queue.enqueue(1)
    await queue.start()
    await queue.stop()
    t.equal(queue.state, 'stopped')
    await queue.start()
    t.equal(queue.state, 'paused')
    await queue.drain()
    t.same(seen, [])
    await queue.resume()
    t.equal(queue.state, 'running')
    await queue.drain()
    t.same(seen, [1])
  }
})

t.test('what is asked of a queue may be asked again, in any order', async t => {
  const asks = ['start', 'stop', 'pause', 'resume'] as const
  for (let code = 0; code < 4 ** 4; code++) {
    const { app } = await build(t, { autostart: code % 2 === 0 }, { logger: false })
    const queue = app.addBackgroundQueue('a', noop)
    await app.ready()
    const order = [code & 3, code >> 2 & 3, code >> 4 & 3, code >> 6 & 3].map(i => asks[i] as typeof asks[number])
    await Promise.all(order.map(async ask => { await queue[ask]() }))
    for (const ask of order) await queue[ask]()
    await queue.enqueue(1)
    await queue.start()
    await queue.resume()
    if (queue.state !== 'running') t.fail(`${order.join(', ')}: ${queue.state}`)
    await queue.drain()
    if (queue.stats.succeeded !== 1) t.fail(`${order.join(', ')}: ${queue.stats.succeeded} runs`)
    await app.close()
  }
})

t.test('a removed queue gives its name free, drops what waits and says so, and takes nothing any more', async t => {
  const { app, lines } = await build(t)
  const hand = held()
  const queue = app.addBackgroundQueue('a', hand.handler)
  await app.ready()
  await queue.enqueue(1)
  const { run } = await hand.call(0)
  await queue.enqueue(2)
  await queue.enqueue(3, { delay: '1h' })
  await queue.remove()
  t.match(run.signal.reason, { code: 'FST_BG_CANCELLED' })
  t.equal(app.backgroundTasks.get('a'), undefined)
  t.equal(queue.state, 'stopped')
  t.match(linesOf(lines, 'warn', /./), [{ task: 'a', count: 3, msg: '3 runs are cancelled: the queue ends before they could run' }])
  t.same(queue.stats, { succeeded: 0, failed: 0, cancelled: 3, skipped: 0, active: 0 })
  t.same(await queue.counts(), { waiting: 0, delayed: 0, active: 0, succeeded: 0, failed: 0 })
  for (const ask of [async () => await queue.enqueue(1), async () => await queue.start(), async () => await queue.retry('x'), async () => await queue.retryFailed()]) {
    t.match(await rejection(ask), { code: 'FST_BG_NOT_FOUND', message: /it was removed/ })
  }
  await queue.remove()
  await queue.pause()
  await queue.resume()
  await queue.drain()
  const next = app.addBackgroundQueue('a', noop)
  await next.enqueue(1)
  await next.drain()
  t.equal(next.stats.succeeded, 1)
})

t.test('a queue cannot be triggered', async t => {
  const { app } = await build(t)
  const queue = app.addBackgroundQueue('a', noop)
  t.throws(() => queue.trigger(), { code: 'FST_BG_INVALID_OPTION', message: /"a" cannot be triggered: it runs payloads/ })
})

t.test('stop waits for a handler that ignores its signal no longer than shutdownTimeout, and what it leaves does not run twice', async t => {
  const clock = fake(t)
  const { app, lines } = await build(t, { shutdownTimeout: '2s' })
  const hand = held({ deaf: true })
  const queue = app.addBackgroundQueue('a', hand.handler)
  await app.ready()
  await queue.enqueue(1)
  await queue.enqueue(2)
  await turns()
  const stopped = queue.stop()
  await pass(clock, 2_000)
  await stopped
  t.match(await logged(lines, 'still runs 2s after it was told to stop: stop() waits no longer'), { level: 'error', task: 'a' })
  void queue.start()
  await turns()
  t.equal(hand.calls.length, 1)
  hand.endAll()
  await turns(10)
  t.equal(queue.state, 'running')
  t.same(hand.calls.map(({ payload }) => payload), [1, 2])
  t.match(queue.stats, { succeeded: 2 })
})

t.test('a queue that is declared late takes runs at once', async t => {
  const { app } = await build(t)
  await app.ready()
  const seen: unknown[] = []
  const queue = app.addBackgroundQueue('late', ({ payload }) => { seen.push(payload) })
  await queue.enqueue(1)
  await queue.drain()
  t.same(seen, [1])
  await app.close()
  t.equal(queue.state, 'stopped')
})

t.test('queues and tasks share their names', async t => {
  const { app } = await build(t)
  app.addBackgroundTask('task', { every: '1h' }, noop)
  app.addBackgroundQueue('queue', noop)
  t.throws(() => app.addBackgroundQueue('task', noop), { code: 'FST_BG_DUPLICATE_NAME' })
  t.throws(() => app.addBackgroundTask('queue', noop), { code: 'FST_BG_DUPLICATE_NAME' })
  const { addBackgroundQueue } = app as unknown as { addBackgroundQueue (this: void, name: string, handler: () => void): void }
  t.throws(() => { addBackgroundQueue('x', noop) }, { code: 'FST_BG_INVALID_THIS', message: /addBackgroundQueue\(\)/ })
})

// A validator that takes its time.

t.test('a run whose payload is still being validated is cancelled and stopped like any other', async t => {
  const { app } = await build(t)
  const asked: Array<Deferred<void>> = []
  let slow = false
  app.setValidatorCompiler(() => (async () => {
    if (!slow) return
    const gate = deferred()
    asked.push(gate)
    await gate.promise
  }) as never)
  const seen: unknown[] = []
  const queue: BackgroundQueue = app.addBackgroundQueue('a', { schema: { payload: {} }, grace: 0 }, ({ payload }) => { seen.push(payload) })
  await app.ready()
  await queue.pause()
  const one = await queue.enqueue('cancelled')
  await queue.enqueue('interrupted')
  slow = true
  await queue.resume()
  await turns()
  t.match(await queue.counts(), { active: 1, waiting: 1 })
  t.equal(queue.stats.active, 1)
  await queue.cancel(one.id)
  t.equal(queue.stats.cancelled, 1)
  await until(async () => queue.stats.active === 1)
  await queue.stop()
  t.match(await queue.counts(), { active: 0, waiting: 1 }, 'back, and not begun')
  t.match(queue.stats, { cancelled: 1, active: 0 })
  await queue.start()
  await turns()
  for (const gate of asked) gate.resolve()
  await queue.drain()
  t.same(seen, ['interrupted'])
})

t.test('the time limit of an attempt begins when its handler does', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const gate = deferred()
  let slow = false
  app.setValidatorCompiler(() => (async () => { if (slow) await gate.promise }) as never)
  const queue = app.addBackgroundQueue('a', { schema: { payload: {} }, timeout: '1s' }, async ({ signal }) => { throw await aborted(signal) })
  await app.ready()
  await queue.pause()
  await queue.enqueue(1)
  slow = true
  await queue.resume()
  await pass(clock, 5_000)
  t.match(await queue.counts(), { active: 1 })
  gate.resolve()
  await turns()
  await pass(clock, 1_000)
  await turns()
  t.match(await list(queue, 'failed'), [{ error: { code: 'FST_BG_TIMEOUT' } }])
})
