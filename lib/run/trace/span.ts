import { readableCopy, toError } from '../../common/errors.ts'
import type { RunResult } from '../run.ts'
import { extract, type TraceCarrier } from './carrier.ts'
import { type Context, type OpenTelemetry, type Span, withSpan } from './open-telemetry.ts'

/** Numbers of OpenTelemetry's `SpanKind` and `SpanStatusCode`. */
const [INTERNAL, CONSUMER] = [0, 4]
const ERROR = 2

/** What a span tells of an attempt. */
export interface SpannedAttempt {
  readonly id: string
  readonly task: string
  /** Kind of the task. */
  readonly kind: string
  readonly number: number
  /** The trace context in which the run was enqueued, if there is one. */
  readonly trace: TraceCarrier | undefined
}

/**
 * Starts the span of an attempt, which is a trace of its own: it is linked to the one in which its run was enqueued, and no child of it, since the run may begin days
 * later, and several times. Undefined if the application has registered no tracer, or that throws: a run never fails for its trace.
 */
export function startSpan (api: OpenTelemetry, { id, task, kind, number, trace }: SpannedAttempt): AttemptSpan | undefined {
  if (api.trace === undefined) return undefined
  try {
    const { context, link } = extract(api, trace)
    const isQueue = kind === 'queue'
    const span = api.trace.getTracer('fastify-background-tasks').startSpan(`${isQueue ? 'process' : 'run'} ${task}`, {
      kind: isQueue ? CONSUMER : INTERNAL,
      attributes: {
        'background.task': task,
        'background.kind': kind,
        'background.run': id,
        'background.attempt': number,
        ...isQueue && {
          'messaging.system': 'fastify-background-tasks',
          'messaging.operation.name': 'process',
          'messaging.operation.type': 'process',
          'messaging.destination.name': task,
          'messaging.message.id': id
        }
      },
      links: link === undefined ? [] : [{ context: link }]
    }, context)
    return new AttemptSpan(api, span, withSpan(context, span))
  } catch {
    return undefined
  }
}

/** The span of an attempt. */
export class AttemptSpan {
  readonly #api: OpenTelemetry
  readonly #span: Span
  readonly #context: Context

  constructor (api: OpenTelemetry, span: Span, context: Context) {
    this.#api = api
    this.#span = span
    this.#context = context
  }

  /** Does `work` with the span active, if the application has a context manager. Throws or returns as `work` does. */
  around (work: () => unknown): unknown {
    let done: { value: unknown } | { error: unknown } | undefined
    try {
      this.#api.context?.with(this.#context, () => {
        try {
          done = { value: work() }
        } catch (error) {
          done = { error }
        }
      })
    } catch {
      // The context manager has thrown, before or after it called back.
    }
    if (done === undefined) return work()
    if ('error' in done) throw done.error
    return done.value
  }

  /** Ends the span with the result of the attempt. Never throws. */
  end ({ outcome, error }: RunResult): void {
    try {
      this.#span.setAttribute('background.outcome', outcome)
      if (outcome === 'failed') this.#fail(error)
    } catch {}
    try {
      this.#span.end()
    } catch {}
  }

  #fail (thrown: unknown): void {
    const { code } = Object(thrown) as { code?: unknown }
    // A copy: the SDK reads properties that may throw.
    const error = readableCopy(toError(thrown))
    this.#span.setAttribute('error.type', typeof code === 'string' ? code : error.name)
    this.#span.setStatus({ code: ERROR, message: error.message })
    this.#span.recordException(error)
  }
}
