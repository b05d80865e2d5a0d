import { once } from 'node:events'
import { install } from '@sinonjs/fake-timers'
import Fastify, { type FastifyInstance, type FastifyPluginAsync } from 'fastify'
import fastifyPlugin from 'fastify-plugin'
import t from 'tap'
import backgroundTasks from '../lib/index.ts'
import { aborted, build, deferred, later, logged, mortal, rejection } from './support/helper.ts'

/** A plugin that opens something when the app is ready and closes it with the app, as a database plugin does. */
function database (events: string[]): FastifyPluginAsync {
  return fastifyPlugin(async (app: FastifyInstance) => {
    app.addHook('onReady', async () => {
      await new Promise(resolve => { setImmediate(resolve) })
      events.push('database opened')
    })
    app.addHook('onClose', async () => { events.push('database closed') })
  }, { name: 'database' })
}

t.test('a service begins when the app is ready, after every onReady hook that follows at once', async t => {
  const { app } = await build(t)
  const events: string[] = []
  const called = deferred()
  app.addBackgroundTask('service', async () => {
    events.push('handler')
    called.resolve()
  })
  app.addHook('onReady', async () => { events.push('next onReady hook') })
  t.equal(app.backgroundTasks.get('service')?.state, 'idle')

  await app.after()
  t.same(events, [], 'nothing runs while plugins load')
  await app.ready()
  await called.promise
  t.same(events, ['next onReady hook', 'handler'])
})

t.test('a service that never returns delays neither ready() nor listen()', async t => {
  const { app } = await build(t)
  app.addBackgroundTask('service', async ({ signal }) => { await aborted(signal) })
  await app.listen({ port: 0 })
  t.equal(app.backgroundTasks.get('service')?.state, 'running')
})

t.test('listen() waits for the start of a hosted service', async t => {
  const { app } = await build(t)
  const called = deferred()
  const release = deferred()
  app.addBackgroundTask('hosted', {
    async start () {
      called.resolve()
      await release.promise
    }
  })
  const listening = app.listen({ port: 0 })
  await called.promise
  t.equal(app.server.listening, false)
  t.equal(app.backgroundTasks.get('hosted')?.state, 'running')
  release.resolve()
  await listening
  t.equal(app.server.listening, true)
})

t.test('hosted services start one after another, in the order of declaration', async t => {
  const { app } = await build(t)
  const events: string[] = []
  for (const name of ['first', 'second', 'third']) {
    app.addBackgroundTask(name, {
      async start () {
        events.push(`${name} starts`)
        await new Promise(resolve => { setImmediate(resolve) })
        events.push(`${name} started`)
      }
    })
  }
  await app.ready()
  t.same(events, ['first starts', 'first started', 'second starts', 'second started', 'third starts', 'third started'])
})

for (const order of ['before', 'after']) {
  t.test(`a task lives inside the life of a database that was registered ${order} this plugin`, async t => {
    const events: string[] = []
    const app: FastifyInstance = Fastify()
    t.teardown(async () => { await app.close() })
    const plugins = order === 'before' ? [database(events), backgroundTasks] : [backgroundTasks, database(events)]
    for (const plugin of plugins) await app.register(plugin)
    const called = deferred()
    app.addBackgroundTask('service', async ({ signal }) => {
      events.push('service runs')
      called.resolve()
      await aborted(signal)
      await new Promise(resolve => { setImmediate(resolve) })
      events.push('service ended')
    })
    app.addBackgroundTask('hosted', {
      async start () { events.push('hosted starts') },
      async stop () { events.push('hosted stops') }
    })
    await app.ready()
    await called.promise
    await app.close()
    t.equal(events[0], 'database opened')
    t.same(events.slice(1, 3).sort(), ['hosted starts', 'service runs'])
    t.same(events.slice(3), ['hosted stops', 'service ended', 'database closed'])
  })

  t.test(`so does a task declared inside a plugin, with the database registered ${order} this plugin`, async t => {
    const events: string[] = []
    const app: FastifyInstance = Fastify()
    t.teardown(async () => { await app.close() })
    if (order === 'before') app.register(database(events))
    app.register(backgroundTasks)
    if (order === 'after') app.register(database(events))
    app.register(async child => {
      child.addBackgroundTask('hosted', {
        async start () { events.push('hosted starts') },
        async stop () { events.push('hosted stops') }
      })
    })
    await app.ready()
    await app.close()
    t.same(events, ['database opened', 'hosted starts', 'hosted stops', 'database closed'])
  })
}

t.test('with autostart: false nothing starts at ready', async t => {
  const { app } = await build(t, { autostart: false })
  const events: string[] = []
  app.addBackgroundTask('service', async () => { events.push('service') })
  app.addBackgroundTask('hosted', { async start () { events.push('hosted') } })
  app.get('/', async () => 'ok')
  await app.inject('/')
  const late = app.addBackgroundTask('late', { async start () { events.push('late') } })
  await new Promise(resolve => { setImmediate(resolve) })
  await app.inject('/')
  t.same(events, [])
  t.same([...app.backgroundTasks].map(({ name, state }) => [name, state]), [['service', 'idle'], ['hosted', 'idle'], ['late', 'idle']])

  await late.start()
  t.same(events, ['late'])
})

t.test('backgroundTasks.start() goes on with the others when somebody stops one meanwhile', async t => {
  const { app } = await build(t, { autostart: false })
  const first = app.addBackgroundTask('first', { start () {} })
  const called = deferred()
  const second = app.addBackgroundTask('second', {
    async start ({ signal }) {
      called.resolve()
      await aborted(signal)
      throw signal.reason
    }
  })
  const third = app.addBackgroundTask('third', { start () {} })
  await app.ready()
  const started = app.backgroundTasks.start()
  await called.promise
  await second.stop()
  await started
  t.same([first, second, third].map(({ state }) => state), ['running', 'stopped', 'running'])
})

t.test('after a backgroundTasks.start() that failed, what is declared later does not start', async t => {
  const { app } = await build(t, { autostart: false })
  app.addBackgroundTask('first', { start () { throw new Error('no') } })
  await app.ready()
  t.equal((await rejection(app.backgroundTasks.start())).message, 'no')
  t.equal(app.addBackgroundTask('later', { start () {} }).state, 'idle')
})

t.test('after backgroundTasks.start(), what is declared later starts by itself', async t => {
  const { app } = await build(t, { autostart: false })
  await app.ready()
  const before = app.addBackgroundTask('before', async ({ signal }) => { await aborted(signal) })
  t.equal(before.state, 'idle')
  await app.backgroundTasks.start()
  const after = app.addBackgroundTask('after', async ({ signal }) => { await aborted(signal) })
  t.same([before.state, after.state], ['running', 'running'])
})

t.test('backgroundTasks.start() starts what autostart: false put off, in the order of declaration, but not what is disabled', async t => {
  const { app } = await build(t, { autostart: false })
  const events: string[] = []
  app.addBackgroundTask('first', { async start () { events.push('first') } })
  app.addBackgroundTask('disabled', { enabled: false, async start () { events.push('disabled') } })
  app.addBackgroundTask('second', { async start () { events.push('second') } })
  await app.backgroundTasks.start()
  t.same(events, ['first', 'second'], 'and makes the app ready first')
  await app.backgroundTasks.start()
  t.same(events, ['first', 'second'], 'once')
  t.equal(app.backgroundTasks.get('disabled')?.state, 'idle')
})

t.test('backgroundTasks.start() rejects with what a start threw, after it stopped what had started', async t => {
  const { app } = await build(t, { autostart: false })
  const events: string[] = []
  const error = new Error('no broker')
  app.addBackgroundTask('first', { async start () {}, async stop () { events.push('first stops') } })
  app.addBackgroundTask('second', { async start () { throw error } })
  app.addBackgroundTask('third', { async start () { events.push('third starts') } })
  await app.ready()
  t.equal(await rejection(() => app.backgroundTasks.start()), error)
  t.same(events, ['first stops'])
})

t.test('backgroundTasks.start() rejects once the app has closed', async t => {
  const { app } = await build(t, { autostart: false })
  app.addBackgroundTask('service', async () => { t.fail('must not run') })
  await app.ready()
  await app.close()
  t.equal((await rejection(() => app.backgroundTasks.start())).code, 'FST_BG_CLOSING')
})

t.test('a disabled task does not start with the app, and starts by hand', async t => {
  const { app } = await build(t)
  const called = deferred()
  let calls = 0
  const task = app.addBackgroundTask('service', { enabled: false }, async () => {
    calls++
    called.resolve()
  })
  await app.ready()
  await new Promise(resolve => { setImmediate(resolve) })
  t.equal(calls, 0)
  t.equal(task.state, 'idle')
  await task.start()
  await called.promise
  t.equal(calls, 1)
})

t.test('start() of a task that runs does nothing', async t => {
  const { app } = await build(t)
  let starts = 0
  const task = app.addBackgroundTask('hosted', { async start () { starts++ } })
  await app.ready()
  await Promise.all([task.start(), task.start()])
  await task.start()
  t.equal(starts, 1)
})

t.test('two calls of start() at once share one start, and both wait for it', async t => {
  const { app } = await build(t, { autostart: false })
  const release = deferred()
  let starts = 0
  let resolved = 0
  const task = app.addBackgroundTask('hosted', {
    async start () {
      starts++
      await release.promise
    }
  })
  await app.ready()
  const both = [task.start(), task.start()].map(async start => {
    await start
    resolved++
  })
  await new Promise(resolve => { setImmediate(resolve) })
  t.equal(resolved, 0)
  release.resolve()
  await Promise.all(both)
  t.equal(starts, 1)
})

t.test('stop() aborts the signal with FST_BG_CANCELLED and waits for the handler', async t => {
  const { app } = await build(t)
  const called = deferred<AbortSignal>()
  const release = deferred()
  const task = app.addBackgroundTask('service', async ({ signal }) => {
    called.resolve(signal)
    await release.promise
  })
  await app.ready()
  const signal = await called.promise
  let resolved = false
  const stopped = task.stop().then(() => { resolved = true })
  t.equal(signal.aborted, true)
  t.equal(signal.reason.code, 'FST_BG_CANCELLED')
  t.match(signal.reason.message, /"service"/)
  t.equal(task.state, 'stopping')
  await new Promise(resolve => { setImmediate(resolve) })
  t.equal(resolved, false)
  release.resolve()
  await stopped
  t.equal(task.state, 'stopped')
})

t.test('stop() calls the stop of a hosted service once, however often it is called, and close() not again', async t => {
  const { app } = await build(t)
  let stops = 0
  const task = app.addBackgroundTask('hosted', { async start () {}, async stop () { stops++ } })
  await app.ready()
  await Promise.all([task.stop(), task.stop()])
  await task.stop()
  t.equal(task.state, 'stopped')
  await app.close()
  t.equal(stops, 1)
})

t.test('stop() rejects with what the stop of a hosted service threw, for whoever waits for it; a later close() does not', async t => {
  const { app } = await build(t)
  const error = new Error('cannot flush')
  const task = app.addBackgroundTask('hosted', { async stop () { throw error } })
  await app.ready()
  t.same(await Promise.all([rejection(task.stop()), rejection(task.stop())]), [error, error])
  t.equal(task.state, 'failed')
  await app.close()
})

t.test('a stopped task starts again, as a new run', async t => {
  const { app } = await build(t)
  const ids: string[] = []
  let called = deferred()
  const task = app.addBackgroundTask('service', async ({ id, signal }) => {
    ids.push(id)
    called.resolve()
    await aborted(signal)
  })
  await app.ready()
  await called.promise
  await task.stop()
  called = deferred()
  await task.start()
  t.equal(task.state, 'running')
  await called.promise
  t.equal(new Set(ids).size, 2)
})

for (const end of ['completed', 'failed'] as const) {
  t.test(`a service that has ${end} can be started again, and stopping it first changes nothing but its state`, async t => {
    const { app, lines } = await build(t)
    let calls = 0
    const again = deferred()
    const task = app.addBackgroundTask('service', mortal, async () => {
      calls++
      if (calls === 2) again.resolve()
      if (end === 'failed') throw new Error('broken')
    })
    await app.ready()
    await logged(lines, `service ${end}`)
    t.equal(task.state, end)
    await task.stop()
    await task.start()
    await again.promise
    t.equal(calls, 2)
  })
}

t.test('start() after stop() waits until the run before has ended, even where that ignores its signal', async t => {
  const { app } = await build(t)
  const events: string[] = []
  const releases = [deferred(), deferred()]
  const called = [deferred(), deferred()]
  let n = 0
  const task = app.addBackgroundTask('service', async () => {
    const life = n++
    events.push(`life ${life} begins`)
    called[life]?.resolve()
    await releases[life]?.promise
    events.push(`life ${life} ends`)
  })
  await app.ready()
  await called[0]?.promise
  const stopped = task.stop()
  const started = task.start()
  await new Promise(resolve => { setImmediate(resolve) })
  t.same(events, ['life 0 begins'])
  releases[0]?.resolve()
  await Promise.all([stopped, started, called[1]?.promise])
  releases[1]?.resolve()
  t.same(events, ['life 0 begins', 'life 0 ends', 'life 1 begins'])
})

t.test('start() after stop() of a hosted service waits for that stop', async t => {
  const { app } = await build(t)
  const events: string[] = []
  const task = app.addBackgroundTask('hosted', {
    async start () { events.push('start') },
    async stop () {
      events.push('stop')
      await new Promise(resolve => { setImmediate(resolve) })
      events.push('stopped')
    }
  })
  await app.ready()
  await Promise.all([task.stop(), task.start()])
  t.same(events, ['start', 'stop', 'stopped', 'start'])
  t.equal(task.state, 'running')
})

t.test('what was asked for last holds: stop, start, stop ends stopped', async t => {
  const { app } = await build(t)
  const events: string[] = []
  const task = app.addBackgroundTask('hosted', { async start () { events.push('start') }, async stop () { events.push('stop') } })
  await app.ready()
  await Promise.all([task.stop(), task.start(), task.stop()])
  t.equal(task.state, 'stopped')
  t.same(events, ['start', 'stop'])
})

t.test('stop() during a start aborts its signal, and stops what it started', async t => {
  const { app } = await build(t, { autostart: false })
  const events: string[] = []
  const called = deferred()
  const task = app.addBackgroundTask('hosted', {
    async start ({ signal }) {
      called.resolve()
      events.push((await aborted(signal)).code)
    },
    async stop () { events.push('stop') }
  })
  await app.ready()
  const started = task.start()
  await called.promise
  await task.stop()
  await started
  t.same(events, ['FST_BG_CANCELLED', 'stop'])
  t.equal(task.state, 'stopped')
})

t.test('a task that is stopped before the app is ready does not start with it', async t => {
  const { app } = await build(t)
  const task = app.addBackgroundTask('hosted', { async start () { t.fail('must not start') }, async stop () { t.fail('must not stop') } })
  await task.stop()
  t.equal(task.state, 'stopped')
  await app.ready()
  t.equal(task.state, 'stopped')
})

t.test('start() and stop() once the app has closed: the one rejects with FST_BG_CLOSING, the other does nothing', async t => {
  const { app } = await build(t)
  const task = app.addBackgroundTask('service', { enabled: false }, async () => { t.fail('must not run') })
  await app.ready()
  await app.close()
  const error = await rejection(task.start())
  t.equal(error.code, 'FST_BG_CLOSING')
  t.match(error.message, /"service"/)
  await task.stop()
  t.equal(task.state, 'stopped')
})

t.test('a start() that waits for the life before begins none when the app closes meanwhile', async t => {
  const { app } = await build(t)
  const release = deferred()
  const called = deferred()
  let calls = 0
  const task = app.addBackgroundTask('service', async () => {
    calls++
    called.resolve()
    await release.promise
  })
  await app.ready()
  await called.promise
  const stopped = task.stop()
  const started = task.start().catch(() => {})
  const closed = app.close()
  await new Promise(resolve => { setImmediate(resolve) })
  release.resolve()
  await Promise.all([stopped, started, closed])
  t.equal(calls, 1)
  t.equal(task.state, 'stopped')
})

t.test('a start that rejects: what had started is stopped in reverse order, then ready() rejects with that very error', async t => {
  const { app } = await build(t)
  const events: string[] = []
  const error = new Error('no broker')
  for (const name of ['first', 'second']) {
    app.addBackgroundTask(name, {
      async start () { events.push(`${name} started`) },
      async stop () {
        await new Promise(resolve => { setImmediate(resolve) })
        events.push(`${name} stopped`)
      }
    })
  }
  const service = deferred<string>()
  app.addBackgroundTask('service', async ({ signal }) => {
    const { code } = await aborted(signal)
    service.resolve(code)
    events.push('service ended')
  })
  app.addBackgroundTask('broken', { async start () { throw error }, async stop () { t.fail('its start had failed') } })
  app.addBackgroundTask('next', { async start () { t.fail('must not start') }, async stop () { t.fail('must not stop') } })

  t.equal(await rejection(() => app.ready()), error)
  t.same(events, ['first started', 'second started', 'service ended', 'second stopped', 'first stopped'])
  t.equal(await service.promise, 'FST_BG_SHUTDOWN')
  t.equal(app.backgroundTasks.get('broken')?.state, 'failed')

  await app.close()
  t.equal(events.length, 5, 'close() does not stop them again')
})

t.test('listen() rejects too when a start rejects, and the port stays closed', async t => {
  const { app } = await build(t)
  const error = new Error('no broker')
  app.addBackgroundTask('broken', { async start () { throw error } })
  t.equal(await rejection(() => app.listen({ port: 0 })), error)
  t.equal(app.server.listening, false)
})

t.test('a start that throws without a promise is a failed start like any other', async t => {
  const { app } = await build(t)
  const error = new Error('at once')
  app.addBackgroundTask('broken', { start () { throw error } })
  t.equal(await rejection(() => app.ready()), error)
})

t.test('a start that rejects with undefined rejects ready() with an Error', async t => {
  const { app } = await build(t)
  app.addBackgroundTask('broken', { start: () => Promise.reject(undefined) }) // eslint-disable-line prefer-promise-reject-errors
  const error = await rejection(() => app.ready())
  t.ok(error instanceof Error)
  t.equal(error.cause, undefined)
})

t.test('errors while a failed start is rolled back are logged, and hide neither the first error nor the other tasks', async t => {
  const { app, lines } = await build(t)
  const events: string[] = []
  const error = new Error('no broker')
  app.addBackgroundTask('first', { async stop () { events.push('first') } })
  app.addBackgroundTask('second', { async stop () { throw new Error('cannot flush') } })
  app.addBackgroundTask('broken', { async start () { throw error } })
  t.equal(await rejection(() => app.ready()), error)
  t.same(events, ['first'])
  t.match(lines.find(({ msg }) => msg === 'stop failed'), { level: 'error', task: 'second', err: { message: 'cannot flush' } })
})

t.test('a rollback that takes too long is left to close(), so that ready() rejects with the first error in time', async t => {
  const { app } = await build(t, {}, { pluginTimeout: 500 })
  const release = deferred()
  const events: string[] = []
  const error = new Error('no broker')
  app.addBackgroundTask('slow', {
    async stop () {
      await release.promise
      events.push('slow stopped')
    }
  })
  app.addBackgroundTask('broken', { async start () { throw error } })
  t.equal(await rejection(() => app.ready()), error, 'not FST_ERR_HOOK_TIMEOUT')
  t.same(events, [])
  const closed = app.close().then(() => { events.push('closed') })
  await new Promise(resolve => { setImmediate(resolve) })
  release.resolve()
  await closed
  t.same(events, ['slow stopped', 'closed'])
})

t.test('with pluginTimeout: 0 a rollback is bounded by shutdownTimeout', async t => {
  const { app } = await build(t, { shutdownTimeout: 50 }, { pluginTimeout: 0 })
  const release = deferred()
  const error = new Error('no broker')
  app.addBackgroundTask('slow', { async stop () { await release.promise } })
  app.addBackgroundTask('broken', { async start () { throw error } })
  t.equal(await rejection(() => app.ready()), error)
  release.resolve()
})

t.test('a start longer than startTimeout: its signal aborts, and ready() rejects with FST_BG_START_TIMEOUT', async t => {
  const { app } = await build(t)
  const reason = deferred<Error & { code: string }>()
  app.addBackgroundTask('slow', {
    startTimeout: 30,
    async start ({ signal }) {
      reason.resolve(await aborted(signal))
      throw signal.reason
    },
    async stop () { t.fail('its start had failed') }
  })
  const error = await rejection(() => app.ready())
  t.equal(error.code, 'FST_BG_START_TIMEOUT')
  t.match(error.message, /"slow".*30ms/)
  t.equal((await reason.promise).code, 'FST_BG_TIMEOUT')
  const task = app.backgroundTasks.get('slow')
  t.equal(task?.state, 'failed')
  t.match(task?.lastRun, { outcome: 'failed', error: { code: 'FST_BG_TIMEOUT' } })
})

t.test('a start that succeeds after its timeout is stopped', async t => {
  const { app, lines } = await build(t, {}, { pluginTimeout: 400 })
  const release = deferred()
  const stopped = deferred()
  app.addBackgroundTask('slow', {
    startTimeout: 30,
    async start () { await release.promise },
    async stop () { stopped.resolve() }
  })
  t.equal((await rejection(() => app.ready())).code, 'FST_BG_START_TIMEOUT')
  release.resolve()
  await stopped.promise
  t.match(lines.find(({ task, level }) => task === 'slow' && level === 'warn'), { msg: /start ended after its time was up/ })
})

t.test('so is one that was started by hand, while the app goes on', async t => {
  const { app } = await build(t, { autostart: false })
  const release = deferred()
  const stopped = deferred()
  const task = app.addBackgroundTask('slow', {
    startTimeout: 30,
    async start () { await release.promise },
    async stop () { stopped.resolve() }
  })
  await app.ready()
  t.equal((await rejection(task.start())).code, 'FST_BG_START_TIMEOUT')
  release.resolve()
  await stopped.promise
})

for (const [pluginTimeout, limit] of [[200, '100ms'], [1100, '600ms']] as const) {
  t.test(`with pluginTimeout ${pluginTimeout} a start may take ${limit}, so that its own error comes first`, async t => {
    const { app } = await build(t, {}, { pluginTimeout })
    app.addBackgroundTask('slow', { async start ({ signal }) { await aborted(signal) } })
    const error = await rejection(() => app.ready())
    t.equal(error.code, 'FST_BG_START_TIMEOUT')
    t.match(error.message, new RegExp(`within ${limit}\\.`))
  })
}

t.test('with pluginTimeout: 0 a start may take as long as it likes', async t => {
  const { app } = await build(t, {}, { pluginTimeout: 0 })
  const called = deferred()
  const release = deferred()
  app.addBackgroundTask('slow', {
    async start ({ signal }) {
      called.resolve()
      await release.promise
      t.equal(signal.aborted, false)
    }
  })
  const clock = install({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
  t.teardown(() => { clock.uninstall() })
  const ready = app.ready()
  await called.promise
  await clock.tickAsync(3_600_000)
  release.resolve()
  await ready
  t.equal(app.backgroundTasks.get('slow')?.state, 'running')
})

t.test('with pluginTimeout: 0 a startTimeout of its own still holds', async t => {
  const { app } = await build(t, {}, { pluginTimeout: 0 })
  app.addBackgroundTask('slow', { startTimeout: 30, async start ({ signal }) { await aborted(signal) } })
  t.equal((await rejection(() => app.ready())).code, 'FST_BG_START_TIMEOUT')
})

t.test('a startTimeout that is not below pluginTimeout is refused', async t => {
  const { app } = await build(t, {}, { pluginTimeout: 1000 })
  t.throws(() => app.addBackgroundTask('slow', { startTimeout: '1s', async start () {} }), { code: 'FST_BG_INVALID_OPTION', message: /pluginTimeout/ })
  t.equal(app.backgroundTasks.get('slow'), undefined)
})

t.test('a task declared in an onReady hook starts at once', async t => {
  const { app } = await build(t)
  const called = deferred()
  const started = deferred()
  app.addHook('onReady', async () => {
    app.addBackgroundTask('service', async () => { called.resolve() })
    app.addBackgroundTask('hosted', { async start () { started.resolve() } })
  })
  await app.ready()
  await Promise.all([called.promise, started.promise])
})

t.test('so does one declared in an onReady hook of a child, or in one that was added before this plugin', async t => {
  const app: FastifyInstance = Fastify()
  t.teardown(async () => { await app.close() })
  const called = [deferred(), deferred()]
  app.addHook('onReady', async () => { app.addBackgroundTask('root', async () => { called[0]?.resolve() }) })
  await app.register(backgroundTasks)
  app.register(async child => {
    child.addHook('onReady', async () => { child.addBackgroundTask('child', async () => { called[1]?.resolve() }) })
  })
  await app.ready()
  await Promise.all(called.map(({ promise }) => promise))
})

t.test('a task declared after ready, and one declared by a route, start at once', async t => {
  const { app } = await build(t)
  const called = [deferred(), deferred()]
  app.post('/', async request => {
    request.server.addBackgroundTask('by a route', async () => { called[1]?.resolve() })
    return { ok: true }
  })
  const address = await app.listen({ port: 0 })
  const task = app.addBackgroundTask('late', async () => { called[0]?.resolve() })
  t.equal(task.state, 'running')
  await called[0]?.promise
  const response = await fetch(address, { method: 'POST' })
  t.same(await response.json(), { ok: true })
  await called[1]?.promise
})

t.test('a late task that is disabled does not start', async t => {
  const { app } = await build(t)
  await app.ready()
  const task = app.addBackgroundTask('late', { enabled: false }, async () => { t.fail('must not run') })
  await new Promise(resolve => { setImmediate(resolve) })
  t.equal(task.state, 'idle')
})

t.test('a late start that fails is logged at error; the app and the other tasks go on', async t => {
  const { app, lines } = await build(t)
  await app.ready()
  const other = app.addBackgroundTask('other', async ({ signal }) => { await aborted(signal) })
  const task = app.addBackgroundTask('late', { async start () { throw new Error('no broker') }, async stop () { t.fail('must not stop') } })
  t.match(await logged(lines, 'start failed'), { level: 'error', task: 'late', run: task.lastRun?.id, attempt: 1, duration: Number, err: { message: 'no broker' } })
  t.equal(task.state, 'failed')
  t.equal(other.state, 'running')
  const next = app.addBackgroundTask('next', { async start () {} })
  await next.start()
  t.equal(next.state, 'running')
  await app.close()
})

t.test('a late start that takes too long is logged at error', async t => {
  const { app, lines } = await build(t)
  await app.ready()
  const task = app.addBackgroundTask('late', { startTimeout: 20, async start ({ signal }) { await aborted(signal) } })
  t.match(await logged(lines, 'start failed'), { level: 'error', task: 'late', run: String, attempt: 1, duration: Number, err: { code: 'FST_BG_START_TIMEOUT' } })
  t.equal(task.state, 'failed')
})

t.test('close() during boot: what has started is stopped, and nothing is left running', async t => {
  const { app } = await build(t)
  const events: string[] = []
  const called = deferred()
  const release = deferred()
  app.addBackgroundTask('slow', {
    async start () {
      called.resolve()
      await release.promise
      events.push('slow started')
    },
    async stop () { events.push('slow stopped') }
  })
  let began = 0
  let ended = 0
  app.addBackgroundTask('service', async ({ signal }) => {
    began++
    await aborted(signal)
    ended++
  })
  const ready = app.ready().then(() => {}, () => {})
  await called.promise
  const closed = app.close()
  release.resolve()
  await Promise.all([ready, closed])
  t.same(events, ['slow started', 'slow stopped'])
  t.equal(began, ended)
  t.same([...app.backgroundTasks].map(({ state }) => state), ['stopped', 'stopped'])
})

for (const first of ['close', 'ready']) {
  t.test(`a task whose onReady hook runs after our preClose never starts, and ready() resolves (${first}() was called first)`, async t => {
    const { app } = await build(t)
    const events: string[] = []
    app.addHook('preClose', async () => { events.push('preClose') })
    const task = app.addBackgroundTask('hosted', { async start () { t.fail('must not start') }, async stop () { t.fail('must not stop') } })
    app.addHook('onReady', async () => { events.push('onReady') })
    // Called in one go, Fastify lets the close overtake the boot.
    await Promise.all(first === 'close' ? [app.close(), app.ready()] : [app.ready(), app.close()])
    t.same(events, ['preClose', 'onReady'])
    t.equal(task.state, 'stopped')
  })
}

t.test('close() before ready: nothing starts, nothing is stopped, and close() resolves', async t => {
  const { app } = await build(t)
  const service = app.addBackgroundTask('service', async () => { t.fail('must not run') })
  app.addBackgroundTask('hosted', { async start () { t.fail('must not start') }, async stop () { t.fail('must not stop') } })
  await app.close()
  await new Promise(resolve => { setImmediate(resolve) })
  t.equal(service.state, 'stopped')
})

t.test('the handler of a service that has started is called exactly once, even if close() comes first', async t => {
  const { app } = await build(t)
  const seen: Array<string | undefined> = []
  const task = app.addBackgroundTask('service', async ({ signal }) => { seen.push((await aborted(signal)).code) })
  // The handler is due in a later macrotask: the close gets ahead of it.
  app.addHook('onReady', async () => { await task.stop() })
  await app.ready()
  t.same(seen, ['FST_BG_CANCELLED'])

  const late = app.addBackgroundTask('late', async ({ signal }) => { seen.push((await aborted(signal)).code) })
  t.equal(late.state, 'running')
  await app.close()
  t.same(seen, ['FST_BG_CANCELLED', 'FST_BG_SHUTDOWN'])
})

t.test('an app without tasks starts and closes', async t => {
  const { app } = await build(t)
  await app.ready()
  t.same([...app.backgroundTasks], [])
  await app.backgroundTasks.start()
  await app.close()
})

t.test('a server that listens and closes again and again leaves nothing behind', async t => {
  const before = process.getActiveResourcesInfo().filter(name => name === 'Timeout').length
  for (let i = 0; i < 5; i++) {
    const { app } = await build(t)
    app.addBackgroundTask('service', { grace: '1m' }, async () => {})
    app.addBackgroundTask('hosted', { async start () {}, async stop () {} })
    await app.listen({ port: 0 })
    const closed = once(app.server, 'close')
    await Promise.all([app.close(), closed])
  }
  const after = process.getActiveResourcesInfo().filter(name => name === 'Timeout').length
  t.ok(after <= before, `${after} timers are armed, ${before} were`)
})

t.test('what was asked for last holds: start, stop, start ends running (service)', async t => {
  const { app } = await build(t, { autostart: false })
  const task = app.addBackgroundTask('service', async ({ signal }) => { await aborted(signal) })
  await app.ready()
  await Promise.all([task.start(), task.stop(), task.start()])
  t.equal(task.state, 'running')
})

t.test('what was asked for last holds, also  for a hosted service whose start takes time', async t => {
  const { app } = await build(t, { autostart: false })
  const events: string[] = []
  const called = deferred()
  const release = deferred()
  const task = app.addBackgroundTask('hosted', {
    async start () {
      events.push('start')
      called.resolve()
      await release.promise
    },
    async stop () { events.push('stop') }
  })
  await app.ready()
  const first = task.start()
  await called.promise
  const stopped = task.stop()
  const second = task.start()
  release.resolve()
  await Promise.all([first, stopped, second])
  t.equal(task.state, 'running')
  t.same(events, ['start', 'stop', 'start'])
})

t.test('start() again after a start timeout waits until the late start has been stopped', async t => {
  const { app } = await build(t, { autostart: false })
  const events: string[] = []
  const release = deferred()
  let n = 0
  const task = app.addBackgroundTask('hosted', {
    startTimeout: 20,
    async start () {
      const life = ++n
      events.push(`start ${life}`)
      if (life === 1) await release.promise
    },
    async stop () {
      events.push('stop')
      await later()
      events.push('stopped')
    }
  })
  await app.ready()
  t.equal((await rejection(task.start())).code, 'FST_BG_START_TIMEOUT')
  const second = task.start()
  release.resolve()
  await second
  t.same(events, ['start 1', 'stop', 'stopped', 'start 2'])
})

t.test('a second backgroundTasks.start() resolves no sooner than the tasks have started', async t => {
  const { app } = await build(t, { autostart: false })
  const called = deferred()
  const release = deferred()
  app.addBackgroundTask('hosted', {
    async start () {
      called.resolve()
      await release.promise
    }
  })
  await app.ready()
  const first = app.backgroundTasks.start()
  await called.promise
  let resolved = false
  const second = app.backgroundTasks.start().then(() => { resolved = true })
  await later()
  t.equal(resolved, false)
  release.resolve()
  await Promise.all([first, second])
})

t.test('after backgroundTasks.start() failed, nothing claims that the application is closing', async t => {
  const { app } = await build(t, { autostart: false })
  let broken = true
  const task = app.addBackgroundTask('hosted', { async start () { if (broken) throw new Error('no broker') } })
  await app.ready()
  t.equal((await rejection(() => app.backgroundTasks.start())).message, 'no broker')
  broken = false
  app.addBackgroundTask('another', { enabled: false }, async () => {})
  await task.start()
  t.equal(task.state, 'running')
})

t.test('ready() waits for a start that was begun by hand while plugins load', async t => {
  const { app } = await build(t)
  const release = deferred()
  const called = deferred()
  const task = app.addBackgroundTask('hosted', {
    async start () {
      called.resolve()
      await release.promise
    }
  })
  void task.start()
  await called.promise
  let ready = false
  const booted = app.ready().then(() => { ready = true })
  await new Promise(resolve => { setTimeout(resolve, 50) })
  t.equal(ready, false)
  release.resolve()
  await booted
})

t.test('a start() that waits for the life before rejects with FST_BG_CLOSING when the app closes meanwhile', async t => {
  const { app } = await build(t)
  const release = deferred()
  const called = deferred()
  const task = app.addBackgroundTask('service', async () => {
    called.resolve()
    await release.promise
  })
  await app.ready()
  await called.promise
  const stopped = task.stop()
  const outcome = task.start().then(() => 'resolved', (error: { code: string }) => error.code)
  const closed = app.close()
  await later()
  release.resolve()
  await Promise.all([stopped, closed])
  t.equal(await outcome, 'FST_BG_CLOSING')
})

t.test('a start that close cuts short is rolled back by the close alone', async t => {
  const { app } = await build(t, { autostart: false })
  const called = deferred()
  const stopped: string[] = []
  app.addBackgroundTask('up', { stop () { stopped.push('up') } })
  app.addBackgroundTask('starting', {
    async start ({ signal }) {
      called.resolve()
      throw await aborted(signal)
    }
  })
  await app.ready()
  const started = rejection(app.backgroundTasks.start())
  await called.promise
  await app.close()
  t.equal((await started).code, 'FST_BG_SHUTDOWN')
  t.same(stopped, ['up'])
})
