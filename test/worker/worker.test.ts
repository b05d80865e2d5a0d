// worker(): the run in the thread, its value, its errors, its log and its progress.
import Fastify from 'fastify'
import t from 'tap'
import backgroundTasks, { GiveUp } from '../../lib/index.ts'
import { build, deferred, logged } from '../support/helper.ts'
import { job, once } from '../support/worker.ts'

t.test('a task runs in a thread, with the run and without the server', async t => {
  const { app } = await build(t)
  const task = app.addBackgroundTask('compute', { every: '1h' }, job())
  await app.ready()
  const { id, finished } = task.trigger()
  const { outcome, value } = await finished
  t.equal(outcome, 'succeeded')
  t.match(value, { id, task: 'compute', attempt: 1, payload: undefined, dueAt: task.lastRun?.dueAt, missed: 0 })
  t.type((value as { dueAt: unknown }).dueAt, Date)
  t.ok((value as { threadId: number }).threadId > 0)
})

t.test('a queue runs its payloads in a thread', async t => {
  const { app } = await build(t)
  const seen: unknown[] = []
  const handler = job('echo')
  const queue = app.addBackgroundQueue('echo', { concurrency: 2, keep: { succeeded: { count: 10 } } }, async function (run) { seen.push(await handler.call(this, run)) })
  const plain = app.addBackgroundQueue('plain', job('echo'))
  await app.ready()
  await queue.enqueue({ n: 1, text: 'ä', list: [1, null] })
  await queue.enqueue('text')
  await plain.enqueue({ n: 2 })
  await app.backgroundTasks.drain()
  t.same(new Set(seen), new Set([{ n: 1, text: 'ä', list: [1, null] }, 'text']), 'also where a handler calls the worker')
  t.match(plain.stats, { succeeded: 1, failed: 0 })
})

t.test('runInBackground runs in a thread, with the log of its request', async t => {
  const { app, lines } = await build(t)
  const done = deferred<unknown>()
  app.get('/', async request => {
    void request.runInBackground('after', job('logs')).finished.then(({ value }) => { done.resolve(value) })
    return {}
  })
  await app.inject('/')
  await done.promise
  t.match(await logged(lines, 'text'), { task: 'after', reqId: String, run: String })
  t.match(await app.runInBackground(job('where')).finished, { outcome: 'succeeded', value: Number })
})

t.test('a service may run in a thread until its signal aborts', async t => {
  const { app, lines } = await build(t)
  const task = app.addBackgroundTask('serve', job('listens'))
  await app.ready()
  await logged(lines, 'begun')
  await app.close()
  t.match(task.lastRun, { outcome: 'succeeded' })
})

t.test('onRun wraps it', async t => {
  const seen: unknown[] = []
  const { app } = await build(t, {
    onRun: async (run, next) => {
      const value = await next()
      seen.push(run.task, typeof value)
      return value
    }
  })
  await app.ready()
  t.match(await once(app, 'wrapped', job('where')), { value: Number })
  t.same(seen, ['wrapped', 'number'])
})

t.test('a retry is a further attempt in a thread', async t => {
  const { app } = await build(t)
  await app.ready()
  t.match(await once(app, 'again', job('failTwice'), { retry: { limit: 2, delay: 1 } }), { outcome: 'succeeded', value: 3 })
})

t.test('values cross by structured clone', async t => {
  const { app } = await build(t)
  const results: Record<string, unknown> = {}
  const handler = job('value')
  const queue = app.addBackgroundQueue<typeof app, string>('values', async function (run) {
    results[run.payload] = await handler.call(this, run).catch((error: unknown) => error)
  })
  await app.ready()
  const names = ['undefined', 'null', 'text', 'bigint', 'date', 'map', 'bytes', 'function', 'symbol', 'nested', 'weak', 'proxy']
  for (const name of names) await queue.enqueue(name)
  await queue.drain()
  const { function: fn, symbol, nested, weak, proxy, ...good } = results
  t.strictSame(good, { undefined, null: null, text: 'text', bigint: 2n ** 70n, date: new Date(0), map: new Map([['a', new Set([1])]]), bytes: new Uint8Array([1, 2, 3]) })
  for (const [name, error] of Object.entries({ fn, symbol, nested, weak, proxy })) {
    t.match(error, { code: 'FST_BG_INVALID_OPTION', message: /^The worker .*jobs\.js of "values" returned a value that cannot be copied to the server: .*could not be cloned\. Return plain data\.$/ }, name)
  }
})

t.test('a SharedArrayBuffer is shared, both ways', async t => {
  const memory = new SharedArrayBuffer(4)
  const app = Fastify()
  t.teardown(async () => { await app.close() })
  await app.register(backgroundTasks)
  // Payloads go through JSON; what a validator makes of them does not.
  app.setValidatorCompiler(() => () => ({ value: { memory } }))
  const handler = job('share')
  let value: unknown
  const queue = app.addBackgroundQueue('share', { schema: { payload: {} } }, async function (run) { value = await handler.call(this, run) })
  await app.ready()
  await queue.enqueue({})
  await queue.drain()
  t.type(value, SharedArrayBuffer)
  t.equal(new Int32Array(value as SharedArrayBuffer)[0], 1)
  t.equal(new Int32Array(memory)[0], 1, 'it is the same memory')
})

t.test('a payload that cannot be cloned fails its run, and the thread takes the next one', async t => {
  const { app } = await build(t)
  app.setValidatorCompiler(() => payload => ({ value: (payload as { bad: boolean }).bad ? { fn () {} } : payload }))
  const queue = app.addBackgroundQueue('payloads', { schema: { payload: {} } }, job('echo'))
  await app.ready()
  await queue.enqueue({ bad: true })
  await queue.enqueue({ bad: false })
  await queue.drain()
  t.match(queue.history, [
    { outcome: 'succeeded' },
    { outcome: 'failed', error: { code: 'FST_BG_INVALID_OPTION', message: /^The payload of "payloads" cannot be copied to the thread of its worker .*could not be cloned\. / } }
  ])
})

t.test('errors cross with name, message, code and stack', async t => {
  const { app } = await build(t)
  const results: Record<string, any> = {}
  const handlers = [job('fail'), job('failLater')]
  const queue = app.addBackgroundQueue<typeof app, string>('errors', async function (run) {
    for (const [i, handler] of handlers.entries()) results[run.payload + (i === 0 ? '' : ' later')] = await handler.call(this, run).then(() => 'no error', (error: unknown) => error)
  })
  await app.ready()
  for (const name of ['coded', 'odd', 'caused', 'several', 'giveUp', 'text', 'undefined', 'object', 'function', 'frozen', 'hidden', 'revoked']) await queue.enqueue(name)
  await queue.drain()
  for (const when of ['', ' later']) {
    const of = (name: string): any => results[name + when]
    t.type(of('coded'), RangeError)
    t.match(of('coded'), { name: 'RangeError', message: 'out of range', code: 'E_RANGE', statusCode: 418, stack: /jobs\.[jt]s:\d+/ })
    t.match(of('odd'), { name: 'OddError', message: 'odd' })
    t.type(of('odd'), Error)
    t.match(of('caused'), { message: 'outer', cause: { name: 'TypeError', message: 'inner', code: 'E_IN' } })
    t.match(of('several'), { name: 'AggregateError', message: 'both', errors: [{ message: 'one' }, 'two'] })
    t.type(of('giveUp'), GiveUp)
    t.equal(of('text'), 'text')
    t.equal(of('undefined'), undefined)
    t.same(of('object'), { a: 1 })
    t.equal(of('function'), '[Function (anonymous)]')
    t.match(of('frozen'), { message: 'frozen' })
    t.type(of('hidden'), 'string')
    t.type(of('revoked'), 'string')
  }
})

t.test('GiveUp in a thread ends the retries', async t => {
  const { app } = await build(t)
  const handler = job('fail')
  const queue = app.addBackgroundQueue<typeof app, string>('gone', { retry: { limit: 3, delay: 1 } }, handler)
  await app.ready()
  await queue.enqueue('giveUp')
  await queue.drain()
  t.match(queue.history, [{ outcome: 'failed', error: { message: 'no use' } }])
  t.match((await queue.list({ state: 'failed' })).runs, [{ attempt: 1 }])
})

t.test('the log of the thread is the log of the server', async t => {
  const { app, lines } = await build(t, {}, {})
  app.log.level = 'info'
  const task = app.addBackgroundTask('logs', { every: '1h' }, job('logs'))
  await app.ready()
  const { id, finished } = task.trigger()
  t.match(await finished, { value: { level: 'info', debug: false, info: true } })
  const ours = lines.filter(line => line.run === id)
  t.match(ours, [
    { level: 'info', msg: 'text', task: 'logs' },
    { level: 'info', msg: 'formatted well', n: 1 },
    { level: 'warn', msg: 'with an error', part: 'a', more: true, err: { type: 'TypeError', message: 'bad', code: 'E_BAD', stack: /jobs\.[jt]s/ } },
    { level: 'error', msg: 'alone', err: { type: 'Error', code: 'E_ALONE' } },
    { level: 'info', msg: 'with what cannot be copied', n: 2, fn: '[Function: fn]' },
    { level: 'info', msg: 'run succeeded' }
  ])
  t.equal(ours.length, 6, 'nothing below the level, and nothing after the end')
})

t.test('the level of the task counts, and `logger: false` writes nothing', async t => {
  const { app } = await build(t)
  await app.ready()
  t.match(await once(app, 'loud', job('logs'), { logLevel: 'trace' }), { value: { level: 'trace', debug: true } })
  t.match(await once(app, 'quiet', job('logs'), { logLevel: 'error' }), { value: { level: 'error', info: false } })
  const silent = Fastify()
  t.teardown(async () => { await silent.close() })
  await silent.register(backgroundTasks)
  await silent.ready()
  t.match(await silent.addBackgroundTask('silent', { every: '1h' }, job('logs')).trigger().finished, { value: { level: 'silent', info: false } })
})

t.test('a logger that throws fails no run', async t => {
  const { app } = await build(t, {
    onRun: async (run, next) => {
      Object.defineProperty(run.log, 'info', { value: () => { throw new Error('no log') } })
      return await next()
    }
  })
  await app.ready()
  t.match(await once(app, 'bad log', job('logs')), { outcome: 'succeeded' })
})

t.test('progress is kept with the run; the server is not flooded, and gets the last one', async t => {
  const { app } = await build(t)
  const seen: unknown[] = []
  await app.ready()
  const handler = job('progresses')
  await app.addBackgroundTask('some', { every: '1h' }, async function (run) {
    await handler.call(this, new Proxy(run, { get: (target, key) => key === 'progress' ? (value: unknown) => { seen.push(value) } : Reflect.get(target, key, target) }))
  }).trigger().finished
  t.equal(seen.at(-1), 1)
  t.ok(seen.length < 100, `${seen.length} reports of 100,001`)
})

t.test('progress refuses what it cannot keep', async t => {
  const { app } = await build(t)
  await app.ready()
  t.same((await once(app, 'bad', job('badProgress'))).value, Array<string>(8).fill('FST_BG_INVALID_OPTION'))
})
