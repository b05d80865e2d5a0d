// The trace context in which a run was enqueued comes with each of its attempts, over every store. Not in the suite for others: it needs the SDK of OpenTelemetry.
import type { Suite } from '../../lib/store-tests/suite.ts'
import { deferred } from '../support/helper.ts'
import { idOf, inSpan, linksOf, telemetry } from '../support/telemetry.ts'

/** Names of its own: the tests of the suite may share a database with these. */
const traced = (name: string): string => `${name}-traced`

/** `teardown` is that of the test that runs. */
export function traces ({ holds, durable }: Suite, teardown: (callback: () => unknown) => void): void {
  holds('each attempt is linked to the trace in which its run was enqueued, alone or with others, whatever its options', async (t, one, open) => {
    const name = traced(one)
    const { tracer, spans } = telemetry({ teardown })
    const { app } = await open({ autostart: false })
    const queue = app.addBackgroundQueue(name, { retry: { limit: 1, delay: 1, jitter: false } }, async ({ attempt }) => { if (attempt === 1) throw new Error('once') })
    const { span, result: ids } = await inSpan(tracer, 'request', async () => {
      const one = [await queue.enqueue(1), await queue.enqueue(2, { priority: 2, key: 'k', reqId: 'req-1', retry: 1 }), await queue.enqueue(3, { delay: 1 })]
      return [...one, ...await queue.enqueueMany([{ payload: 4 }, { payload: 5, priority: 1 }])].map(({ id }) => id)
    })
    const without = await queue.enqueue(6)
    await queue.start()
    await queue.drain()
    const found = spans(`process ${name}`)
    for (const id of ids) {
      t.same(found.filter(({ attributes }) => attributes['background.run'] === id).map(linksOf), [[idOf(span)], [idOf(span)]])
    }
    t.same(found.filter(({ attributes }) => attributes['background.run'] === without.id).map(linksOf), [[], []])
  })

  if (!durable) return

  holds('a trace outlives the application that has enqueued the run, and a run that was interrupted keeps it', async (t, given, open) => {
    const name = traced(given)
    const { tracer, spans } = telemetry({ teardown })
    const begun = deferred()
    const one = await open({ shutdownTimeout: '2s' })
    const first = one.app.addBackgroundQueue(name, { grace: 0 }, async ({ signal }) => {
      begun.resolve()
      await new Promise((_resolve, reject) => { signal.addEventListener('abort', () => { reject(signal.reason) }) })
    })
    await one.app.ready()
    const { span } = await inSpan(tracer, 'request', async () => await first.enqueue(1))
    await begun.promise
    await one.app.close()
    const two = await open()
    const second = two.app.addBackgroundQueue(name, async () => {})
    await two.app.ready()
    await second.drain()
    const found = spans(`process ${name}`)
    t.same(found.map(({ attributes }) => attributes['background.outcome']), ['cancelled', 'succeeded'])
    t.same(found.map(linksOf), [[idOf(span)], [idOf(span)]])
  })
}
