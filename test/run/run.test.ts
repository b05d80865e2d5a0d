import { AsyncLocalStorage } from 'node:async_hooks'
import Fastify, { type FastifyBaseLogger, type FastifyInstance } from 'fastify'
import t from 'tap'
import backgroundTasks, { errorCodes, type Run } from '../../lib/index.ts'
import { aborted, build, deferred, later, logged, mortal, rejection, unhandled, type Line } from '../support/helper.ts'

type AnyRun = Run<undefined, FastifyInstance>

t.test('a run has an id of its own, its task, its number and nothing for a payload', async t => {
  const { app } = await build(t, { autostart: false })
  const runs: AnyRun[] = []
  let called = deferred()
  const handler = async (run: AnyRun): Promise<void> => {
    runs.push(run)
    called.resolve()
  }
  const one = app.addBackgroundTask('one', mortal, handler)
  const two = app.addBackgroundTask('two', mortal, handler)
  await app.ready()
  for (const task of [one, two, one]) {
    called = deferred()
    await task.start()
    await called.promise
    await task.stop()
  }
  t.same(runs.map(run => run.task), ['one', 'two', 'one'])
  t.equal(new Set(runs.map(run => run.id)).size, 3)
  for (const run of runs) {
    t.match(run.id, /^[\da-f]{8}-[\da-f-]{27}$/)
    t.equal(run.id, run.id, 'it stays')
    t.equal(run.attempt, 1)
    t.equal(run.payload, undefined)
  }
})

t.test('start and stop of a hosted service are runs of their own', async t => {
  const { app } = await build(t)
  const runs: AnyRun[] = []
  app.addBackgroundTask('hosted', { async start (run) { runs.push(run) }, async stop (run) { runs.push(run) } })
  await app.ready()
  await app.close()
  t.same(runs.map(({ task }) => task), ['hosted', 'hosted'])
  t.not(runs[0]?.id, runs[1]?.id)
  t.not(runs[0]?.signal, runs[1]?.signal)
})

t.test('run.log has the bindings of the owner, the task and the run, and no reqId', async t => {
  const { app, lines } = await build(t)
  const late = deferred<AnyRun>()
  app.get('/', async request => {
    request.server.addBackgroundTask('late', mortal, async run => {
      run.log.info({ more: 1 }, 'from the run')
      late.resolve(run)
    })
    return 'ok'
  })
  await app.inject('/')
  const run = await late.promise
  const line = await logged(lines, 'from the run')
  t.match(line, { level: 'info', task: 'late', run: run.id, more: 1 })
  t.notOk('reqId' in line)
  t.equal(run.log, run.log)
})

t.test('the line about a run names the task, the run, the attempt and the duration', async t => {
  const { app, lines } = await build(t)
  const ran = deferred<AnyRun>()
  app.addBackgroundTask('service', mortal, async run => { ran.resolve(run) })
  await app.ready()
  const { id } = await ran.promise
  const line = await logged(lines, 'service completed')
  t.match(line, { level: 'info', task: 'service', run: id, attempt: 1, duration: Number })
  t.notOk('err' in line)
})

t.test('logLevel holds for the lines of the task and for run.log', async t => {
  const { app, lines } = await build(t)
  const ran = [deferred(), deferred()]
  app.addBackgroundTask('quiet', { logLevel: 'warn' }, async ({ log }) => {
    log.info('not written')
    log.warn('written')
    ran[0]?.resolve()
  })
  app.addBackgroundTask('loud', mortal, async ({ log }) => {
    log.info('written')
    ran[1]?.resolve()
  })
  await app.ready()
  await Promise.all(ran.map(({ promise }) => promise))
  await logged(lines, 'service completed', 'loud')
  t.same(lines.filter(({ task }) => task === 'quiet').map(({ msg }) => msg), ['written'])
})

t.test('the reason of a signal is an Error of the class that errorCodes has', async t => {
  const { app } = await build(t, {}, { pluginTimeout: 0 })
  const reasons: Record<string, unknown> = {}
  const called: Array<Promise<void>> = []
  const listen = (name: string): { (run: AnyRun): Promise<void> } => {
    const began = deferred()
    called.push(began.promise)
    return async ({ signal }) => {
      began.resolve()
      reasons[name] = await aborted(signal)
    }
  }
  app.addBackgroundTask('shutdown', listen('shutdown'))
  const cancelled = app.addBackgroundTask('cancelled', listen('cancelled'))
  const timeout = app.addBackgroundTask('timeout', { enabled: false, startTimeout: 10, start: listen('timeout') })
  await app.ready()
  t.equal((await rejection(timeout.start())).code, 'FST_BG_START_TIMEOUT')
  await Promise.all(called)
  await cancelled.stop()
  await app.close()
  const { FST_BG_SHUTDOWN, FST_BG_CANCELLED, FST_BG_TIMEOUT } = errorCodes
  t.ok(reasons.shutdown instanceof FST_BG_SHUTDOWN && reasons.shutdown instanceof Error)
  t.ok(reasons.cancelled instanceof FST_BG_CANCELLED)
  t.ok(reasons.timeout instanceof FST_BG_TIMEOUT)
  t.match(reasons, {
    shutdown: { code: 'FST_BG_SHUTDOWN', statusCode: 503 },
    cancelled: { code: 'FST_BG_CANCELLED', message: /"cancelled"/ },
    timeout: { code: 'FST_BG_TIMEOUT', message: /"timeout".*10ms/ }
  })
})

t.test('the first reason of a signal stays, also where the signal is looked at later', async t => {
  const { app } = await build(t)
  const called = deferred<AnyRun>()
  const release = deferred()
  const task = app.addBackgroundTask('service', mortal, async run => {
    called.resolve(run)
    await release.promise
  })
  await app.ready()
  const run = await called.promise
  const stopped = task.stop()
  const closed = app.close()
  await later()
  t.equal(run.signal.reason.code, 'FST_BG_CANCELLED')
  release.resolve()
  await Promise.all([stopped, closed])
})

t.test('a signal that is looked at only after it was to abort has aborted, with the reason', async t => {
  const { app } = await build(t)
  const called = deferred()
  const release = deferred()
  const seen = deferred<AbortSignal>()
  app.addBackgroundTask('service', mortal, async run => {
    called.resolve()
    await release.promise
    seen.resolve(run.signal)
  })
  await app.ready()
  await called.promise
  const closing = app.close()
  await later()
  release.resolve()
  await closing
  const signal = await seen.promise
  t.equal(signal.aborted, true)
  t.equal(signal.reason.code, 'FST_BG_SHUTDOWN')
})

t.test('one signal takes thirty listeners without a warning', async t => {
  const { app } = await build(t)
  const warnings: Error[] = []
  const note = (warning: Error): void => { warnings.push(warning) }
  process.on('warning', note)
  t.teardown(() => { process.off('warning', note) })
  const called = deferred()
  let heard = 0
  app.addBackgroundTask('service', mortal, async ({ signal }) => {
    for (let i = 0; i < 30; i++) signal.addEventListener('abort', () => { heard++ })
    called.resolve()
    await aborted(signal)
  })
  await app.ready()
  await called.promise
  await later()
  await app.close()
  t.equal(heard, 30)
  t.same(warnings.filter(({ name }) => name === 'MaxListenersExceededWarning'), [])
})

t.test('an AbortError while the signal has not aborted is a failure like any other', async t => {
  const { app, lines } = await build(t)
  const task = app.addBackgroundTask('service', mortal, async () => {
    const own = new AbortController()
    own.abort()
    own.signal.throwIfAborted()
  })
  await app.ready()
  t.match(await logged(lines, 'service failed'), { level: 'error', task: 'service', err: { message: /aborted/ } })
  t.equal(task.state, 'failed')
})

for (const [why, code] of [['the app closes', 'FST_BG_SHUTDOWN'], ['the task is stopped', 'FST_BG_CANCELLED']] as const) {
  t.test(`a handler that rejects after its signal aborted because ${why} was cancelled: it has not failed, whatever it rejects with`, async t => {
    const { app, lines } = await build(t)
    const called = deferred<AbortSignal>()
    const task = app.addBackgroundTask('service', mortal, async ({ signal }) => {
      called.resolve(signal)
      await aborted(signal)
      throw new TypeError('connection lost')
    })
    await app.ready()
    const signal = await called.promise
    await (code === 'FST_BG_SHUTDOWN' ? app.close() : task.stop())
    t.equal(signal.reason.code, code)
    t.equal(task.state, 'stopped')
    t.match(await logged(lines, 'service stopped'), { level: 'debug', err: { message: 'connection lost' } })
    t.same(lines.filter(({ level }) => level === 'error' || level === 'warn'), [])
  })
}

t.test('a handler that rejects during its grace, before the signal aborts, has failed', async t => {
  const { app, lines } = await build(t)
  const called = deferred()
  const release = deferred()
  const task = app.addBackgroundTask('service', { grace: '5s' }, async () => {
    called.resolve()
    await release.promise
    throw new Error('broken')
  })
  await app.ready()
  await called.promise
  const closing = app.close()
  await later()
  release.resolve()
  await closing
  t.match(await logged(lines, 'service failed'), { level: 'error', err: { message: 'broken' } })
  t.equal(task.state, 'failed')
})

t.test('a handler that resolves has succeeded, also after its signal aborted', async t => {
  const { app, lines } = await build(t)
  const called = deferred()
  const task = app.addBackgroundTask('service', mortal, async ({ signal }) => {
    called.resolve()
    await aborted(signal)
  })
  await app.ready()
  await called.promise
  await app.close()
  t.equal(task.state, 'stopped')
  const line = await logged(lines, 'service stopped')
  t.notOk('err' in line)
})

t.test('a service whose handler returns is completed', async t => {
  const { app, lines } = await build(t)
  const task = app.addBackgroundTask('service', mortal, () => 'not even a promise')
  await app.ready()
  await logged(lines, 'service completed')
  t.equal(task.state, 'completed')
})

const frozen = Object.freeze(new Error('frozen'))
const ownToString = { toString () { throw new Error('not even a text') } }
const cyclic = new Error('cyclic')
cyclic.cause = cyclic
const foreign = Object.defineProperty(new Error('with a getter'), 'detail', { enumerable: true, get () { throw new Error('the getter') } })

const thrown: Record<string, { value: unknown, message: RegExp }> = {
  undefined: { value: undefined, message: /undefined/ },
  null: { value: null, message: /null/ },
  'a text': { value: 'plain text', message: /plain text/ },
  'a symbol': { value: Symbol('mark'), message: /Symbol\(mark\)/ },
  'a bigint': { value: 10n, message: /10n/ },
  'an object without a prototype': { value: Object.create(null), message: /null prototype/ },
  'an object whose toString throws': { value: ownToString, message: /toString/ },
  'a frozen error': { value: frozen, message: /^frozen$/ },
  'an error that is its own cause': { value: cyclic, message: /cyclic/ },
  'an error with a property that throws': { value: foreign, message: /with a getter/ }
}
for (const [what, { value, message }] of Object.entries(thrown)) {
  for (const how of ['rejects with', 'throws at once']) {
    t.test(`a service that ${how} ${what} has failed, is logged, and leaves nothing unhandled`, async t => {
      const seen = unhandled(t)
      const { app, lines } = await build(t)
      const task = app.addBackgroundTask('service', mortal, () => {
        if (how === 'throws at once') throw value
        return Promise.reject(value)
      })
      const other = app.addBackgroundTask('other', mortal, async ({ signal }) => { await aborted(signal) })
      await app.ready()
      const line = await logged(lines, 'service failed')
      t.match(line, { level: 'error', task: 'service' })
      t.match(line.err?.message, message)
      await later()
      t.equal(task.state, 'failed')
      t.equal(other.state, 'running')
      await app.close()
      t.same(seen, [])
    })
  }
}

t.test('an error whose message throws leaves nothing unhandled', async t => {
  const seen = unhandled(t)
  const { app } = await build(t)
  const called = deferred()
  const task = app.addBackgroundTask('service', mortal, async () => {
    called.resolve()
    throw Object.defineProperty(new Error('hidden'), 'message', { get () { throw new Error('the getter') } })
  })
  await app.ready()
  await called.promise
  await later()
  t.equal(task.state, 'failed')
  await app.close()
  t.same(seen, [])
})

const thenables: Record<string, { make: () => unknown, state: 'completed' | 'failed' }> = {
  'resolves twice': { make: () => ({ then (resolve: (value: unknown) => void) { resolve(1); resolve(2) } }), state: 'completed' },
  'resolves, then throws': { make: () => ({ then (resolve: (value: unknown) => void) { resolve(1); throw new Error('late') } }), state: 'completed' },
  'rejects twice': { make: () => ({ then (_: unknown, reject: (error: unknown) => void) { reject(new Error('one')); reject(new Error('two')) } }), state: 'failed' },
  throws: { make: () => ({ then () { throw new Error('then') } }), state: 'failed' },
  'has a then that cannot be read': { make: () => ({ get then () { throw new Error('getter') } }), state: 'failed' },
  'resolves with another that rejects': { make: () => ({ then (resolve: (value: unknown) => void) { resolve({ then (_: unknown, reject: (error: unknown) => void) { reject(new Error('inner')) } }) } }), state: 'failed' },
  'has a then that is no function': { make: () => ({ then: 'no function' }), state: 'completed' }
}
for (const [what, { make, state }] of Object.entries(thenables)) {
  t.test(`a handler that returns a thenable that ${what} has ${state}`, async t => {
    const seen = unhandled(t)
    const { app, lines } = await build(t)
    const task = app.addBackgroundTask('service', mortal, () => make())
    await app.ready()
    await logged(lines, `service ${state}`)
    await later()
    t.equal(task.state, state)
    await app.close()
    t.same(seen, [])
  })
}

t.test('with logger: false everything works, and run.log takes lines', async t => {
  const seen = unhandled(t)
  const { app } = await build(t, { shutdownTimeout: 50 }, { logger: false })
  const ran = deferred()
  const release = deferred()
  app.addBackgroundTask('service', mortal, async ({ log }) => {
    log.info('line')
    log.child({ a: 1 }).error('line')
    ran.resolve()
  })
  const failed = app.addBackgroundTask('failed', mortal, async () => { throw frozen })
  const quiet = app.addBackgroundTask('quiet', { logLevel: 'warn' }, async ({ log }) => {
    log.warn('line')
    await release.promise
  })
  app.addBackgroundTask('hosted', { stop () { throw new Error('cannot flush') } })
  await app.ready()
  await ran.promise
  await later()
  t.equal(failed.state, 'failed')
  t.equal(quiet.state, 'running')
  t.match(await rejection(app.close()), { message: 'cannot flush' })
  release.resolve()
  await later()
  t.same(seen, [])
})

t.test('a custom logger gets the lines of the plugin and of the runs', async t => {
  const lines: Array<[string, Record<string, unknown>, string]> = []
  const done = deferred()
  const make = (bindings: object): FastifyBaseLogger => {
    const level = (name: string) => (fields: object, message: string) => {
      lines.push([name, { ...bindings, ...fields }, message])
      if (message === 'service failed') done.resolve()
    }
    return {
      level: 'info',
      fatal: level('fatal'),
      error: level('error'),
      warn: level('warn'),
      info: level('info'),
      debug: level('debug'),
      trace: level('trace'),
      silent: () => {},
      child: (more: object) => make({ ...bindings, ...more })
    } as unknown as FastifyBaseLogger
  }
  const app = Fastify({ loggerInstance: make({ app: 'mine' }) })
  t.teardown(async () => { await app.close() })
  await app.register(backgroundTasks)
  app.addBackgroundTask('service', mortal, async ({ log }) => {
    log.info({ more: 1 }, 'from the run')
    throw new Error('broken')
  })
  await app.ready()
  await done.promise
  const own = lines.find(([,, message]) => message === 'from the run')
  t.match(own, ['info', { app: 'mine', task: 'service', run: String, more: 1 }])
  t.match(lines.find(([,, message]) => message === 'service failed'), ['error', { app: 'mine', task: 'service', attempt: 1, err: { message: 'broken' } }])
})

t.test('a logger that throws fails no run and leaves nothing unhandled', async t => {
  const seen = unhandled(t)
  const level = (): void => { throw new Error('disk full') }
  const logger = { level: 'info', fatal: level, error: level, warn: level, info: level, debug: level, trace: level, silent: level, child: () => logger } as unknown as FastifyBaseLogger
  const app = Fastify({ loggerInstance: logger })
  await app.register(backgroundTasks)
  const called = deferred()
  const done = app.addBackgroundTask('done', mortal, async () => {})
  const failed = app.addBackgroundTask('failed', mortal, async () => {
    called.resolve()
    throw new Error('broken')
  })
  await app.ready()
  await called.promise
  await later()
  t.equal(done.state, 'completed')
  t.equal(failed.state, 'failed')
  await app.close()
  t.same(seen, [])
})

t.test('a task does not inherit the AsyncLocalStorage store of the request that declared it', async t => {
  const { app } = await build(t)
  const storage = new AsyncLocalStorage<string>()
  const seen: Record<string, string | undefined> = {}
  const all = [deferred(), deferred(), deferred()]
  app.addHook('onRequest', (_request, _reply, done) => { storage.run('the request', done) })
  app.post('/', async request => {
    seen.route = storage.getStore()
    request.server.addBackgroundTask('service', mortal, async () => {
      seen.service = storage.getStore()
      all[0]?.resolve()
      await later()
      seen.afterwards = storage.getStore()
      all[1]?.resolve()
    })
    request.server.addBackgroundTask('hosted', {
      async start () {
        seen.start = storage.getStore()
        all[2]?.resolve()
      },
      async stop () { seen.stop = storage.getStore() }
    })
    return 'ok'
  })
  const address = await app.listen({ port: 0 })
  await fetch(address, { method: 'POST', headers: { connection: 'close' } })
  await Promise.all(all.map(({ promise }) => promise))
  await storage.run('who closes', async () => { await app.close() })
  t.same(seen, { route: 'the request', service: undefined, afterwards: undefined, start: undefined, stop: undefined })
})

t.test('onRun wraps every run, with the run and with this, the owner', async t => {
  const events: string[] = []
  const runs: Array<Run<unknown, FastifyInstance>> = []
  const selves: unknown[] = []
  const { app, lines } = await build(t, {
    async onRun (this: unknown, run, next) {
      runs.push(run)
      selves.push(this)
      events.push(`before ${run.task}`)
      const value = await next()
      events.push(`after ${run.task}: ${value as string}`)
      return value
    }
  })
  const seen: AnyRun[] = []
  let child!: FastifyInstance
  app.register(async instance => {
    child = instance
    child.addBackgroundTask('hosted', {
      async start (run) {
        seen.push(run)
        return 'started'
      },
      async stop (run) {
        seen.push(run)
        return 'stopped'
      }
    })
    child.addBackgroundTask('service', mortal, async run => {
      seen.push(run)
      return 'done'
    })
  })
  await app.ready()
  await logged(lines, 'service completed')
  await app.close()
  t.same(events, [
    'before hosted', 'after hosted: started', 'before service', 'after service: done', 'before hosted', 'after hosted: stopped'
  ])
  t.equal(seen.length, 3)
  seen.forEach((run, i) => {
    t.equal(runs[i], run, 'the very run that the handler gets')
    t.equal(selves[i], child)
    t.equal(run.server, child)
  })
})

t.test('what onRun puts on the run, and the AsyncLocalStorage store it opens, reach the handler', async t => {
  const storage = new AsyncLocalStorage<string>()
  const { app } = await build(t, {
    onRun: async (run, next) => await storage.run(`scope of ${run.task}`, async () => {
      Object.assign(run, { tenant: 'acme' })
      return await next()
    })
  })
  const seen = deferred<unknown[]>()
  app.addBackgroundTask('service', mortal, async run => {
    await later()
    seen.resolve([storage.getStore(), (run as AnyRun & { tenant?: string }).tenant])
  })
  await app.ready()
  t.same(await seen.promise, ['scope of service', 'acme'])
})

t.test('an onRun that throws before next() fails the run; the handler is not called', async t => {
  const seen = unhandled(t)
  const { app, lines } = await build(t, { onRun () { throw new Error('no tenant') } })
  const task = app.addBackgroundTask('service', mortal, async () => { t.fail('must not run') })
  await app.ready()
  t.match(await logged(lines, 'service failed'), { err: { message: 'no tenant' } })
  t.equal(task.state, 'failed')
  await later()
  t.same(seen, [])
})

t.test('an onRun that throws after next() fails the run', async t => {
  const { app, lines } = await build(t, {
    async onRun (_run, next) {
      await next()
      throw new Error('cannot commit')
    }
  })
  app.addBackgroundTask('service', mortal, async () => 'done')
  await app.ready()
  t.match(await logged(lines, 'service failed'), { err: { message: 'cannot commit' } })
})

t.test('an onRun that throws while the handler is still at work: the run ends when both have, and has failed', async t => {
  const seen = unhandled(t)
  const { app, lines } = await build(t, {
    async onRun (_run, next) {
      void next()
      throw new Error('too early')
    }
  })
  const called = deferred()
  const release = deferred()
  const task = app.addBackgroundTask('service', mortal, async () => {
    called.resolve()
    await release.promise
    throw new Error('of the handler')
  })
  await app.ready()
  await called.promise
  await later()
  t.equal(task.state, 'running')
  release.resolve()
  t.match(await logged(lines, 'service failed'), { err: { message: 'too early' } })
  await later()
  t.same(seen, [])
})

t.test('an onRun that throws makes ready() reject where it wraps a start', async t => {
  const error = new Error('no tenant')
  const { app } = await build(t, { async onRun () { throw error } })
  app.addBackgroundTask('hosted', { async start () { t.fail('must not start') }, async stop () { t.fail('must not stop') } })
  t.equal(await rejection(() => app.ready()), error)
})

t.test('what the handler rejects with passes through onRun unchanged', async t => {
  const error = new Error('no broker')
  let caught: unknown
  const { app } = await build(t, {
    async onRun (_run, next) {
      try {
        return await next()
      } catch (thrown) {
        caught = thrown
        throw thrown
      }
    }
  })
  app.addBackgroundTask('hosted', { async start () { throw error } })
  t.equal(await rejection(() => app.ready()), error)
  t.equal(caught, error)
})

t.test('an onRun that waits for next() and swallows its error has the last word: the run has succeeded', async t => {
  const { app, lines } = await build(t, { async onRun (_run, next) { await next()?.catch(() => {}) } })
  const task = app.addBackgroundTask('service', mortal, async () => { throw new Error('swallowed') })
  await app.ready()
  await logged(lines, 'service completed')
  t.equal(task.state, 'completed')
  t.notOk(lines.some(({ level }) => level === 'error'))
})

t.test('an onRun that forgets to wait for next() lets the run go on until the handler has ended', async t => {
  const seen = unhandled(t)
  const { app } = await build(t, { onRun (_run, next) { void next() } })
  const called = deferred()
  const release = deferred()
  let ended = false
  const task = app.addBackgroundTask('service', mortal, async () => {
    called.resolve()
    await release.promise
    ended = true
  })
  await app.ready()
  await called.promise
  await later()
  t.equal(task.state, 'running')
  const closing = app.close().then(() => { t.equal(ended, true) })
  await later()
  release.resolve()
  await closing
  t.same(seen, [])
})

t.test('an onRun that forgets to wait for next() hides no failure', async t => {
  const seen = unhandled(t)
  const { app, lines } = await build(t, { onRun (_run, next) { void next() } })
  app.addBackgroundTask('service', mortal, async () => { throw new Error('broken') })
  await app.ready()
  t.match(await logged(lines, 'service failed'), { err: { message: 'broken' } })
  await later()
  t.same(seen, [])
})

t.test('next() called twice calls the handler once, and gives the same promise', async t => {
  let calls = 0
  const promises: unknown[] = []
  const { app, lines } = await build(t, {
    async onRun (_run, next) {
      promises.push(next(), next())
      return await Promise.all(promises)
    }
  })
  app.addBackgroundTask('service', mortal, async () => { calls++ })
  await app.ready()
  await logged(lines, 'service completed')
  t.equal(calls, 1)
  t.equal(promises[0], promises[1])
})

t.test('next() called after onRun has ended rejects, and does not call the handler', async t => {
  const seen = unhandled(t)
  let kept: (() => Promise<unknown>) | undefined
  const { app, lines } = await build(t, { async onRun (_run, next) { kept = next } })
  app.addBackgroundTask('service', mortal, async () => { t.fail('must not run') })
  await app.ready()
  await logged(lines, 'service completed')
  t.ok((await rejection(kept?.() ?? t.fail('onRun was not called') as never)) instanceof Error)
  void kept?.()
  await later()
  t.same(seen, [])
})

t.test('after an abort, an onRun that rejects with the error of the handler is a cancelled run too', async t => {
  const { app, lines } = await build(t, { onRun: async (_run, next) => await next() })
  const called = deferred()
  const task = app.addBackgroundTask('service', mortal, async ({ signal }) => {
    called.resolve()
    await aborted(signal)
    signal.throwIfAborted()
  })
  await app.ready()
  await called.promise
  await app.close()
  t.equal(task.state, 'stopped')
  t.same(lines.filter(({ level }: Line) => level === 'error'), [])
})

const revoked = (): unknown => {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  return proxy
}
const odd: Record<string, () => unknown> = {
  'a revoked proxy': revoked,
  'an object whose tag throws': () => ({ get [Symbol.toStringTag] (): string { throw new Error('tag') } }),
  'an object whose inspection throws': () => ({ [Symbol.for('nodejs.util.inspect.custom')] () { throw new Error('inspect') } }),
  'an error whose message throws': () => Object.defineProperty(new Error('hidden'), 'message', { get () { throw new Error('getter') } }),
  'an error whose stack throws': () => Object.defineProperty(new Error('hidden'), 'stack', { get () { throw new Error('getter') } })
}
for (const [what, make] of Object.entries(odd)) {
  t.test(`a service that throws ${what} has failed, is logged, and leaves nothing unhandled`, async t => {
    const seen: unknown[] = []
    const before = process.listeners('unhandledRejection')
    process.removeAllListeners('unhandledRejection')
    process.on('unhandledRejection', error => { seen.push(error) })
    t.teardown(() => {
      process.removeAllListeners('unhandledRejection')
      for (const listener of before) process.on('unhandledRejection', listener)
    })
    const { app, lines } = await build(t)
    const task = app.addBackgroundTask('service', mortal, async () => { throw make() })
    await app.ready()
    for (let i = 0; i < 5; i++) await later()
    t.equal(task.state, 'failed')
    t.equal(lines.filter(({ msg }) => msg === 'service failed').length, 1)
    t.same(seen, [])
  })
  t.test(`a stop that throws ${what} rejects close()`, async t => {
    const { app, lines } = await build(t, { shutdownTimeout: 300 })
    const task = app.addBackgroundTask('hosted', { async stop () { throw make() } })
    await app.ready()
    let rejected = false
    await app.close().catch(() => { rejected = true })
    t.equal(rejected, true)
    t.equal(task.state, 'failed')
    t.equal(lines.filter(({ msg }) => msg === 'stop failed').length, 1)
  })
}

t.test('an onRun that forgets to wait for next(), and works on meanwhile, hides no failure', async t => {
  const { app, lines } = await build(t, {
    async onRun (_run, next) {
      void next()
      await later()
    }
  })
  const task = app.addBackgroundTask('service', mortal, async () => { throw new Error('broken') })
  await app.ready()
  await Promise.race([logged(lines, 'service failed'), logged(lines, 'service completed')])
  t.equal(task.state, 'failed')
})
