import { type Context, emptyContext, openTelemetry, type OpenTelemetry, type SpanContext, spanContextOf, withoutSpan, withSpan } from './open-telemetry.ts'

/**
 * A trace context as text, kept with a run: what the application's propagator would write into the headers of a request, by default `traceparent` and `tracestate`
 * of W3C.
 */
export type TraceCarrier = Record<string, string>

/** The most characters of a carrier: a baggage may have 8,192, a tracestate 512. */
const LARGEST = 10_000

/** The active trace context; undefined if there is none, or the application does not use OpenTelemetry. Never throws. */
export function activeTrace (): TraceCarrier | undefined {
  const api = openTelemetry()
  return api?.context === undefined ? undefined : inject(api, api.context)
}

function inject ({ propagation }: OpenTelemetry, contexts: Required<OpenTelemetry>['context']): TraceCarrier | undefined {
  try {
    const active = contexts.active()
    const carrier: TraceCarrier = {}
    if (propagation === undefined) writeW3c(carrier, spanContextOf(active))
    else propagation.inject(active, carrier, { set: (carrier: TraceCarrier, key, value) => { carrier[key] = value } })
    return readTrace(carrier)
  } catch {
    // A run never fails for its trace.
    return undefined
  }
}

/** The carrier in a value that a propagator, or another program, has written: the texts in it that have room. Undefined if there are none. */
export function readTrace (value: unknown): TraceCarrier | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const carrier: TraceCarrier = {}
  let room = LARGEST
  let any = false
  for (const key in value) {
    const text = (value as Record<string, unknown>)[key]
    if (typeof text !== 'string' || !Object.hasOwn(value, key) || key.length + text.length > room) continue
    carrier[key] = text
    room -= key.length + text.length
    any = true
  }
  return any ? carrier : undefined
}

/** What a carrier tells of who has enqueued a run. */
export interface Enqueuer {
  /** Its context without its span, such as the baggage. */
  context: Context
  /** What identifies its span, if the carrier could be understood. */
  link: SpanContext | undefined
}

/** Reads a carrier. Never throws. */
export function extract (api: OpenTelemetry, carrier: TraceCarrier | undefined): Enqueuer {
  try {
    const found = carrier === undefined ? emptyContext : contextOf(api, carrier)
    return { context: withoutSpan(found), link: spanContextOf(found) }
  } catch {
    return { context: emptyContext, link: undefined }
  }
}

function contextOf ({ propagation }: OpenTelemetry, carrier: TraceCarrier): Context {
  if (propagation === undefined) return readW3c(carrier)
  return propagation.extract(emptyContext, carrier, { keys: (carrier: TraceCarrier) => Object.keys(carrier), get: (carrier: TraceCarrier, key) => carrier[key] })
}

// An application that has registered no propagator, as the smallest set-up does not, has the default of OpenTelemetry: W3C.

function writeW3c (carrier: TraceCarrier, span: SpanContext | undefined): void {
  if (span === undefined) return
  carrier['traceparent'] = `00-${span.traceId}-${span.spanId}-${(span.traceFlags & 0xff).toString(16).padStart(2, '0')}`
  const state = span.traceState?.serialize()
  if (state !== undefined && state !== '') carrier['tracestate'] = state
}

function readW3c ({ traceparent = '' }: TraceCarrier): Context {
  const [, traceId, spanId, flags] = /^(?!ff)[\da-f]{2}-([\da-f]{32})-([\da-f]{16})-([\da-f]{2})(?:-|$)/.exec(traceparent) ?? []
  if (traceId === undefined || spanId === undefined) return emptyContext
  const span = { spanContext: () => ({ traceId, spanId, traceFlags: parseInt(flags as string, 16), isRemote: true }) }
  return withSpan(emptyContext, span)
}
