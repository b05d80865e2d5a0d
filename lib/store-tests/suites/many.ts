// Many runs at a time.
import type { Run } from '../../index.ts'
import type { Suite } from '../suite.ts'
import { held, list, rejection } from '../support.ts'

/** Longer than a test takes. */
const LONG = '1h'
const schema = { payload: { type: 'object', required: ['n'], properties: { n: { type: 'integer' } } } }

export function many ({ holds, durable }: Suite): void {
  holds('many payloads are enqueued at a time, in order, each with its options', async (t, name, open) => {
    const { app } = await open({ autostart: false })
    const seen: unknown[] = []
    const queue = app.addBackgroundQueue(name, async ({ payload, log }) => {
      seen.push(payload)
      log.info('at work')
    })
    t.same(await queue.enqueueMany([]), [])
    const payload = { a: 1 }
    const enqueued = queue.enqueueMany([{ payload: 'c', priority: 5 }, { payload }, { payload: 'b', priority: 1, reqId: 'req-1', key: 'k' }, { payload: undefined }, { payload: 'later', delay: LONG }, { payload: 'now', runAt: new Date(0), retry: 2 }])
    payload.a = 2
    const all = await enqueued
    t.equal(all.length, 6)
    t.ok(all.every(({ id, duplicate }) => !duplicate && /^[\da-f-]{36}$/.test(id)))
    t.equal(new Set(all.map(({ id }) => id)).size, 6)
    t.same(await queue.counts(), { waiting: 5, delayed: 1, active: 0, succeeded: 0, failed: 0 })
    t.match(await queue.get(all[2]?.id as string), { payload: 'b', priority: 1, reqId: 'req-1', key: 'k', state: 'waiting' })
    t.match(await list(queue, 'delayed'), [{ id: all[4]?.id }])
    await queue.clear('delayed')
    await queue.start()
    await queue.drain()
    t.same(seen, [{ a: 1 }, undefined, 'now', 'b', 'c'])
  })

  holds('the key of one is the key of all, inside a call and outside', async (t, name, open) => {
    const { app } = await open({ autostart: false })
    const queue = app.addBackgroundQueue(name, () => {})
    const before = await queue.enqueue('before', { key: 'old' })
    const key = `${'🦊:'.repeat(20)}`
    const [one, two, three, four] = await queue.enqueueMany([{ payload: 1, key }, { payload: 2, key, delay: LONG, priority: 1 }, { payload: 3, key: 'old' }, { payload: 4 }])
    t.match(one, { duplicate: false })
    t.same(two, { id: one?.id, duplicate: true })
    t.same(three, { id: before.id, duplicate: true })
    t.match(four, { duplicate: false })
    t.same((await list(queue, 'waiting')).map(({ payload }) => payload), ['before', 1, 4])
  })

  holds('one bad item among many refuses them all, and the error says which', async (t, name, open) => {
    const { app } = await open({ autostart: false })
    const queue = app.addBackgroundQueue(name, { schema, maxPayload: 1_000 }, async (_: Run<{ n: number, text?: string }>) => {})
    const items = (count: number): Array<{ payload: { n: number } }> => Array.from({ length: count }, (_, n) => ({ payload: { n } }))
    const bad = items(10_000) as unknown[]
    bad[7_777] = { payload: { n: 'no number' } }
    const error = await rejection(queue.enqueueMany(bad as never))
    t.match(error, { code: 'FST_BG_INVALID_PAYLOAD', index: 7_777, validation: [{ instancePath: '/n' }] })
    for (const [item, code] of [
      [{ payload: { n: 1, big: 10n } }, 'FST_BG_INVALID_PAYLOAD'],
      [{ payload: { n: 1, text: 'x'.repeat(1_000) } }, 'FST_BG_INVALID_PAYLOAD'],
      [{ payload: { n: 1 }, dely: 5 }, 'FST_BG_INVALID_OPTION'],
      [{ payload: { n: 1 }, delay: -1 }, 'FST_BG_INVALID_OPTION'],
      [{ payload: { n: 1 }, keyUntil: 'started' }, 'FST_BG_INVALID_OPTION'],
      [{}, 'FST_BG_INVALID_PAYLOAD'],
      [5, 'FST_BG_INVALID_OPTION'],
      [undefined, 'FST_BG_INVALID_OPTION'],
      [[], 'FST_BG_INVALID_OPTION']
    ] as const) {
      t.match(await rejection(queue.enqueueMany([...items(2), item as never, ...items(1)])), { code, index: 2 }, String(item && JSON.stringify(Object.keys(item))))
    }
    for (const given of [undefined, null, {}, 'text', items(10_001)]) {
      const error = await rejection(queue.enqueueMany(given as never))
      t.match(error, { code: 'FST_BG_INVALID_OPTION' })
      t.notOk('index' in error)
    }
    t.same(await queue.counts(), { waiting: 0, delayed: 0, active: 0, succeeded: 0, failed: 0 })
    t.equal((await queue.enqueueMany(items(10_000))).length, 10_000, 'ten thousand are not too many')
    t.match(await queue.counts(), { waiting: 10_000 })
    await queue.clear('waiting')
  })

  holds('when many have been enqueued, each of them runs', async (t, name, open) => {
    const { app } = await open()
    const seen = new Set<number>()
    const queue = app.addBackgroundQueue(name, { concurrency: 10 }, async ({ payload }: Run<number>) => { seen.add(payload) })
    await app.ready()
    const all = await queue.enqueueMany(Array.from({ length: 500 }, (_, payload) => ({ payload, priority: payload % 3 })))
    const ends = await Promise.all(all.map(async ({ id }) => await queue.finished(id).catch(() => undefined)))
    t.ok(ends.every(end => end === undefined || end.outcome === 'succeeded'))
    await queue.drain()
    t.equal(seen.size, 500)
  })

  if (durable) return

  holds('many that do not fit into a queue in memory are all refused, or wait for room together', async (t, name, open) => {
    const { app } = await open()
    const hand = held()
    const refuses = app.addBackgroundQueue(`${name}-refuses`, { maxSize: 3 }, hand.handler)
    const waits = app.addBackgroundQueue(`${name}-waits`, { maxSize: 3, onFull: 'wait' }, hand.handler)
    await app.ready()
    const items = (count: number): Array<{ payload: number }> => Array.from({ length: count }, (_, payload) => ({ payload }))
    await refuses.enqueue('runs')
    await hand.call(0)
    await refuses.enqueue('waits', { key: 'k' })
    t.match(await rejection(refuses.enqueueMany(items(3))), { code: 'FST_BG_QUEUE_FULL', statusCode: 503 })
    t.match(await refuses.counts(), { waiting: 1 })
    t.match(await refuses.enqueueMany([...items(2), { payload: 'again', key: 'k' }]), [{ duplicate: false }, { duplicate: false }, { duplicate: true }], 'a duplicate takes no room')

    await waits.enqueue('runs')
    const running = await hand.call(1)
    await waits.enqueue('waits')
    let accepted = false
    const together = waits.enqueueMany(items(3)).then(() => { accepted = true })
    t.match(await waits.counts(), { waiting: 1 })
    t.equal(accepted, false)
    t.match(await rejection(waits.enqueueMany(items(4))), { code: 'FST_BG_QUEUE_FULL' }, 'more than it ever takes')
    running.end()
    await together
    hand.endAll()
    await waits.drain()
    t.equal(waits.stats.succeeded, 5)
  })
}
