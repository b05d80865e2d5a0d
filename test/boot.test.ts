// close() while the application boots, a boot that fails elsewhere, and tasks that are declared when it has booted.
import Fastify, { type FastifyInstance } from 'fastify'
import fastifyPlugin from 'fastify-plugin'
import t, { type Test } from 'tap'
import backgroundTasks from '../lib/index.ts'
import { aborted, build, deferred, logged, mortal, rejection } from './support/helper.ts'

/** Resolves when the signal has aborted: a start that is told, and ends. */
async function untilAborted ({ signal }: { signal: AbortSignal }): Promise<void> {
  throw await aborted(signal)
}

/** A plugin that opens something, and closes it with the application. */
async function openDatabase (app: FastifyInstance): Promise<{ open: boolean }> {
  const database = { open: true }
  await app.register(fastifyPlugin(async fastify => {
    fastify.addHook('onClose', async () => { database.open = false })
  }))
  return database
}

// close() is heard at the call.

for (const pluginTimeout of [0, 10_000]) {
  t.test(`close() during a slow start, pluginTimeout ${pluginTimeout}: the start and what runs hear of it, nothing else starts, and the boot goes on`, async t => {
    const { app } = await build(t, {}, { pluginTimeout })
    const starting = deferred()
    const heard: string[] = []
    app.addBackgroundTask('service', async ({ signal }) => {
      heard.push((await aborted(signal)).code)
    })
    app.addBackgroundTask('slow', {
      async start (run) {
        starting.resolve()
        await untilAborted(run).finally(() => { heard.push('slow') })
      },
      async stop () { heard.push('stop') }
    })
    app.addBackgroundTask('next', { async start () { heard.push('next') } })
    const ready = app.ready()
    await starting.promise
    const closing = app.close()
    t.equal(app.backgroundTasks.get('service')?.state, 'stopping', 'it hears at the call')
    await Promise.all([ready, closing])
    t.same(heard.sort(), ['FST_BG_SHUTDOWN', 'slow'])
  })
}

t.test('close() while somebody else\'s onReady hook is slow: what runs hears of it at once', async t => {
  const { app } = await build(t)
  const hook = deferred()
  const heard = deferred<string>()
  const runs = deferred()
  app.addBackgroundTask('service', async ({ signal }) => {
    runs.resolve()
    heard.resolve((await aborted(signal)).code)
  })
  app.addHook('onReady', async () => { await hook.promise })
  app.addBackgroundTask('never', { async start () { t.fail('it starts although the application closes') } })
  const ready = app.ready()
  await runs.promise
  const closing = app.close()
  t.equal(await heard.promise, 'FST_BG_SHUTDOWN', 'the hook has not ended')
  hook.resolve()
  await Promise.all([ready, closing])
})

t.test('a start that ignores its signal holds up neither the boot once close() was called, nor close() past the deadline', async t => {
  const { app, lines } = await build(t, { shutdownTimeout: 100 }, { pluginTimeout: 0 })
  const starting = deferred()
  const end = deferred()
  const stopped = deferred()
  app.addBackgroundTask('deaf', { async start () { starting.resolve(); await end.promise }, async stop () { stopped.resolve() } })
  const ready = app.ready()
  await starting.promise
  const closing = app.close()
  await ready
  await closing
  t.match(lines.find(({ msg }) => msg === 'shutdown deadline passed')?.tasks, ['deaf'])
  end.resolve()
  await stopped.promise
})

t.test('a start that fails by itself while the application closes is logged, and close() resolves', async t => {
  const { app, lines } = await build(t)
  const starting = deferred()
  const end = deferred()
  app.addBackgroundTask('deaf', { async start () { starting.resolve(); await end.promise } })
  const ready = app.ready()
  await starting.promise
  const closing = app.close()
  end.reject(new Error('too late'))
  await Promise.all([ready, closing])
  t.match(lines.find(({ task, msg }) => task === 'deaf' && msg === 'start cancelled'), { err: { message: 'too late' } })
})

t.test('close() with a callback, twice, and from a child is heard, too', async t => {
  const ways: Record<string, (app: FastifyInstance, child: FastifyInstance) => Promise<unknown>> = {
    callback: async app => { await new Promise<void>(resolve => { app.close(resolve) }) },
    twice: async app => await Promise.all([app.close(), app.close()]),
    child: async (_app, child) => { await child.close() }
  }
  for (const [way, close] of Object.entries(ways)) {
    const { app } = await build(t)
    const starting = deferred()
    const told = deferred()
    let child = app
    await app.register(async fastify => {
      child = fastify
      fastify.addBackgroundTask('slow', { async start ({ signal }) { starting.resolve(); await aborted(signal); told.resolve() } })
    })
    const ready = app.ready()
    await starting.promise
    const closed = close(app, child)
    await told.promise
    await Promise.all([ready, closed])
    t.equal(app.backgroundTasks.get('slow')?.state, 'stopped', way)
  }
})

t.test('after close() while plugins load, a task can be declared, and never starts; once they have loaded it cannot', async t => {
  const app = Fastify()
  t.teardown(async () => { await app.close() })
  await app.register(backgroundTasks)
  let closing: Promise<undefined> | undefined
  app.register(async fastify => {
    closing = fastify.close()
    const task = fastify.addBackgroundTask('late', { async start () { t.fail('it starts') }, async stop () { t.fail('it stops') } })
    fastify.addBackgroundTask('service', async () => { t.fail('it runs') })
    t.equal(task.state, 'stopped')
  })
  await app.ready()
  await closing
  t.throws(() => { app.addBackgroundTask('too late', mortal, async () => {}) }, { code: 'FST_BG_CLOSING' })
})

t.test('a task that is declared in the onReady hook of an application that closes is refused', async t => {
  const { app } = await build(t)
  app.addHook('onReady', async () => {
    void app.close()
    t.throws(() => { app.addBackgroundTask('a', mortal, async () => {}) }, { code: 'FST_BG_CLOSING' })
  })
  await app.ready()
})

// The boot fails elsewhere.

const failures: Record<string, (app: FastifyInstance) => void> = {
  'an onReady hook': app => { app.addHook('onReady', async () => { throw new Error('the cache cannot be warmed') }) },
  'an onReady hook with a callback': app => { app.addHook('onReady', done => { done(new Error('the cache cannot be warmed')) }) },
  'the onReady hook of a child': app => { app.register(async child => { child.addHook('onReady', async () => { throw new Error('the cache cannot be warmed') }) }) }
}
const boots: Record<string, (app: FastifyInstance) => Promise<unknown>> = {
  'ready()': async app => { await app.ready() },
  'ready(callback)': async app => { await new Promise<void>((resolve, reject) => { app.ready(error => { if (error === null) resolve(); else reject(error) }) }) },
  'listen()': async app => await app.listen({ port: 0 }),
  'inject()': async app => await app.inject('/')
}
for (const [what, fail] of Object.entries(failures)) {
  for (const [how, boot] of Object.entries(boots)) {
    t.test(`${what} fails: what has started is stopped in reverse order before ${how} rejects`, async t => {
      const { app } = await build(t)
      const events: string[] = []
      app.addBackgroundTask('tick', { every: 1 }, async () => { events.push('tick') })
      app.addBackgroundTask('first', { async stop () { events.push('first') } })
      app.addBackgroundTask('second', { async stop () { events.push('second') } })
      fail(app)
      t.equal((await rejection(boot(app))).message, 'the cache cannot be warmed')
      t.same(events.filter(event => event !== 'tick'), ['second', 'first'])
      t.equal(app.backgroundTasks.get('tick')?.state, 'stopped')
      await app.close()
      t.same(events.filter(event => event !== 'tick'), ['second', 'first'], 'close() stops nothing twice')
    })
  }
}

t.test('ready(callback) passes the root instance, wherever the plugin was registered', async t => {
  const app = Fastify()
  t.teardown(async () => { await app.close() })
  await app.register(async child => { await child.register(backgroundTasks) })
  const given = await new Promise(resolve => { app.ready((...passed: unknown[]) => { resolve(passed[1]) }) })
  t.equal(given, app)
})

t.test('ready() that was called before the plugin was loaded: what has started is told when it rejects', async t => {
  const app = Fastify()
  t.teardown(async () => { await app.close() })
  const told = deferred()
  app.register(backgroundTasks)
  app.register(async fastify => {
    fastify.addBackgroundTask('service', async ({ signal }) => {
      await aborted(signal)
      told.resolve()
    })
    fastify.addHook('onReady', async () => {
      await new Promise(resolve => { setImmediate(() => { setImmediate(resolve) }) })
      throw new Error('the cache cannot be warmed')
    })
  })
  t.equal((await rejection(app.ready())).message, 'the cache cannot be warmed')
  await told.promise
})

t.test('a background run in an application that fails to boot is told, too', async t => {
  const { app } = await build(t)
  const told = deferred<string>()
  app.addHook('onReady', async () => {
    const begun = deferred()
    app.runInBackground(async ({ signal }) => {
      begun.resolve()
      told.resolve((await aborted(signal)).code)
    })
    await begun.promise
    throw new Error('the cache cannot be warmed')
  })
  await rejection(app.ready())
  t.equal(await told.promise, 'FST_BG_SHUTDOWN')
})

t.test('the rollback does not wait for the start that timed out; close() does, and what starts late is stopped', async t => {
  const { app } = await build(t, {}, { pluginTimeout: 20_000 })
  const end = deferred()
  const events: string[] = []
  app.addBackgroundTask('first', { async stop () { events.push('first stopped') } })
  app.addBackgroundTask('deaf', { startTimeout: 50, async start () { await end.promise }, async stop () { events.push('deaf stopped') } })
  t.equal((await rejection(app.ready())).code, 'FST_BG_START_TIMEOUT')
  t.same(events, ['first stopped'])
  const closing = app.close()
  end.resolve()
  await closing
  t.same(events, ['first stopped', 'deaf stopped'])
})

// Declared late.

const declarations: Record<string, (app: FastifyInstance, declare: (app: FastifyInstance) => void) => Promise<void>> = {
  'after ready()': async (app, declare) => {
    await app.ready()
    declare(app)
  },
  'in an onReady hook': async (app, declare) => {
    app.addHook('onReady', async () => { declare(app) })
    await app.ready()
  },
  'by a route of a child': async (app, declare) => {
    await app.register(async child => {
      child.post('/', async () => { declare(child) })
    })
    await app.inject({ method: 'POST', url: '/' })
  }
}
for (const [when, late] of Object.entries(declarations)) {
  t.test(`a task declared ${when} ends, and is stopped, before what the application had opened is closed`, async t => {
    const { app } = await build(t)
    const database = await openDatabase(app)
    const seen: Record<string, boolean> = {}
    const runs = deferred()
    await late(app, server => {
      server.addBackgroundTask('hosted', { async stop () { seen['stop'] = database.open } })
      server.addBackgroundTask('service', async ({ signal }) => {
        runs.resolve()
        await aborted(signal)
        await new Promise(resolve => { setImmediate(resolve) })
        seen['service'] = database.open
      })
    })
    await runs.promise
    await app.close()
    t.same(seen, { stop: true, service: true })
  })
}

t.test('a removed task that still runs ends before what the application had opened is closed', async t => {
  const { app } = await build(t)
  const database = await openDatabase(app)
  const runs = deferred()
  const end = deferred()
  let open: boolean | undefined
  const task = app.addBackgroundTask('service', async () => {
    runs.resolve()
    await end.promise
    open = database.open
  })
  await app.ready()
  await runs.promise
  const removed = task.remove()
  const closing = app.close()
  end.resolve()
  await Promise.all([removed, closing])
  t.equal(open, true)
})

t.test('HTTP drains before a late task is stopped', async t => {
  const { app } = await build(t)
  const inRoute = deferred()
  const answer = deferred()
  const events: string[] = []
  app.get('/', async () => {
    inRoute.resolve()
    await answer.promise
    events.push('answered')
    return {}
  })
  await app.listen({ port: 0 })
  app.addBackgroundTask('late', { async start () { events.push('started') }, async stop () { events.push('stopped') } })
  const response = fetch(`http://127.0.0.1:${(app.server.address() as { port: number }).port}`)
  await inRoute.promise
  const closing = app.close()
  answer.resolve()
  await Promise.all([response, closing])
  t.same(events, ['started', 'answered', 'stopped'])
})

// What the log says.

t.test('the log says what close() waits for, and its end; nothing where nothing has run', async t => {
  const { app, lines } = await build(t)
  const runs = deferred()
  app.addBackgroundTask('service', async ({ signal }) => {
    runs.resolve()
    await aborted(signal)
  })
  app.addBackgroundTask('idle', { every: '1h' }, async () => {})
  const queue = app.addBackgroundQueue('queue', { grace: '5s' }, async ({ payload }) => {
    if (payload !== 0) return
    begun.resolve()
    await goesOn.promise
  })
  const [begun, goesOn] = [deferred(), deferred()]
  await app.ready()
  await runs.promise
  for (const i of [0, 1, 2]) await queue.enqueue(i)
  await begun.promise
  const closing = app.close()
  t.match(await logged(lines, 'close waits for background tasks'), { level: 'info', tasks: ['service', 'queue'], active: 2, waiting: 2 })
  goesOn.resolve()
  await closing
  t.match(await logged(lines, 'background tasks have stopped'), { level: 'info', duration: Number })
  t.equal(lines.filter(({ level, msg }) => level === 'info' && msg !== 'run succeeded').length, 2)

  const quiet = await build(t)
  quiet.app.addBackgroundTask('idle', { every: '1h' }, async () => {})
  await quiet.app.ready()
  await quiet.app.close()
  t.same(quiet.lines.filter(({ level }) => level === 'info'), [])

  for (const declare of [
    (app: FastifyInstance) => app.addBackgroundTask('timed', { every: '1h' }, async () => {}).trigger().finished,
    (app: FastifyInstance) => app.runInBackground('once', async () => {}).finished,
    async (app: FastifyInstance) => {
      const done = app.addBackgroundTask('completed', async () => {})
      while (done.state !== 'completed') await new Promise(resolve => { setImmediate(resolve) })
    }
  ]) {
    const idle = await build(t)
    await idle.app.ready()
    await declare(idle.app)
    await idle.app.close()
    t.match(idle.lines.filter(({ level, msg }) => level === 'info' && /^close|stopped/.test(msg)), [{ msg: 'background tasks have stopped' }], 'a clean stop is said, too')
  }
})

t.test('lines of a run have the reqId and the key that it was enqueued with', async t => {
  const { app, lines } = await build(t)
  const queue = app.addBackgroundQueue('orders', async ({ payload }) => { if (payload === 'bad') throw new Error('no') })
  await app.ready()
  await queue.enqueue('good', { reqId: 'req-1', key: 'order-1' })
  await queue.enqueue('bad', { key: 'order-2' })
  await queue.enqueue('plain')
  await queue.drain()
  const own = lines.filter(({ task }) => task === 'orders')
  t.match(own.filter(({ msg }) => /^run (started|succeeded)$/.test(msg)), [
    { msg: 'run started', reqId: 'req-1', key: 'order-1' },
    { msg: 'run succeeded', reqId: 'req-1', key: 'order-1' },
    { msg: 'run started', key: 'order-2' },
    { msg: 'run started' },
    { msg: 'run succeeded' }
  ])
  t.match(own.find(({ msg }) => msg === 'run failed'), { key: 'order-2' })
  t.notOk('key' in (own.at(-1) ?? {}))
  await testBackground(t)
})

async function testBackground (t: Test): Promise<void> {
  const { app, lines } = await build(t)
  app.get('/', async request => {
    request.runInBackground('later', async () => {})
    return {}
  })
  await app.inject('/')
  await app.backgroundTasks.drain()
  t.match(lines.find(({ task, msg }) => task === 'later' && msg === 'background run succeeded'), { reqId: 'req-1' })
}
