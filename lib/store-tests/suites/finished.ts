// How the end of a run is waited for.
import type { BackgroundQueue, Run } from '../../index.ts'
import type { Suite } from '../suite.ts'
import { held, until, rejection, later } from '../support.ts'

/** Longer than a test takes. */
const LONG = '1h'

export function finished ({ holds, durable }: Suite): void {
  holds('who waits for a run is told how it ended, and what it made', async (t, name, open) => {
    const { app } = await open()
    const hand = held()
    const queue = app.addBackgroundQueue(name, { concurrency: 3 }, async run => {
      await hand.handler.call(app, run)
      return { made: run.payload }
    })
    await app.ready()
    const ids = [] as string[]
    for (const payload of ['a', 'b', 'c', 'd']) ids.push((await queue.enqueue(payload)).id)
    const [a, b, c, d] = ids.map(async id => await queue.finished(id)) as [ReturnType<typeof queue.finished>, ...Array<ReturnType<typeof queue.finished>>]
    const again = queue.finished(ids[0] as string)
    await hand.call(2)
    await queue.cancel(ids[3] as string)
    await queue.cancel(ids[2] as string)
    ;(await hand.call(0)).end()
    ;(await hand.call(1)).fail(Object.assign(new TypeError('no'), { code: 'E_NO' }))
    const made = await a
    t.same(made, { outcome: 'succeeded', value: { made: 'a' }, error: undefined })
    t.same(await again, made)
    t.not((await again).value, made.value, 'each who waits has a copy')
    t.match(await b, { outcome: 'failed', value: undefined, error: { name: 'TypeError', message: 'no', code: 'E_NO', stack: String } })
    t.match(await c, { outcome: 'cancelled', value: undefined, error: { code: 'FST_BG_CANCELLED' } })
    t.match(await d, { outcome: 'cancelled', value: undefined, error: { code: 'FST_BG_CANCELLED' } }, 'one that never began, too')
    hand.endAll()
    await queue.drain()
  })

  holds('a run that has ended and is kept is told at once, and one that is retried when it has ended again', async (t, name, open) => {
    const { app } = await open()
    let mended = false
    const queue = app.addBackgroundQueue(name, async () => {
      if (!mended) throw new RangeError('no')
      return null
    })
    await app.ready()
    const { id } = await queue.enqueue(1)
    await queue.drain()
    t.match(await queue.finished(id), { outcome: 'failed', error: { name: 'RangeError', message: 'no' } })
    await queue.pause()
    await queue.retry(id)
    const waits = queue.finished(id)
    mended = true
    await queue.resume()
    t.same(await waits, { outcome: 'succeeded', value: null, error: undefined })
    t.same(await queue.finished(id), { outcome: 'succeeded', value: null, error: undefined })
  })

  holds('a run that is not kept is told to those who wait', async (t, name, open) => {
    const { app } = await open()
    const queue = app.addBackgroundQueue(name, { keep: { succeeded: { count: 0 }, failed: { count: 0 } } }, async ({ payload }) => {
      if (payload === 'fails') throw new RangeError('no')
      return payload
    })
    await app.ready()
    await queue.pause()
    const one = await queue.enqueue('works')
    const two = await queue.enqueue('fails')
    const waits = [one, two].map(async ({ id }) => await queue.finished(id))
    await later()
    await queue.resume()
    t.match(await Promise.all(waits), [{ outcome: 'succeeded', value: 'works' }, { outcome: 'failed', error: { message: 'no' } }])
    await queue.drain()
    // The store may tell what it has just told once more, before it forgets the run.
    await until(async () => await queue.finished(one.id).then(() => false, ({ code }: { code: string }) => code === 'FST_BG_NOT_FOUND'))
  })

  holds('a run that nobody knows is not found, nor one that somebody removes', async (t, name, open) => {
    const { app } = await open()
    const queue = app.addBackgroundQueue(name, () => { throw new Error('no') })
    await app.ready()
    for (const id of ['unknown', '', 'meta', 'wait', 'events', 'a:b', '🦊', 'x'.repeat(10_000), undefined, null, 5, {}]) {
      t.match(await rejection(queue.finished(id as never)), { code: 'FST_BG_NOT_FOUND', statusCode: 404 }, String(id).slice(0, 20))
    }
    await queue.pause()
    const [waiting, delayed, cleared, cancelled] = [await queue.enqueue(1), await queue.enqueue(2, { delay: LONG }), await queue.enqueue(3), await queue.enqueue(4)]
    const waits = [waiting, delayed, cleared, cancelled].map(async ({ id }) => await queue.finished(id).catch((error: { code: string }) => error.code))
    await later()
    await queue.remove(waiting.id)
    await queue.remove(delayed.id)
    await queue.cancel(cancelled.id)
    await queue.clear('waiting')
    t.match(await Promise.all(waits), ['FST_BG_NOT_FOUND', 'FST_BG_NOT_FOUND', 'FST_BG_NOT_FOUND', { outcome: 'cancelled' }])
    t.equal(queue.stats.cancelled, 4)
    await queue.resume()
    const failed = await queue.enqueue(5)
    await queue.finished(failed.id)
    await queue.remove(failed.id)
    t.match(await rejection(queue.finished(failed.id)), { code: 'FST_BG_NOT_FOUND' })
  })

  holds('a wait ends with its limit, or with the reason of its signal, and the run goes on', async (t, name, open) => {
    const { app } = await open()
    const hand = held()
    const queue = app.addBackgroundQueue(name, hand.handler)
    await app.ready()
    const { id } = await queue.enqueue(1)
    await hand.call(0)
    t.match(await rejection(queue.finished(id, { timeout: 20 })), { code: 'FST_BG_TIMEOUT', message: /did not end within 20ms/ })
    t.match(await rejection(queue.finished(id, { timeout: 0 })), { code: 'FST_BG_TIMEOUT' })
    const controller = new AbortController()
    const reason = { the: 'reason' }
    const waits = queue.finished(id, { signal: controller.signal, timeout: '1h' }).catch((error: unknown) => error)
    const stays = queue.finished(id, { signal: new AbortController().signal })
    controller.abort(reason)
    t.equal(await waits, reason)
    t.equal(await queue.finished(id, { signal: controller.signal }).catch((error: unknown) => error), reason, 'one that has aborted before')
    for (const options of [5, [], { timeout: -1 }, { timeout: 'soon' }, { timout: 5 }, { signal: {} }]) {
      t.match(await rejection(queue.finished(id, options as never)), { code: 'FST_BG_INVALID_OPTION' }, JSON.stringify(options))
    }
    t.equal(hand.calls[0]?.run.signal.aborted, false)
    hand.endAll()
    t.match(await stays, { outcome: 'succeeded' })
  })

  holds('when the application closes, who waits for a run that ends in time is told, and for another one that it closes', async (t, name, open) => {
    const { app } = await open()
    const hand = held()
    const queue = app.addBackgroundQueue(name, { grace: '2s' }, hand.handler)
    await app.ready()
    const runs = await queue.enqueue('runs')
    const delayed = await queue.enqueue('delayed', { delay: LONG })
    const begun = await hand.call(0)
    const waits = queue.finished(runs.id)
    const never = rejection(queue.finished(delayed.id))
    await later()
    const closed = app.close()
    t.match(await never, { code: 'FST_BG_CLOSING', statusCode: 503 }, 'at once')
    begun.end()
    t.match(await waits, { outcome: 'succeeded' })
    await closed
    t.match(await rejection(queue.finished(runs.id)), { code: 'FST_BG_CLOSING' })
  })

  holds('when the application closes before a run has ended, who waits for it is told that it closes', async (t, name, open) => {
    const { app } = await open({ shutdownTimeout: '2s' })
    const hand = held()
    const queue = app.addBackgroundQueue(name, { grace: 50 }, hand.handler)
    await app.ready()
    const { id } = await queue.enqueue(1)
    await hand.call(0)
    const waits = rejection(queue.finished(id))
    await later()
    const closed = app.close()
    t.match(await waits, { code: 'FST_BG_CLOSING' })
    await closed
  })

  holds('a thousand wait at a time', async (t, name, open) => {
    const { app } = await open()
    const queue = app.addBackgroundQueue(name, { concurrency: 20, keep: { succeeded: { count: 5 } } }, async ({ payload }: Run<number>) => payload * 2)
    await app.ready()
    await queue.pause()
    const waits: Array<Promise<unknown>> = []
    for (let i = 0; i < 1_000; i++) {
      const { id } = await queue.enqueue(i)
      waits.push(queue.finished(id).then(({ value }) => value))
    }
    await queue.resume()
    t.same(await Promise.all(waits), Array.from({ length: 1_000 }, (_, i) => i * 2))
  })

  if (!durable) return

  holds('a run that ends in another application is told here, whoever cancels or removes it', async (t, name, open) => {
    const [one, two] = [await open({ autostart: false }), await open()]
    const web = one.app.addBackgroundQueue(name, () => {})
    const hand = held()
    const worker = two.app.addBackgroundQueue(name, { concurrency: 5 }, async run => {
      await hand.handler.call(two.app, run)
      return run.id
    }) as BackgroundQueue
    await one.app.ready()
    await two.app.ready()
    const ids: string[] = []
    for (let i = 0; i < 4; i++) ids.push((await web.enqueue(i)).id)
    const waits = ids.map(async id => await web.finished(id).catch((error: { code: string }) => error.code))
    await hand.call(3)
    const later = await web.enqueue('later', { delay: LONG })
    const gone = web.finished(later.id).catch((error: { code: string }) => error.code)
    await until(async () => (await worker.get(later.id)) !== undefined)
    for (const call of hand.calls) {
      if (call.run.id === ids[0]) call.end()
      if (call.run.id === ids[1]) call.fail(new RangeError('no'))
    }
    await worker.cancel(ids[2] as string)
    await web.cancel(ids[3] as string)
    await worker.remove(later.id)
    t.match(await Promise.all(waits), [{ outcome: 'succeeded', value: ids[0] }, { outcome: 'failed', error: { name: 'RangeError' } }, { outcome: 'cancelled' }, { outcome: 'cancelled' }])
    t.equal(await gone, 'FST_BG_NOT_FOUND')
  })

  holds('when the application closes, a run goes on elsewhere, and who waits here is told that it closes', async (t, name, open) => {
    const [one, two] = [await open({ autostart: false }), await open()]
    const web = one.app.addBackgroundQueue(name, () => {})
    const hand = held()
    two.app.addBackgroundQueue(name, hand.handler)
    await one.app.ready()
    await two.app.ready()
    const { id } = await web.enqueue(1)
    await hand.call(0)
    const waits = rejection(web.finished(id))
    await until(async () => (await web.get(id))?.state === 'active')
    await one.app.close()
    t.match(await waits, { code: 'FST_BG_CLOSING' })
    hand.endAll()
  })
}
