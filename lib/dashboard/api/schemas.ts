// The schemas of the API: what the routes take, and what they answer.

type Schema = Record<string, unknown>

const text = { type: 'string' }
const integer = { type: 'integer' }
const number = { type: 'number' }
const time = { type: 'string', format: 'date-time' }
const oneOf = (...all: string[]): Schema => ({ type: 'string', enum: all })
const list = (items: Schema): Schema => ({ type: 'array', items })
const words = { type: 'object', additionalProperties: text }

/** An object with all of these properties, and perhaps the optional ones; and no other. */
function object (required: Record<string, Schema>, optional: Record<string, Schema> = {}): Schema {
  return { type: 'object', additionalProperties: false, required: Object.keys(required), properties: { ...required, ...optional } }
}

const status = oneOf('ok', 'degraded', 'failing')
const kind = oneOf('service', 'hosted', 'timed', 'queue')
const state = oneOf('idle', 'running', 'backoff', 'paused', 'completed', 'failed', 'stopping', 'stopped')
const outcome = oneOf('succeeded', 'failed', 'cancelled', 'skipped')
const runState = oneOf('waiting', 'delayed', 'active', 'succeeded', 'failed')
const error = object({ name: text, message: text }, { code: text, stack: text })
const content = object({}, { text, bytes: integer, cut: { type: 'boolean' }, hidden: text })
const progress = { type: ['number', 'string'] }
const counts = object({ waiting: integer, delayed: integer, active: integer, succeeded: integer, failed: integer })
const load = { counts, oldestWaiting: time, problem: text }
const timing = object({}, { every: number, cron: text, timezone: text })
const process = object({ host: text, pid: integer, node: text, timezone: text, now: time, uptime: integer }, { app: text, version: text, loopDelay: number })
const active = { id: text, task: text, attempt: integer, startedAt: time }
const activeOptional = { dueAt: time, key: text, reqId: text, progress }
const record = { id: text, outcome, startedAt: time, duration: number, attempts: integer }
const minute = object({ at: time, succeeded: integer, failed: integer, cancelled: integer })

const task = object({
  name: text,
  kind,
  state,
  condition: object({ status }, { reason: text }),
  stats: object({ succeeded: integer, failed: integer, cancelled: integer, skipped: integer, active: integer }),
  history: list(object({ outcome, startedAt: time, duration: number }))
}, { timing, nextRunAt: time, lastRun: object(record, { dueAt: time, error }) })

const listedRun = { id: text, state: runState, attempt: integer, priority: integer, enqueuedAt: time }
const listedRunOptional = { key: text, reqId: text, progress, runAt: time, startedAt: time, finishedAt: time, error, schedule: text, dueAt: time }

const visitor = object({ access: oneOf('read', 'full') }, { name: text })
const failure = object({ statusCode: integer, message: text }, { code: text, poll: { type: 'boolean' } })
const page = { limit: { type: 'integer', minimum: 1, maximum: 1_000 }, cursor: { type: 'string', maxLength: 2_000 } }

/** What a route answers; every other answer is a failure with a sentence. Hidden from @fastify/swagger. */
function answers (body: Schema): Schema {
  return { hide: true, response: { 200: body, '4xx': failure, '5xx': failure } }
}

export const schemas = {
  overview: answers(object({
    process,
    visitor,
    health: object({ status, ok: integer, degraded: integer, failing: integer }),
    problems: list(object({ status, reason: text, tasks: list(text), count: integer })),
    tasks: object({ service: integer, hosted: integer, timed: integer, queue: integer }),
    active: list(object({ ...active, kind: oneOf('service', 'hosted', 'timed', 'queue', 'background') }, activeOptional)),
    activeCount: integer,
    failures: list(object({ task: text, id: text, at: time, error })),
    throughput: list(minute),
    queues: list(object({ name: text, state }, load))
  })),
  tasks: {
    ...answers(object({ process, tasks: list(task), total: integer, words }, { cursor: text })),
    querystring: { type: 'object', properties: { ...page, cursor: { type: 'string', pattern: '^\\d{1,9}$' }, search: { type: 'string', maxLength: 1_000 }, status } }
  },
  task: answers(object({
    process,
    task,
    settings: { type: 'object', additionalProperties: true },
    nextRuns: list(time),
    active: list(object(active, activeOptional)),
    history: list(object(record, { dueAt: time, error })),
    words
  }, { durations: object({ p50: number, p95: number, runs: integer }), queue: object({}, load) })),
  runs: {
    ...answers(object({ process, runs: list(object(listedRun, listedRunOptional)) }, { cursor: text, searched: integer })),
    querystring: { type: 'object', required: ['state'], properties: { ...page, state: runState, search: { type: 'string', maxLength: 1_000 } } }
  },
  run: answers(object({ process, run: object(listedRun, { ...listedRunOptional, payload: content, value: content }) })),
  schedules: {
    ...answers(object({
      process,
      schedules: list(object({ key: text }, { every: number, cron: text, timezone: text, payload: content, nextRunAt: time, lastRunAt: time })),
      words
    }, { cursor: text })),
    querystring: { type: 'object', properties: { ...page, prefix: { type: 'string', maxLength: 1_000 } } }
  },
  events: { hide: true, response: { '4xx': failure, '5xx': failure } },
  action: {
    ...answers(object({ message: text }, { run: text, count: integer })),
    body: { type: 'object' }
  },
  clear: {
    ...answers(object({ message: text }, { run: text, count: integer })),
    body: { type: 'object', properties: { state: oneOf('waiting', 'delayed', 'succeeded', 'failed') } }
  }
}
