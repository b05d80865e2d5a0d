// In which order runs begin, and what a key holds back.
import type { Suite } from '../suite.ts'
import { held, list, until } from '../support.ts'

/** Longer than a test takes. */
const LONG = '1h'

export function order ({ holds }: Suite): void {
  holds('a delayed run waits for its time', async (t, name, open) => {
    const { app } = await open()
    const started: Array<[unknown, number]> = []
    const queue = app.addBackgroundQueue(name, ({ payload }) => { started.push([payload, Date.now()]) })
    await app.ready()
    const before = Date.now()
    // Long enough to enqueue the others meanwhile, on a busy machine too.
    const delay = 1_500
    const { id } = await queue.enqueue('delayed', { delay })
    const after = Date.now()
    const at = new Date(after + delay + 200)
    await queue.enqueue('at', { runAt: at })
    await queue.enqueue('past', { runAt: new Date(0) })
    await queue.enqueue('now', { delay: 0 })
    t.match(await queue.counts(), { delayed: 2 })
    const delayed = await list(queue, 'delayed')
    t.match(delayed, [{ id, state: 'delayed', payload: 'delayed' }, { payload: 'at' }], 'in the order in which they will run')
    t.equal(delayed[1]?.runAt?.getTime(), at.getTime())
    const due = Number(delayed[0]?.runAt) - delay
    t.ok(due > before - 50 && due < after + 50, 'and so is the time of the other')
    await queue.drain()
    t.same(started.map(([payload]) => payload), ['past', 'now', 'delayed', 'at'])
    const [, , [, first], [, second]] = started as [unknown, unknown, [unknown, number], [unknown, number]]
    t.ok(first >= before + delay - 2, `not before its time: ${first - before - delay}`)
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

  holds('a key is any text', async (t, name, open) => {
    const { app } = await open({ autostart: false })
    const queue = app.addBackgroundQueue(name, async () => {})
    await app.ready()
    // Of random letters, as an index may compress others.
    const long = Array.from({ length: 10_000 }, () => String.fromCharCode(97 + Math.floor(Math.random() * 26))).join('')
    const keys = ['a', 'a:b', 'a::b', '🦊', 'ÿ', ' ', 'a\u0000b', '*', "'", '__proto__', long, `${long}:🦊`]
    const ids = new Set<string>()
    for (const key of keys) {
      const { id, duplicate } = await queue.enqueue(1, { key })
      ids.add(id)
      t.equal(duplicate, false, key.slice(0, 20))
      t.same(await queue.enqueue(2, { key }), { id, duplicate: true }, key.slice(0, 20))
      t.equal((await queue.get(id))?.key, key)
    }
    t.equal(ids.size, keys.length)
    t.same((await queue.enqueueMany(keys.map(key => ({ payload: 3, key })))).map(({ duplicate }) => duplicate), keys.map(() => true))
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
}
