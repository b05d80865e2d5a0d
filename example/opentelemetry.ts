// Each attempt of each run becomes an OpenTelemetry span, without a line in the tasks: the plugin tells of it on a tracing channel of
// node:diagnostics_channel. The span is active inside the handler, so that spans made there are its children.
import { AsyncLocalStorage } from 'node:async_hooks'
import { tracingChannel } from 'node:diagnostics_channel'
import { context, ROOT_CONTEXT, SpanStatusCode, trace, type Context, type Span } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import Fastify from 'fastify'
import backgroundTasks, { type RunTrace } from 'fastify-background-tasks'

// OpenTelemetry's own context manager, but its storage can be seen: the channel is to fill it.
class ContextManager extends AsyncLocalStorageContextManager {
  readonly storage = new AsyncLocalStorage<Context>()

  override active (): Context { return this.storage.getStore() ?? ROOT_CONTEXT }

  override with<A extends unknown[], F extends (...args: A) => ReturnType<F>> (active: Context, fn: F, self?: ThisParameterType<F>, ...args: A): ReturnType<F> {
    return this.storage.run(active, () => fn.apply(self, args))
  }
}

// In production: new NodeSDK({ contextManager, … }) of @opentelemetry/sdk-node, with an exporter that sends.
const contextManager = new ContextManager()
const exporter = new InMemorySpanExporter()
context.setGlobalContextManager(contextManager)
trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }))

const tracer = trace.getTracer('fastify-background-tasks')
const channel = tracingChannel<unknown, RunTrace>('fastify-background-tasks:run')
const spans = new WeakMap<RunTrace, Span>()

// The same object comes with every event of an attempt. What bindStore returns is active until the attempt has ended.
channel.start.bindStore(contextManager.storage, attempt => {
  const span = tracer.startSpan(attempt.task, { attributes: { task: attempt.task, run: attempt.run, attempt: attempt.attempt } })
  spans.set(attempt, span)
  return trace.setSpan(context.active(), span)
})

channel.subscribe({
  start () {},
  end () {},
  asyncStart () {},
  error (attempt) { // whatever the handler rejects with, also when it was cancelled
    const error = attempt.error instanceof Error ? attempt.error : new Error(String(attempt.error))
    spans.get(attempt)?.recordException(error)
    spans.get(attempt)?.setStatus({ code: SpanStatusCode.ERROR, message: error.message })
  },
  asyncEnd (attempt) {
    spans.get(attempt)?.end()
  }
})

const app = Fastify()
await app.register(backgroundTasks)

const report = app.addBackgroundTask('send-report', { every: '1h', retry: { limit: 1, delay: '10ms' } }, async ({ attempt }) => {
  await tracer.startActiveSpan('connect', async span => { span.end() })
  if (attempt === 1) throw new Error('the mail server is busy')
})

await app.ready()
const { id } = report.trigger()
await app.backgroundTasks.drain()
await app.close()

const all = exporter.getFinishedSpans()
for (const { name, attributes, status, events, parentSpanContext } of all) {
  const parent = all.find(span => span.spanContext().spanId === parentSpanContext?.spanId)
  if (parent !== undefined) {
    console.log(`${name}, in attempt ${parent.attributes.attempt} of ${parent.name}`)
  } else {
    const exception = events.find(event => event.name === 'exception')
    console.log(`${name}, attempt ${attributes.attempt}${attributes.run === id ? ' of the run' : ''}: ${SpanStatusCode[status.code]}`)
    if (exception !== undefined) console.log(`  ${exception.attributes?.['exception.type']}: ${exception.attributes?.['exception.message']}`)
  }
}

// Output:
// connect, in attempt 1 of send-report
// send-report, attempt 1 of the run: ERROR
//   Error: the mail server is busy
// connect, in attempt 2 of send-report
// send-report, attempt 2 of the run: UNSET
