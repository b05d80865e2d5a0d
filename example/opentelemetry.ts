// With OpenTelemetry set up, each attempt of each run is a span, without a line in the tasks: linked to the trace in which the run was enqueued, and active inside
// the handler, so that spans made there are its children.
import { context, SpanStatusCode, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { BasicTracerProvider, InMemorySpanExporter, type ReadableSpan, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import Fastify from 'fastify'
import backgroundTasks from 'fastify-background-tasks'

// In production: new NodeSDK({ … }).start() of @opentelemetry/sdk-node, in a file that `node --import` loads.
const exporter = new InMemorySpanExporter()
context.setGlobalContextManager(new AsyncLocalStorageContextManager())
trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }))

const tracer = trace.getTracer('shop')

const app = Fastify()
await app.register(backgroundTasks)

const mails = app.addBackgroundQueue('mails', { retry: { limit: 1, delay: '10ms' } }, async ({ attempt }) => {
  await tracer.startActiveSpan('connect', async span => { span.end() })
  if (attempt === 1) throw new Error('the mail server is busy')
})

// In production the instrumentation of HTTP starts this span.
app.post('/mails', async (_request, reply) => await tracer.startActiveSpan('POST /mails', async span => {
  const enqueued = await mails.enqueue({ to: 'ada@example.com' })
  span.end()
  return await reply.code(202).send(enqueued)
}))

await app.ready()
await app.inject({ method: 'POST', url: '/mails' })
await app.backgroundTasks.drain()
await app.close()

const spans = exporter.getFinishedSpans()
const named = (spanId: string): ReadableSpan | undefined => spans.find(span => span.spanContext().spanId === spanId)
for (const { name, attributes, status, links, parentSpanContext } of spans) {
  const parent = parentSpanContext && named(parentSpanContext.spanId)
  if (parent !== undefined) console.log(`  ${name}, in attempt ${parent.attributes['background.attempt']}`)
  else if (links.length === 0) console.log(name)
  else console.log(`${name}, attempt ${attributes['background.attempt']}, linked to ${links.map(({ context }) => named(context.spanId)?.name).join()}: ${SpanStatusCode[status.code]} ${status.message ?? ''}`.trimEnd())
}

// Output:
// POST /mails
//   connect, in attempt 1
// process mails, attempt 1, linked to POST /mails: ERROR the mail server is busy
//   connect, in attempt 2
// process mails, attempt 2, linked to POST /mails: UNSET
