// What can be done with runs: retry, cancel, remove, clear, pause.
import type { Suite } from '../suite.ts'
import { held, list, until, aborted, logged, rejection } from '../support.ts'

/** Longer than a test takes. */
const LONG = '1h'
const FAST = { delay: 1, jitter: false }

export function operations ({ holds }: Suite): void {
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
}
