import { context, propagation, ROOT_CONTEXT, type Span, SpanKind, SpanStatusCode, type TextMapPropagator, trace } from '@opentelemetry/api'
import t from 'tap'
import { GiveUp } from '../../../lib/index.ts'
import { build, deferred, later, logged } from '../../support/helper.ts'
import { idOf, inSpan, linksOf, telemetry } from '../../support/telemetry.ts'

const backoff = { delay: 0, jitter: false }

t.test('from a request to its run: each attempt is a span of its own, linked to that of the request, and active in the handler', async t => {
  const { tracer, spans } = telemetry(t)
  const { app } = await build(t)
  // What an instrumentation of HTTP does.
  app.addHook('onRequest', (request, _reply, done) => {
    const span = tracer.startSpan('request', { kind: SpanKind.SERVER })
    request.raw.once('close', () => { span.end() })
    context.with(trace.setSpan(context.active(), span), done)
  })
  const active: Array<Span | undefined> = []
  const mails = app.addBackgroundQueue('mails', { retry: { limit: 1, ...backoff } }, async ({ attempt }) => {
    active.push(trace.getActiveSpan())
    await later()
    active.push(trace.getActiveSpan())
    tracer.startSpan('connect').end()
    if (attempt === 1) throw Object.assign(new Error('the mail server is busy'), { code: 'BUSY' })
  })
  app.post('/mails', async () => await mails.enqueue({ to: 'ada@example.com' }))
  const address = await app.listen({ port: 0, host: '127.0.0.1' })
  const { id } = await (await fetch(`${address}/mails`, { method: 'POST' })).json() as { id: string }
  await mails.drain()

  const [request] = spans('request')
  const attempts = spans('process mails')
  t.equal(attempts.length, 2)
  for (const [i, span] of attempts.entries()) {
    t.equal(span.kind, SpanKind.CONSUMER)
    t.same(linksOf(span), [idOf(request as never)])
    t.equal(span.parentSpanContext, undefined, 'a trace of its own: the run may begin days later')
    t.not(span.spanContext().traceId, request?.spanContext().traceId)
    t.match(span.attributes, {
      'background.task': 'mails',
      'background.kind': 'queue',
      'background.run': id,
      'background.attempt': i + 1,
      'messaging.system': 'fastify-background-tasks',
      'messaging.operation.name': 'process',
      'messaging.operation.type': 'process',
      'messaging.destination.name': 'mails',
      'messaging.message.id': id
    })
    t.same([active[2 * i], active[2 * i + 1]].map(one => one && idOf(one)), [idOf(span), idOf(span)])
    t.equal(spans('connect')[i]?.parentSpanContext?.spanId, span.spanContext().spanId)
  }
  const [failed, succeeded] = attempts
  t.match(failed, { attributes: { 'background.outcome': 'failed', 'error.type': 'BUSY' }, status: { code: SpanStatusCode.ERROR, message: 'the mail server is busy' } })
  t.match(failed?.events, [{ name: 'exception', attributes: { 'exception.message': 'the mail server is busy' } }])
  t.match(succeeded, { attributes: { 'background.outcome': 'succeeded' }, status: { code: SpanStatusCode.UNSET }, events: [] })
})

t.test('enqueueMany keeps the trace with each run, and what is enqueued in a run is linked to its span', async t => {
  const { tracer, spans } = telemetry(t)
  const { app } = await build(t)
  const second = app.addBackgroundQueue('second', async () => {})
  const first = app.addBackgroundQueue('first', async () => { await second.enqueue(1) })
  await app.ready()
  const { span } = await inSpan(tracer, 'request', async () => await first.enqueueMany([{ payload: 1 }, { payload: 2, priority: 3 }]))
  await app.backgroundTasks.drain()
  t.same(spans('process first').map(linksOf), [[idOf(span)], [idOf(span)]])
  t.same(spans('process second').map(linksOf), spans('process first').map(span => [idOf(span)]))
})

t.test('a background run is linked to the span in which it was asked for', async t => {
  const { tracer, spans } = telemetry(t)
  const { app } = await build(t)
  await app.ready()
  const { span, result } = await inSpan(tracer, 'request', async () => await app.runInBackground('count', async () => trace.getActiveSpan()).finished)
  const [run] = spans('run count')
  t.same(linksOf(run), [idOf(span)])
  t.equal(run?.kind, SpanKind.INTERNAL)
  t.equal(run?.parentSpanContext, undefined)
  t.equal(idOf(result.value as Span), idOf(run as never))
})

t.test('ticks, start and stop, and runs of schedules are spans without link', async t => {
  const { tracer, spans } = telemetry(t)
  const { app } = await build(t)
  const ticked = deferred()
  const queue = app.addBackgroundQueue('queue', async () => { ticked.resolve() })
  app.addBackgroundTask('hosted', { start () {}, stop () {} })
  const timed = app.addBackgroundTask('timed', { every: '1h' }, async () => {})
  await app.ready()
  await timed.trigger().finished
  await inSpan(tracer, 'request', async () => await queue.schedule('soon', { every: '10ms', payload: 1 }))
  await ticked.promise
  await queue.unschedule('soon')
  await queue.drain()
  await app.close()
  t.equal(spans('run timed').length, 1)
  t.equal(spans('run hosted').length, 2)
  t.ok(spans('process queue').length > 0)
  for (const span of [...spans('run timed'), ...spans('run hosted'), ...spans('process queue')]) {
    t.same(span.links, [])
    t.equal(span.parentSpanContext, undefined)
  }
  t.match(spans('run timed'), [{ kind: SpanKind.INTERNAL, attributes: { 'background.task': 'timed', 'background.kind': 'timed', 'background.attempt': 1 } }])
})

t.test('the life of a service is no span: what it does begins traces of its own', async t => {
  const { tracer, spans } = telemetry(t)
  const { app } = await build(t)
  const done = deferred()
  app.addBackgroundTask('service', async () => {
    t.equal(trace.getActiveSpan(), undefined)
    tracer.startSpan('order').end()
    done.resolve()
  })
  await app.ready()
  await done.promise
  t.same(spans('run service'), [])
  t.equal(spans('order')[0]?.parentSpanContext, undefined)
})

t.test('a run that was cancelled has not failed, and GiveUp has', async t => {
  const { spans } = telemetry(t)
  const { app } = await build(t)
  const begun = deferred()
  const held = app.addBackgroundTask('held', { every: '1h' }, async ({ signal }) => {
    begun.resolve()
    await new Promise((_resolve, reject) => { signal.addEventListener('abort', () => { reject(signal.reason) }) })
  })
  const gone = app.addBackgroundTask('gone', { every: '1h', retry: 3 }, async () => { throw new GiveUp('the feed is gone') })
  await app.ready()
  const { id } = held.trigger()
  await begun.promise
  await held.cancel(id)
  await gone.trigger().finished
  t.match(spans('run held'), [{ attributes: { 'background.outcome': 'cancelled' }, status: { code: SpanStatusCode.UNSET }, events: [] }])
  t.match(spans('run gone'), [{ attributes: { 'background.outcome': 'failed', 'error.type': 'GiveUp' }, status: { code: SpanStatusCode.ERROR } }])
})

t.test('onRun and the tracing channel are inside of the span', async t => {
  const { spans } = telemetry(t)
  const seen: string[] = []
  const { app } = await build(t, {
    async onRun (_run, next) {
      seen.push(idOf(trace.getActiveSpan() as Span))
      return await next()
    }
  })
  await app.ready()
  await app.addBackgroundTask('timed', { every: '1h' }, async () => {}).trigger().finished
  t.same(seen, spans('run timed').map(idOf))
})

t.test('without a context manager each attempt is a span, and no more', async t => {
  const { tracer, spans } = telemetry(t, { contexts: false })
  const { app } = await build(t)
  const queue = app.addBackgroundQueue('mails', async () => trace.getActiveSpan())
  await app.ready()
  await inSpan(tracer, 'request', async () => await queue.enqueue(1))
  await queue.drain()
  t.match(spans('process mails'), [{ links: [], attributes: { 'background.outcome': 'succeeded' } }])
})

/** One that is not W3C, as B3 with baggage. */
const b3: TextMapPropagator = {
  fields: () => ['b3', 'tenant'],
  inject (context, carrier, { set }) {
    const span = trace.getSpanContext(context)
    if (span !== undefined) set(carrier, 'b3', `${span.traceId}-${span.spanId}-1`)
    set(carrier, 'tenant', String(propagation.getBaggage(context)?.getEntry('tenant')?.value))
  },
  extract (context, carrier, { get, keys }) {
    const [traceId = '', spanId = ''] = String(get(carrier, 'b3')).split('-')
    const baggage = propagation.createBaggage({ tenant: { value: String(get(carrier, 'tenant')) }, keys: { value: keys(carrier).join() } })
    return propagation.setBaggage(trace.setSpanContext(context, { traceId, spanId, traceFlags: 1 }), baggage)
  }
}

t.test('the trace is kept as the propagator of the application writes it, with its baggage', async t => {
  const { tracer, spans } = telemetry(t, { propagator: b3 })
  const { app } = await build(t)
  const seen: Array<string | undefined> = []
  const queue = app.addBackgroundQueue('mails', async () => {
    const baggage = propagation.getActiveBaggage()
    seen.push(baggage?.getEntry('tenant')?.value, baggage?.getEntry('keys')?.value)
  })
  await app.ready()
  const { span } = await inSpan(tracer, 'request', async () => {
    await context.with(propagation.setBaggage(context.active(), propagation.createBaggage({ tenant: { value: 'acme' } })), async () => await queue.enqueue(1))
  })
  await queue.drain()
  t.same(spans('process mails').map(linksOf), [[idOf(span)]])
  t.same(seen, ['acme', 'b3,tenant'])
})

t.test('a run never fails for its trace', async t => {
  const fail = (): never => { throw new Error('of OpenTelemetry') }
  const tracers = (startSpan: () => unknown): object => ({ getTracer: () => ({ startSpan }) })
  /** A span of which everything throws but its identity. */
  const broken = { spanContext: () => ({ traceId: 'x', spanId: 'y', traceFlags: 1 }), setAttribute: fail, setStatus: fail, recordException: fail, end: fail }
  const contexts = (more: object): object => ({ active: () => ROOT_CONTEXT, with: (_context: unknown, work: () => unknown) => work(), disable () {}, ...more })
  const writing = (texts: object): TextMapPropagator['inject'] => (_context, carrier, { set }) => { for (const [key, value] of Object.entries(texts)) set(carrier, key, value) }
  const reading = (extract: unknown): object => ({ propagation: { inject: writing({ b3: 'x' }), extract } })
  /** What is registered in place of the real one. */
  const cases: Record<string, object> = {
    'getTracer throws': { trace: { getTracer: fail } },
    'startSpan throws': { trace: tracers(fail) },
    'the span throws': { trace: tracers(() => broken) },
    'there is no span': { trace: tracers(() => undefined) },
    'active throws': { context: contexts({ active: fail }) },
    'active returns nothing': { context: contexts({ active () {} }) },
    'with throws before it calls': { context: contexts({ with: fail }) },
    'with throws after it has called': { context: contexts({ with (_context: unknown, work: () => unknown) { work(); fail() } }) },
    'with does not call': { context: contexts({ with () {} }) },
    'inject throws': { propagation: { inject: fail } },
    'inject writes garbage': { propagation: { inject: writing({ a: 1, b: null, c: 'x'.repeat(1_000_000), d: {} }) } },
    'extract throws': reading(fail),
    'extract returns nothing': reading(() => {}),
    'extract returns garbage': reading(() => ({ getValue: () => ({ spanContext: () => ({ traceId: 5, spanId: null }) }), deleteValue: () => 5 }))
  }
  for (const [what, registered] of Object.entries(cases)) {
    t.test(what, async t => {
      const { tracer } = telemetry(t)
      const { app, lines } = await build(t)
      let calls = 0
      const queue = app.addBackgroundQueue('mails', async ({ payload }) => {
        calls++
        if (payload === 'bad') throw Object.freeze(Object.defineProperty(new Error('x'), 'message', { get: fail }))
        return 42
      })
      await app.ready()
      await inSpan(tracer, 'request', async () => {
        Object.assign((globalThis as Record<symbol, object | undefined>)[Symbol.for('opentelemetry.js.api.1')] as object, registered)
        const [good] = await queue.enqueueMany([{ payload: 'good' }])
        const bad = await queue.enqueue('bad')
        t.match(await queue.finished(good?.id as string), { outcome: 'succeeded', value: 42 })
        t.match(await queue.finished(bad.id), { outcome: 'failed' })
      })
      await queue.drain()
      t.equal(calls, 2, 'each handler is called once')
      t.equal((await logged(lines, 'run failed')).task, 'mails')
    })
  }
})

t.test('the application may set OpenTelemetry up, and switch it off, at any time', async t => {
  const { app } = await build(t)
  const task = app.addBackgroundTask('timed', { every: '1h' }, async () => trace.getActiveSpan())
  await app.ready()
  t.equal((await task.trigger().finished).value, undefined)
  await t.test('on', async t => {
    const { spans } = telemetry(t)
    t.ok((await task.trigger().finished).value)
    t.equal(spans('run timed').length, 1)
  })
  t.match(await task.trigger().finished, { outcome: 'succeeded', value: undefined })
})
