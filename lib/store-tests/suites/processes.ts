// What a durable store does for several applications, and what one in memory does when it is full.
import type { BackgroundQueue, QueueOptions } from '../../index.ts'
import type { Suite } from '../suite.ts'
import { held, list, until, rejection, type Handler } from '../support.ts'

/** Longer than a test takes. */
const LONG = '1h'

export function processes ({ holds, durable }: Suite): void {
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
