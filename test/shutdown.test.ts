import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance } from 'fastify'
import t from 'tap'
import backgroundTasks, { type BackgroundTasksOptions } from '../lib/index.ts'
import { aborted, build, capture, deferred, later, logged, rejection, type Line } from './support/helper.ts'
import { streaming } from './support/stream.ts'

/** A service that ends when its signal aborts, and not before it has been called: resolves with the reason. */
function service (app: FastifyInstance, name: string): { called: Promise<AbortSignal>, reason: Promise<Error & { code: string }> } {
  const called = deferred<AbortSignal>()
  const reason = deferred<Error & { code: string }>()
  app.addBackgroundTask(name, async ({ signal }) => {
    called.resolve(signal)
    reason.resolve(await aborted(signal))
  })
  return { called: called.promise, reason: reason.promise }
}

/** A service that hears nothing and goes on until it is released. */
function deaf (app: FastifyInstance, name: string): { called: Promise<AbortSignal>, release: () => void } {
  const called = deferred<AbortSignal>()
  const release = deferred()
  app.addBackgroundTask(name, async ({ signal }) => {
    called.resolve(signal)
    await release.promise
  })
  return { called: called.promise, release: () => { release.resolve() } }
}

/** An app whose preClose hook comes before the plugin's. */
async function buildBehind (t: { teardown (callback: () => unknown): void }, preClose: () => Promise<void>, options: BackgroundTasksOptions = {}, pluginTimeout = 10_000): Promise<{ app: FastifyInstance, lines: Line[] }> {
  const lines: Line[] = []
  const app: FastifyInstance = Fastify({ logger: capture(lines), pluginTimeout })
  t.teardown(async () => { await app.close().catch(() => {}) })
  app.addHook('preClose', preClose)
  await app.register(backgroundTasks, options)
  return { app, lines }
}

t.test('every task hears of close() at once, while a client of server-sent events still holds HTTP open', async t => {
  const { app } = await build(t)
  const { called, reason } = service(app, 'service')
  const response = await streaming(app)
  const signal = await called
  t.equal(signal.aborted, false)

  const began = performance.now()
  let closed = false
  const closing = app.close().then(() => { closed = true })
  t.equal((await reason).code, 'FST_BG_SHUTDOWN')
  t.ok(performance.now() - began < 100)
  t.ok((await reason) instanceof Error)
  t.equal(closed, false)
  t.equal(response.destroyed, false)
  response.destroy()
  await closing
})

t.test('the stop of a hosted service is called after HTTP has drained', async t => {
  const { app } = await build(t)
  const events: string[] = []
  const arrived = deferred()
  const release = deferred()
  app.addBackgroundTask('hosted', { async stop () { events.push('stop') } })
  app.get('/', async () => {
    arrived.resolve()
    await release.promise
    events.push('answer')
    return { ok: true }
  })
  const { called, reason } = service(app, 'service')
  const address = await app.listen({ port: 0 })
  const response = fetch(address, { headers: { connection: 'close' } })
  await Promise.all([arrived.promise, called])
  const closing = app.close()
  await reason
  t.same(events, [])
  release.resolve()
  t.same(await (await response).json(), { ok: true })
  await closing
  t.same(events, ['answer', 'stop'])
})

t.test('where a foreign preClose hook throws first, tasks hear of the close in onClose, and are stopped', async t => {
  const error = new Error('foreign')
  const { app } = await buildBehind(t, async () => { throw error })
  let stops = 0
  app.addBackgroundTask('hosted', { async stop () { stops++ } })
  const { called, reason } = service(app, 'service')
  await app.ready()
  await called
  const closed = rejection(app.close())
  t.equal((await reason).code, 'FST_BG_SHUTDOWN')
  t.equal(await closed, error)
  t.equal(stops, 1)
  t.equal(app.backgroundTasks.get('service')?.state, 'stopped')
})

t.test('so they do where a foreign preClose hook hangs first, and the deadline holds from then', async t => {
  const { app, lines } = await buildBehind(t, async () => { await new Promise(() => {}) }, { shutdownTimeout: 100 }, 200)
  const { called, reason } = service(app, 'service')
  const other = deaf(app, 'deaf')
  await app.ready()
  await Promise.all([called, other.called])
  const closed = rejection(app.close())
  t.equal((await reason).code, 'FST_BG_SHUTDOWN')
  t.match((await closed).code, /TIMEOUT/, "Fastify's own, for the hook that hangs")
  t.match(lines.filter(({ err }) => err?.code === 'FST_BG_SHUTDOWN_TIMEOUT'), [{ tasks: ['deaf'] }])
  other.release()
})

t.test('a task with a grace goes on undisturbed: what ends within it has succeeded, and close() waits no longer', async t => {
  const { app, lines } = await build(t)
  const called = deferred<AbortSignal>()
  const release = deferred()
  app.addBackgroundTask('graceful', { grace: '5s' }, async ({ signal }) => {
    called.resolve(signal)
    await release.promise
  })
  const { called: otherCalled, reason } = service(app, 'other')
  await app.ready()
  const signal = await called.promise
  await otherCalled
  const began = performance.now()
  const closing = app.close()
  await reason
  t.equal(signal.aborted, false)
  release.resolve()
  await closing
  t.equal(signal.aborted, false)
  t.ok(performance.now() - began < 2_000)
  t.notOk('err' in await logged(lines, 'service stopped', 'graceful'))
})

t.test('the signal aborts when the grace is over', async t => {
  const { app } = await build(t)
  const called = deferred()
  const reason = deferred<Error & { code: string }>()
  app.addBackgroundTask('graceful', { grace: 60 }, async ({ signal }) => {
    called.resolve()
    reason.resolve(await aborted(signal))
  })
  await app.ready()
  await called.promise
  const began = performance.now()
  const closing = app.close()
  t.equal((await reason.promise).code, 'FST_BG_SHUTDOWN')
  const took = performance.now() - began
  t.ok(took >= 59 && took < 2_000, `${took} ms`)
  await closing
})

t.test('no grace is longer than three quarters of shutdownTimeout', async t => {
  const { app, lines } = await build(t, { shutdownTimeout: 800 })
  const called = deferred()
  const reason = deferred<Error & { code: string }>()
  app.addBackgroundTask('graceful', { grace: '1h' }, async ({ signal }) => {
    called.resolve()
    reason.resolve(await aborted(signal))
  })
  await app.ready()
  await called.promise
  const began = performance.now()
  const closing = app.close()
  await reason.promise
  const took = performance.now() - began
  t.ok(took >= 599 && took < 790, `${took} ms`)
  await closing
  t.notOk(lines.some(({ err }) => err?.code === 'FST_BG_SHUTDOWN_TIMEOUT'))
})

t.test('a task stopped by hand is cancelled at once, whatever its grace', async t => {
  const { app } = await build(t)
  const called = deferred<AbortSignal>()
  const task = app.addBackgroundTask('graceful', { grace: '5s' }, async ({ signal }) => {
    called.resolve(signal)
    await aborted(signal)
  })
  await app.ready()
  const signal = await called.promise
  const stopped = task.stop()
  t.equal(signal.aborted, true)
  await stopped
})

t.test('the start of a late hosted service may use its grace', async t => {
  const { app } = await build(t)
  await app.ready()
  const called = deferred<AbortSignal>()
  const release = deferred()
  let stops = 0
  app.addBackgroundTask('late', {
    grace: '5s',
    async start ({ signal }) {
      called.resolve(signal)
      await release.promise
    },
    async stop () { stops++ }
  })
  const signal = await called.promise
  const other = service(app, 'other')
  await other.called
  const closing = app.close()
  await other.reason
  t.equal(signal.aborted, false)
  release.resolve()
  await closing
  t.equal(stops, 1)
})

t.test('tasks end in reverse order of declaration, each before what was opened before it is closed', async t => {
  const { app } = await build(t)
  const events: string[] = []
  const release = deferred()
  const called = deferred()
  app.addHook('onClose', async () => { events.push('database closed') })
  app.addBackgroundTask('first', { async stop () { events.push('first stops') } })
  app.addBackgroundTask('second', async () => {
    called.resolve()
    await release.promise
    events.push('second ended')
  })
  app.addHook('onClose', async () => {
    events.push('cache closed')
    release.resolve()
  })
  app.addBackgroundTask('third', {
    async stop () {
      events.push('third stops')
      await new Promise(resolve => { setImmediate(resolve) })
      events.push('third stopped')
    }
  })
  await app.ready()
  await called.promise
  await app.close()
  t.same(events, ['third stops', 'third stopped', 'cache closed', 'second ended', 'first stops', 'database closed'])
})

t.test('close() waits as long as the slowest task, not for one after another', async t => {
  const { app } = await build(t)
  const called: Array<Promise<void>> = []
  for (let i = 0; i < 6; i++) {
    const began = deferred()
    called.push(began.promise)
    app.addBackgroundTask(`task ${i}`, async ({ signal }) => {
      began.resolve()
      await aborted(signal)
      await new Promise(resolve => { setTimeout(resolve, 200) })
    })
  }
  await app.ready()
  await Promise.all(called)
  const began = performance.now()
  await app.close()
  const took = performance.now() - began
  t.ok(took >= 195 && took < 800, `${took} ms`)
})

t.test('tasks that never end share one deadline: close() goes on after shutdownTimeout, and resolves', async t => {
  const { app, lines } = await build(t, { shutdownTimeout: 200 })
  const events: string[] = []
  app.addHook('onClose', async () => { events.push('database closed') })
  const tasks = ['a', 'b', 'c', 'd', 'e'].map(name => deaf(app, name))
  const good = service(app, 'good')
  await app.ready()
  await Promise.all([...tasks.map(({ called }) => called), good.called])
  const began = performance.now()
  await app.close()
  const took = performance.now() - began
  t.ok(took >= 199 && took < 800, `${took} ms`)
  t.same(events, ['database closed'])

  const reports = lines.filter(({ err }) => err?.code === 'FST_BG_SHUTDOWN_TIMEOUT')
  t.equal(reports.length, 1)
  t.match(reports[0], { level: 'error', tasks: ['a', 'b', 'c', 'd', 'e'] })
  t.match(reports[0]?.err?.message, /within 200ms.*"a".*"e"/)
  t.notMatch(reports[0]?.err?.message, /"good"/)
  for (const { release } of tasks) release()
})

t.test('the deadline counts from the start of close(), however long it takes until onClose', async t => {
  const { app } = await build(t, { shutdownTimeout: 600 })
  app.addHook('preClose', async () => { await new Promise(resolve => { setTimeout(resolve, 400) }) })
  const { called, release } = deaf(app, 'deaf')
  await app.ready()
  await called
  const began = performance.now()
  await app.close()
  const took = performance.now() - began
  t.ok(took >= 599 && took < 950, `${took} ms`)
  release()
})

t.test('a task that ends after the deadline is logged at warn', async t => {
  const { app, lines } = await build(t, { shutdownTimeout: 30 })
  const { called, release } = deaf(app, 'deaf')
  await app.ready()
  await called
  await app.close()
  t.equal(app.backgroundTasks.get('deaf')?.state, 'stopping')
  t.notOk(lines.some(({ msg }) => msg === 'stopped after the shutdown deadline'))
  release()
  t.match(await logged(lines, 'stopped after the shutdown deadline'), { level: 'warn', task: 'deaf', run: String, duration: Number })
  t.equal(app.backgroundTasks.get('deaf')?.state, 'stopped')
})

t.test('a stop that ends after the deadline is logged at warn', async t => {
  const { app, lines } = await build(t, { shutdownTimeout: 30 })
  const release = deferred()
  app.addBackgroundTask('hosted', { async stop () { await release.promise } })
  await app.ready()
  await app.close()
  t.match(lines.filter(({ err }) => err?.code === 'FST_BG_SHUTDOWN_TIMEOUT'), [{ tasks: ['hosted'] }])
  release.resolve()
  t.match(await logged(lines, 'stopped after the shutdown deadline'), { level: 'warn', task: 'hosted', run: String, duration: Number })
})

t.test('the deadline is reported while onClose cannot run, because a client of server-sent events never leaves', async t => {
  const { app, lines } = await build(t, { shutdownTimeout: 100 })
  let onClose = false
  app.addHook('onClose', async () => { onClose = true })
  const stop = deferred<AbortSignal>()
  app.addBackgroundTask('hosted', { async stop ({ signal }) { stop.resolve(signal) } })
  const { called, release } = deaf(app, 'deaf')
  const good = service(app, 'good')
  const response = await streaming(app)
  await Promise.all([called, good.called])
  const closing = app.close()
  const line = await logged(lines, 'shutdown deadline passed')
  t.equal(onClose, false)
  t.match(line, { level: 'error', tasks: ['hosted', 'deaf'], err: { code: 'FST_BG_SHUTDOWN_TIMEOUT' } })

  response.destroy()
  await closing
  t.equal((await stop.promise).aborted, true, 'stop is called late all the same')
  t.equal(lines.filter(({ err }) => err?.code === 'FST_BG_SHUTDOWN_TIMEOUT').length, 1)
  release()
})

t.test('nothing is reported at the deadline when every task has ended and only HTTP is left', async t => {
  const { app, lines } = await build(t, { shutdownTimeout: 50 })
  const good = service(app, 'good')
  const response = await streaming(app)
  await good.called
  const closing = app.close()
  await new Promise(resolve => { setTimeout(resolve, 100) })
  response.destroy()
  await closing
  t.same(lines.filter(({ level }) => level === 'error' || level === 'warn'), [])
})

t.test('stop is called if and only if start had succeeded', async t => {
  const { app } = await build(t)
  const events: string[] = []
  const hosted = (name: string): { stop: () => Promise<void> } => ({ stop: async () => { events.push(name) } })
  app.addBackgroundTask('without start', hosted('without start'))
  app.addBackgroundTask('started', { ...hosted('started'), async start () {} })
  app.addBackgroundTask('disabled', { ...hosted('disabled'), enabled: false, async start () {} })
  app.addBackgroundTask('disabled, without start', { ...hosted('disabled, without start'), enabled: false })
  const failed = app.addBackgroundTask('failed', { ...hosted('failed'), enabled: false, async start () { throw new Error('no broker') } })
  app.addBackgroundTask('without stop', { async start () {} })
  await app.ready()
  await rejection(failed.start())
  await app.close()
  t.same(events, ['started', 'without start'])
})

t.test('stop is called past the deadline too, with a signal that has aborted, and is not awaited', async t => {
  const { app } = await build(t, { shutdownTimeout: 50 })
  const seen = deferred<AbortSignal>()
  const release = deferred()
  app.addBackgroundTask('hosted', {
    async stop ({ signal }) {
      seen.resolve(signal)
      await release.promise
    }
  })
  const { called, release: end } = deaf(app, 'deaf')
  await app.ready()
  await called
  await app.close()
  const signal = await seen.promise
  t.equal(signal.aborted, true)
  t.equal(signal.reason.code, 'FST_BG_SHUTDOWN')
  release.resolve()
  end()
})

t.test('the signal of stop aborts at the deadline, and not before', async t => {
  const { app } = await build(t, { shutdownTimeout: 80 })
  const signals: boolean[] = []
  app.addBackgroundTask('hosted', {
    async stop ({ signal }) {
      signals.push(signal.aborted)
      t.equal((await aborted(signal)).code, 'FST_BG_SHUTDOWN')
      signals.push(signal.aborted)
    }
  })
  await app.ready()
  const began = performance.now()
  await app.close()
  t.ok(performance.now() - began >= 79)
  await new Promise(resolve => { setImmediate(resolve) })
  t.same(signals, [false, true])
})

t.test('the error of one stop: the others are still stopped, close() rejects with that very error, and a second close() resolves', async t => {
  const { app, lines } = await build(t)
  const events: string[] = []
  const error = new Error('cannot flush')
  app.addHook('onClose', async () => { events.push('database closed') })
  app.addBackgroundTask('first', { async stop () { events.push('first') } })
  app.addBackgroundTask('second', { async stop () { throw error } })
  app.addBackgroundTask('third', { async stop () { events.push('third') } })
  await app.ready()
  t.equal(await rejection(app.close()), error)
  t.same(events, ['third', 'first', 'database closed'])
  t.match(lines.filter(({ msg }) => msg === 'stop failed'), [{ level: 'error', task: 'second', err: { message: 'cannot flush' } }])
  t.equal(app.backgroundTasks.get('second')?.state, 'failed')
  await app.close()
})

t.test('errors of several stops: close() rejects with an AggregateError of them, and a second close() resolves', async t => {
  const { app, lines } = await build(t)
  const errors = [new Error('one'), new Error('two')]
  app.addBackgroundTask('first', { stop () { throw errors[0] } })
  app.addBackgroundTask('good', { async stop () {} })
  app.addBackgroundTask('second', { async stop () { throw errors[1] } })
  await app.ready()
  const error = await rejection(app.close())
  t.ok(error instanceof AggregateError)
  t.same((error as AggregateError).errors, [errors[1], errors[0]])
  t.same(lines.filter(({ msg }) => msg === 'stop failed').map(({ task }) => task), ['second', 'first'])
  await app.close()
})

t.test('a stop that throws what is no Error rejects close() with an Error', async t => {
  const { app } = await build(t)
  app.addBackgroundTask('hosted', { stop: () => Promise.reject('plain text') }) // eslint-disable-line prefer-promise-reject-errors
  await app.ready()
  const error = await rejection(app.close())
  t.ok(error instanceof Error)
  t.equal(error.cause, 'plain text')
})

t.test('a service that fails while the app closes does not make close() reject', async t => {
  const { app } = await build(t)
  const called = deferred()
  app.addBackgroundTask('service', async ({ signal }) => {
    called.resolve()
    await aborted(signal)
    throw new Error('connection lost')
  })
  await app.ready()
  await called.promise
  await app.close()
  t.equal(app.backgroundTasks.get('service')?.state, 'stopped')
})

t.test('a run that awaits fastify.close() holds it up no longer than to the deadline', async t => {
  const { app, lines } = await build(t, { shutdownTimeout: 100 })
  const called = deferred()
  app.addBackgroundTask('suicidal', async function () {
    called.resolve()
    await this.close()
  })
  await app.ready()
  await called.promise
  await app.close()
  t.match(lines.filter(({ err }) => err?.code === 'FST_BG_SHUTDOWN_TIMEOUT'), [{ tasks: ['suicidal'] }])
})

t.test('a run that calls fastify.close() without awaiting it holds nothing up', async t => {
  const { app, lines } = await build(t)
  const closed = deferred()
  app.addBackgroundTask('closer', async function ({ signal }) {
    void this.close().then(() => { closed.resolve() })
    await aborted(signal)
  })
  await app.ready()
  await closed.promise
  t.equal(app.backgroundTasks.get('closer')?.state, 'stopped')
  t.notOk(lines.some(({ level }) => level === 'error'))
})

t.test('close() twice at once: both resolve, and every task is stopped once', async t => {
  const { app } = await build(t)
  let stops = 0
  app.addBackgroundTask('hosted', { async stop () { stops++ } })
  const { called } = service(app, 'service')
  await app.ready()
  await called
  await Promise.all([app.close(), app.close()])
  await app.close()
  t.equal(stops, 1)
})

t.test('close() from inside a task and from outside at once', async t => {
  const { app } = await build(t)
  let stops = 0
  const called = deferred()
  const inner = deferred()
  app.addBackgroundTask('hosted', { async stop () { stops++ } })
  app.addBackgroundTask('closer', async function ({ signal }) {
    called.resolve()
    this.close().then(inner.resolve, inner.reject)
    await aborted(signal)
  })
  await app.ready()
  await called.promise
  await app.close()
  await inner.promise
  t.equal(stops, 1)
})

t.test('close() after listen() failed with EADDRINUSE stops the tasks, which had started', async t => {
  const other = createServer()
  other.listen(0, '127.0.0.1')
  await once(other, 'listening')
  t.teardown(() => { other.close() })
  const { port } = other.address() as AddressInfo
  const { app } = await build(t)
  const events: string[] = []
  app.addBackgroundTask('hosted', { async start () { events.push('start') }, async stop () { events.push('stop') } })
  const { called, reason } = service(app, 'service')
  t.equal((await rejection(() => app.listen({ port, host: '127.0.0.1' }))).code, 'EADDRINUSE')
  await called
  t.same(events, ['start'])
  await app.close()
  t.same(events, ['start', 'stop'])
  t.equal((await reason).code, 'FST_BG_SHUTDOWN')
})

t.test('what a handler, a start or a stop returns makes neither ready() nor close() reject', async t => {
  const { app } = await build(t, { onRun: async (_run, next) => await next() })
  const called = deferred()
  app.addBackgroundTask('service', async () => {
    called.resolve()
    return { anything: true }
  })
  app.addBackgroundTask('hosted', { start: () => 'started', stop: async () => 'stopped' })
  await app.ready()
  await called.promise
  app.addBackgroundTask('late', { start: () => 'started', stop: () => 'stopped' })
  await app.close()
})

t.test('tasks declared late are awaited, and stopped in reverse order', async t => {
  const { app } = await build(t)
  const events: string[] = []
  await app.ready()
  for (const name of ['first', 'second']) {
    await app.addBackgroundTask(name, { async start () {}, async stop () { events.push(`${name} stops`) } }).start()
  }
  const called = deferred()
  app.addBackgroundTask('service', async ({ signal }) => {
    called.resolve()
    await aborted(signal)
    await new Promise(resolve => { setImmediate(resolve) })
    events.push('service ended')
  })
  await called.promise
  await app.close()
  t.same(events, ['service ended', 'second stops', 'first stops'])
})

t.test('late tasks that never end are bounded by the deadline and named', async t => {
  const { app, lines } = await build(t, { shutdownTimeout: 50 })
  await app.ready()
  const { called, release } = deaf(app, 'late')
  await called
  await app.close()
  t.match(lines.filter(({ err }) => err?.code === 'FST_BG_SHUTDOWN_TIMEOUT'), [{ tasks: ['late'] }])
  release()
})

t.test('the error of the stop of a late task rejects close() too', async t => {
  const { app } = await build(t)
  await app.ready()
  const error = new Error('cannot flush')
  await app.addBackgroundTask('late', { async stop () { throw error } }).start()
  t.equal(await rejection(app.close()), error)
})

t.test('a stop by hand that the close finds under way is awaited, not repeated, and not aborted before the deadline', async t => {
  const { app } = await build(t)
  const release = deferred()
  const called = deferred<AbortSignal>()
  let stops = 0
  const task = app.addBackgroundTask('hosted', {
    async stop ({ signal }) {
      stops++
      called.resolve(signal)
      await release.promise
    }
  })
  await app.ready()
  const stopped = task.stop()
  const signal = await called.promise
  let closed = false
  const closing = app.close().then(() => { closed = true })
  await new Promise(resolve => { setTimeout(resolve, 20) })
  t.equal(closed, false)
  t.equal(signal.aborted, false)
  release.resolve()
  await Promise.all([stopped, closing])
  t.equal(stops, 1)
})

t.test('a stop() by hand that waits for a run that never ends resolves at the shutdown deadline', async t => {
  const { app } = await build(t, { shutdownTimeout: 50 })
  const { called, release } = deaf(app, 'deaf')
  await app.ready()
  await called
  const stopped = app.backgroundTasks.get('deaf')?.stop()
  await app.close()
  await stopped
  t.equal(app.backgroundTasks.get('deaf')?.state, 'stopping')
  release()
})

t.test('a late start that succeeds only after the shutdown deadline is stopped', async t => {
  const { app } = await build(t, { shutdownTimeout: 30 })
  await app.ready()
  const called = deferred()
  const release = deferred()
  const stopped = deferred<AbortSignal>()
  app.addBackgroundTask('late', {
    async start () {
      called.resolve()
      await release.promise
    },
    async stop ({ signal }) { stopped.resolve(signal) }
  })
  await called.promise
  await app.close()
  release.resolve()
  await later()
  const signal = await Promise.race([stopped.promise, later().then(() => undefined)])
  t.equal(signal?.aborted, true)
})

t.test('a grace that the shutdown would cut is said at warn, at the declaration; a default one is not', async t => {
  const { app, lines } = await build(t, { shutdownTimeout: '4s' })
  app.addBackgroundTask('service', { grace: '5s' }, async () => {})
  app.addBackgroundTask('timed', { every: '1h', grace: '3500ms' }, async () => {})
  app.addBackgroundTask('hosted', { grace: '1m', start () {} })
  app.addBackgroundQueue('queue', { grace: '5s' }, async () => {})
  t.match(lines.splice(0), [
    { level: 'warn', task: 'service', grace: 5_000, cut: 3_000, msg: '"grace" of 5.0 s is cut to 3.0 s, three quarters of "shutdownTimeout", so that its runs hear of a shutdown before the deadline: raise "shutdownTimeout", or lower "grace"' },
    { level: 'warn', task: 'timed', grace: 3_500 },
    { level: 'warn', task: 'hosted', grace: 60_000 },
    { level: 'warn', task: 'queue', grace: 5_000 }
  ])
  app.addBackgroundTask('as long', { grace: '3s' }, async () => {})
  app.addBackgroundQueue('default', {}, async () => {})
  app.addBackgroundQueue('defaults', async () => {})
  t.same(lines, [])
})
