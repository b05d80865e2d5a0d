// Compile-only: what the calls take, and that a mistake is an error at the mistake. A directive covers its next line and no
// more, so an error that shows elsewhere in the same call fails the build.
import { expectTypeOf } from 'expect-type'
import Fastify, { type FastifyInstance, type preHandlerHookHandler } from 'fastify'
import type { IncomingMessage } from 'node:http'
import backgroundTasks, {
  backgroundTasks as named,
  type BackgroundTasksOptions, type Duration, type HostedServiceOptions, type OnRun, type PeriodicTaskOptions, type Run, type TaskOptions,
  type TimedHandler, type TimedRun
} from '../../lib/index.ts'

const app = Fastify()
const cond = Number(process.env.PORT) > 0

// --- The plugin's options.

expectTypeOf(named).toEqualTypeOf<typeof backgroundTasks>()
await app.register(backgroundTasks, {})
await app.register(backgroundTasks, { shutdownTimeout: '8s', autostart: false, prefix: '/ignored' })
await app.register(backgroundTasks, () => ({ shutdownTimeout: 8_000 }))
await app.register(backgroundTasks, {
  autostart: cond ? true : undefined,
  shutdownTimeout: cond ? '1s' : undefined,
  onRun: cond ? async (run, next) => await next() : undefined
})
const pluginOptions: BackgroundTasksOptions = {
  // @ts-expect-error: autostart
  autoStart: true
}
await app.register(backgroundTasks, pluginOptions)
// Fastify's register() is overloaded, so that TypeScript puts a mistake in its options on the call.
// @ts-expect-error: autostart
await app.register(backgroundTasks, { autoStart: true })
// @ts-expect-error: true or false
await app.register(backgroundTasks, { autostart: 'yes' })
// @ts-expect-error: a duration is no Date
await app.register(backgroundTasks, { shutdownTimeout: new Date() })

// --- onRun: `run` is typed for every kind, `next` gives what the handler returned.

await app.register(backgroundTasks, {
  async onRun (run, next) {
    expectTypeOf(run).toEqualTypeOf<Run<unknown, FastifyInstance>>()
    expectTypeOf(run.payload).toEqualTypeOf<unknown>()
    expectTypeOf(next).toEqualTypeOf<() => Promise<unknown>>()
    const value = await next()
    expectTypeOf(value).toEqualTypeOf<unknown>()
    return value
  }
})
const onRun: OnRun = async ({ log, task, attempt }, next) => {
  log.debug({ task, attempt }, 'before')
  try {
    return await next()
  } finally {
    log.debug('after')
  }
}
await app.register(backgroundTasks, { onRun })
await app.register(backgroundTasks, {
  onRun: async (run, next) => {
    // @ts-expect-error: next takes nothing
    await next(run)
  }
})

// --- Durations: numbers and texts, and what is read from the environment after it was narrowed.

expectTypeOf<Duration>().toEqualTypeOf<number | string>()
const fromEnvironment = process.env.GRACE
app.addBackgroundTask('number', { grace: 500 }, async () => {})
app.addBackgroundTask('text', { grace: '1h30m' }, async () => {})
app.addBackgroundTask('default', { grace: process.env.GRACE ?? '5s' }, async () => {})
app.addBackgroundTask('or number', { grace: process.env.GRACE || 5_000 }, async () => {})
app.addBackgroundTask('undefined is not given', { grace: process.env.GRACE, logLevel: process.env.LEVEL }, async () => {})
if (fromEnvironment !== undefined) {
  app.addBackgroundTask('narrowed', { grace: fromEnvironment, logLevel: 'debug' }, async () => {})
  app.addBackgroundTask('narrowed, hosted', { startTimeout: fromEnvironment, start () {} })
  await app.register(backgroundTasks, { shutdownTimeout: fromEnvironment })
}

// --- Options of a task; undefined counts as not given, also under exactOptionalPropertyTypes.

app.addBackgroundTask('enabled', { enabled: cond ? true : undefined }, async () => {})
app.addBackgroundTask('all', { enabled: process.env.WORKER === '1', grace: cond ? '1s' : undefined, logLevel: cond ? 'warn' : undefined }, async () => {})
app.addBackgroundTask('hosted', { enabled: cond ? true : undefined, startTimeout: cond ? 1 : undefined, start: cond ? () => {} : undefined, stop () {} })
const shared: TaskOptions = { enabled: true, grace: '1s' }
app.addBackgroundTask('shared', shared, async () => {})
app.addBackgroundTask('frozen', { enabled: true, grace: '1s' } as const, async () => {})
app.addBackgroundTask('spread', { ...shared, async start () {} })

app.addBackgroundTask('typo', {
  enabled: true,
  // @ts-expect-error: grace
  graze: '1s'
}, async ({ signal }) => {
  expectTypeOf(signal).toEqualTypeOf<AbortSignal>()
})
app.addBackgroundTask('option of another kind', {
  // @ts-expect-error: belongs to a hosted service
  startTimeout: '1s'
}, async ({ signal }) => {
  expectTypeOf(signal).toEqualTypeOf<AbortSignal>()
})
app.addBackgroundTask('start and a handler', {
  // @ts-expect-error: either start, or a handler
  async start () {}
}, async () => {})
app.addBackgroundTask('typo, hosted', {
  async start ({ signal }) {
    expectTypeOf(this).toEqualTypeOf<typeof app>()
    expectTypeOf(signal).toEqualTypeOf<AbortSignal>()
  },
  // @ts-expect-error: stop
  async stopp () {}
})
app.addBackgroundTask('typo in a hosted option', {
  // @ts-expect-error: startTimeout
  startTimeOut: '1s',
  async start () {}
})

// --- Values of the wrong type.

app.addBackgroundTask('enabled by text', {
  // @ts-expect-error: '1' is no boolean
  enabled: process.env.WORKER
}, async () => {})
app.addBackgroundTask('grace by boolean', {
  // @ts-expect-error: no duration
  grace: true
}, async () => {})
app.addBackgroundTask('grace null', {
  // @ts-expect-error: undefined leaves an option out, null does not
  grace: null
}, async () => {})
app.addBackgroundTask('grace bigint', {
  // @ts-expect-error: no duration
  grace: 5n
}, async () => {})
app.addBackgroundTask('level by number', {
  // @ts-expect-error: the name of a level
  logLevel: 30
}, async () => {})
app.addBackgroundTask('startTimeout by object', {
  // @ts-expect-error: no duration
  startTimeout: { seconds: 1 },
  async start () {}
})
app.addBackgroundTask('start is text', {
  // @ts-expect-error: a function
  start: 'start'
})
app.addBackgroundTask(
  // @ts-expect-error: a name is a text
  Symbol('name'),
  async () => {}
)

// --- Handlers.

app.addBackgroundTask('sync', () => {})
app.addBackgroundTask('returns something', () => 42)
app.addBackgroundTask('takes nothing', {}, async () => {})
app.addBackgroundTask('arrow', async run => { expectTypeOf(run).toEqualTypeOf<Run<undefined, typeof app>>() })
app.addBackgroundTask('arrows, hosted', {
  start: async run => { expectTypeOf(run).toEqualTypeOf<Run<undefined, typeof app>>() },
  stop: run => { expectTypeOf(run.server).toEqualTypeOf<typeof app>() }
})
app.addBackgroundTask('methods, hosted', {
  async start (run) {
    expectTypeOf(this).toEqualTypeOf<typeof app>()
    expectTypeOf(run).toEqualTypeOf<Run<undefined, typeof app>>()
  },
  async stop ({ signal }) {
    expectTypeOf(this).toEqualTypeOf<typeof app>()
    expectTypeOf(signal).toEqualTypeOf<AbortSignal>()
  }
})
app.addBackgroundTask('functions, hosted', {
  start: async function (run) {
    expectTypeOf(this).toEqualTypeOf<typeof app>()
    expectTypeOf(run.server).toEqualTypeOf<typeof app>()
  },
  stop: function () { expectTypeOf(this).toEqualTypeOf<typeof app>() }
})
app.addBackgroundTask('only start', { start () {} })
app.addBackgroundTask('only stop', { stop () {} })
const service: HostedServiceOptions = {
  async start ({ signal }) { expectTypeOf(signal).toEqualTypeOf<AbortSignal>() },
  async stop () { expectTypeOf(this.server.listening).toBeAny() }
}
app.addBackgroundTask('service by reference', service)

// A class with start and stop cannot be passed as it is: `this` would be the instance. So it is called.
class Connection {
  url = 'mqtt://localhost'
  async open (signal: AbortSignal): Promise<void> { signal.throwIfAborted() }
  async start (this: Connection): Promise<string> { return this.url }
}
const connection = new Connection()
app.addBackgroundTask('class', { start: async ({ signal }) => { await connection.open(signal) } })
class Mqtt {
  url = 'mqtt://localhost'
  async start (): Promise<void> {}
  async stop (): Promise<void> {}
}
// @ts-expect-error: an instance, whose start and stop are on its prototype
app.addBackgroundTask('instance', new Mqtt())
// @ts-expect-error: a class
app.addBackgroundTask('a class with start and stop', Mqtt)
// @ts-expect-error: a class
app.addBackgroundTask('a class as handler', {}, Mqtt)
// @ts-expect-error: a class
app.addBackgroundQueue('a class as handler', Mqtt)
const mqtt = new Mqtt()
app.addBackgroundTask('its methods', { start: async () => { await mqtt.start() }, stop: async () => { await mqtt.stop() } })
app.addBackgroundTask('unbound method', {
  // @ts-expect-error: its `this` is the connection
  start: connection.start
})

app.addBackgroundTask('handler reads what is not there', async run => {
  // @ts-expect-error: it is called signal
  run.abortSignal.throwIfAborted()
})
app.addBackgroundTask('a run is not to be changed', async run => {
  // @ts-expect-error: read-only
  run.attempt = 2
  // @ts-expect-error: read-only
  run.payload = undefined
})
app.addBackgroundTask(
  'wants a payload',
  // @ts-expect-error: a task has none
  async (run: Run<{ to: string }>) => run.payload.to
)
app.addBackgroundTask(
  'wants a request',
  // @ts-expect-error: a task has none
  async (request: IncomingMessage) => request.url
)
declare const hook: preHandlerHookHandler
app.addBackgroundTask(
  'a hook of Fastify',
  // @ts-expect-error: takes a request and a reply
  hook
)
app.addBackgroundTask(
  'not a function',
  // @ts-expect-error: a function
  42
)
const called = (async () => {})()
app.addBackgroundTask(
  'a promise',
  // @ts-expect-error: a function
  called
)

// --- A timed task has a due time, any other none.

app.addBackgroundTask('every', { every: '1m' }, async function (run) {
  expectTypeOf(this).toEqualTypeOf<typeof app>()
  expectTypeOf(run).toEqualTypeOf<TimedRun<typeof app>>()
  expectTypeOf(run.dueAt).toEqualTypeOf<Date>()
  expectTypeOf(run.server).toEqualTypeOf<typeof app>()
})
app.addBackgroundTask('cron', { cron: '0 2 * * *', timezone: 'Asia/Seoul', retry: 3 }, async ({ dueAt, log }) => {
  expectTypeOf(dueAt).toEqualTypeOf<Date>()
  expectTypeOf(log).toEqualTypeOf<Run['log']>()
})
app.addBackgroundTask('service', { restart: 'always' }, async ({ dueAt }) => { expectTypeOf(dueAt).toEqualTypeOf<Date | undefined>() })
app.addBackgroundTask('no options', async ({ dueAt }) => { expectTypeOf(dueAt).toEqualTypeOf<Date | undefined>() })
const periodic: PeriodicTaskOptions = { every: 1_000 }
app.addBackgroundTask('options by reference', periodic, async ({ dueAt }) => { expectTypeOf(dueAt).toEqualTypeOf<Date>() })
async function onTime (run: TimedRun): Promise<void> { expectTypeOf(run.dueAt).toEqualTypeOf<Date>() }
app.addBackgroundTask('handler by reference', { every: '1m' }, onTime)
const timed: TimedHandler = async ({ dueAt }) => { expectTypeOf(dueAt).toEqualTypeOf<Date>() }
app.addBackgroundTask('typed handler by reference', { cron: '@daily' }, timed)
app.addBackgroundTask('a handler of any task', { every: '1m' }, async ({ signal }: Run) => { signal.throwIfAborted() })
// @ts-expect-error: a service has no due time
app.addBackgroundTask('service with the handler of a timed task', {}, onTime)
app.addBackgroundTask('every and cron', {
  every: '1m',
  // @ts-expect-error: they exclude each other
  cron: '@daily'
}, async () => {})
app.addBackgroundTask('typo, timed', {
  every: '1m',
  // @ts-expect-error: overlap
  overlapp: 'skip'
}, async ({ dueAt }) => { expectTypeOf(dueAt).toEqualTypeOf<Date>() })
app.addBackgroundTask('a period of the wrong type', {
  // @ts-expect-error: a duration
  every: true
}, async () => {})

// --- The calls there are: told apart by the number of arguments.

// @ts-expect-error: no handler
app.addBackgroundTask('handler missing')
// @ts-expect-error: no name
app.addBackgroundTask()
// @ts-expect-error: no name
app.addBackgroundTask(async () => {})
// @ts-expect-error: neither start nor stop
app.addBackgroundTask('options without a handler', {
  grace: '1s'
})
app.addBackgroundTask(
  'handler second, options third',
  // @ts-expect-error: the handler comes last
  async () => {},
  { grace: '1s' }
)
app.addBackgroundTask(
  'handler third only',
  // @ts-expect-error: the options are left out, not undefined
  undefined,
  async () => {}
)
app.addBackgroundTask(
  'null for options',
  // @ts-expect-error: the options are left out, not null
  null,
  async () => {}
)
app.addBackgroundTask('handler undefined', {},
  // @ts-expect-error: a function
  undefined
)
app.addBackgroundTask('a fourth', {}, async () => {},
  // @ts-expect-error: three is all
  {}
)

// --- The instance is the owner: without it there is no call.

const { addBackgroundTask } = app
// @ts-expect-error: no `this`
addBackgroundTask('destructured', async () => {})
// @ts-expect-error: no `this`
addBackgroundTask('destructured', { grace: '1s' }, async () => {})
// @ts-expect-error: `this` has no plugin
addBackgroundTask.call({}, 'other this', async () => {})
addBackgroundTask.call(app, 'the instance', {}, async () => {})
const holder = { addBackgroundTask }
// @ts-expect-error: the holder is no instance
holder.addBackgroundTask('held', async () => {})
