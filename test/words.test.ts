// The words of other libraries, and options in the wrong place, in every kind of call: the error says what to write.
import Fastify, { type FastifyPluginAsync } from 'fastify'
import t, { type Test } from 'tap'
import backgroundTasks from '../lib/index.ts'
import dashboard from '../lib/dashboard/index.ts'
import metrics from '../lib/metrics/index.ts'
import { bullmq } from '../lib/store/bullmq/index.ts'
import { pgBoss } from '../lib/store/pg-boss/index.ts'
import { worker } from '../lib/worker/index.ts'
import { build, rejection } from './support/helper.ts'

const handler = async (): Promise<void> => {}
type Call = (options: object) => unknown

/** What a call says to those options. */
async function refusalOf (call: Call, options: object): Promise<string> {
  const { code, message } = await rejection(async () => { await call(options) })
  return code === 'FST_BG_INVALID_OPTION' ? message : `${code}: ${message}`
}

/** Every kind of call that takes options. */
async function calls (t: Test): Promise<Record<string, Call>> {
  const { app } = await build(t)
  const queue = app.addBackgroundQueue('mails', handler)
  // The untyped way of JavaScript users.
  const task = app.addBackgroundTask.bind(app) as unknown as (...given: unknown[]) => unknown
  return {
    service: options => task('a', options, handler),
    every: options => task('a', { every: '1m', ...options }, handler),
    cron: options => task('a', { cron: '* * * * *', ...options }, handler),
    hosted: options => task('a', { start: handler, ...options }),
    queue: options => app.addBackgroundQueue('a', options, handler),
    enqueue: async options => await queue.enqueue({}, options),
    enqueueMany: async options => await queue.enqueueMany([{ payload: {}, ...options }]),
    schedule: async options => await queue.schedule('key', { every: '1m', ...options }),
    plugin: async options => {
      const app = Fastify()
      await app.register(backgroundTasks, options)
      await app.close()
    },
    dashboard: options => registered(dashboard as never, { prefix: '/d', authorize: handler, ...options }),
    metrics: options => registered(metrics as never, options),
    pgBoss: options => pgBoss({ connectionString: 'postgres://127.0.0.1:1/none', ...options }),
    bullmq: options => bullmq({ connection: 'redis://127.0.0.1:1', ...options }),
    worker: options => worker(new URL('./fixtures/worker/jobs.ts', import.meta.url), options)
  }
}

/** Registers a plugin of ours beside the first one. */
async function registered (plugin: FastifyPluginAsync, options: object): Promise<void> {
  const app = Fastify()
  await app.register(backgroundTasks)
  try {
    await app.register(plugin, options)
  } finally {
    await app.close()
  }
}

/** Each word with what the error names in every call, or in the calls of which something else is true. */
const words: Array<[word: string[], named: string[], but?: Record<string, string[]>]> = [
  [['interval', 'schedule', 'period'], ['every', 'cron'], { enqueue: ['delay'], enqueueMany: ['delay'] }],
  [['delay'], ['every', 'cron'], { enqueue: [], enqueueMany: [], queue: ['enqueue'], hosted: ['enqueue'], service: ['enqueue'], plugin: ['enqueue'], bullmq: ['enqueue'], pgBoss: ['enqueue'], dashboard: ['enqueue'], metrics: ['enqueue'], worker: ['enqueue'] }],
  [['tz', 'timeZone'], ['timezone']],
  [['retries', 'attempts', 'backoff'], ['retry']],
  [['workers', 'parallelism'], ['concurrency'], { worker: ['threads'] }],
  [['capacity', 'limit'], ['maxSize']],
  [['runOnInit', 'runImmediately', 'startNow'], ['immediate']],
  [['noOverlap', 'protect', 'preventOverrun'], ['overlap']]
]

t.test('every word of another library is answered with ours, in every kind of call', async t => {
  for (const [kind, call] of Object.entries(await calls(t))) {
    for (const [theirs, ours, but = {}] of words) {
      for (const word of theirs) {
        const expected = but[kind] ?? ours
        if (expected.length === 0) {
          t.resolves(async () => { await call({ [word]: 5 }) }, `${kind} takes ${word}`)
          continue
        }
        const message = await refusalOf(call, { [word]: 5 })
        t.match(message, new RegExp(`option "${word}"`), kind)
        for (const name of expected) t.match(message, new RegExp(name === 'enqueue' ? 'belongs to a call of queue\\.enqueue' : `Did you mean .*"${name}"`), `${kind}: ${word}`)
      }
    }
  }
})

t.test('an option of another kind of call is said to belong there, and a typo of one is recognised', async t => {
  const { service, hosted, queue, enqueue, enqueueMany, schedule, plugin, bullmq, worker } = await calls(t)
  const cases: Array<[Call | undefined, object, RegExp]> = [
    [service, { concurrency: 5 }, /option "concurrency" belongs to a queue, which is declared with addBackgroundQueue\(\)\.$/],
    [service, { attempts: 5 }, /unknown option "attempts"\. Did you mean "retry"\? That belongs to a timed task or a queue; a service has "restart"\. It takes enabled/],
    [service, { shutdownTimeout: 5 }, /option "shutdownTimeout" belongs to the plugin: app\.register\(backgroundTasks, options\)\.$/],
    [service, { shutdownTimeuot: 5 }, /Did you mean "shutdownTimeout"\? That belongs to the plugin/],
    [hosted, { interval: 5 }, /Did you mean "every" or "cron"\? That belongs to a timed task, which has "every" or "cron"\. It takes/],
    [hosted, { timeout: 5 }, /option "timeout" belongs to a task with a handler/],
    [queue, { key: 'k' }, /option "key" belongs to a call of queue\.enqueue\(payload, options\)\.$/],
    [queue, { jobId: 'k' }, /Did you mean "key"\? That belongs to a call of queue\.enqueue/],
    [queue, { limiter: { max: 5, duration: 5 } }, /Did you mean "rate"\? It takes/],
    [queue, { rate: { max: 5, duration: 5 } }, /rate: unknown option "max"\. Did you mean "limit"\? It takes limit, per\.$/],
    [queue, { rate: { limit: 5, duration: 5 } }, /rate: unknown option "duration"\. Did you mean "per"\?/],
    [queue, { retry: { attempts: 5 } }, /retry: unknown option "attempts"\. Did you mean "limit"\?/],
    [queue, { removeOnFail: true }, /Did you mean "keep"\?/],
    [queue, { keep: { failed: { max: 5 } } }, /keep: unknown option "max"\. Did you mean "count"\?/],
    [queue, { payload: {} }, /Did you mean "schema"\?/],
    [enqueue, { concurrency: 5 }, /option "concurrency" belongs to a queue, which/],
    [enqueue, { jobId: 'k' }, /Did you mean "key"\? It takes delay/],
    [enqueue, { startAfter: 5 }, /Did you mean "runAt" or "delay"\?/],
    [enqueue, { every: 5 }, /option "every" belongs to a timed task/],
    [enqueue, { retyr: 5 }, /Did you mean "retry"\? It takes delay/],
    [enqueueMany, { data: 5 }, /item 0: unknown option "data"\. Did you mean "payload"\? It takes payload, delay/],
    [schedule, { data: 5 }, /Did you mean "payload"\?/],
    [schedule, { immediate: true }, /option "immediate" belongs to a timed task; enqueue the payload yourself\.$/],
    [schedule, { concurrency: 5 }, /option "concurrency" belongs to a queue/],
    [plugin, { every: 5 }, /fastify-background-tasks: option "every" belongs to a timed task/],
    [plugin, { timeout: 5 }, /unknown option "timeout"\. Did you mean "shutdownTimeout"\? It takes autostart/],
    [plugin, { store: 5 }, /option "store" belongs to a queue/],
    [bullmq, { url: 'redis://127.0.0.1' }, /bullmq\(\): unknown option "url"\. Did you mean "connection"\? It takes connection, prefix, lease, maxCrashes\.$/],
    [bullmq, { lockDuration: 5 }, /Did you mean "lease"\?/],
    [bullmq, { maxStalledCount: 5 }, /Did you mean "maxCrashes"\?/],
    [worker, { concurrency: 5 }, /worker\(\) of .*: unknown option "concurrency"\. Did you mean "threads"\? It takes threads, killAfter, memory\.$/],
    [worker, { timeout: 5 }, /option "timeout" belongs to a task with a handler/]
  ]
  for (const [call, options, message] of cases) t.match(await refusalOf(call as Call, options), message)
})

t.test('a class is refused as a handler, and the error says what to write', async t => {
  const { app } = await build(t)
  class Mailer {
    async send (): Promise<void> {}
  }
  /** As a compiler for old targets writes a class. */
  function Old (): void {}
  Old.prototype.work = function () {}
  const task = app.addBackgroundTask.bind(app) as unknown as (...given: unknown[]) => unknown
  const cases: Array<[() => unknown, RegExp]> = [
    [() => task('a', Mailer), /"a": the handler must be a function; received the class Mailer\. Make an instance, and pass a function that calls it: run => mailer\.send\(run\)\.$/],
    [() => task('a', { every: '1m' }, Mailer), /received the class Mailer/],
    [() => task('a', Old), /received the class Old.* run => old\.work\(run\)/],
    [() => task('a', {}, class {}), /received the class \(without a name\)\. Make.*run => instance\.handle\(run\)/],
    [() => app.addBackgroundQueue('a', Mailer as never), /queue "a": the handler must be a function; received the class Mailer/],
    [() => app.addBackgroundQueue('a', {}, Mailer as never), /received the class Mailer/],
    [() => app.runInBackground(Mailer as never), /runInBackground\(\): the handler must be a function; received the class Mailer/],
    [() => app.runInBackground('a', Mailer as never), /received the class Mailer/],
    [() => task('a', { start: Mailer }), /"a": option "start" must be a function, which a class is not: write run => mailer\.send\(run\); received \[class Mailer\]/],
    [() => task('a', { onGiveUp: Mailer }, handler), /option "onGiveUp" must be a function, which a class is not/],
    [() => task('a', { every: '1m', exclude: Mailer }, handler), /option "exclude" must be a function, which a class is not/]
  ]
  for (const [declare, message] of cases) t.match(await rejection(async () => declare()), { code: 'FST_BG_INVALID_OPTION', message })
  const broken = Fastify()
  broken.register(backgroundTasks, { onRun: Mailer as never })
  t.match(await rejection(async () => { await broken.ready() }), { code: 'FST_BG_INVALID_OPTION', message: /option "onRun" must be a function, which a class is not/ })
  t.same([...app.backgroundTasks], [])

  // What looks like a class and is none.
  function * generator (): Generator { yield 1 }
  for (const [i, one] of [function () {}, async function () {}, () => {}, handler.bind(null), { method () {} }.method, new Proxy(() => {}, {}), generator].entries()) task(`function ${i}`, one)
  t.equal([...app.backgroundTasks].length, 7)
})
