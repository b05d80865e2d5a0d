// What others see of an attempt: the tracing channel of Node, and spans where the application uses OpenTelemetry.

export { activeTrace, readTrace, type TraceCarrier } from './carrier.ts'
export { isTraced, runChannel, type RunTrace } from './channel.ts'
export { openTelemetry, type OpenTelemetry } from './open-telemetry.ts'
export { type AttemptSpan, startSpan } from './span.ts'
