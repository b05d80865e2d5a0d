// What is enqueued, and how it arrives.
import type { QueuedRun, Run } from '../../index.ts'
import type { Suite } from '../suite.ts'
import { held, list, logged, type Handler } from '../support.ts'

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
const FAST = { delay: 1, jitter: false }

export function enqueue ({ holds }: Suite): void {
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
      error: undefined,
      value: undefined
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
}
