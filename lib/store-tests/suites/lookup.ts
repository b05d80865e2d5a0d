// What of a run can be looked up by its id, while it waits, while it runs, and after its end.
import { Readable } from 'node:stream'
import type { Run } from '../../index.ts'
import type { Suite } from '../suite.ts'
import { held, list, nextMillisecond, until, rejection } from '../support.ts'

/** Longer than a test takes. */
const LONG = '1h'

export function lookup ({ holds }: Suite): void {
  holds('a run is found by its id in every state, as it is listed', async (t, name, open) => {
    const { app } = await open()
    const hand = held()
    const queue = app.addBackgroundQueue(name, hand.handler)
    await app.ready()
    const { id } = await queue.enqueue({ a: 1 }, { key: 'k', priority: 3, reqId: 'req-1' })
    const first = await hand.call(0)
    const waits = await queue.enqueue('waits')
    const prioritised = await queue.enqueue('prioritised', { priority: 7 })
    const delayed = await queue.enqueue('delayed', { delay: LONG })
    t.match(await queue.get(id), { id, state: 'active', payload: { a: 1 }, key: 'k', priority: 3, reqId: 'req-1', attempt: 1, startedAt: Date, finishedAt: undefined, value: undefined })
    t.match(await queue.get(waits.id), { id: waits.id, state: 'waiting', payload: 'waits', startedAt: undefined })
    t.match(await queue.get(prioritised.id), { id: prioritised.id, state: 'waiting', priority: 7 })
    t.match(await queue.get(delayed.id), { id: delayed.id, state: 'delayed', runAt: Date })
    for (const state of ['active', 'waiting', 'delayed'] as const) {
      for (const run of await list(queue, state)) t.same(await queue.get(run.id), run, state)
    }
    await queue.pause()
    t.match(await queue.get(waits.id), { state: 'waiting' }, 'while the queue is paused, too')
    first.end()
    await until(async () => (await queue.get(id))?.state === 'succeeded')
    t.match(await queue.get(id), { id, state: 'succeeded', finishedAt: Date, payload: { a: 1 } })
    await queue.resume()
    ;(await hand.call(1)).fail(new TypeError('no'))
    await until(async () => (await queue.get(waits.id))?.state === 'failed')
    t.match(await queue.get(waits.id), { state: 'failed', error: { name: 'TypeError', message: 'no' } })
    for (const state of ['succeeded', 'failed'] as const) {
      for (const run of await list(queue, state)) t.same(await queue.get(run.id), run, state)
    }
    await queue.cancel(delayed.id)
    t.equal(await queue.get(delayed.id), undefined)
    await queue.remove(waits.id)
    t.equal(await queue.get(waits.id), undefined)
    hand.endAll()
    await queue.drain()
  })

  holds('what is no id of a run is found in no queue', async (t, name, open) => {
    const { app } = await open()
    const queue = app.addBackgroundQueue(name, () => {})
    const other = app.addBackgroundQueue(`${name}-other`, () => {})
    await app.ready()
    const { id } = await other.enqueue(1, { key: 'k' })
    await other.drain()
    await queue.enqueue(1, { delay: LONG, key: 'de' })
    const odd = [id, '', ' ', 'meta', 'wait', 'events', 'completed', 'delayed', 'marker', 'id', 'shared', 'de:de', ':', '*', '🦊', 'a:b', 'x'.repeat(10_000), '__proto__', 'constructor']
    for (const one of odd) t.equal(await queue.get(one), undefined, one.slice(0, 20))
    for (const one of [undefined, null, 5, {}, []]) t.equal(await queue.get(one as never), undefined)
  })

  holds('what a handler returns is the value of its run, as JSON carries it', async (t, name, open) => {
    const { app, lines } = await open()
    const values: unknown[] = [undefined, null, 0, false, '', 'text', { a: [1, { b: 'ü\u2028' }] }, [], new Date(0), { toJSON: () => 'speaks for itself' }, { 'fastify-background-tasks': null }, 'cancelled']
    const queue = app.addBackgroundQueue(name, async ({ payload }: Run<number>) => values[payload])
    await app.ready()
    const ids: string[] = []
    for (const i of values.keys()) ids.push((await queue.enqueue(i)).id)
    await queue.drain()
    const found = await Promise.all(ids.map(async id => (await queue.get(id))?.value))
    t.same(found.slice(0, 10), [undefined, null, 0, false, '', 'text', { a: [1, { b: 'ü\u2028' }] }, [], '1970-01-01T00:00:00.000Z', 'speaks for itself'])
    t.equal(found.at(-1), 'cancelled')
    t.match((await list(queue, 'succeeded')).find(({ id }) => id === ids[5]), { value: 'text' }, 'it is listed, too')
    t.same(lines.filter(({ msg }) => /not kept/.test(msg)), [])
  })

  holds('a value that cannot be kept is left out and said once, and its run has succeeded', async (t, name, open) => {
    const { app, lines } = await open()
    const cycle: Record<string, unknown> = {}
    cycle['self'] = cycle
    const values: unknown[] = [10n, { big: 10n }, cycle, 'x'.repeat(1_000_000), Readable.from(['a']), new ReadableStream(), () => {}, Symbol('odd'), new Map(), { deep: { list: [new Set()] } }, Promise.resolve,
      { toJSON () { throw new Error('looked') } }, new Proxy({}, { get () { throw new Error('looked') }, ownKeys () { throw new Error('looked') } })]
    const queue = app.addBackgroundQueue(name, ({ payload }: Run<number>) => {
      // A stream is a thenable to nobody; a proxy that throws would be one.
      const value = values[payload]
      return payload === values.length - 1 ? { value } : value
    })
    await app.ready()
    const ids: string[] = []
    for (const i of values.keys()) ids.push((await queue.enqueue(i)).id)
    await queue.drain()
    for (const [i, id] of ids.entries()) {
      const run = await queue.get(id)
      t.equal(run?.state, 'succeeded', `${i}`)
      t.equal(run?.value, undefined, `${i}`)
    }
    const told = lines.filter(({ msg }) => /not kept/.test(msg))
    t.match(told, [{ level: 'warn', task: name, run: ids[0] }])
    t.equal(told.length, 1)
    t.match(queue.stats, { succeeded: values.length, failed: 0 })
  })

  holds('a value of up to 64 kB of JSON is kept', async (t, name, open) => {
    const { app, lines } = await open()
    const queue = app.addBackgroundQueue(name, ({ payload }: Run<number>) => 'ü'.repeat(payload / 2 - 1))
    await app.ready()
    const fits = await queue.enqueue(64_000)
    const larger = await queue.enqueue(64_002)
    await queue.drain()
    t.equal((await queue.get(fits.id))?.value, 'ü'.repeat(31_999))
    t.match(await queue.get(larger.id), { state: 'succeeded', value: undefined })
    t.match(lines.filter(({ msg }) => /not kept/.test(msg)), [{ msg: /64002 bytes/ }])
  })

  holds('a run that failed, or has not ended, has no value', async (t, name, open) => {
    const { app } = await open()
    const queue = app.addBackgroundQueue(name, { retry: { limit: 1, delay: 1, jitter: false } }, ({ attempt, payload }) => {
      if (attempt === 1 || payload === 'fails') throw new Error('no')
      return attempt
    })
    await app.ready()
    const fails = await queue.enqueue('fails')
    const works = await queue.enqueue('works')
    const waits = await queue.enqueue('waits', { delay: LONG })
    await until(async () => (await queue.get(works.id))?.state === 'succeeded' && (await queue.get(fails.id))?.state === 'failed')
    t.match(await queue.get(fails.id), { value: undefined, attempt: 2 })
    t.match(await queue.get(works.id), { value: 2, attempt: 2 })
    t.match(await queue.get(waits.id), { value: undefined })
  })

  holds('a handler sees when its run was enqueued', async (t, name, open) => {
    const { app } = await open()
    const hand = held()
    const queue = app.addBackgroundQueue(name, { retry: { limit: 1, delay: 20, jitter: false } }, hand.handler)
    const before = Date.now()
    const { id } = await queue.enqueue(1, { delay: 10 })
    const after = Date.now()
    await app.ready()
    const first = await hand.call(0)
    const { enqueuedAt } = first.run
    t.ok(enqueuedAt !== undefined && enqueuedAt.getTime() >= before - 1 && enqueuedAt.getTime() <= after + 1)
    t.same((await queue.get(id))?.enqueuedAt, enqueuedAt)
    enqueuedAt?.setTime(0)
    t.not(first.run.enqueuedAt?.getTime(), 0, 'each read gives a copy')
    first.fail(new Error('again'))
    const second = await hand.call(1)
    t.ok((second.run.enqueuedAt?.getTime() ?? 0) >= before - 1 && (second.run.enqueuedAt?.getTime() ?? Infinity) <= after + 1, 'of a further attempt, too')
    hand.endAll()
    await queue.drain()
    t.match(await rejection(queue.cancel(id)), { code: 'FST_BG_NOT_FOUND' })
  })

  holds('a queue tells since when the run waits that has waited longest', async (t, name, open) => {
    const { app } = await open()
    const { handler, call, endAll } = held()
    const queue = app.addBackgroundQueue(name, handler)
    await app.ready()
    t.equal(await queue.waitingSince(), undefined)
    await queue.enqueue('active')
    const active = await call(0)
    t.equal(await queue.waitingSince(), undefined, 'an active run does not wait')
    const { id } = await queue.enqueue('delayed', { delay: 300 })
    t.equal(await queue.waitingSince(), undefined, 'nor does a delayed one')
    const enqueuedAt = (await queue.get(id))?.enqueuedAt.getTime() ?? NaN
    const next = await queue.enqueue('next')
    const nextAt = (await queue.get(next.id))?.enqueuedAt
    t.same(await queue.waitingSince(), nextAt)
    // An engine may look at what is delayed only when a run ends.
    await until(async () => Date.now() > enqueuedAt + 300)
    active.end()
    // Whether a run that was delayed goes before one that was enqueued later is the engine's choice.
    const first = (await call(1)).run.id
    await until(async () => (await queue.counts()).waiting === 1)
    const since = await queue.waitingSince()
    const left = first === id ? next.id : id
    if (left === id) t.ok(Math.abs(Number(since) - enqueuedAt - 300) < 100, 'from its time on')
    else t.same(since, nextAt)
    const low = await queue.enqueue('low', { priority: 5 })
    await nextMillisecond()
    await queue.enqueueMany([{ payload: 'high', priority: 1 }, { payload: 'last' }])
    t.same(await queue.waitingSince(), since)
    await queue.remove(left)
    t.same(await queue.waitingSince(), (await queue.get(low.id))?.enqueuedAt, 'whatever its priority')
    endAll()
    await queue.drain()
    t.equal(await queue.waitingSince(), undefined)
  })
}
