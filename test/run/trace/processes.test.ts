// A trace goes from a request in one process to its run in another one, through Redis.
import { randomUUID } from 'node:crypto'
import { context, propagation, trace } from '@opentelemetry/api'
import t from 'tap'
import { bullmq } from '../../../lib/store/bullmq/index.ts'
import { built, Child, noSignals } from '../../support/child.ts'
import { build } from '../../support/helper.ts'
import { needsRedis, redisUrl } from '../../support/redis.ts'
import { telemetry } from '../../support/telemetry.ts'

const program = built('traced')

t.test('a run in another process is linked to the request that has enqueued it', { ...needsRedis(), ...noSignals !== false && { skip: noSignals }, timeout: 60_000 }, async t => {
  const connection = await redisUrl(t)
  const prefix = randomUUID()
  const { tracer } = telemetry(t)
  const { app } = await build(t, { stores: { default: bullmq({ connection, prefix }) } })
  // What an instrumentation of HTTP does.
  app.addHook('onRequest', (request, reply, done) => {
    const span = tracer.startSpan('request', {}, propagation.extract(context.active(), request.headers))
    reply.header('span', span.spanContext().traceId + ' ' + span.spanContext().spanId)
    request.raw.once('close', () => { span.end() })
    context.with(trace.setSpan(context.active(), span), done)
  })
  const mails = app.addBackgroundQueue('mails', { enabled: false }, async () => {})
  app.post('/mails', async () => await mails.enqueue({ to: 'ada@example.com' }))
  const address = await app.listen({ port: 0, host: '127.0.0.1' })

  const child = new Child(t, program, [connection, prefix])
  await child.address()
  const response = await fetch(`${address}/mails`, { method: 'POST' })
  const { id } = await response.json() as { id: string }
  const run = await child.line(({ span }) => span === 'process mails')
  t.match(run, { links: [response.headers.get('span')], attributes: { 'background.run': id, 'background.outcome': 'succeeded' } })
  t.equal(run['parent'], undefined)
  t.equal((await child.line(({ span }) => span === 'connect'))['parent'], run['id'], 'it is active in the handler')
  child.signal('SIGTERM')
  t.same(await child.exit, { code: 0, signal: null })
})
