// OpenTelemetry as an application sets it up: the real SDK, with an exporter in memory.
import { context, propagation, type Span, trace, type TextMapPropagator, type Tracer } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { BasicTracerProvider, InMemorySpanExporter, type ReadableSpan, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'

export interface Telemetry {
  tracer: Tracer
  /** The spans that have ended, of that name. */
  spans (name: string): ReadableSpan[]
}

/** Sets it up until the end of the test. Without a propagator the default of this package applies. */
export function telemetry (t: { teardown (callback: () => unknown): void }, { contexts = true, propagator }: { contexts?: boolean, propagator?: TextMapPropagator } = {}): Telemetry {
  const exporter = new InMemorySpanExporter()
  if (contexts) context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
  if (propagator !== undefined) propagation.setGlobalPropagator(propagator)
  trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }))
  t.teardown(() => {
    context.disable()
    propagation.disable()
    trace.disable()
  })
  return {
    tracer: trace.getTracer('test'),
    spans: wanted => exporter.getFinishedSpans().filter(({ name }) => name === wanted)
  }
}

/** Does `work` in an active span of that name, as an instrumented server does with a request. Returns the span, and what `work` returns. */
export async function inSpan<T> (tracer: Tracer, name: string, work: () => Promise<T>): Promise<{ span: Span, result: T }> {
  return await tracer.startActiveSpan(name, async span => {
    const result = await work()
    span.end()
    return { span, result }
  })
}

/** What a span is linked to. */
export function linksOf (span: ReadableSpan | undefined): string[] {
  return (span?.links ?? []).map(({ context: { traceId, spanId } }) => `${traceId} ${spanId}`)
}

/** A span as `linksOf` says it. */
export function idOf (span: Span | ReadableSpan): string {
  const { traceId, spanId } = span.spanContext()
  return `${traceId} ${spanId}`
}
