import Fastify, { type FastifyInstance } from 'fastify'
import fastifyPlugin from 'fastify-plugin'
import t from 'tap'
import backgroundTasks, { type BackgroundTask, type Run } from '../lib/index.ts'
import { aborted, build, deferred, rejection } from './support/helper.ts'

/** An app without the plugin. The teardown closes it. */
function bare (t: { teardown (callback: () => unknown): void }): FastifyInstance {
  const app: FastifyInstance = Fastify()
  t.teardown(async () => { await app.close().catch(() => {}) })
  return app
}

t.test('this and run.server are the instance on which the task was declared, with its decorators', async t => {
  const { app } = await build(t)
  app.decorate('place', 'root')
  const seen = new Map<string, { self: FastifyInstance, run: Run<undefined, FastifyInstance> }>()
  const all = deferred()
  const note = function (name: string) {
    return function (this: FastifyInstance, run: Run<undefined, FastifyInstance>) {
      seen.set(name, { self: this, run })
      if (seen.size === 4) all.resolve()
    }
  }
  let child!: FastifyInstance
  app.addBackgroundTask('root', note('root'))
  app.register(async instance => {
    child = instance
    child.decorate('shelf', 'child')
    child.addBackgroundTask('service', note('service'))
    child.addBackgroundTask('with options', { grace: 10 }, note('with options'))
    child.addBackgroundTask('hosted', { start: note('start'), stop: note('stop') })
  })
  await app.ready()
  await all.promise
  await app.close()
  for (const name of ['service', 'with options', 'start', 'stop']) {
    const { self, run } = seen.get(name) ?? t.fail(`${name} was not called`) as never
    t.equal(self, child, name)
    t.equal(run.server, child, name)
    t.equal(self.getDecorator('shelf'), 'child', name)
    t.equal(self.getDecorator('place'), 'root', name)
  }
  t.equal(seen.get('root')?.self, app)
  t.equal(seen.get('root')?.run.server, app)
  t.notOk(seen.get('root')?.self.hasDecorator('shelf'))
})

t.test('a task that a route declares on request.server belongs to the instance of the route', async t => {
  const { app } = await build(t)
  const owner = deferred<FastifyInstance>()
  let child!: FastifyInstance
  app.register(async instance => {
    child = instance
    instance.post('/', async request => {
      request.server.addBackgroundTask('late', async function () { owner.resolve(this) })
      return 'ok'
    })
  })
  const address = await app.listen({ port: 0 })
  t.equal((await fetch(address, { method: 'POST' })).status, 200)
  t.equal(await owner.promise, child)
})

t.test('a task declared in a plugin that breaks encapsulation belongs to the instance around it', async t => {
  const { app } = await build(t)
  const owner = deferred<FastifyInstance>()
  app.register(fastifyPlugin(async instance => {
    instance.addBackgroundTask('service', async function () { owner.resolve(this) })
  }))
  await app.ready()
  t.equal(await owner.promise, app)
})

t.test('every instance sees all tasks of the server', async t => {
  const { app } = await build(t)
  const tasks: BackgroundTask[] = [app.addBackgroundTask('root', async () => {})]
  let seen: Array<BackgroundTask | undefined> = []
  app.register(async child => { tasks.push(child.addBackgroundTask('child', async () => {})) })
  app.register(async sibling => {
    seen = ['root', 'child', 'unknown'].map(name => sibling.backgroundTasks.get(name))
  })
  await app.ready()
  t.same(seen.map(task => task?.name), ['root', 'child', undefined])
  t.equal(seen[1], tasks[1])
  t.same([...app.backgroundTasks].map(({ name, kind }) => [name, kind]), [['root', 'service'], ['child', 'service']])
})

t.test('registered inside a child, it serves that child and those below it, and no one else', async t => {
  const app = bare(t)
  const called = deferred<FastifyInstance>()
  app.register(async child => {
    await child.register(backgroundTasks)
    child.register(async grandchild => {
      grandchild.addBackgroundTask('service', async function ({ signal }) {
        called.resolve(this)
        await aborted(signal)
      })
    })
  })
  await app.ready()
  await called.promise
  t.notOk(app.hasDecorator('addBackgroundTask'))
  await app.close()
})

const twice: Record<string, (app: FastifyInstance) => void> = {
  'twice on the root': app => {
    app.register(backgroundTasks)
    app.register(backgroundTasks)
  },
  'on the root and on a child': app => {
    app.register(backgroundTasks)
    app.register(async child => { child.register(backgroundTasks) })
  },
  'on two siblings': app => {
    app.register(async child => { child.register(backgroundTasks) })
    app.register(async child => { child.register(backgroundTasks) })
  },
  'on a child and then on the root': app => {
    app.register(async child => { child.register(backgroundTasks) })
    app.register(backgroundTasks)
  }
}
for (const [where, register] of Object.entries(twice)) {
  t.test(`registered ${where}: ready() rejects with FST_BG_ALREADY_REGISTERED`, async t => {
    const app = bare(t)
    register(app)
    t.equal((await rejection(() => app.ready())).code, 'FST_BG_ALREADY_REGISTERED')
  })
}

t.test('two servers in one process have their own tasks', async t => {
  const one = await build(t)
  const two = await build(t)
  one.app.addBackgroundTask('same name', async () => {})
  two.app.addBackgroundTask('same name', async () => {})
  await one.app.close()
  await two.app.ready()
  t.equal(two.app.backgroundTasks.get('same name')?.state, 'running')
})

t.test('a registration that was refused for its options leaves nothing behind', async t => {
  const app = bare(t)
  t.equal((await rejection(app.register(backgroundTasks, { shutdownTimeout: 'soon' }))).code, 'FST_BG_INVALID_OPTION')
  t.notOk(app.hasDecorator('addBackgroundTask'))
  t.notOk(app.hasDecorator('backgroundTasks'))
})

t.test('a name that is taken, by whichever plugin, is refused, and the error names that plugin', async t => {
  const { app } = await build(t)
  const first = fastifyPlugin(async instance => { instance.addBackgroundTask('root', async () => {}) }, { name: 'shop' })
  await app.register(async function orders (child) { child.addBackgroundTask('purge', async () => {}) })
  let error: unknown
  await app.register(async function invoices (child) {
    try { child.addBackgroundTask('purge', { async start () {} }) } catch (thrown) { error = thrown }
  })
  t.match(error, { code: 'FST_BG_DUPLICATE_NAME', message: /"purge".*plugin "orders"/ })
  t.equal(app.backgroundTasks.get('purge')?.kind, 'service', 'the first stays')
  await app.register(first)
  t.throws(() => app.addBackgroundTask('root', async () => {}), { code: 'FST_BG_DUPLICATE_NAME', message: /"root"/ })
})

t.test('a task that was stopped keeps its name', async t => {
  const { app } = await build(t)
  const task = app.addBackgroundTask('service', async () => {})
  await app.ready()
  await task.stop()
  t.throws(() => app.addBackgroundTask('service', async () => {}), { code: 'FST_BG_DUPLICATE_NAME' })
})

t.test('called without its instance, addBackgroundTask throws FST_BG_INVALID_THIS', async t => {
  const { app } = await build(t)
  const { addBackgroundTask } = app as unknown as { addBackgroundTask: (...given: unknown[]) => unknown }
  const other = bare(t)
  for (const self of [undefined, null, {}, 'text', other, app.backgroundTasks]) {
    t.throws(() => addBackgroundTask.call(self, 'task', async () => {}), { code: 'FST_BG_INVALID_THIS', message: /addBackgroundTask/ })
  }
  t.throws(() => { addBackgroundTask('task', async () => {}) }, { code: 'FST_BG_INVALID_THIS' })
  t.same([...app.backgroundTasks], [])
})

t.test('the members of backgroundTasks work destructured', async t => {
  const { app } = await build(t, { autostart: false })
  const task = app.addBackgroundTask('hosted', { async start () {} })
  const { get, start } = app.backgroundTasks
  await start()
  t.equal(get('hosted'), task)
  t.equal(task.state, 'running')
})

t.test('after each bad call nothing is half declared: the name is free, no hook is left, the app starts and closes', async t => {
  const { app } = await build(t)
  const call = (...given: unknown[]) => (): unknown => Reflect.apply(app.addBackgroundTask, app, given)
  const must = (): never => { throw new Error('must not be called') }
  const bad: Record<string, unknown[]> = {
    'no name': [],
    'an empty name': ['', must],
    'a blank name': ['  ', must],
    'a name that is no text': [1, must],
    'no handler': ['task'],
    'options, and no handler': ['task', { grace: 1 }],
    'a handler that is no function': ['task', {}, 'text'],
    'options that are no object': ['task', 'text', must],
    'null for options': ['task', null, must],
    'an array for options': ['task', [], must],
    'null for a hosted service': ['task', null],
    'a hosted service without start and stop': ['task', {}],
    'start and stop undefined': ['task', { start: undefined, stop: undefined }],
    'a start that is no function': ['task', { start: 'now' }],
    'an unknown option': ['task', { grase: 1 }, must],
    'an unknown option of a hosted service': ['task', { strat: must, stop: must }],
    'a hosted option on a service': ['task', { startTimeout: 1 }, must],
    'a bad duration': ['task', { grace: '1 month' }, must],
    'a negative duration': ['task', { grace: -1 }, must],
    'a duration that is not finite': ['task', { grace: Infinity }, must],
    'a level that the logger does not know': ['task', { logLevel: 'loud' }, must],
    'the same for a hosted service': ['task', { logLevel: 'loud', start: must }],
    'the arguments the wrong way round': ['task', must, {}]
  }
  for (const [what, given] of Object.entries(bad)) {
    t.throws(call(...given), { code: 'FST_BG_INVALID_OPTION' }, what)
    t.same([...app.backgroundTasks], [], what)
  }
  t.throws(call('task', { grase: 1 }, must), { message: /Did you mean "grace"/ })
  const called = deferred()
  app.addBackgroundTask('task', async () => { called.resolve() })
  await app.ready()
  await called.promise
  await app.close()
})

t.test('after a name was refused, the task that has it runs once', async t => {
  const { app } = await build(t)
  let starts = 0
  let stops = 0
  app.addBackgroundTask('hosted', { async start () { starts++ }, async stop () { stops++ } })
  t.throws(() => app.addBackgroundTask('hosted', { async start () { starts++ }, async stop () { stops++ } }), { code: 'FST_BG_DUPLICATE_NAME' })
  await app.ready()
  await app.close()
  t.same([starts, stops], [1, 1])
})

t.test('the options object is neither kept nor changed', async t => {
  const { app } = await build(t)
  const seen: string[] = []
  const options = { startTimeout: '1s', async start () { seen.push('as declared') } }
  const copy = { ...options }
  app.addBackgroundTask('hosted', options)
  t.same(options, copy)
  options.start = async () => { seen.push('as changed') }
  await app.ready()
  t.same(seen, ['as declared'])
  app.addBackgroundTask('frozen', Object.freeze({ grace: 1 }), async () => {})
})

t.test('a task declared while the app closes is refused with FST_BG_CLOSING', async t => {
  const { app } = await build(t)
  const errors: unknown[] = []
  const declare = (instance: FastifyInstance, name: string): void => {
    try { instance.addBackgroundTask(name, async () => { t.fail('must not run') }) } catch (error) { errors.push(error) }
  }
  const called = deferred()
  app.addHook('preClose', async () => { declare(app, 'in preClose') })
  app.addHook('onClose', async () => { declare(app, 'in onClose') })
  app.addBackgroundTask('service', async function ({ signal }) {
    called.resolve()
    await aborted(signal)
    declare(this, 'by a run')
  })
  await app.ready()
  await called.promise
  await app.close()
  declare(app, 'after')
  t.equal(errors.length, 4)
  for (const error of errors) t.match(error, { code: 'FST_BG_CLOSING', statusCode: 503 })
  t.match(errors[3], { message: /"after"/ })
  t.same([...app.backgroundTasks].map(({ name }) => name), ['service'])
})

t.test('a route that declares a task while requests drain answers 503', async t => {
  const { app } = await build(t)
  const arrived = deferred()
  const closing = deferred()
  app.get('/', async request => {
    arrived.resolve()
    await closing.promise
    request.server.addBackgroundTask('late', async () => {})
  })
  app.addHook('preClose', async () => { closing.resolve() })
  const address = await app.listen({ port: 0 })
  const response = fetch(address, { headers: { connection: 'close' } })
  await arrived.promise
  const closed = app.close()
  t.equal((await response).status, 503)
  t.match(await (await response).json(), { code: 'FST_BG_CLOSING' })
  await closed
})
