// runInBackground. Real servers and real sockets, as what is promised is about when a response has gone out, and when a client has left.
import { AsyncLocalStorage } from 'node:async_hooks'
import { EventEmitter, once } from 'node:events'
import { Agent, get, type IncomingMessage } from 'node:http'
import { connect as connect2, constants, type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { PassThrough } from 'node:stream'
import { text } from 'node:stream/consumers'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest, type FastifyServerOptions } from 'fastify'
import fp from 'fastify-plugin'
import t, { type Test } from 'tap'
import backgroundTasks, { type Run, type RunHandle } from '../../lib/index.ts'
import { aborted, build, capture, deferred, later, logged, rejection, unhandled, type Line } from '../support/helper.ts'
import { fake, turns } from '../support/fakes.ts'

type AnyRun = Run<undefined, FastifyInstance>

declare module 'fastify' {
  interface FastifyInstance { database?: { open: boolean } }
}

/** The answer to a GET, over a connection of its own. */
async function ask (address: string, agent: Agent | false = false): Promise<{ status: number | undefined, body: string }> {
  const [response] = await once(get(address, { agent }), 'response') as [IncomingMessage]
  return { status: response.statusCode, body: await text(response) }
}

/** A client that sends a GET and reads nothing: it is there to leave. */
async function client (t: Test, app: FastifyInstance, path = '/'): Promise<Socket> {
  const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1')
  socket.on('error', () => {})
  t.teardown(() => { socket.destroy() })
  await once(socket, 'connect')
  socket.write(`GET ${path} HTTP/1.1\r\nhost: localhost\r\n\r\n`)
  return socket
}

/** One run and its request, and the steps that they take. */
class Trace {
  readonly steps: string[] = []
  readonly #emitter = new EventEmitter()
  handle: RunHandle | undefined

  /** To be called in a route, or a hook. */
  begin (request: FastifyRequest): RunHandle {
    this.handle = request.runInBackground('after', async () => { this.step('run') })
    return this.handle
  }

  step (name: string): void {
    this.steps.push(name)
    this.#emitter.emit(name)
  }

  /** Resolves as soon as that step has been taken. */
  async taken (name: string): Promise<void> {
    if (!this.steps.includes(name)) await once(this.#emitter, name)
  }
}

/** An app with one route, and a trace that notes its response. */
async function traced (t: Test, handler: (trace: Trace, request: FastifyRequest, reply: FastifyReply) => unknown, options: FastifyServerOptions = {}): Promise<{ app: FastifyInstance, trace: Trace }> {
  const { app } = await build(t, {}, options)
  const trace = new Trace()
  app.addHook('onResponse', async () => { trace.step('onResponse') })
  app.get('/', async (request, reply) => {
    trace.step('request')
    const body = await handler(trace, request, reply)
    trace.step('handled')
    return body
  })
  return { app, trace }
}

/** What a promise has resolved to by now. */
async function atOnce<T> (promise: Promise<T>): Promise<T | string> {
  return await Promise.race([promise, Promise.resolve('it has not ended')])
}

/** A plugin that opens a database, and closes it with the app. */
const database = fp(async fastify => {
  const database = { open: true }
  fastify.decorate('database', database)
  fastify.addHook('onClose', async () => {
    await later()
    database.open = false
  })
})

// --- What it is

t.test('what fastify.runInBackground is given begins in a later macrotask, and its handle tells how it ended', async t => {
  const { app } = await build(t)
  await app.ready()
  let began = false
  const { id, finished } = app.runInBackground('count', async run => {
    began = true
    return [run.id, run.task, run.attempt, run.payload, run.dueAt, run.missed]
  })
  await Promise.resolve()
  await new Promise<void>(resolve => { process.nextTick(resolve) })
  t.equal(began, false)
  t.match(await finished, { outcome: 'succeeded', value: [id, 'count', 1, undefined, undefined, 0], error: undefined, duration: Number })
})

t.test('it is accepted before the app is ready, with autostart: false, without a name, and from within such a run', async t => {
  const { app } = await build(t, { autostart: false })
  const { finished } = app.runInBackground(async function ({ task, server }) {
    return [task, (await server.runInBackground('inner', async ({ task }) => task).finished).value]
  })
  t.same((await finished).value, ['background', 'inner'])
})

t.test('`this` and run.server are the instance it is called on; for a request, that of its route', async t => {
  const { app } = await build(t)
  let child!: FastifyInstance
  const handles: RunHandle[] = []
  async function handler (this: FastifyInstance, { server }: AnyRun): Promise<FastifyInstance[]> {
    return [this, server]
  }
  await app.register(async instance => {
    child = instance
    child.get('/child', async request => {
      handles.push(request.runInBackground(handler), child.runInBackground(handler))
      return {}
    })
  })
  await app.inject('/child')
  for (const { finished } of handles) {
    for (const seen of (await finished).value as FastifyInstance[]) t.ok(seen === child)
  }
  for (const seen of (await app.runInBackground(handler).finished).value as FastifyInstance[]) t.ok(seen === app)
})

t.test('a bad argument throws FST_BG_INVALID_OPTION at the call, and says what it was', async t => {
  const { app } = await build(t)
  const thrown: unknown[] = []
  const bad: unknown[][] = [[], [undefined], ['name'], ['name', undefined], ['name', {}], ['', () => {}], ['  ', () => {}], [7, () => {}], [() => {}, 'name'], [undefined, () => {}]]
  app.get('/', async request => {
    for (const given of bad) {
      try { (request.runInBackground as (...given: unknown[]) => RunHandle)(...given) } catch (error) { thrown.push(error) }
    }
    return {}
  })
  await app.inject('/')
  t.equal(thrown.length, bad.length)
  for (const error of thrown) t.match(error, { code: 'FST_BG_INVALID_OPTION', message: /^runInBackground\(\): the (name|handler) must be .*; received / })
  for (const given of bad) {
    t.throws(() => { (app.runInBackground as (...given: unknown[]) => RunHandle)(...given) }, { code: 'FST_BG_INVALID_OPTION' })
  }
  t.throws(() => { (app.runInBackground as (...given: unknown[]) => RunHandle)('mail', 'no function') }, { message: /the handler must be a function, and the last argument; received 'no function'/ })
})

t.test('called without its instance or its request, it throws FST_BG_INVALID_THIS', async t => {
  const { app } = await build(t)
  const { runInBackground } = app
  for (const self of [undefined, null, 'app', {}, { server: {} }, Fastify()]) {
    t.throws(() => (runInBackground as Function).call(self, async () => {}), { code: 'FST_BG_INVALID_THIS', message: /runInBackground\(\)/ })
  }
  app.get('/', async request => {
    const { runInBackground } = request
    for (const self of [undefined, null, 'request', {}, app]) {
      t.throws(() => (runInBackground as Function).call(self, async () => {}), { code: 'FST_BG_INVALID_THIS', message: /request\.runInBackground\(\)/ })
    }
    return {}
  })
  t.equal((await app.inject('/')).statusCode, 200)
})

t.test('an onRequest hook that was added before the plugin is refused, as the request has not been seen then', async t => {
  const app: FastifyInstance = Fastify()
  t.teardown(async () => { await app.close() })
  app.addHook('onRequest', async request => { request.runInBackground(async () => {}) })
  await app.register(backgroundTasks)
  app.get('/', async () => ({}))
  t.match((await app.inject('/')).json(), { code: 'FST_BG_INVALID_OPTION', message: /in an onRequest hook .* Register fastify-background-tasks before/ })
})

t.test('the route of a plugin that was registered before is served like any other', async t => {
  const app: FastifyInstance = Fastify()
  const trace = new Trace()
  t.teardown(async () => { await app.close() })
  await app.register(async child => {
    child.get('/', async request => {
      trace.begin(request)
      return {}
    })
  })
  await app.register(backgroundTasks)
  const address = await app.listen({ port: 0 })
  const agent = new Agent({ keepAlive: true })
  t.teardown(() => { agent.destroy() })
  await ask(address, agent)
  await trace.taken('run')
})

t.test('a route of the same instance that was declared before it is served like any other', async t => {
  const app: FastifyInstance = Fastify()
  const trace = new Trace()
  t.teardown(async () => { await app.close() })
  app.get('/', async request => {
    trace.begin(request)
    return {}
  })
  app.register(backgroundTasks)
  await app.inject('/')
  await trace.taken('run')
})

// --- After the response

t.test('a request begins it after its response has been sent, and the response does not wait for it', async t => {
  const { app, trace } = await traced(t, async (trace, request) => {
    trace.begin(request)
    await later()
    return { ok: true }
  })
  const held = deferred()
  app.get('/held', async request => {
    request.runInBackground(async () => { await held.promise })
    return 'sent'
  })
  app.addHook('onSend', async () => { trace.step('onSend') })
  const address = await app.listen({ port: 0 })
  t.same(await ask(address), { status: 200, body: '{"ok":true}' })
  await trace.taken('run')
  t.same(trace.steps, ['request', 'handled', 'onSend', 'onResponse', 'run'])
  t.equal((await trace.handle?.finished)?.outcome, 'succeeded')
  t.same(await ask(`${address}/held`), { status: 200, body: 'sent' })
  held.resolve()
})

t.test('so it does with inject()', async t => {
  const { app, trace } = await traced(t, async (trace, request) => {
    trace.begin(request)
    await later()
    return {}
  })
  await app.inject('/')
  await trace.taken('run')
  t.same(trace.steps, ['request', 'handled', 'onResponse', 'run'])
})

for (const [how, answer, status] of [
  ['throws', () => { throw new Error('broken') }, 500],
  ['answers with an error of its own', async (reply: FastifyReply) => await reply.code(418).send({}), 418],
  ['redirects', async (reply: FastifyReply) => await reply.redirect('/elsewhere'), 302]
] as const) {
  t.test(`so it does where the route ${how}`, async t => {
    const { app, trace } = await traced(t, async (trace, request, reply) => {
      trace.begin(request)
      await later()
      await answer(reply)
    })
    const address = await app.listen({ port: 0 })
    t.equal((await ask(address)).status, status)
    await trace.taken('run')
    t.same(trace.steps.slice(-2), ['onResponse', 'run'])
  })
}

t.test('every hook of a request and the handler of what is not found may ask for it', async t => {
  const { app } = await build(t)
  const asked: string[] = []
  const began: string[] = []
  const over: Array<Promise<unknown>> = []
  const begin = (request: FastifyRequest, where: string): void => {
    asked.push(where)
    over.push(request.runInBackground(where, async ({ task }) => { began.push(task) }).finished)
  }
  const answered = deferred()
  for (const name of ['onRequest', 'preParsing', 'preValidation', 'preHandler', 'preSerialization', 'onSend', 'onResponse'] as const) {
    app.addHook(name as 'onRequest', async request => {
      t.same(began, [], `nothing runs before ${name}`)
      begin(request, name)
      if (name === 'onResponse') answered.resolve()
    })
  }
  app.setNotFoundHandler(async (request, reply) => {
    begin(request, 'not found')
    return await reply.code(404).send({})
  })
  const address = await app.listen({ port: 0 })
  t.equal((await ask(`${address}/nowhere`)).status, 404)
  await answered.promise
  await Promise.all(over)
  t.same([...began].sort(), [...asked].sort())
})

t.test('with a stream for a reply, it begins after the last byte', async t => {
  const body = new PassThrough()
  const { app, trace } = await traced(t, async (trace, request) => {
    trace.begin(request)
    return body
  })
  const address = await app.listen({ port: 0 })
  body.write('first')
  const [response] = await once(get(address, { agent: false }), 'response') as [IncomingMessage]
  await once(response, 'data')
  t.notOk(trace.steps.includes('run'))
  body.end('last')
  response.resume()
  await trace.taken('run')
  t.same(trace.steps.slice(-2), ['onResponse', 'run'])
})

t.test('with a stream that fails half-way, it begins when the connection has been torn down', async t => {
  const body = new PassThrough()
  const { app, trace } = await traced(t, async (trace, request) => {
    trace.begin(request)
    return body
  })
  const address = await app.listen({ port: 0 })
  body.write('first')
  const [response] = await once(get(address, { agent: false }), 'response') as [IncomingMessage]
  response.on('error', () => {})
  await once(response, 'data')
  t.notOk(trace.steps.includes('run'))
  body.destroy(new Error('the disk is gone'))
  await trace.taken('run')
})

t.test('with a hijacked reply, it begins when that has been ended', async t => {
  const { app, trace } = await traced(t, async (trace, request, reply) => {
    trace.begin(request)
    reply.hijack()
    reply.raw.write('data: hello\n\n')
    setImmediate(() => {
      trace.step('end')
      reply.raw.end()
    })
  })
  const address = await app.listen({ port: 0 })
  t.equal((await ask(address)).body, 'data: hello\n\n')
  await trace.taken('run')
  t.same(trace.steps.filter(step => step === 'end' || step === 'run'), ['end', 'run'])
})

t.test('on a connection that is kept, each request begins its own after its own response', async t => {
  const { app } = await build(t)
  const began: string[] = []
  const gate = deferred()
  app.get('/:id', async (request: FastifyRequest<{ Params: { id: string } }>) => {
    const { id } = request.params
    request.runInBackground(async () => { began.push(id) })
    if (id === 'second') await gate.promise
    return id
  })
  const address = await app.listen({ port: 0 })
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => { agent.destroy() })
  t.equal((await ask(`${address}/first`, agent)).body, 'first')
  const second = ask(`${address}/second`, agent)
  await app.backgroundTasks.drain()
  t.same(began, ['first'])
  gate.resolve()
  t.equal((await second).body, 'second')
  await app.backgroundTasks.drain()
  t.same(began, ['first', 'second'])
})

t.test('twenty of one request, and of twenty requests that are pipelined, listen once to their connection', async t => {
  const { app } = await build(t)
  const warnings: Error[] = []
  const warned = (warning: Error): void => { warnings.push(warning) }
  process.on('warning', warned)
  t.teardown(() => { process.off('warning', warned) })
  const gate = deferred()
  const all = deferred()
  const runs: Array<Promise<unknown>> = []
  let requests = 0
  let listeners: number[] = []
  app.addHook('onRequest', async ({ raw }) => { listeners.push(raw.socket.listenerCount('close')) })
  app.get('/', async request => {
    for (let i = 0; i < 20; i++) runs.push(request.runInBackground(async () => {}).finished)
    listeners.push(request.raw.socket.listenerCount('close'))
    if (++requests === 20) all.resolve()
    await gate.promise
    return {}
  })
  await app.listen({ port: 0 })
  const socket = await client(t, app)
  socket.write('GET / HTTP/1.1\r\nhost: localhost\r\n\r\n'.repeat(19))
  await all.promise
  listeners = listeners.map(count => count - (listeners[0] ?? 0))
  t.equal(Math.max(...listeners), 1)
  gate.resolve()
  socket.resume()
  await Promise.all(runs)
  t.equal(runs.length, 400)
  t.same(warnings, [])
})

// --- Or when the client has gone

t.test('a client that leaves before the answer begins it, while the handler still works: no onResponse hook runs then', async t => {
  const gate = deferred()
  const { app, trace } = await traced(t, async (trace, request) => {
    trace.begin(request)
    await gate.promise
    return {}
  })
  await app.listen({ port: 0 })
  const socket = await client(t, app)
  await trace.taken('request')
  await later()
  t.notOk(trace.steps.includes('run'))
  socket.destroy()
  await trace.taken('run')
  t.same(trace.steps, ['request', 'run'])
  gate.resolve()
  await trace.taken('handled')
})

t.test('one whose requests are pipelined, and who leaves, begins all of them, though only the first had its turn', async t => {
  const { app } = await build(t)
  const gate = deferred()
  const all = deferred()
  const runs: Array<Promise<unknown>> = []
  app.get('/', async request => {
    runs.push(request.runInBackground(async () => {}).finished)
    if (runs.length === 3) all.resolve()
    await gate.promise
    return {}
  })
  await app.listen({ port: 0 })
  const socket = await client(t, app)
  socket.write('GET / HTTP/1.1\r\nhost: localhost\r\n\r\n'.repeat(2))
  await all.promise
  socket.destroy()
  await Promise.all(runs)
  gate.resolve()
})

t.test('a client that has left before it is asked for does not hold it back', async t => {
  const { app, trace } = await traced(t, async (trace, request) => {
    trace.step('waits')
    await once(request.raw.socket, 'close')
    trace.begin(request)
    await trace.taken('run')
  })
  await app.listen({ port: 0 })
  const socket = await client(t, app)
  await trace.taken('waits')
  socket.destroy()
  await trace.taken('handled')
  t.same(trace.steps, ['request', 'waits', 'run', 'handled'])
})

t.test('one whose reply is hijacked begins it at once', async t => {
  const { app, trace } = await traced(t, async (trace, request, reply) => {
    trace.begin(request)
    reply.hijack()
    reply.raw.write('data: hello\n\n')
  })
  await app.listen({ port: 0 })
  const socket = await client(t, app)
  await once(socket, 'data')
  await trace.taken('run')
  socket.destroy()
})

t.test('an inject() that is aborted begins it', async t => {
  const gate = deferred()
  const { app, trace } = await traced(t, async (trace, request) => {
    trace.begin(request)
    await gate.promise
    return {}
  })
  const abort = new AbortController()
  const answer = rejection(app.inject({ url: '/', signal: abort.signal }))
  await trace.taken('request')
  abort.abort()
  await answer
  await trace.taken('run')
  t.notOk(trace.steps.includes('handled'))
  gate.resolve()
})

/** A client over HTTP/2, in clear text. */
function client2 (t: Test, address: string): ClientHttp2Session {
  const session = connect2(address)
  session.on('error', () => {})
  t.teardown(() => { session.destroy() })
  return session
}

function ask2 (session: ClientHttp2Session): ClientHttp2Stream {
  const stream = session.request({ ':path': '/' })
  stream.on('error', () => {})
  return stream
}

t.test('over HTTP/2 a request begins it after its response has been sent, and the session goes on', async t => {
  const { app, trace } = await traced(t, async (trace, request) => {
    trace.begin(request)
    await later()
    return { ok: true }
  }, { http2: true } as object)
  const session = client2(t, await app.listen({ port: 0 }))
  t.equal(await text(ask2(session)), '{"ok":true}')
  await trace.taken('run')
  t.same(trace.steps.filter(step => step !== 'onResponse'), ['request', 'handled', 'run'])
  t.equal(await text(ask2(session)), '{"ok":true}')
})

t.test('over HTTP/2 a stream that the client cancels begins it, though the session stays open', async t => {
  const gate = deferred()
  const { app, trace } = await traced(t, async (trace, request) => {
    trace.begin(request)
    await gate.promise
    return {}
  }, { http2: true } as object)
  const session = client2(t, await app.listen({ port: 0 }))
  const stream = ask2(session)
  await trace.taken('request')
  await later()
  t.notOk(trace.steps.includes('run'))
  stream.close(constants.NGHTTP2_CANCEL)
  await trace.taken('run')
  t.notOk(trace.steps.includes('handled'))
  t.equal(session.destroyed, false)
  gate.resolve()
})

t.test('over HTTP/2 a stream that has been cancelled before it is asked for does not hold it back', async t => {
  const { app, trace } = await traced(t, async (trace, request) => {
    trace.step('waits')
    await once((request.raw as unknown as { stream: EventEmitter }).stream, 'close')
    trace.begin(request)
    await trace.taken('run')
  }, { http2: true } as object)
  const stream = ask2(client2(t, await app.listen({ port: 0 })))
  await trace.taken('waits')
  stream.close(constants.NGHTTP2_CANCEL)
  await trace.taken('handled')
})

// --- Its log, its failures, what is around it

t.test('its log is a child of the log of the request, and the lines about it are, too', async t => {
  const lines: Line[] = []
  const { app } = await build(t, {}, { logger: capture(lines), childLoggerFactory: (logger, bindings, options) => logger.child({ ...bindings, tenant: 'acme' }, options ?? {}) })
  let id: string | undefined
  let reqId: unknown
  app.get('/', async request => {
    reqId = request.id
    id = request.runInBackground('mail', async ({ log }) => { log.info('sent') }).id
    request.runInBackground('fails', async () => { throw new Error('no route') })
    return {}
  })
  await app.inject('/')
  t.match(await logged(lines, 'sent'), { level: 'info', task: 'mail', run: id, reqId, tenant: 'acme' })
  t.match(await logged(lines, 'background run succeeded'), { level: 'debug', task: 'mail', run: id, attempt: 1, duration: Number, reqId, tenant: 'acme' })
  t.match(await logged(lines, 'background run failed'), { level: 'error', task: 'fails', attempt: 1, reqId, tenant: 'acme', err: { message: 'no route' } })
})

t.test('that of an instance is a child of the log of that', async t => {
  const { app, lines } = await build(t)
  const { id } = app.runInBackground(async ({ log }) => { log.info('done') })
  const line = await logged(lines, 'done')
  t.match(line, { task: 'background', run: id })
  t.notOk('reqId' in line)
})

t.test('whatever it throws is logged at error, and is neither unhandled nor a rejection of its handle', async t => {
  const seen = unhandled(t)
  const { app, lines } = await build(t)
  const cyclic: { self?: object } = {}
  cyclic.self = cyclic
  const thrown: unknown[] = [new Error('boom'), Object.freeze(new Error('frozen')), 'text', undefined, null, 7n, cyclic, Object.create(null), new Proxy({}, { get () { throw new Error('trap') } })]
  for (const [i, error] of thrown.entries()) {
    const sync = app.runInBackground(`throws ${i}`, () => { throw error })
    const rejects = app.runInBackground(`rejects ${i}`, async () => { throw error })
    for (const { finished } of [sync, rejects]) {
      const { outcome, error: seen, value } = await finished
      t.same([outcome, value], ['failed', undefined])
      t.ok(seen === error)
    }
    for (const task of [`throws ${i}`, `rejects ${i}`]) t.match(await logged(lines, 'background run failed', task), { level: 'error', err: { message: String, stack: String } })
  }
  await later()
  t.same(seen, [])
})

t.test('it works with logger: false', async t => {
  const { app } = await build(t, {}, { logger: false })
  const over: Array<Promise<unknown>> = []
  app.get('/', async request => {
    over.push(request.runInBackground(async ({ log }) => { log.info('nobody reads it') }).finished)
    over.push(request.runInBackground(async () => { throw new Error('nobody sees it') }).finished)
    return {}
  })
  await app.inject('/')
  t.match(await Promise.all(over), [{ outcome: 'succeeded' }, { outcome: 'failed' }])
})

t.test('it does not inherit the AsyncLocalStorage store of the request', async t => {
  const { app } = await build(t)
  const storage = new AsyncLocalStorage<string>()
  const stores: unknown[] = []
  app.addHook('onRequest', (_request, _reply, done) => { storage.run('of the request', done) })
  app.get('/', async request => {
    stores.push(storage.getStore())
    const look = async (): Promise<void> => { stores.push(storage.getStore()) }
    await app.runInBackground(look).finished
    request.runInBackground(look)
    return {}
  })
  await app.inject('/')
  await app.backgroundTasks.drain()
  t.same(stores, ['of the request', undefined, undefined])
})

t.test('onRun wraps it, so that a store of its own can be given', async t => {
  const storage = new AsyncLocalStorage<string>()
  const { app } = await build(t, { onRun: async (run, next) => await storage.run(`for ${run.task}`, next) })
  const seen: unknown[] = []
  app.get('/', async request => {
    seen.push((await app.runInBackground('one', async () => storage.getStore()).finished).value)
    request.runInBackground('two', async () => { seen.push(storage.getStore()) })
    return {}
  })
  await app.inject('/')
  await app.backgroundTasks.drain()
  t.same(seen, ['for one', 'for two'])
})

t.test('drain() waits for all of them, and for those that they begin', async t => {
  const { app } = await build(t)
  const ended: string[] = []
  app.get('/', async request => {
    request.runInBackground(async ({ server }) => {
      await later()
      server.runInBackground(async () => {
        await later()
        ended.push('inner')
      })
      ended.push('outer')
    })
    return {}
  })
  await app.inject('/')
  await app.backgroundTasks.drain()
  t.same(ended, ['outer', 'inner'])
  await app.backgroundTasks.drain()
})

// --- When the app closes

/** The ways in which a database, a route and the plugin can stand in an app. `begin` has the run begin. */
const layouts: Record<string, (app: FastifyInstance, route: (instance: FastifyInstance) => void) => Promise<void>> = {
  'the plugin, the database, the route': async (app, route) => {
    await app.register(backgroundTasks)
    await app.register(database)
    route(app)
  },
  'the database, the plugin, the route': async (app, route) => {
    await app.register(database)
    await app.register(backgroundTasks)
    route(app)
  },
  'the plugin, the route, the database': async (app, route) => {
    await app.register(backgroundTasks)
    route(app)
    await app.register(database)
  },
  'the route, the plugin, the database, all of it unawaited': async (app, route) => {
    route(app)
    app.register(backgroundTasks)
    app.register(database)
  },
  'the plugin, and a child with its own database and the route': async app => {},
  'the plugin, and a child with the route and its own database': async app => {},
  'the database, the plugin, the route in a child of a child': async (app, route) => {
    await app.register(database)
    await app.register(backgroundTasks)
    await app.register(async child => { await child.register(async inner => { route(inner) }) })
  },
  'the plugin, the database, the route in a child': async (app, route) => {
    await app.register(backgroundTasks)
    await app.register(database)
    await app.register(async child => { route(child) })
  }
}
layouts['the plugin, and a child with its own database and the route'] = async (app, route) => {
  await app.register(backgroundTasks)
  await app.register(async child => {
    await child.register(database)
    route(child)
  })
}
layouts['the plugin, and a child with the route and its own database'] = async (app, route) => {
  await app.register(backgroundTasks)
  await app.register(async child => {
    route(child)
    await child.register(database)
  })
}

/** How the run comes to be. Each is awaited before a database of the route is closed. */
const ways = {
  'of a request that has been answered': (request: FastifyRequest, work: (run: AnyRun) => Promise<void>) => { request.runInBackground(work) },
  'of the instance': ({ server }: FastifyRequest, work: (run: AnyRun) => Promise<void>) => { server.runInBackground(work) },
  'of such a run': ({ server }: FastifyRequest, work: (run: AnyRun) => Promise<void>) => {
    server.runInBackground(async () => {
      await later()
      server.runInBackground(work)
    })
  }
}

for (const [layout, arrange] of Object.entries(layouts)) {
  for (const [way, begin] of Object.entries(ways)) {
    t.test(`a run ${way} ends before the database is closed: ${layout}`, async t => {
      const app: FastifyInstance = Fastify()
      const closing = deferred()
      const found = deferred<boolean | undefined>()
      app.addHook('preClose', async () => { closing.resolve() })
      await arrange(app, instance => {
        instance.get('/', async function (request) {
          begin(request, async ({ server }) => {
            await closing.promise
            await later()
            await later()
            found.resolve(server.database?.open)
          })
          return {}
        })
      })
      await app.listen({ port: 0 })
      const { port } = app.server.address() as AddressInfo
      await ask(`http://127.0.0.1:${port}/`)
      await app.close()
      t.equal(await atOnce(found.promise), true)
    })
  }

  t.test(`so it does where a request begins it that is in flight as the app closes: ${layout}`, async t => {
    const app: FastifyInstance = Fastify()
    const arrived = deferred()
    const closing = deferred()
    const found = deferred<boolean | undefined>()
    app.addHook('preClose', async () => { closing.resolve() })
    await arrange(app, instance => {
      instance.get('/', async request => {
        arrived.resolve()
        await closing.promise
        await later()
        request.runInBackground(async ({ server }) => {
          await later()
          found.resolve(server.database?.open)
        })
        return 'answered'
      })
    })
    await app.listen({ port: 0 })
    const { port } = app.server.address() as AddressInfo
    const answer = ask(`http://127.0.0.1:${port}/`)
    await arrived.promise
    await app.close()
    t.same(await answer, { status: 200, body: 'answered' })
    t.equal(await atOnce(found.promise), true)
  })
}

t.test('a run of the root that a route of a child begins ends before a database of the root is closed', async t => {
  const { app } = await build(t)
  await app.register(database)
  const closing = deferred()
  const found = deferred<boolean | undefined>()
  app.addHook('preClose', async () => { closing.resolve() })
  await app.register(async child => {
    child.get('/', async () => {
      app.runInBackground(async ({ server }) => {
        await closing.promise
        await later()
        found.resolve(server.database?.open)
      })
      return {}
    })
  })
  await app.inject('/')
  await app.close()
  t.equal(await atOnce(found.promise), true)
})

t.test("where another plugin's preClose hook fails before ours, a run still ends before what was opened before its route was declared is closed", async t => {
  const app: FastifyInstance = Fastify()
  const error = new Error('foreign')
  const found = deferred<boolean | undefined>()
  const closing = deferred()
  app.addHook('preClose', async () => {
    closing.resolve()
    throw error
  })
  await app.register(backgroundTasks)
  await app.register(database)
  app.get('/', async request => {
    request.runInBackground(async ({ server }) => {
      await closing.promise
      await later()
      found.resolve(server.database?.open)
    })
    return {}
  })
  await app.inject('/')
  t.equal(await rejection(app.close()), error)
  t.equal(await atOnce(found.promise), true)
})

t.test('the preClose hooks of others and the requests in flight do not wait for it', async t => {
  const { app } = await build(t)
  const arrived = deferred()
  const closing = deferred()
  const release = deferred()
  let answered = false
  app.addHook('preClose', async () => { closing.resolve() })
  app.get('/', async () => {
    arrived.resolve()
    await closing.promise
    return 'answered'
  })
  const address = await app.listen({ port: 0 })
  app.runInBackground(async () => { await release.promise })
  const answer = ask(address).then(given => {
    answered = true
    return given
  })
  await arrived.promise
  const closed = app.close()
  t.same(await answer, { status: 200, body: 'answered' })
  t.ok(answered)
  release.resolve()
  await closed
})

t.test('while the app closes it is accepted until the onClose of the instance, and refused with FST_BG_CLOSING after that', async t => {
  const { app } = await build(t)
  const results: Record<string, unknown> = {}
  const attempt = (name: string, by: FastifyInstance | FastifyRequest): void => {
    try {
      results[name] = 'accepted'
      void (by as FastifyInstance).runInBackground(async () => {}).finished.then(({ outcome }) => { results[name] = outcome })
    } catch (error) {
      results[name] = (error as { code: string }).code
    }
  }
  let child!: FastifyInstance
  let request!: FastifyRequest
  // Runs after all that is declared below.
  app.addHook('onClose', async () => {
    attempt('child, after its onClose', child)
    attempt('its request, after its onClose', request)
    attempt('root, in onClose', app)
  })
  await app.register(async instance => {
    child = instance
    child.get('/', async one => {
      request = one
      return {}
    })
    child.addHook('onClose', async () => { attempt('child, before its onClose', child) })
    child.addHook('preClose', async () => { attempt('child, in preClose', child) })
  })
  await app.inject('/')
  await app.close()
  attempt('root, closed', app)
  await later()
  t.same(results, {
    'child, in preClose': 'succeeded',
    'child, before its onClose': 'succeeded',
    'child, after its onClose': 'FST_BG_CLOSING',
    'its request, after its onClose': 'FST_BG_CLOSING',
    'root, in onClose': 'succeeded',
    'root, closed': 'FST_BG_CLOSING'
  })
  t.throws(() => { app.runInBackground('late', async () => {}) }, { code: 'FST_BG_CLOSING', statusCode: 503, message: /"late" cannot run in the background/ })
})

t.test('a run that is begun in an onClose hook is awaited before the next one', async t => {
  const { app } = await build(t)
  const steps: string[] = []
  app.addHook('onClose', async () => { steps.push('first declared') })
  app.addHook('onClose', async () => {
    steps.push('last declared')
    app.runInBackground(async () => {
      await later()
      steps.push('run')
    })
  })
  await app.close()
  t.same(steps, ['last declared', 'run', 'first declared'])
})

t.test('one that a service begins in its last moments is awaited, too, also of a late service', async t => {
  const { app } = await build(t)
  const ended: string[] = []
  const service = (name: string): Promise<void> => {
    const called = deferred()
    app.addBackgroundTask(name, async ({ signal }) => {
      called.resolve()
      await aborted(signal)
      await later()
      app.runInBackground(async () => {
        await later()
        ended.push(name)
      })
    })
    return called.promise
  }
  const early = service('early')
  await app.ready()
  await Promise.all([early, service('late')])
  await app.close()
  t.same(ended.sort(), ['early', 'late'])
})

t.test('it may go on for 5 s as the app closes, then its signal aborts with FST_BG_SHUTDOWN', async t => {
  const clock = fake(t)
  const { app, lines } = await build(t)
  const began = deferred<AbortSignal>()
  const { finished } = app.runInBackground('slow', async ({ signal }) => {
    began.resolve(signal)
    throw await aborted(signal)
  })
  const signal = await began.promise
  const closed = app.close()
  await turns(10)
  clock.tick(4_990)
  await turns(10)
  t.equal(signal.aborted, false)
  clock.tick(10)
  t.equal(signal.aborted, true)
  t.match(signal.reason, { code: 'FST_BG_SHUTDOWN' })
  await closed
  t.match(await finished, { outcome: 'cancelled', error: signal.reason })
  t.match(await logged(lines, 'run cut short by shutdown'), { level: 'warn', task: 'slow', err: { code: 'FST_BG_SHUTDOWN' } })
})

t.test('the 5 s count from the start of the close, also for what is begun later, on an instance that had nothing to run', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const first = deferred<AbortSignal>()
  app.runInBackground(async ({ signal }) => {
    first.resolve(signal)
    await aborted(signal)
  })
  let child!: FastifyInstance
  await app.register(async instance => { child = instance })
  await app.ready()
  await first.promise
  const closed = app.close()
  await turns(10)
  clock.tick(4_000)
  const late = deferred<AbortSignal>()
  const finished = Promise.all([child, app].map(async instance => await instance.runInBackground(async ({ signal }) => {
    late.resolve(signal)
    await aborted(signal)
  }).finished))
  await late.promise
  clock.tick(990)
  t.equal((await late.promise).aborted, false)
  clock.tick(10)
  t.equal((await late.promise).aborted, true)
  t.match(await finished, [{ outcome: 'succeeded' }, { outcome: 'succeeded' }])
  await closed
})

t.test('what is begun after that, while something else still holds the close up, finds its signal aborted', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const arrived = deferred()
  const gate = deferred()
  const result = deferred<unknown>()
  app.get('/', async request => {
    arrived.resolve()
    await gate.promise
    request.runInBackground(async ({ signal }) => { result.resolve((await aborted(signal)).code) })
    return {}
  })
  const address = await app.listen({ port: 0 })
  const answer = ask(address)
  await arrived.promise
  const closed = app.close()
  await turns(10)
  clock.tick(5_001)
  gate.resolve()
  await answer
  t.equal(await result.promise, 'FST_BG_SHUTDOWN')
  await closed
})

t.test('one that waits for a response which does not end is called when its grace is over, with its signal aborted', async t => {
  const { app } = await build(t, { shutdownTimeout: 200 })
  const asked = deferred<RunHandle>()
  app.get('/', async (request, reply) => {
    asked.resolve(request.runInBackground(async ({ signal }) => (await aborted(signal)).code))
    reply.raw.write('data: hello\n\n')
    await new Promise(() => {})
  })
  await app.listen({ port: 0 })
  const socket = await client(t, app)
  const { finished } = await asked.promise
  const closed = app.close()
  t.match(await finished, { outcome: 'succeeded', value: 'FST_BG_SHUTDOWN' })
  socket.destroy()
  await closed
})

t.test('one that ends within its grace has succeeded, and keeps neither close() nor the process any longer', async t => {
  const { app, lines } = await build(t)
  const began = deferred()
  const release = deferred()
  const { finished } = app.runInBackground(async () => {
    began.resolve()
    await release.promise
  })
  await began.promise
  const timers = (): number => process.getActiveResourcesInfo().filter(kind => kind === 'Timeout').length
  const before = timers()
  const started = performance.now()
  const closed = app.close()
  await later()
  release.resolve()
  await closed
  t.ok(performance.now() - started < 2_000)
  t.equal((await finished).outcome, 'succeeded')
  t.equal(lines.filter(({ level }) => level === 'warn' || level === 'error').length, 0)
  t.equal(timers(), before)
})

t.test('those that ignore their signal are named at the deadline, each name once, and the close goes on', async t => {
  const { app, lines } = await build(t, { shutdownTimeout: 200 })
  let closed = false
  app.addHook('onClose', async () => { closed = true })
  const release = deferred()
  const began: Array<Promise<void>> = []
  for (const name of ['stubborn', 'stubborn', 'deaf']) {
    const one = deferred()
    began.push(one.promise)
    app.runInBackground(name, async () => {
      one.resolve()
      await release.promise
    })
  }
  await Promise.all(began)
  await app.close()
  t.equal(closed, true)
  t.match(await logged(lines, 'shutdown deadline passed'), {
    level: 'error',
    tasks: ['stubborn', 'deaf'],
    err: { code: 'FST_BG_SHUTDOWN_TIMEOUT', message: '"stubborn" (still runs), "deaf" (still runs)' }
  })
  t.equal(lines.filter(({ msg }) => msg === 'shutdown deadline passed').length, 1)
  release.resolve()
})

t.test('one that begins another for ever does not hold the close up for ever', async t => {
  const { app, lines } = await build(t, { shutdownTimeout: 200 })
  let over = false
  const again = async ({ server }: AnyRun): Promise<void> => { if (!over) server.runInBackground('again', again) }
  app.runInBackground('again', again)
  await app.close()
  over = true
  t.match(await logged(lines, 'shutdown deadline passed'), { tasks: ['again'] })
})

t.test('one may call close() itself, as long as it does not wait for it', async t => {
  const { app } = await build(t)
  let closed: Promise<unknown> | undefined
  await app.runInBackground(async ({ server }) => { closed = server.close() }).finished
  await closed
})

t.test('an app with a route and nothing to run closes without a timer left', async t => {
  const timers = (): number => process.getActiveResourcesInfo().filter(kind => kind === 'Timeout').length
  const before = timers()
  const { app } = await build(t)
  app.get('/', async () => ({}))
  await app.inject('/')
  await app.close()
  t.equal(timers(), before)
})

// --- What is left of them

t.test('10,000 leave no listener, no handle and no heap behind', async t => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const { app } = await build(t, {}, { logger: false })
  const sockets = new Set<Socket>()
  app.server.on('connection', socket => { sockets.add(socket) })
  let runs = 0
  app.get('/', async request => {
    for (let i = 0; i < 100; i++) request.runInBackground('count', async () => { runs++ })
    return {}
  })
  const address = await app.listen({ port: 0 })
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => { agent.destroy() })
  const round = async (): Promise<void> => {
    for (let i = 0; i < 50; i++) await ask(address, agent)
    for (let i = 0; i < 5_000; i++) app.runInBackground('count', async () => { runs++ })
    await app.backgroundTasks.drain()
  }
  const state = async (): Promise<{ heap: number, resources: string[], listeners: number[] }> => {
    for (let i = 0; i < 2; i++) {
      await turns()
      collect()
    }
    const listeners = [...sockets].map(socket => socket.eventNames().reduce((sum, name) => sum + socket.listenerCount(name), 0))
    return { heap: process.memoryUsage().heapUsed, resources: process.getActiveResourcesInfo(), listeners }
  }
  await round()
  const before = await state()
  await round()
  const after = await state()
  t.equal(runs, 20_000)
  t.same(after.resources.sort(), before.resources.sort())
  t.same(after.listeners, before.listeners)
  t.equal(sockets.size, 1)
  const perRun = (after.heap - before.heap) / 10_000
  t.comment(`${Math.round(perRun)} bytes a run`)
  t.ok(perRun < 50, 'the heap is flat', { perRun })
})

t.test('an instance whose runs have ended is no larger for them: only the last 30 are remembered', async t => {
  const { app } = await build(t, {}, { logger: false })
  const refs: Array<WeakRef<object>> = []
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  for (let i = 0; i < 100; i++) {
    const large = { i }
    refs.push(new WeakRef(large))
    app.runInBackground(async () => { throw large })
  }
  await app.backgroundTasks.drain()
  await turns()
  collect()
  t.ok(refs.filter(ref => ref.deref() !== undefined).length <= 31)
})
