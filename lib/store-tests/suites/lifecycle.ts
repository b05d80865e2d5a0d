// Start, stop and close.
import type { Suite } from '../suite.ts'
import { held, list, until, rejection } from '../support.ts'

export function lifecycle ({ holds }: Suite): void {
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

  holds('a queue that is started while it is paused works once it is resumed', async (t, name, open) => {
    const { app } = await open()
    const queue = app.addBackgroundQueue(name, () => {})
    await app.ready()
    for (let n = 0; n < 5; n++) {
      await queue.stop()
      await queue.pause()
      await queue.start()
      t.equal(queue.state, 'paused')
      await queue.resume()
      t.equal(queue.state, 'running')
      const { id } = await queue.enqueue(n)
      t.match(await queue.finished(id, { timeout: '10s' }), { outcome: 'succeeded' })
    }
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
}
