// How queues close: what may still be enqueued, what is finished, and what is reported as left. What a queue does with a store that
// outlives the process is shown with one that plays it.
import assert from 'node:assert'
import t from 'tap'
import { errorCodes, type OpenOptions, type Store, type StoreQueue, type StoreWorker } from '../../lib/index.ts'
import { MemoryStore } from '../../lib/store/memory/index.ts'
import { fake, linesOf, turns } from '../support/fakes.ts'
import { aborted, build, deferred, logged, rejection, type Line } from '../support/helper.ts'
import { held, pass, until } from '../support/queues.ts'
import { streaming } from '../support/stream.ts'

const noop = (): void => {}
const LEFT = /^(1 run is cancelled: the queue ends before it could run|\d+ runs are cancelled: the queue ends before they could run)$/

/** What the log says is left, by the line. */
function left (lines: Line[]): unknown[] {
  return linesOf(lines, 'warn', LEFT).map(({ task, count }) => [task, count])
}

t.test('a request in flight may enqueue while the application closes, and its run is finished before what the owner has opened is closed', async t => {
  const { app, lines } = await build(t)
  const events: string[] = []
  const arrived = deferred()
  const release = deferred()
  await app.register(async child => {
    child.addHook('onClose', async () => { events.push('database closed') })
    const queue = child.addBackgroundQueue('a', async ({ payload }) => {
      await turns()
      events.push(`run ${String(payload)}`)
    })
    child.post('/', async (request, reply) => {
      arrived.resolve()
      await release.promise
      return await reply.code(202).send(await queue.enqueue(request.body))
    })
  })
  const address = await app.listen({ port: 0 })
  const response = fetch(address, { method: 'POST', body: '7', headers: { 'content-type': 'application/json', connection: 'close' } })
  await arrived.promise
  const closed = app.close()
  await until(async () => app.backgroundTasks.get('a')?.state === 'stopping')
  release.resolve()
  t.equal((await response).status, 202)
  await closed
  t.same(events, ['run 7', 'database closed'])
  t.same(left(lines), [])
  t.equal(app.backgroundTasks.get('a')?.stats.succeeded, 1)
})

t.test('what was accepted is finished within the grace, one after the other', async t => {
  const { app, lines } = await build(t)
  const seen: unknown[] = []
  const queue = app.addBackgroundQueue('a', async ({ payload, signal }) => {
    await turns()
    seen.push([payload, signal.aborted])
  })
  await app.ready()
  for (let i = 0; i < 4; i++) await queue.enqueue(i)
  await app.close()
  t.same(seen, [[0, false], [1, false], [2, false], [3, false]])
  t.same(lines.filter(({ level }) => level === 'warn' || level === 'error'), [])
  t.same(queue.stats, { succeeded: 4, failed: 0, cancelled: 0, skipped: 0, active: 0 })
})

t.test('what is delayed, backs off or waits in a paused or unstarted queue is cancelled at once, and counted in one line', async t => {
  const { app, lines } = await build(t)
  const delayed = app.addBackgroundQueue('delayed', { retry: { limit: 1, delay: '1h', maxDelay: '1h' } }, () => { throw new Error('again') })
  const paused = app.addBackgroundQueue('paused', noop)
  const stopped = app.addBackgroundQueue('stopped', noop)
  const disabled = app.addBackgroundQueue('disabled', { enabled: false }, noop)
  app.addBackgroundQueue('empty', noop)
  let before: unknown[] = []
  // After the plugin's own, and before any onClose.
  app.addHook('preClose', async () => { before = left(lines) })
  await app.ready()
  await delayed.enqueue(1)
  await turns()
  await delayed.enqueue(2, { delay: '1h' })
  await delayed.enqueue(3, { runAt: new Date(Date.now() + 3_600_000) })
  await paused.pause()
  await paused.enqueue(1)
  await stopped.stop()
  await stopped.enqueue(1)
  await disabled.enqueue(1)
  await app.close()
  t.same(before, [['delayed', 3], ['paused', 1], ['stopped', 1], ['disabled', 1]])
  t.same(left(lines), before, 'and not again')
  t.match(delayed.stats, { failed: 0, cancelled: 3 })
  t.match(paused.stats, { cancelled: 1 })
  t.match(await delayed.counts(), { waiting: 0, delayed: 0, active: 0 })
})

t.test('a run that is cancelled by itself while the application closes is not said to be cut short', async t => {
  const { app, lines } = await build(t)
  const hand = held()
  const queue = app.addBackgroundQueue('a', hand.handler)
  app.addHook('onClose', async () => { await queue.cancel((await hand.call(0)).run.id) })
  await app.ready()
  await queue.enqueue(1)
  await hand.call(0)
  await app.close()
  t.match(lines.filter(({ task, level }) => task === 'a' && level !== 'debug'), [])
  t.match(linesOf(lines, 'debug', /^run cancelled$/), [{ err: { code: 'FST_BG_CANCELLED' } }])
})

for (const [what, stop, rejects] of [
  ['throws', () => { throw new Error('of stop') }, true],
  ['rejects', async () => { throw new Error('of stop') }, true],
  ['returns nothing', () => {}, false]
] as const) {
  t.test(`a store whose stop ${what} stops nothing else from stopping`, async t => {
    const stopped: string[] = []
    const other = { open: () => assert.fail(), async stop () { stopped.push('other') } }
    const { app } = await build(t, { stores: { default: { open: () => assert.fail(), stop: stop as () => Promise<void> }, other } })
    await app.ready()
    const closed = app.close()
    if (rejects) t.equal((await rejection(closed)).message, 'of stop')
    else await closed
    t.same(stopped, ['other'])
  })
}

t.test('what could only be lost is refused while the application closes, and the rest is not', async t => {
  const { app } = await build(t)
  const hand = held()
  const open = app.addBackgroundQueue('open', { maxSize: 2 }, hand.handler)
  const stopped = app.addBackgroundQueue('stopped', noop)
  const other = held()
  const full = app.addBackgroundQueue('full', { maxSize: 1, onFull: 'wait' }, other.handler)
  const seen: unknown[] = []
  let waits: Promise<Error> = Promise.resolve(new Error())
  let id = ''
  app.addHook('onClose', async () => {
    hand.endAll()
    other.endAll()
  })
  app.addHook('preClose', async () => {
    seen.push((await waits).message)
    for (const ask of [
      async () => await open.enqueue(2, { delay: 5 }),
      async () => await open.enqueue(2, { runAt: new Date(Date.now() + 60_000) }),
      async () => await stopped.enqueue(2),
      async () => await full.enqueue(4),
      async () => { await open.retry(id) }
    ]) seen.push((await rejection(ask)).code)
    seen.push((await open.enqueue(2)).duplicate, (await open.enqueue(3)).duplicate, (await rejection(open.enqueue(4))).code)
  })
  await app.ready()
  await stopped.stop()
  id = (await open.enqueue(1)).id
  await hand.call(0)
  await full.enqueue(1)
  await other.call(0)
  await full.enqueue(2)
  waits = rejection(full.enqueue(3))
  await app.close()
  t.match(seen[0], /"full" is full, and accepts no more payloads: the application is closing/)
  t.same(seen.slice(1), [...Array(5).fill('FST_BG_CLOSING'), false, false, 'FST_BG_QUEUE_FULL'])
  t.equal(open.stats.succeeded, 3)
})

t.test('when the grace is over, what runs is told to end, and what is left is reported', async t => {
  const clock = fake(t)
  const { app, lines } = await build(t)
  const hand = held()
  const queue = app.addBackgroundQueue('a', { grace: '1s', concurrency: 2 }, hand.handler)
  await app.ready()
  for (let i = 0; i < 6; i++) await queue.enqueue(i)
  await turns()
  const closed = app.close()
  await pass(clock, 500)
  hand.calls[0]?.end()
  await pass(clock, 499)
  t.same(hand.calls.map(({ run }) => run.signal.aborted), [false, false, false], 'the next one has begun')
  t.equal(queue.state, 'stopping')
  await pass(clock, 1)
  await closed
  t.match(hand.calls.map(({ run }) => run.signal.reason as unknown), [undefined, { code: 'FST_BG_SHUTDOWN' }, { code: 'FST_BG_SHUTDOWN' }])
  t.same(left(lines), [['a', 5]], 'two that were interrupted, and three that waited')
  t.match(linesOf(lines, 'warn', /^run cut short by shutdown$/), [{ task: 'a' }, { task: 'a' }])
  t.same(queue.stats, { succeeded: 1, failed: 0, cancelled: 5, skipped: 0, active: 0 })
  t.equal(queue.state, 'stopped')
  t.equal(clock.countTimers(), 0)
})

t.test('the grace is five seconds by default, and three quarters of shutdownTimeout at most', async t => {
  const clock = fake(t)
  for (const [shutdownTimeout, grace, expected] of [[8_000, undefined, 5_000], [8_000, '1h', 6_000], [2_000, undefined, 1_500]] as const) {
    const { app } = await build(t, { shutdownTimeout })
    const hand = held()
    const queue = app.addBackgroundQueue('a', { grace }, hand.handler)
    await app.ready()
    await queue.enqueue(1)
    await turns()
    const closed = app.close()
    await pass(clock, expected - 1)
    t.equal(hand.calls[0]?.run.signal.aborted, false)
    await pass(clock, 1)
    t.equal(hand.calls[0]?.run.signal.aborted, true)
    await closed
  }
})

t.test('without grace what runs is told to end at once, and nothing else begins', async t => {
  const { app, lines } = await build(t)
  const hand = held()
  const queue = app.addBackgroundQueue('a', { grace: 0 }, hand.handler)
  await app.ready()
  await queue.enqueue(1)
  await queue.enqueue(2)
  await hand.call(0)
  await app.close()
  t.equal(hand.calls.length, 1)
  t.same(left(lines), [['a', 1], ['a', 1]], 'what waited at once, and what ran when it has ended')
  t.equal(queue.stats.cancelled, 2)
})

t.test('an attempt that fails during the grace is not tried again: it counts as left', async t => {
  const { app, lines } = await build(t)
  const hand = held()
  const queue = app.addBackgroundQueue('a', { retry: 5 }, hand.handler)
  await app.ready()
  for (let i = 0; i < 2; i++) await queue.enqueue(i)
  const { fail } = await hand.call(0)
  const closed = app.close()
  await until(async () => queue.state === 'stopping')
  fail(new Error('no'))
  ;(await hand.call(1)).end()
  await closed
  t.match(lines.filter(({ level }) => level === 'warn'), [
    { msg: 'attempt failed, and is not retried, as the application closes', attempt: 1, err: { message: 'no' } },
    { msg: /cancelled/, count: 1 }
  ])
  t.same(queue.stats, { succeeded: 1, failed: 0, cancelled: 1, skipped: 0, active: 0 })
})

t.test('what is left at the deadline is reported then, though an open HTTP stream holds onClose back', async t => {
  const { app, lines } = await build(t, { shutdownTimeout: 150 })
  const hand = held({ deaf: true })
  const queue = app.addBackgroundQueue('deaf', { concurrency: 2 }, hand.handler)
  const idle = app.addBackgroundQueue('idle', noop)
  const response = await streaming(app)
  for (let i = 0; i < 5; i++) await queue.enqueue(i)
  await hand.call(1)
  let closed = false
  const closing = app.close().then(() => { closed = true })
  const line = await logged(lines, 'shutdown deadline passed')
  t.match(line, { level: 'error', tasks: ['deaf'], err: { code: 'FST_BG_SHUTDOWN_TIMEOUT', message: /"deaf" \(still runs\)/ } })
  await turns()
  t.same(left(lines), [['deaf', 5]], 'two in hand, and three that waited')
  t.equal(closed, false)
  t.equal(idle.state, 'stopped')
  t.match(await rejection(queue.enqueue(1)), { code: 'FST_BG_CLOSING' })
  response.destroy()
  await closing
  t.same(left(lines), [['deaf', 5]], 'once')

  hand.endAll()
  await logged(lines, 'stopped after the shutdown deadline', 'deaf')
  t.same(linesOf(lines, 'warn', /^stopped after/).map(({ task }) => task), ['deaf'])
  t.same(queue.stats, { succeeded: 2, failed: 0, cancelled: 3, skipped: 0, active: 0 }, 'what has ended after all is not counted twice')
  t.equal(queue.state, 'stopped')
  t.equal(hand.calls.length, 2)
})

t.test('a queue that closes is stopping as long as it may be given something, though it has nothing to do', async t => {
  const { app, lines } = await build(t)
  const hand = held()
  const queue = app.addBackgroundQueue('a', hand.handler)
  const response = await streaming(app)
  await queue.enqueue(1)
  await hand.call(0)
  const closed = app.close()
  await until(async () => queue.state === 'stopping')
  hand.endAll()
  await logged(lines, 'run succeeded')
  await turns()
  t.equal(queue.state, 'stopping')
  await queue.enqueue(2)
  await hand.call(1)
  await turns()
  t.equal(queue.state, 'stopping')
  response.destroy()
  await closed
  t.equal(queue.state, 'stopped')
  t.equal(queue.stats.succeeded, 2)
})

t.test('a queue waits for the deadline no longer than what runs, and for onClose no longer than the deadline', async t => {
  const clock = fake(t)
  const { app, lines } = await build(t, { shutdownTimeout: '2s' })
  const hand = held({ deaf: true })
  const queue = app.addBackgroundQueue('a', hand.handler)
  await app.ready()
  await queue.enqueue(1)
  await turns()
  const closed = app.close()
  await pass(clock, 2_000)
  await closed
  t.same(left(lines), [['a', 1]])
  t.match(linesOf(lines, 'error', /./), [{ msg: 'shutdown deadline passed', tasks: ['a'] }])
  hand.endAll()
  await turns()
  t.same(queue.stats, { succeeded: 1, failed: 0, cancelled: 0, skipped: 0, active: 0 })
  t.equal(clock.countTimers(), 0)
})

t.test('a queue that is stopped or removed while the application closes leaves what it has', async t => {
  for (const ask of ['stop', 'remove'] as const) {
    const { app, lines } = await build(t)
    const hand = held()
    const queue = app.addBackgroundQueue('a', hand.handler)
    let asked: Promise<void> | undefined
    app.addHook('preClose', async () => { asked = queue[ask]() })
    await app.ready()
    for (let i = 0; i < 3; i++) await queue.enqueue(i)
    await hand.call(0)
    await app.close()
    await asked
    t.equal(hand.calls.length, 1)
    t.equal(queue.stats.cancelled, 3)
    t.equal(left(lines).reduce((sum: number, line) => sum + Number((line as unknown[])[1]), 0), 3)
    t.equal(queue.state, 'stopped')
  }
})

t.test('close works before ready, twice, and after a start that failed', async t => {
  const { app, lines } = await build(t)
  const queue = app.addBackgroundQueue('a', noop)
  await queue.enqueue(1)
  await Promise.all([app.close(), app.close()])
  t.same(left(lines), [['a', 1]])
  t.equal((await rejection(queue.enqueue(1))).code, 'FST_BG_CLOSING')

  const failing = await build(t)
  const other = failing.app.addBackgroundQueue('a', noop)
  failing.app.addBackgroundTask('fails', { async start () { throw new Error('no') } })
  t.match(await rejection(async () => { await failing.app.ready() }), { message: 'no' })
  t.equal(other.state, 'stopped')
  await other.enqueue(1)
  await other.pause()
  await other.resume()
  await failing.app.close()
  t.same(left(failing.lines), [['a', 1]])
  t.same(other.stats, { succeeded: 0, failed: 0, cancelled: 1, skipped: 0, active: 0 })
})

t.test('a handler may stop or remove its own queue, or close the application', async t => {
  for (const ask of ['stop', 'remove', 'close'] as const) {
    const { app } = await build(t)
    const ended = deferred<string>()
    const queue = app.addBackgroundQueue('a', async ({ signal }) => {
      if (ask === 'close') void app.close()
      else void queue[ask]()
      ended.resolve((await aborted(signal)).code)
      throw signal.reason
    })
    await app.ready()
    await queue.enqueue(1)
    if (ask === 'close') {
      await until(async () => queue.state === 'stopping')
      await queue.stop()
    }
    t.equal(await ended.promise, 'FST_BG_CANCELLED')
    await until(async () => queue.state === 'stopped')
    await app.close()
  }
})

// A store that outlives the process, played by one in memory.

interface Played extends Store {
  worker: StoreWorker
  options: OpenOptions
  calls: string[]
  status: 'ok' | 'degraded'
  durable: boolean
}

function played (): Played {
  const calls: string[] = []
  const store: Played = {
    worker: undefined as never,
    options: undefined as never,
    calls,
    status: 'ok',
    durable: true,
    open (options, worker) {
      Object.assign(store, { worker, options })
      const queue = new MemoryStore().open(options, worker)
      const rest: StoreQueue = {
        durable: store.durable,
        shared: undefined,
        schedules: queue.schedules,
        get paused () { return queue.paused },
        get reachable () { return store.status === 'ok' },
        get condition () { return store.status === 'ok' ? queue.condition : { status: 'degraded' as const, reason: 'the engine cannot be reached' } },
        enqueue: run => Promise.resolve(queue.enqueue(run)),
        enqueueMany: runs => queue.enqueueMany(runs),
        waitingSince: async () => await queue.waitingSince(),
        work () { calls.push('work'); queue.work() },
        halt () { calls.push('halt'); queue.halt() },
        pause: async () => { await queue.pause() },
        resume: async () => { await queue.resume() },
        counts: async () => await queue.counts(),
        list: async (...given) => await queue.list(...given),
        get: async id => await queue.get(id),
        retry: async id => await queue.retry(id),
        retryFailed: async () => await queue.retryFailed(),
        cancel: async id => await queue.cancel(id),
        remove: async id => await queue.remove(id),
        onEnd: (...given) => queue.onEnd(...given),
        clear: async state => await queue.clear(state),
        progress (id, value) { queue.progress(id, value) },
        drained: async () => await queue.drained(),
        shutDown () { calls.push('shutDown'); return 0 },
        release () { calls.push('release'); queue.release() },
        close () { calls.push('close'); queue.close(); return 0 }
      }
      return rest
    },
    async stop () { calls.push('stop') }
  }
  return store
}

t.test('a stored queue takes no new runs once the application closes, and what runs has its grace', async t => {
  const clock = fake(t)
  const store = played()
  const { app, lines } = await build(t, { stores: { default: store } })
  const hand = held()
  const queue = app.addBackgroundQueue('a', { grace: '1s' }, hand.handler)
  await app.ready()
  for (let i = 0; i < 2; i++) await queue.enqueue(i)
  await turns()
  const closed = app.close()
  await turns()
  t.same(store.calls, ['work', 'halt', 'shutDown'])
  t.equal((await queue.enqueue('still accepted')).duplicate, false)
  await pass(clock, 999)
  t.equal(hand.calls[0]?.run.signal.aborted, false)
  await pass(clock, 1)
  await closed
  t.match(hand.calls[0]?.run.signal.reason, { code: 'FST_BG_SHUTDOWN' })
  t.same(store.calls.slice(3), ['close', 'stop'])
  t.equal(hand.calls.length, 1)
  t.same(left(lines), [], 'nothing is lost')
  t.same(queue.stats, { succeeded: 0, failed: 0, cancelled: 0, skipped: 0, active: 0 }, 'what was interrupted has not ended')
  t.equal(queue.state, 'stopped')
  t.equal(clock.countTimers(), 0)
})

t.test('a stored queue gives back what is in hand before the deadline', async t => {
  const clock = fake(t)
  const store = played()
  const { app, lines } = await build(t, { stores: { default: store }, shutdownTimeout: '8s' })
  const hand = held({ deaf: true })
  const queue = app.addBackgroundQueue('a', { grace: 0 }, hand.handler)
  await app.ready()
  await queue.enqueue(1)
  await turns()
  const closed = app.close()
  await pass(clock, 6_999)
  t.equal(store.calls.includes('release'), false)
  await pass(clock, 1)
  t.equal(store.calls.at(-1), 'release')
  await pass(clock, 1_000)
  await closed
  t.same(store.calls, ['work', 'halt', 'shutDown', 'release', 'close', 'stop'])
  t.same(left(lines), [])
  hand.endAll()
  await turns()
  t.same(queue.stats, { succeeded: 1, failed: 0, cancelled: 0, skipped: 0, active: 0 })
})

t.test('an attempt that fails while a stored queue closes is tried again by another process', async t => {
  const store = played()
  const { app, lines } = await build(t, { stores: { default: store } })
  const hand = held()
  const queue = app.addBackgroundQueue('a', { retry: { limit: 3, delay: '1h', maxDelay: '1h', jitter: false } }, hand.handler)
  await app.ready()
  await queue.enqueue(1)
  const { fail } = await hand.call(0)
  const closed = app.close()
  await until(async () => queue.state === 'stopping')
  fail(new Error('no'))
  await closed
  t.match(linesOf(lines, 'warn', /./), [{ msg: 'attempt failed, and is retried', delay: 3_600_000 }])
})

t.test('a lost lease aborts the run, which has not ended then', async t => {
  const store = played()
  const { app } = await build(t, { stores: { default: store } })
  const hand = held()
  const queue = app.addBackgroundQueue('a', hand.handler)
  await app.ready()
  const { id } = await queue.enqueue(1)
  const { run } = await hand.call(0)
  store.worker.abort('not in hand', 'lost')
  store.worker.abort(id, 'lost')
  // The one in memory takes it back.
  const again = await hand.call(1)
  t.match(again.run, { id, attempt: 1 })
  again.end()
  await queue.drain()
  t.match(run.signal.reason, { code: 'FST_BG_CANCELLED', message: /its lease was lost, and it may run elsewhere/ })
  t.match(queue.stats, { succeeded: 1, cancelled: 0 })
})

t.test('a pause by another process shows in the state', async t => {
  const store = played()
  const { app } = await build(t, { stores: { default: store }, autostart: false })
  const queue = app.addBackgroundQueue('a', noop)
  store.worker.pauseChanged(false)
  t.equal(queue.state, 'idle')
  store.worker.pauseChanged(true)
  t.equal(queue.state, 'paused')
  store.worker.pauseChanged(false)
  t.equal(queue.state, 'idle')
  await queue.start()
  store.worker.pauseChanged(true)
  store.worker.pauseChanged(true)
  t.equal(queue.state, 'paused')
  store.worker.pauseChanged(false)
  t.equal(queue.state, 'running')
  await app.close()
  store.worker.pauseChanged(true)
  t.equal(queue.state, 'stopped')
})

t.test('a run whose processes keep dying under it is logged and counted as failed', async t => {
  const store = played()
  const { app, lines } = await build(t, { stores: { default: store } })
  const told: string[] = []
  const queue = app.addBackgroundQueue('a', { retry: 5, onGiveUp: error => { told.push(error.message) } }, () => { t.fail('it is not run') })
  await app.ready()
  store.worker.crashed({ id: 'some-id', payload: 1, attempt: 5, retry: undefined, reqId: undefined, key: undefined }, new Error('five processes died'))
  t.match(await logged(lines, 'run failed'), { level: 'error', run: 'some-id', attempt: 5, err: { message: 'five processes died' } })
  t.same(told, ['five processes died'])
  t.match(queue.stats, { failed: 1, active: 0 })
})

t.test('a store is told what the queue asks for, and tells how it is', async t => {
  const store = played()
  const { app } = await build(t, { stores: { default: store } })
  const queue = app.addBackgroundQueue('a', { concurrency: 3, maxSize: 7, onFull: 'wait', rate: { limit: 2, per: '1s' }, keep: { failed: { age: '1m' } } }, noop)
  t.match(store.options, { name: 'a', concurrency: 3, maxSize: 7, onFull: 'wait', rate: { limit: 2, per: 1_000 }, keep: { succeeded: { count: undefined, age: undefined }, failed: { count: undefined, age: 60_000 } } })
  app.addBackgroundQueue('b', noop)
  t.match(store.options, { name: 'b', concurrency: 1, maxSize: undefined, onFull: undefined, rate: undefined })
  await app.ready()
  store.status = 'degraded'
  t.match(await app.backgroundTasks.health(), { status: 'degraded', tasks: [{ status: 'degraded', reason: 'the engine cannot be reached' }] })
  await queue.pause()
  t.match(await app.backgroundTasks.health(), { tasks: [{ state: 'paused' }] })
})

t.test('a queue that the store has paused is paused from its start', async t => {
  const store = played()
  const { app } = await build(t, { stores: { default: store }, autostart: false })
  const queue = app.addBackgroundQueue('a', noop)
  await queue.pause()
  await queue.stop()
  await queue.start()
  t.equal(queue.state, 'paused')
})

t.test('a queue chooses its store by name', async t => {
  const [one, two] = [played(), played()]
  const { app } = await build(t, { stores: { default: one, other: two } })
  app.addBackgroundQueue('by default', noop)
  app.addBackgroundQueue('by name', { store: 'other' }, noop)
  app.addBackgroundQueue('in memory', { store: 'memory' }, noop)
  t.same([one.options.name, two.options.name], ['by default', 'by name'])
  t.throws(() => app.addBackgroundQueue('x', { store: 'redis' }, noop), { code: 'FST_BG_UNKNOWN_STORE', message: /"x" has no store "redis"\. Known stores: memory, default, other\./ })
  t.equal(app.backgroundTasks.get('x'), undefined)
  await app.ready()
  await app.close()
  t.equal(one.calls.at(-1), 'stop')
  t.equal(two.calls.at(-1), 'stop')
})

t.test('what a store refuses at the declaration is thrown, and what its stop throws close() rejects with', async t => {
  const refuses = played()
  const breaks = played()
  refuses.open = () => { throw new errorCodes.FST_BG_INVALID_OPTION('it cannot do that') }
  breaks.stop = async () => { throw new Error('the connection broke') }
  const { app } = await build(t, { stores: { refuses, breaks } })
  t.throws(() => app.addBackgroundQueue('a', { store: 'refuses' }, noop), { code: 'FST_BG_INVALID_OPTION', message: 'it cannot do that' })
  t.equal(app.backgroundTasks.get('a'), undefined)
  t.match(await rejection(async () => { await app.close() }), { message: 'the connection broke' })
})
