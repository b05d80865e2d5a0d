// What every store must do: one suite, through the public API, over each of them. It waits for what happens and never for time to
// pass, and takes nothing for visible before the queue has said so. The times in it are real: an engine has its own clock.
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import backgroundTasks, {
  GiveUp, type BackgroundQueue, type BackgroundTasksOptions, type ListedState, type QueuedRun, type QueueOptions, type Run, type Store
} from '../../lib/index.ts'
import { aborted, capture, logged, rejection, type Line } from '../support/helper.ts'
import { held, list, until, type Handler } from '../support/queues.ts'
import { wholes } from '../support/random.ts'

/** What a store can do beyond what all can. */
export interface Capabilities {
  /** Its runs outlive the application, and two applications on it share their queues. */
  durable: boolean
}

/** Makes what one test needs; what that returns is called for each application of the test, and those share what they keep. */
export type MakeStore = (t: Test) => Promise<() => Store> | (() => Store)

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
const FAST = { delay: 1, jitter: false }
/** Longer than a test takes. */
const LONG = '1h'

interface App { app: FastifyInstance, lines: Line[] }

/** Runs the suite over a store. */
export function conformance (t: Test, makeStore: MakeStore, { durable }: Capabilities): void {
  let names = 0

  /** Says in a sentence what a store does, and shows it. */
  const holds = (sentence: string, show: (t: Test, name: string, open: (options?: BackgroundTasksOptions) => Promise<App>) => Promise<void>): void => {
    t.test(sentence, async t => {
      const store = await makeStore(t)
      await show(t, `conformance-${++names}`, async (options = {}) => {
        const lines: Line[] = []
        const app = Fastify({ logger: capture(lines) }) as FastifyInstance
        t.teardown(async () => { await app.close() })
        await app.register(backgroundTasks, { stores: { default: store() }, ...options })
        return { app, lines }
      })
    })
  }

  // What is enqueued.

  holds('a payload arrives as JSON carries it, and the caller goes on with its own', async (t, name, open) => {
    const { app } = await open()
    const seen: unknown[] = []
    const queue = app.addBackgroundQueue(name, ({ payload }) => { seen.push(payload) })
    await app.ready()
    const payload = { text: 'ü\u0000\u2028', date: new Date(0), missing: undefined, list: [1, undefined, null], deep: { at: 1 } }
    const enqueued = queue.enqueue(payload)
    payload.deep.at = 2
    await enqueued
    for (const one of [undefined, null, 0, false, '', 'text', [], {}, { toJSON: () => 'speaks for itself' }]) await queue.enqueue(one)
    await queue.drain()
    t.same(seen, [
      { text: 'ü\u0000\u2028', date: '1970-01-01T00:00:00.000Z', list: [1, null, null], deep: { at: 1 } },
      undefined, null, 0, false, '', 'text', [], {}, 'speaks for itself'
    ])
  })

  holds('each attempt is given a copy of its own, and what is listed is another', async (t, name, open) => {
    const { app } = await open()
    const seen: string[] = []
    const queue = app.addBackgroundQueue(name, { retry: { limit: 2, ...FAST } }, ({ payload }) => {
      seen.push(JSON.stringify(payload))
      ;(payload as { a: number[] }).a.push(9)
      throw new Error('again')
    })
    await app.ready()
    await queue.enqueue({ a: [1] })
    await queue.drain()
    t.same(seen, ['{"a":[1]}', '{"a":[1]}', '{"a":[1]}'])
    const [run] = await list(queue, 'failed') as [QueuedRun]
    t.same(run.payload, { a: [1] })
    ;(run.payload as { a: number[] }).a.push(9)
    t.same((await list(queue, 'failed'))[0]?.payload, { a: [1] })
  })

  holds('the id of a run is a UUID, which its handler, its log and its list give', async (t, name, open) => {
    const { app, lines } = await open()
    const hand = held()
    const queue = app.addBackgroundQueue(name, { concurrency: 2 }, hand.handler)
    await app.ready()
    const one = await queue.enqueue(1)
    const two = await queue.enqueue(2)
    t.match(one, { id: UUID, duplicate: false })
    t.not(one.id, two.id)
    t.same([(await hand.call(0)).run.id, (await hand.call(1)).run.id], [one.id, two.id])
    t.same((await list(queue, 'active')).map(({ id }) => id).sort(), [one.id, two.id].sort())
    ;(await hand.call(0)).run.log.info('hello')
    t.match(await logged(lines, 'hello'), { task: name, run: one.id })
    hand.endAll()
    await queue.drain()
    t.match(lines.filter(({ msg }) => msg === 'run succeeded'), [{ run: one.id, attempt: 1 }, { run: two.id, attempt: 1 }])
  })

  holds('whatever a handler throws, even what cannot be looked at, its run has failed, and the next one runs', async (t, name, open) => {
    const { app } = await open()
    const odd: Array<() => unknown> = [
      () => undefined,
      () => Symbol('odd'),
      () => Object.freeze(new Error('odd')),
      () => Object.defineProperty(new Error('odd'), 'code', { get () { throw new Error('looked') } }),
      () => Object.defineProperty(new Error('odd'), 'message', { get () { throw new Error('looked') } }),
      () => new Proxy({}, { get () { throw new Error('looked') } }),
      () => {
        const { proxy, revoke } = Proxy.revocable({}, {})
        revoke()
        return proxy
      }
    ]
    const throws = ({ payload }: Run): never => { throw odd[payload as number]?.() }
    for (const [kind, handler] of Object.entries<Handler>({ throws, rejects: async run => throws(run) })) {
      const queue = app.addBackgroundQueue(`${name}-${kind}`, handler)
      await queue.start()
      for (const i of odd.keys()) await queue.enqueue(i)
      await queue.drain()
      t.match(queue.stats, { failed: odd.length, active: 0 }, kind)
      t.equal((await list(queue, 'failed')).length, odd.length)
    }
  })

  holds('the handler has what every run has', async (t, name, open) => {
    const { app } = await open()
    const hand = held()
    await app.register(async child => {
      const queue = child.addBackgroundQueue(name, hand.handler)
      child.addHook('onReady', async () => { await queue.enqueue({ a: 1 }) })
    })
    await app.ready()
    const { run, self } = await hand.call(0)
    t.match(run, { task: name, attempt: 1, payload: { a: 1 }, dueAt: undefined, missed: 0 })
    t.equal(run.server, self)
    t.not(run.server, app)
    t.equal(run.signal.aborted, false)
    hand.endAll()
    await app.backgroundTasks.drain()
  })

  holds('the id of a request is bound in the log of the run, and listed', async (t, name, open) => {
    const { app, lines } = await open()
    const queue = app.addBackgroundQueue(name, ({ log }) => { log.info('at work') })
    await app.ready()
    await queue.pause()
    await queue.enqueue(1, { reqId: 'req-7' })
    t.match(await list(queue, 'waiting'), [{ reqId: 'req-7' }])
    await queue.resume()
    t.match(await logged(lines, 'at work'), { reqId: 'req-7', task: name })
    await queue.drain()
  })

  holds('a run without options is listed with what it was given by default', async (t, name, open) => {
    const { app } = await open({ autostart: false })
    const queue = app.addBackgroundQueue(name, () => {})
    const before = Date.now()
    const { id } = await queue.enqueue({ a: 1 })
    const [run] = await list(queue, 'waiting') as [QueuedRun]
    t.same({ ...run, enqueuedAt: undefined }, {
      id,
      state: 'waiting',
      payload: { a: 1 },
      attempt: 1,
      priority: 0,
      key: undefined,
      reqId: undefined,
      progress: undefined,
      enqueuedAt: undefined,
      runAt: undefined,
      startedAt: undefined,
      finishedAt: undefined,
      error: undefined
    })
    t.ok(run.enqueuedAt instanceof Date && run.enqueuedAt.getTime() >= before - 1_000 && run.enqueuedAt.getTime() <= Date.now() + 1_000)
  })

  holds('what is enqueued before the app is ready is run once it is', async (t, name, open) => {
    const { app } = await open()
    const hand = held()
    const queue = app.addBackgroundQueue(name, hand.handler)
    await queue.enqueue('early')
    t.same(hand.calls, [])
    await app.ready()
    t.equal((await hand.call(0)).payload, 'early')
    hand.endAll()
    await queue.drain()
  })

  // When.

  holds('a delayed run waits for its time', async (t, name, open) => {
    const { app } = await open()
    const started: Array<[unknown, number]> = []
    const queue = app.addBackgroundQueue(name, ({ payload }) => { started.push([payload, Date.now()]) })
    await app.ready()
    const before = Date.now()
    const { id } = await queue.enqueue('delayed', { delay: 300 })
    const at = new Date(Date.now() + 500)
    await queue.enqueue('at', { runAt: at })
    await queue.enqueue('past', { runAt: new Date(0) })
    await queue.enqueue('now', { delay: 0 })
    t.match(await queue.counts(), { delayed: 2 })
    const delayed = await list(queue, 'delayed')
    t.match(delayed, [{ id, state: 'delayed', payload: 'delayed' }, { payload: 'at' }], 'in the order in which they will run')
    t.equal(delayed[1]?.runAt?.getTime(), at.getTime())
    t.ok(Math.abs(Number(delayed[0]?.runAt) - before - 300) < 250, 'and so is the time of the other')
    await queue.drain()
    t.same(started.map(([payload]) => payload), ['past', 'now', 'delayed', 'at'])
    const [, , [, first], [, second]] = started as [unknown, unknown, [unknown, number], [unknown, number]]
    t.ok(first >= before + 298, `not before its time: ${first - before - 300}`)
    t.ok(second >= at.getTime() - 2, `not before its time: ${second - at.getTime()}`)
  })

  holds('the lower priority number is first, and within one who was first is', async (t, name, open) => {
    const { app } = await open({ autostart: false })
    const seen: unknown[] = []
    const queue = app.addBackgroundQueue(name, ({ payload }) => { seen.push(payload) })
    const given: Array<[string, number | undefined]> = [['c1', 5], ['a1', undefined], ['d1', 2_097_151], ['b1', 1], ['a2', 0], ['c2', 5], ['b2', 1], ['a3', undefined], ['d2', 2_097_151]]
    for (const [payload, priority] of given) await queue.enqueue(payload, { priority })
    t.same((await list(queue, 'waiting')).map(({ payload, priority }) => [payload, priority]), [
      ['a1', 0], ['a2', 0], ['a3', 0], ['b1', 1], ['b2', 1], ['c1', 5], ['c2', 5], ['d1', 2_097_151], ['d2', 2_097_151]
    ])
    await queue.start()
    await queue.drain()
    t.same(seen, ['a1', 'a2', 'a3', 'b1', 'b2', 'c1', 'c2', 'd1', 'd2'])
  })

  // Keys.

  holds('with a key, one run waits or runs, and another is its duplicate', async (t, name, open) => {
    const { app } = await open()
    const hand = held()
    const queue = app.addBackgroundQueue(name, { retry: { limit: 1, delay: 200, jitter: false } }, hand.handler)
    await app.ready()
    const { id } = await queue.enqueue('first', { key: 'k' })
    t.same(await queue.enqueue('again', { key: 'k' }), { id, duplicate: true })
    t.not((await queue.enqueue('another', { key: 'other' })).id, id)
    await hand.call(0)
    t.same(await queue.enqueue('while it runs', { key: 'k' }), { id, duplicate: true })
    ;(await hand.call(0)).fail(new Error('again'))
    await until(async () => (await queue.counts()).delayed === 1)
    t.same(await queue.enqueue('while it backs off', { key: 'k' }), { id, duplicate: true })
    t.match(await list(queue, 'delayed'), [{ id, key: 'k', payload: 'first' }])
    ;(await hand.call(1)).end()
    const second = await hand.call(2)
    t.match(second, { payload: 'first', run: { attempt: 2 } })
    t.same(await queue.enqueue('while it runs again', { key: 'k' }), { id, duplicate: true })
    second.end()
    await queue.drain()
    const next = await queue.enqueue('next', { key: 'k' })
    t.equal(next.duplicate, false)
    t.not(next.id, id)
    hand.endAll()
    await queue.drain()
    t.same(hand.calls.map(({ payload }) => payload), ['first', 'another', 'first', 'next'])
  })

  holds('a delayed run keeps its key; cancelled, failed or removed, it lets it go', async (t, name, open) => {
    const { app } = await open()
    const queue = app.addBackgroundQueue(name, () => { throw new Error('no') })
    await app.ready()
    const one = await queue.enqueue(1, { key: 'k', delay: LONG })
    t.same(await queue.enqueue(2, { key: 'k' }), { id: one.id, duplicate: true })
    await queue.cancel(one.id)
    const two = await queue.enqueue(2, { key: 'k', delay: LONG })
    t.equal(two.duplicate, false)
    await queue.remove(two.id)
    const three = await queue.enqueue(3, { key: 'k', delay: LONG })
    t.equal(three.duplicate, false)
    await queue.clear('delayed')
    t.equal((await queue.enqueue(4, { key: 'k' })).duplicate, false)
    await queue.drain()
    t.match(await list(queue, 'failed'), [{ payload: 4, key: 'k' }])
    t.equal((await queue.enqueue(5, { key: 'k' })).duplicate, false)
    await queue.drain()
  })

  holds('a key until started is free once the run has, and an update may wait meanwhile', async (t, name, open) => {
    const { app } = await open()
    const hand = held()
    const queue = app.addBackgroundQueue(name, hand.handler)
    await app.ready()
    await queue.pause()
    const one = await queue.enqueue('first', { key: 'k', keyUntil: 'started' })
    t.same(await queue.enqueue('again', { key: 'k', keyUntil: 'started' }), { id: one.id, duplicate: true })
    await queue.resume()
    await hand.call(0)
    const two = await queue.enqueue('update', { key: 'k', keyUntil: 'started' })
    t.equal(two.duplicate, false)
    t.same(await queue.enqueue('update again', { key: 'k', keyUntil: 'started' }), { id: two.id, duplicate: true })
    ;(await hand.call(0)).end()
    ;(await hand.call(1)).end()
    await queue.drain()
    t.same(hand.calls.map(({ payload }) => payload), ['first', 'update'])
  })

  // Failure.

  holds('a failed run is tried again after its backoff, until the limit, and then it is kept', async (t, name, open) => {
    const { app, lines } = await open()
    const attempts: Array<{ attempt: number, id: string, at: number }> = []
    const queue = app.addBackgroundQueue(name, { retry: { limit: 2, delay: 60, factor: 3, maxDelay: '1m', jitter: false } }, ({ attempt, id }) => {
      attempts.push({ attempt, id, at: Date.now() })
      throw Object.assign(new TypeError(`attempt ${attempt}`), { code: 'E_CODE' })
    })
    await app.ready()
    const { id } = await queue.enqueue({ a: 1 })
    await queue.drain()
    t.same(attempts.map(({ attempt, id }) => [attempt, id]), [[1, id], [2, id], [3, id]])
    const [first, second, third] = attempts.map(({ at }) => at) as [number, number, number]
    t.ok(second - first >= 58 && third - second >= 178, `the waits grow: ${second - first}, ${third - second}`)
    t.same(await queue.counts(), { waiting: 0, delayed: 0, active: 0, succeeded: 0, failed: 1 })
    const [run] = await list(queue, 'failed') as [QueuedRun]
    t.match(run, { id, state: 'failed', payload: { a: 1 }, attempt: 3, error: { name: 'TypeError', message: 'attempt 3', code: 'E_CODE', stack: /attempt 3\n\s+at / } })
    t.ok(run.enqueuedAt <= (run.startedAt as Date) && (run.startedAt as Date) <= (run.finishedAt as Date))
    t.match(lines.filter(({ msg }) => /failed/.test(msg)), [
      { level: 'warn', msg: 'attempt failed, and is retried', task: name, run: id, attempt: 1, delay: 60, err: { message: 'attempt 1' } },
      { level: 'warn', attempt: 2, delay: 180 },
      { level: 'error', msg: 'run failed', run: id, attempt: 3, err: { code: 'E_CODE' } }
    ])
    t.match(queue.stats, { succeeded: 0, failed: 1, cancelled: 0, active: 0 }, 'one run, whatever it took')
    t.match(queue.history, [{ id, outcome: 'failed', error: { message: 'attempt 3' } }])
  })

  holds('a run that backs off is delayed, with the error of its last attempt', async (t, name, open) => {
    const { app } = await open()
    const queue = app.addBackgroundQueue(name, { retry: { limit: 5, delay: LONG, maxDelay: LONG, jitter: false } }, () => { throw new Error('later') })
    await app.ready()
    const { id } = await queue.enqueue(1)
    await until(async () => (await queue.counts()).delayed === 1)
    const [run] = await list(queue, 'delayed') as [QueuedRun]
    t.match(run, { id, state: 'delayed', attempt: 2, error: { message: 'later' }, finishedAt: undefined })
    t.ok(Math.abs(Number(run.runAt) - Date.now() - 3_600_000) < 60_000)
    await queue.cancel(id)
  })

  holds('a run may bring a retry policy of its own, even none', async (t, name, open) => {
    const { app } = await open()
    const seen: string[] = []
    const queue = app.addBackgroundQueue(name, { retry: { limit: 1, ...FAST } }, ({ payload, attempt }) => {
      seen.push(`${String(payload)}${attempt}`)
      throw new Error('no')
    })
    await app.ready()
    await queue.enqueue('queue')
    await queue.enqueue('none', { retry: 0 })
    await queue.enqueue('more', { retry: { limit: 3, ...FAST } })
    await queue.drain()
    t.same(seen.sort(), ['more1', 'more2', 'more3', 'more4', 'none1', 'queue1', 'queue2'])
  })

  holds('a handler that gives up is not tried again', async (t, name, open) => {
    const { app } = await open()
    let calls = 0
    const queue = app.addBackgroundQueue(name, { retry: 5 }, () => {
      calls++
      throw new GiveUp('of no use')
    })
    await app.ready()
    await queue.enqueue(1)
    await queue.drain()
    t.equal(calls, 1)
    t.match(await list(queue, 'failed'), [{ attempt: 1, error: { name: 'GiveUp', message: 'of no use' } }])
  })

  holds('an attempt past its time is told to end, and has failed', async (t, name, open) => {
    const { app } = await open()
    const reasons: string[] = []
    const queue = app.addBackgroundQueue(name, { timeout: 30, retry: { limit: 1, ...FAST } }, async ({ signal }) => {
      const reason = await aborted(signal)
      reasons.push(reason.code)
      throw reason
    })
    await app.ready()
    await queue.enqueue(1)
    await queue.drain()
    t.same(reasons, ['FST_BG_TIMEOUT', 'FST_BG_TIMEOUT'])
    t.match(await list(queue, 'failed'), [{ attempt: 2, error: { code: 'FST_BG_TIMEOUT' } }])
  })

  holds('whatever is thrown is kept as an error', async (t, name, open) => {
    const { app } = await open()
    const frozen = Object.freeze(new RangeError('ice'))
    const thrown: unknown[] = ['a text', undefined, null, { code: 'E_PLAIN' }, Object.assign(new Error('x'), { code: 5 }), frozen, Object.assign(new Error(), { message: 7, name: { a: 1 } })]
    const queue = app.addBackgroundQueue(name, ({ payload }) => { throw thrown[payload as number] })
    await app.ready()
    for (const i of thrown.keys()) await queue.enqueue(i)
    await queue.drain()
    const errors = (await list(queue, 'failed')).reverse().map(({ error }) => error)
    t.match(errors, [
      { name: 'Error', message: /'a text'/, code: undefined, stack: /./ },
      { message: /undefined/ }, { message: /null/ }, { code: 'E_PLAIN' }, { message: 'x', code: undefined }, { name: 'RangeError', message: 'ice' }, { message: '7' }
    ])
    t.ok(errors.every(error => error !== undefined && Object.values(error).every(value => value === undefined || typeof value === 'string')), 'of texts')
  })

  holds('a payload that its schema refuses now is a failed attempt, before the handler, and is tried again as any', async (t, name, open) => {
    for (const late of [false, true]) {
      const { app, lines } = await open({ autostart: false })
      let refuses = false
      let calls = 0
      app.setValidatorCompiler(() => {
        const validate = (data: unknown) => refuses ? { error: new Error('it was renamed') } : { value: { made: data } }
        return (late ? async (data: unknown) => { if (refuses) throw new Error('it was renamed') } : validate) as never
      })
      const queue = app.addBackgroundQueue(`${name}-${String(late)}`, { schema: { payload: {} }, retry: { limit: 3, ...FAST } }, () => { calls++ })
      await app.ready()
      const { id } = await queue.enqueue(1)
      refuses = true
      await queue.start()
      await queue.drain()
      t.equal(calls, 0)
      t.match(await list(queue, 'failed'), [{ id, payload: 1, attempt: 4, error: { code: 'FST_BG_INVALID_PAYLOAD', message: /it was renamed/ } }])
      t.match(lines.filter(({ level }) => level === 'error'), [{ msg: 'run failed', run: id, err: { code: 'FST_BG_INVALID_PAYLOAD' } }])
      t.equal(lines.filter(({ level, err }) => level === 'warn' && (err as { code?: string } | undefined)?.code === 'FST_BG_INVALID_PAYLOAD').length, 3, 'and told at each')
      await app.close()
    }
  })

  // How many.

  holds('no more runs at a time than its concurrency', async (t, name, open) => {
    const { app } = await open()
    let active = 0
    let most = 0
    let calls = 0
    const queue = app.addBackgroundQueue(name, { concurrency: 3 }, async () => {
      calls++
      most = Math.max(most, ++active)
      await new Promise(resolve => { setTimeout(resolve, 2) })
      active--
    })
    await app.ready()
    for (let i = 0; i < 30; i++) await queue.enqueue(i)
    await queue.drain()
    t.equal(calls, 30)
    t.equal(most, 3)
    t.match(await queue.counts(), { waiting: 0, active: 0 })
    t.equal(queue.stats.succeeded, 30)
  })

  holds('no more attempts begin than its rate allows', async (t, name, open) => {
    const { app } = await open()
    const starts: number[] = []
    const queue = app.addBackgroundQueue(name, { concurrency: 10, rate: { limit: 2, per: 200 } }, () => { starts.push(Date.now()) })
    await app.ready()
    for (let i = 0; i < 6; i++) await queue.enqueue(i)
    await queue.drain()
    t.equal(starts.length, 6)
    const took = (starts[5] as number) - (starts[0] as number)
    t.ok(took >= 380, `the last two begin two periods after the first: ${took}`)
  })

  // What can be seen.

  holds('runs are counted by their state', async (t, name, open) => {
    const { app } = await open()
    const hand = held()
    const queue = app.addBackgroundQueue(name, { keep: { succeeded: { count: 10 } } }, hand.handler)
    await app.ready()
    t.same(await queue.counts(), { waiting: 0, delayed: 0, active: 0, succeeded: 0, failed: 0 })
    for (const payload of ['succeeds', 'fails', 'runs', 'waits', 'waits too']) await queue.enqueue(payload)
    await queue.enqueue('delayed', { delay: LONG })
    ;(await hand.call(0)).end()
    ;(await hand.call(1)).fail(new Error('no'))
    await hand.call(2)
    t.same(await queue.counts(), { waiting: 2, delayed: 1, active: 1, succeeded: 1, failed: 1 })
    t.equal(queue.stats.active, 1)
    for (const [state, payloads] of Object.entries({ waiting: ['waits', 'waits too'], delayed: ['delayed'], active: ['runs'], succeeded: ['succeeds'], failed: ['fails'] })) {
      const runs = await list(queue, state as ListedState)
      t.same(runs.map(({ payload }) => payload), payloads)
      t.ok(runs.every(run => run.state === state))
    }
    const { stats } = queue
    hand.endAll()
    await until(async () => (await queue.counts()).waiting + (await queue.counts()).active === 0)
    t.match(stats, { succeeded: 1, failed: 1 })
    await queue.clear('delayed')
  })

  holds('runs are listed by the page', async (t, name, open) => {
    const { app } = await open()
    const queue = app.addBackgroundQueue(name, () => { throw new Error('no') })
    await app.ready()
    await queue.pause()
    for (let i = 0; i < 7; i++) await queue.enqueue(i)
    const pages = async (state: ListedState, limit: number): Promise<unknown[][]> => {
      const found: unknown[][] = []
      let cursor: string | undefined
      do {
        const page = await queue.list({ state, limit, cursor })
        found.push(page.runs.map(({ payload }) => payload))
        cursor = page.cursor
      } while (cursor !== undefined)
      return found
    }
    t.same(await pages('waiting', 3), [[0, 1, 2], [3, 4, 5], [6]])
    t.same(await pages('waiting', 7), [[0, 1, 2, 3, 4, 5, 6]], 'no empty page at the end')
    t.same(await pages('waiting', 1_000), [[0, 1, 2, 3, 4, 5, 6]])
    t.same(await pages('delayed', 3), [[]])
    await queue.resume()
    await queue.drain()
    t.same(await pages('failed', 5), [[6, 5, 4, 3, 2], [1, 0]], 'what has ended, the newest first')
  })

  holds('a run that is in a state from the first page to the last is listed once, whatever comes and goes meanwhile', async (t, name, open) => {
    const below = wholes(7)
    const { app } = await open()
    const states = ['waiting', 'delayed', 'failed', 'succeeded'] as const
    const keep = { succeeded: { count: 1_000 }, failed: { count: 1_000 } }
    const queue = app.addBackgroundQueue(name, { keep, concurrency: 20 }, ({ payload }) => { if (payload === 'failed') throw new Error('no') })
    await app.ready()
    for (const state of states) {
      const add = async (): Promise<string> => (await queue.enqueue(state, { ...state === 'delayed' && { delay: 3_600_000 + below(3) }, priority: below(3) })).id
      const fill = async (count: number): Promise<Set<string>> => {
        const ids = new Set<string>()
        for (let i = 0; i < count; i++) ids.add(await add())
        return ids
      }
      if (state === 'waiting') await queue.pause()
      else if (state !== 'delayed') await queue.resume()
      for (let round = 0; round < 6; round++) {
        const there = await fill(60)
        if (state === 'failed' || state === 'succeeded') await until(async () => (await queue.counts())[state] === 60)
        const seen: string[] = []
        const fresh: string[] = []
        const limit = 1 + below(20)
        // A whole page at times, and the page behind it.
        const sweeps = below(2) === 0
        let cursor: string | undefined
        do {
          const page = await queue.list({ state, limit, cursor })
          t.ok(page.runs.length <= limit)
          t.ok(page.runs.every(run => run.state === state))
          seen.push(...page.runs.map(({ id }) => id))
          cursor = page.cursor
          const removed = [...sweeps ? page.runs.map(({ id }) => id) : [], ...[...there].filter(() => below(20) === 0)]
          for (const id of removed) if (there.delete(id)) await queue.remove(id)
          if (state === 'waiting' || state === 'delayed') for (let i = below(3); i > 0; i--) fresh.push(await add())
        } while (cursor !== undefined)
        t.equal(new Set(seen).size, seen.length, `${state}: none twice`)
        t.same([...there].filter(id => !seen.includes(id)), [], `${state}: none left out`)
        await queue.clear(state)
      }
    }
  })

  holds('paging goes on where it was when the runs around the position are gone, and where they have come back', async (t, name, open) => {
    const { app } = await open()
    const hand = held()
    const queue = app.addBackgroundQueue(name, { retry: { limit: 1, ...FAST } }, hand.handler)
    await app.ready()
    await queue.pause()
    const ids: string[] = []
    for (let i = 0; i < 60; i++) ids.push((await queue.enqueue(i)).id)
    const first = await queue.list({ state: 'waiting', limit: 30 })
    t.same(first.runs.map(({ id }) => id), ids.slice(0, 30))
    // Both sides of the position, farther than one would remember.
    for (const id of ids.slice(8, 52)) await queue.cancel(id)
    const second = await queue.list({ state: 'waiting', limit: 4, cursor: first.cursor })
    t.same(second.runs.map(({ id }) => id), ids.slice(52, 56))
    t.same((await queue.list({ state: 'waiting', limit: 4, cursor: first.cursor })).runs.map(({ id }) => id), ids.slice(52, 56), 'a cursor can be used again')
    // One runs, is interrupted, and goes back to the front.
    await queue.resume()
    await hand.call(0)
    await queue.pause()
    t.same((await queue.list({ state: 'waiting', limit: 9, cursor: second.cursor })).runs.map(({ id }) => id), ids.slice(56))
    await queue.stop()
    await until(async () => (await queue.counts()).active === 0)
    t.equal((await list(queue, 'waiting'))[0]?.id, ids[0])
    t.same((await queue.list({ state: 'waiting', limit: 9, cursor: second.cursor })).runs.map(({ id }) => id), ids.slice(56))
    await queue.clear('waiting')
    t.same(await queue.list({ state: 'waiting', limit: 9, cursor: second.cursor }), { runs: [], cursor: undefined })
    hand.endAll()
  })

  holds('a failed run that cannot be retried keeps its place in the list', async (t, name, open) => {
    const { app } = await open()
    const queue = app.addBackgroundQueue(name, ({ payload }) => { if (payload !== 'holds the key') throw new Error('no') })
    await app.ready()
    for (const key of ['a', 'b', 'c']) {
      await queue.enqueue(key, { key })
      await queue.drain()
    }
    await queue.pause()
    await queue.enqueue('holds the key', { key: 'a' })
    const before = await list(queue, 'failed')
    t.match(await rejection(queue.retry((before[2] as QueuedRun).id)), { code: 'FST_BG_INVALID_OPTION', message: /another with its key "a"/ })
    t.same(await list(queue, 'failed'), before)
    await queue.clear('waiting')
  })

  holds('a cursor that is none of the state is refused', async (t, name, open) => {
    const { app } = await open()
    const queue = app.addBackgroundQueue(name, { enabled: false }, () => {})
    await app.ready()
    for (let i = 0; i < 3; i++) await queue.enqueue(i, { priority: i })
    const { cursor = '' } = await queue.list({ state: 'waiting', limit: 1 })
    const { cursor: next = '' } = await queue.list({ state: 'waiting', limit: 1, cursor })
    const forged = ['null', '[]', '["waiting"]', '["waiting",null]', '["waiting",[]]', '["waiting",["x","y"]]', '["waiting",[1e999,"y"]]', '["waiting",["x",1,[]]]']
    for (const bad of ['x', '100', '-1', ...forged.map(text => Buffer.from(text).toString('base64url'))]) {
      t.match(await rejection(queue.list({ state: 'waiting', cursor: bad })), { code: 'FST_BG_INVALID_OPTION', message: /option "cursor" must be what the page before gave; received/ }, bad)
    }
    for (const state of ['delayed', 'active', 'succeeded', 'failed'] as const) {
      for (const of of [cursor, next]) t.match(await rejection(queue.list({ state, cursor: of })), { code: 'FST_BG_INVALID_OPTION' }, state)
    }
    await queue.clear('waiting')
  })

  holds('how far a run is, is kept with it', async (t, name, open) => {
    const { app } = await open()
    const hand = held()
    const queue = app.addBackgroundQueue(name, { keep: { succeeded: { count: 1 } } }, hand.handler)
    await app.ready()
    const { id } = await queue.enqueue(1)
    const { run, end } = await hand.call(0)
    t.equal((await list(queue, 'active'))[0]?.progress, undefined)
    run.progress(0)
    run.progress(0.5)
    await until(async () => (await list(queue, 'active'))[0]?.progress === 0.5)
    const { progress } = run
    const own = { done: 3, of: 4 }
    progress(own)
    own.done = 4
    await until(async () => typeof (await list(queue, 'active'))[0]?.progress === 'object')
    t.same((await list(queue, 'active'))[0]?.progress, { done: 3, of: 4 })
    for (const wrong of [-0.1, 1.1, NaN, 'half', null, undefined, true, { big: 1n }]) {
      t.throws(() => { run.progress(wrong as number) }, { code: 'FST_BG_INVALID_OPTION' })
    }
    end()
    await queue.drain()
    t.match(await list(queue, 'succeeded'), [{ id, progress: { done: 3, of: 4 } }])
    run.progress(1)
    t.match(await list(queue, 'succeeded'), [{ id }], 'what is said after the end is harmless')
  })

  holds('ended runs are kept as the queue says', async (t, name, open) => {
    const { app } = await open()
    const queue = app.addBackgroundQueue(name, { keep: { succeeded: { count: 2 }, failed: { count: 1 } } }, ({ payload }) => {
      if (String(payload).startsWith('f')) throw new Error('no')
    })
    const none = app.addBackgroundQueue(`${name}-none`, { keep: { succeeded: { count: 0 }, failed: { count: 0 } } }, ({ payload }) => {
      if (payload === 'f') throw new Error('no')
    })
    await app.ready()
    for (const payload of ['s1', 'f1', 's2', 's3', 'f2']) await queue.enqueue(payload)
    for (const payload of ['s', 'f']) await none.enqueue(payload)
    await app.backgroundTasks.drain()
    t.same(await queue.counts(), { waiting: 0, delayed: 0, active: 0, succeeded: 2, failed: 1 })
    t.same((await list(queue, 'succeeded')).map(({ payload }) => payload), ['s3', 's2'])
    t.same((await list(queue, 'failed')).map(({ payload }) => payload), ['f2'])
    t.same(await none.counts(), { waiting: 0, delayed: 0, active: 0, succeeded: 0, failed: 0 })
    t.match(none.stats, { succeeded: 1, failed: 1 })
  })

  // What can be done.

  holds('a failed run is given one more attempt, and its number goes on', async (t, name, open) => {
    const { app } = await open()
    const attempts: number[] = []
    let mended = false
    const queue = app.addBackgroundQueue(name, { retry: { limit: 1, ...FAST }, keep: { succeeded: { count: 5 } } }, ({ attempt }) => {
      attempts.push(attempt)
      if (!mended) throw new Error('no')
    })
    await app.ready()
    const { id } = await queue.enqueue('p')
    await queue.drain()
    await queue.retry(id)
    await queue.drain()
    t.same(attempts, [1, 2, 3], 'one more, as the limit of retries is behind it')
    t.match(await list(queue, 'failed'), [{ id, attempt: 3 }])
    mended = true
    await queue.retry(id)
    await queue.drain()
    t.same(attempts, [1, 2, 3, 4])
    t.same(await list(queue, 'failed'), [])
    t.match(await list(queue, 'succeeded'), [{ id, attempt: 4, payload: 'p' }])
    t.match(await rejection(queue.retry(id)), { code: 'FST_BG_NOT_FOUND', message: /has no run .* that is failed/ }, 'one that has succeeded is not failed')
  })

  holds('a failed run that is to run again waits, with the error of its last attempt', async (t, name, open) => {
    const { app } = await open()
    const queue = app.addBackgroundQueue(name, () => { throw new Error('no') })
    await app.ready()
    const { id } = await queue.enqueue('p', { priority: 3, reqId: 'r' })
    await queue.drain()
    await queue.pause()
    await queue.retry(id)
    t.same(await queue.counts(), { waiting: 1, delayed: 0, active: 0, succeeded: 0, failed: 0 })
    t.match(await list(queue, 'waiting'), [{ id, state: 'waiting', attempt: 2, priority: 3, reqId: 'r', error: { message: 'no' }, finishedAt: undefined }])
    t.match(await rejection(queue.retry(id)), { code: 'FST_BG_NOT_FOUND' })
  })

  holds('all failed runs are given one more attempt at once', async (t, name, open) => {
    const { app } = await open()
    const seen: string[] = []
    let mended = false
    const queue = app.addBackgroundQueue(name, ({ payload, attempt }) => {
      seen.push(`${String(payload)}/${attempt}`)
      if (!mended) throw new Error('no')
    })
    await app.ready()
    t.equal(await queue.retryFailed(), 0)
    for (const payload of ['a', 'b', 'c']) await queue.enqueue(payload)
    await queue.drain()
    mended = true
    t.equal(await queue.retryFailed(), 3)
    await queue.drain()
    t.same(seen.slice(0, 3), ['a/1', 'b/1', 'c/1'])
    t.same(seen.slice(3).sort(), ['a/2', 'b/2', 'c/2'])
    t.match(await queue.counts(), { failed: 0 })
  })

  holds('a failed run whose key another has cannot be tried again', async (t, name, open) => {
    const { app } = await open()
    const queue = app.addBackgroundQueue(name, () => { throw new Error('no') })
    await app.ready()
    const one = await queue.enqueue('one', { key: 'k' })
    const free = await queue.enqueue('free')
    await queue.drain()
    await queue.pause()
    const two = await queue.enqueue('two', { key: 'k' })
    t.equal(two.duplicate, false)
    t.match(await rejection(queue.retry(one.id)), { code: 'FST_BG_INVALID_OPTION', message: /its key "k"/ })
    t.match((await list(queue, 'failed')).map(({ id }) => id).sort(), [one.id, free.id].sort(), 'it stays where it was')
    t.equal(await queue.retryFailed(), 1, 'and is left out when all are')
    t.match(await list(queue, 'failed'), [{ id: one.id, attempt: 1 }])
    t.same((await list(queue, 'waiting')).map(({ id }) => id).sort(), [two.id, free.id].sort())
    t.same(await queue.enqueue('three', { key: 'k' }), { id: two.id, duplicate: true })
    await queue.cancel(two.id)
    await queue.retry(one.id)
    t.same(await queue.enqueue('four', { key: 'k' }), { id: one.id, duplicate: true }, 'it has its key again')
  })

  holds('a run that waits, or is delayed, is cancelled before it begins', async (t, name, open) => {
    const { app } = await open()
    const seen: unknown[] = []
    const queue = app.addBackgroundQueue(name, ({ payload }) => { seen.push(payload) })
    await app.ready()
    await queue.pause()
    const [waits, stays, delayed] = [await queue.enqueue('waits'), await queue.enqueue('stays'), await queue.enqueue('delayed', { delay: 10 })]
    await queue.cancel(waits.id)
    await queue.cancel(delayed.id)
    t.match(await list(queue, 'waiting'), [{ id: stays.id }])
    t.match(await queue.counts(), { waiting: 1, delayed: 0 })
    await queue.resume()
    await queue.drain()
    t.same(seen, ['stays'])
    t.match(queue.stats, { succeeded: 1, cancelled: 2 })
    t.match(await rejection(queue.cancel(waits.id)), { code: 'FST_BG_NOT_FOUND' })
    t.match(await rejection(queue.cancel(stays.id)), { code: 'FST_BG_NOT_FOUND', message: /that is waiting, delayed or active/ })
  })

  holds('an active run is cancelled through its signal; it is not tried again', async (t, name, open) => {
    const { app, lines } = await open()
    const hand = held()
    const queue = app.addBackgroundQueue(name, { retry: { limit: 5, ...FAST } }, hand.handler)
    await app.ready()
    const { id } = await queue.enqueue('p', { key: 'k' })
    const { run } = await hand.call(0)
    await queue.cancel(id)
    t.match(run.signal.reason, { code: 'FST_BG_CANCELLED' })
    await queue.drain()
    t.equal(hand.calls.length, 1)
    t.same(await queue.counts(), { waiting: 0, delayed: 0, active: 0, succeeded: 0, failed: 0 })
    t.match(queue.stats, { cancelled: 1, failed: 0 })
    t.match(await logged(lines, 'run cancelled'), { level: 'debug', run: id, err: { code: 'FST_BG_CANCELLED' } })
    t.equal((await queue.enqueue('p', { key: 'k' })).duplicate, false)
    hand.endAll()
    await queue.drain()
  })

  holds('cancel resolves when the handler has ended; one that returns all the same has succeeded', async (t, name, open) => {
    const { app } = await open()
    const hand = held({ deaf: true })
    const queue = app.addBackgroundQueue(name, { keep: { succeeded: { count: 5 } } }, hand.handler)
    await app.ready()
    const { id } = await queue.enqueue('p')
    const { run, end } = await hand.call(0)
    let resolved = false
    const cancelled = queue.cancel(id).then(() => { resolved = true })
    await aborted(run.signal)
    t.equal(resolved, false)
    end()
    await cancelled
    await queue.drain()
    t.match(await list(queue, 'succeeded'), [{ id }])
  })

  holds('a run is removed in any state', async (t, name, open) => {
    const { app } = await open()
    const hand = held()
    const queue = app.addBackgroundQueue(name, { keep: { succeeded: { count: 5 } } }, hand.handler)
    await app.ready()
    const [succeeds, fails, runs, waits] = [await queue.enqueue('succeeds'), await queue.enqueue('fails'), await queue.enqueue('runs'), await queue.enqueue('waits')]
    const delayed = await queue.enqueue('delayed', { delay: LONG })
    ;(await hand.call(0)).end()
    ;(await hand.call(1)).fail(new Error('no'))
    const { run } = await hand.call(2)
    await queue.pause()
    for (const { id } of [succeeds, fails, runs, waits, delayed]) await queue.remove(id)
    t.match(run.signal.reason, { code: 'FST_BG_CANCELLED' })
    t.same(await queue.counts(), { waiting: 0, delayed: 0, active: 0, succeeded: 0, failed: 0 })
    t.match(queue.stats, { succeeded: 1, failed: 1, cancelled: 3 })
    t.match(await rejection(queue.remove(fails.id)), { code: 'FST_BG_NOT_FOUND', message: /has no run .* that is known/ })
    t.equal(app.backgroundTasks.get(name), queue, 'the queue itself is still there')
  })

  holds('all runs in a state are forgotten at once', async (t, name, open) => {
    const { app } = await open()
    const queue = app.addBackgroundQueue(name, { keep: { succeeded: { count: 5 } } }, ({ payload }) => { if (payload === 'f') throw new Error('no') })
    await app.ready()
    for (const payload of ['s', 'f', 's', 'f', 'f']) await queue.enqueue(payload)
    await queue.drain()
    await queue.pause()
    for (let i = 0; i < 4; i++) await queue.enqueue('waits')
    await queue.enqueue('delayed', { delay: LONG })
    t.equal(await queue.clear('succeeded'), 2)
    t.same(await queue.counts(), { waiting: 4, delayed: 1, active: 0, succeeded: 0, failed: 3 })
    t.equal(await queue.clear('failed'), 3)
    t.equal(await queue.clear('waiting'), 4)
    t.equal(await queue.clear('delayed'), 1)
    t.equal(await queue.clear('delayed'), 0)
    t.same(await queue.counts(), { waiting: 0, delayed: 0, active: 0, succeeded: 0, failed: 0 })
    t.match(queue.stats, { succeeded: 2, failed: 3, cancelled: 5 })
    await queue.resume()
    await queue.drain()
    t.match(await rejection(queue.clear('active' as 'failed')), { code: 'FST_BG_INVALID_OPTION' })
  })

  holds('a run that is not known is not found', async (t, name, open) => {
    const { app } = await open()
    const queue = app.addBackgroundQueue(name, () => {})
    await app.ready()
    for (const id of ['7cf1f3d8-9d2c-4c5e-8e0a-9e2b0d7c4b1a', '', 'a:b', undefined as never]) {
      for (const what of ['retry', 'cancel', 'remove'] as const) t.match(await rejection(queue[what](id)), { code: 'FST_BG_NOT_FOUND', statusCode: 404 }, `${what} ${String(id)}`)
    }
  })

  holds('a queue that is paused takes runs and begins none, until it is resumed', async (t, name, open) => {
    const { app } = await open()
    const hand = held()
    const queue = app.addBackgroundQueue(name, hand.handler)
    await app.ready()
    await queue.enqueue(1)
    await hand.call(0)
    await queue.pause()
    await queue.pause()
    t.equal(queue.state, 'paused')
    await queue.enqueue(2)
    await queue.enqueue('delayed', { delay: 1 })
    ;(await hand.call(0)).end()
    await queue.drain()
    await until(async () => (await queue.counts()).waiting === 2 || (await queue.counts()).delayed === 1)
    t.equal(hand.calls.length, 1, 'what was active has gone on, and nothing else')
    await queue.resume()
    await queue.resume()
    t.equal(queue.state, 'running')
    ;(await hand.call(1)).end()
    ;(await hand.call(2)).end()
    await queue.drain()
    t.same(hand.calls.map(({ payload }) => payload).sort(), [1, 2, 'delayed'].sort())
  })

  holds('drain resolves when nothing runs, waits or is delayed', async (t, name, open) => {
    const { app } = await open()
    const ended: string[] = []
    const queue = app.addBackgroundQueue(name, { retry: { limit: 1, ...FAST } }, async ({ payload, attempt }) => {
      await new Promise(resolve => { setImmediate(resolve) })
      ended.push(`${String(payload)}${attempt}`)
      if (payload === 'f' && attempt === 1) throw new Error('again')
      if (payload === 'c') await queue.enqueue('child')
    })
    await app.ready()
    await queue.drain()
    for (const payload of ['a', 'f', 'c']) await queue.enqueue(payload)
    await queue.enqueue('d', { delay: 60 })
    await Promise.all([queue.drain(), queue.drain(), app.backgroundTasks.drain()])
    t.same(ended.sort(), ['a1', 'c1', 'child1', 'd1', 'f1', 'f2'])
  })

  // Start and stop.

  holds('with autostart: false runs are accepted, and begin once the queue is started', async (t, name, open) => {
    const { app } = await open({ autostart: false })
    const seen: unknown[] = []
    const queue = app.addBackgroundQueue(name, ({ payload }) => { seen.push(payload) })
    await app.ready()
    for (let i = 0; i < 3; i++) await queue.enqueue(i)
    t.equal(queue.state, 'idle')
    t.match(await queue.counts(), { waiting: 3, active: 0 })
    await queue.drain()
    t.same(seen, [])
    await app.backgroundTasks.start()
    await queue.drain()
    t.same(seen, [0, 1, 2])
    t.equal(queue.state, 'running')
  })

  holds('a queue that is not enabled accepts, and runs nothing', async (t, name, open) => {
    const { app } = await open()
    const seen: unknown[] = []
    const queue = app.addBackgroundQueue(name, { enabled: false }, ({ payload }) => { seen.push(payload) })
    await app.ready()
    await queue.enqueue(1)
    await app.backgroundTasks.start()
    await app.backgroundTasks.drain()
    t.match(await queue.counts(), { waiting: 1 })
    t.same(seen, [])
    await queue.start()
    await queue.drain()
    t.same(seen, [1], 'unless it is told to')
  })

  holds('a run that a stop interrupts goes back to the front, with no attempt used', async (t, name, open) => {
    const { app } = await open()
    const hand = held()
    const queue = app.addBackgroundQueue(name, hand.handler)
    await app.ready()
    const one = await queue.enqueue('one', { key: 'k' })
    const two = await queue.enqueue('two')
    const { run } = await hand.call(0)
    await queue.stop()
    t.equal(queue.state, 'stopped')
    t.match(run.signal.reason, { code: 'FST_BG_CANCELLED' })
    await until(async () => (await queue.counts()).waiting === 2)
    t.match(await list(queue, 'waiting'), [{ id: one.id, attempt: 1, error: undefined }, { id: two.id }])
    t.same(await queue.counts(), { waiting: 2, delayed: 0, active: 0, succeeded: 0, failed: 0 })
    t.same(queue.stats, { succeeded: 0, failed: 0, cancelled: 0, skipped: 0, active: 0 }, 'it has not ended')
    t.same(queue.history, [])
    t.same(await queue.enqueue('again', { key: 'k' }), { id: one.id, duplicate: true }, 'it has kept its key')
    await queue.start()
    const again = await hand.call(1)
    t.match(again, { payload: 'one', run: { id: one.id, attempt: 1 } })
    again.end()
    ;(await hand.call(2)).end()
    await queue.drain()
    t.same(hand.calls.map(({ payload }) => payload), ['one', 'one', 'two'])
    t.match(queue.stats, { succeeded: 2 })
  })

  holds('a stopped queue takes runs, and they begin when it is started again', async (t, name, open) => {
    const { app } = await open()
    const seen: unknown[] = []
    const queue = app.addBackgroundQueue(name, ({ payload }) => { seen.push(payload) })
    await app.ready()
    await queue.stop()
    await queue.enqueue(1)
    t.match(await queue.counts(), { waiting: 1 })
    await queue.start()
    await queue.drain()
    t.same(seen, [1])
  })

  holds('after the close nothing is accepted', async (t, name, open) => {
    const { app } = await open()
    const queue = app.addBackgroundQueue(name, () => {})
    await app.ready()
    await app.close()
    t.match(await rejection(queue.enqueue(1)), { code: 'FST_BG_CLOSING', statusCode: 503 })
    t.match(await rejection(queue.retry('x')), { code: 'FST_BG_CLOSING' })
    t.match(await rejection(queue.retryFailed()), { code: 'FST_BG_CLOSING' })
    t.match(await rejection(queue.start()), { code: 'FST_BG_CLOSING' })
  })

  if (durable) {
    holds('what one application enqueues another runs', async (t, name, open) => {
      const [web, worker] = [await open({ autostart: false }), await open()]
      const hand = held()
      const accepts = web.app.addBackgroundQueue(name, () => { throw new Error('not here') })
      const runs = worker.app.addBackgroundQueue(name, hand.handler)
      await web.app.ready()
      await worker.app.ready()
      const { id } = await accepts.enqueue({ a: 1 }, { reqId: 'r', key: 'k' })
      const { run, end } = await hand.call(0)
      t.match(run, { id, payload: { a: 1 }, attempt: 1 })
      t.same(await runs.enqueue(2, { key: 'k' }), { id, duplicate: true })
      t.match(await accepts.counts(), { active: 1 })
      end()
      await runs.drain()
      t.match(await accepts.counts(), { waiting: 0, active: 0 })
    })

    holds('what waits outlives the application, and is not reported as cancelled', async (t, name, open) => {
      const first = await open({ autostart: false })
      const before = first.app.addBackgroundQueue(name, () => {})
      await first.app.ready()
      const { id } = await before.enqueue('waits')
      const delayed = await before.enqueue('delayed', { delay: 50 })
      await first.app.close()
      t.same(first.lines.filter(({ level }) => level === 'warn' || level === 'error'), [])
      const second = await open()
      const seen: string[] = []
      const queue = second.app.addBackgroundQueue(name, ({ id }) => { seen.push(id) })
      await second.app.ready()
      await queue.drain()
      t.same(seen, [id, delayed.id])
    })

    holds('a run that a close interrupts goes back with no attempt used, however often', async (t, name, open) => {
      let id: string | undefined
      for (let deploy = 0; deploy < 3; deploy++) {
        const { app } = await open({ shutdownTimeout: '5s' })
        const hand = held()
        const queue = app.addBackgroundQueue(name, { grace: 0 }, hand.handler)
        await app.ready()
        id ??= (await queue.enqueue('long')).id
        const { run } = await hand.call(0)
        t.match(run, { id, attempt: 1 })
        await app.close()
        t.match(run.signal.reason, { code: 'FST_BG_SHUTDOWN' })
      }
      const { app } = await open()
      const hand = held()
      const queue = app.addBackgroundQueue(name, hand.handler)
      await app.ready()
      const { run, end } = await hand.call(0)
      t.match(run, { id, attempt: 1 })
      end()
      await queue.drain()
      t.match(await queue.counts(), { failed: 0 })
    })

    holds('a run is given back before the deadline, even if its handler ignores its signal', async (t, name, open) => {
      const { app } = await open({ shutdownTimeout: 1_000 })
      const hand = held({ deaf: true })
      const queue = app.addBackgroundQueue(name, { grace: 0 }, hand.handler)
      await app.ready()
      const { id } = await queue.enqueue('deaf')
      await hand.call(0)
      await app.close()
      const next = await open()
      const seen = held()
      const other = next.app.addBackgroundQueue(name, seen.handler)
      await next.app.ready()
      const { run, end } = await seen.call(0)
      t.match(run, { id, attempt: 1 })
      hand.endAll()
      end()
      await other.drain()
      t.match(await other.counts(), { waiting: 0, failed: 0 })
    })

    holds('a pause holds for every application, and outlives them', async (t, name, open) => {
      const [one, two] = [await open(), await open()]
      const seen: unknown[] = []
      const [here, there] = [one, two].map(({ app }) => app.addBackgroundQueue(name, ({ payload }) => { seen.push(payload) })) as [BackgroundQueue, BackgroundQueue]
      await one.app.ready()
      await two.app.ready()
      await here.pause()
      await there.enqueue(1)
      await one.app.close()
      const three = await open()
      const later = three.app.addBackgroundQueue(name, ({ payload }) => { seen.push(payload) })
      await three.app.ready()
      await until(async () => later.state === 'paused')
      t.same(seen, [])
      await later.resume()
      await later.drain()
      t.same(seen, [1])
    })

    holds('a run that fails for the last time is listed by every application, and retried by any', async (t, name, open) => {
      const [one, two] = [await open(), await open({ autostart: false })]
      let mended = false
      const handler: Handler = () => { if (!mended) throw new TypeError('no') }
      const here = one.app.addBackgroundQueue(name, handler)
      const there = two.app.addBackgroundQueue(name, handler)
      await one.app.ready()
      await two.app.ready()
      const { id } = await here.enqueue({ a: 1 })
      await here.drain()
      t.match(await list(there, 'failed'), [{ id, payload: { a: 1 }, attempt: 1, error: { name: 'TypeError', message: 'no' } }])
      mended = true
      await there.retry(id)
      await here.drain()
      t.match(await there.counts(), { failed: 0, waiting: 0 })
    })

    holds('what the engine cannot do is refused at the declaration', async (t, name, open) => {
      const { app } = await open()
      const declare = (options: QueueOptions) => () => app.addBackgroundQueue(name, options, () => {})
      t.throws(declare({ maxSize: 5 }), { code: 'FST_BG_INVALID_OPTION', message: /maxSize/ })
      t.throws(declare({ onFull: 'wait' }), { code: 'FST_BG_INVALID_OPTION', message: /onFull/ })
      t.equal(app.backgroundTasks.get(name), undefined)
    })
  } else {
    holds('a full queue refuses, or lets wait', async (t, name, open) => {
      const { app } = await open()
      const hand = held()
      const refuses = app.addBackgroundQueue(`${name}-refuses`, { maxSize: 2 }, hand.handler)
      const waits = app.addBackgroundQueue(`${name}-waits`, { maxSize: 1, onFull: 'wait' }, () => {})
      await app.ready()
      await refuses.enqueue('runs')
      await hand.call(0)
      await refuses.enqueue('waits')
      await refuses.enqueue('delayed', { delay: LONG })
      t.match(await rejection(refuses.enqueue('one too many')), { code: 'FST_BG_QUEUE_FULL', statusCode: 503 })
      hand.endAll()
      await refuses.clear('delayed')
      for (let i = 0; i < 5; i++) await waits.enqueue(i)
      await waits.drain()
      t.equal(waits.stats.succeeded, 5)
    })
  }
}
