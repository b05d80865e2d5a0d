// OpenTelemetry as the application has set it up. We never load its package: an application without it pays one look at a global property for each run.
//
// @opentelemetry/api keeps the registered providers under a global symbol with its major version, so that all its copies in a process share them. A copy may be of
// CommonJS, an ES module, or in a bundle: the symbol is the same. An `import` of ours could find another copy, or none. What is declared here is the part of their
// interfaces that every 1.x has, as a provider or a propagator may be older than the package.

/** A span, of the application's SDK. */
export interface Span {
  spanContext (): SpanContext
  setAttribute (key: string, value: string): unknown
  setStatus (status: { code: number, message: string }): unknown
  recordException (error: Error): unknown
  end (): void
}

/** What identifies a span anywhere. */
export interface SpanContext {
  traceId: string
  spanId: string
  traceFlags: number
  traceState?: { serialize (): string } | undefined
}

/** Immutable values, such as the active span and the baggage. */
export interface Context {
  getValue (key: symbol): unknown
  setValue (key: symbol, value: unknown): Context
  deleteValue (key: symbol): Context
}

/** Options of a new span. */
interface SpanOptions {
  kind: number
  attributes: Record<string, string | number>
  links: Array<{ context: SpanContext }>
}

/** What the application has registered. */
export interface OpenTelemetry {
  trace?: { getTracer (name: string): { startSpan (name: string, options: SpanOptions, context: Context): Span } }
  context?: { active (): Context, with (context: Context, work: () => void): unknown }
  propagation?: {
    inject (context: Context, carrier: unknown, setter: Setter): void
    extract (context: Context, carrier: unknown, getter: Getter): Context
  }
}
interface Setter { set (carrier: never, key: string, value: string): void }
interface Getter { keys (carrier: never): string[], get (carrier: never, key: string): string | undefined }

const KEY: unique symbol = Symbol.for('opentelemetry.js.api.1') as never

/** What the application has registered; undefined if it does not use OpenTelemetry. It may register it at any time. */
export function openTelemetry (): OpenTelemetry | undefined {
  return (globalThis as { [KEY]?: OpenTelemetry })[KEY]
}

/** The key under which a context has its span. */
const SPAN: unique symbol = Symbol.for('OpenTelemetry Context Key SPAN') as never

/** The span context of a context's span, if it has one that is valid. */
export function spanContextOf (context: Context): SpanContext | undefined {
  const found = (context.getValue(SPAN) as Span | undefined)?.spanContext()
  return found !== undefined && isId(found.traceId, 32) && isId(found.spanId, 16) ? found : undefined
}

/** The context with that span. */
export function withSpan (context: Context, span: Pick<Span, 'spanContext'>): Context {
  return context.setValue(SPAN, span)
}

/** The context without its span. */
export function withoutSpan (context: Context): Context {
  return context.deleteValue(SPAN)
}

function isId (id: unknown, length: number): boolean {
  return typeof id === 'string' && id.length === length && /^[\da-f]*[1-9a-f][\da-f]*$/.test(id)
}

/** A context with nothing in it. The active one may be that of a request. */
export const emptyContext: Context = contextOf(new Map())

function contextOf (values: ReadonlyMap<symbol, unknown>): Context {
  return {
    getValue: key => values.get(key),
    setValue: (key, value) => contextOf(new Map([...values, [key, value]])),
    deleteValue: key => contextOf(new Map([...values].filter(([one]) => one !== key)))
  }
}
