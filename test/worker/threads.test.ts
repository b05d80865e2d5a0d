// The threads of a worker: shared, bounded, made on demand, gone at close; and one that dies fails its own run.
import { once as event } from 'node:events'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { build, logged, refusal, rejection } from '../support/helper.ts'
import { job, moduleOf, once } from '../support/worker.ts'
import { worker } from '../../lib/worker/index.ts'

t.test('threads are made on demand, shared by the workers of a file, and bounded', async t => {
  const { app, lines } = await build(t)
  const memory = new SharedArrayBuffer(4)
  app.setValidatorCompiler(() => () => ({ value: { memory } }))
  const seen = new Set<unknown>()
  const gate = job('gate', { threads: 2 })
  const queues = ['a', 'b'].map(name => app.addBackgroundQueue(name, { schema: { payload: {} }, concurrency: 5 }, async function (run) { seen.add(await gate.call(this, run)) }))
  const other = app.addBackgroundTask('other', { every: '1h' }, job('where'))
  await app.ready()
  for (const queue of queues) for (let i = 0; i < 3; i++) await queue.enqueue({})
  while (lines.filter(({ msg }) => msg === 'begun').length < 2) await new Promise(resolve => { setTimeout(resolve, 10) })
  const { finished } = other.trigger()
  Atomics.store(new Int32Array(memory), 0, 1)
  seen.add((await finished).value)
  await app.backgroundTasks.drain()
  t.equal(seen.size, 2, 'seven runs, two threads')
  t.same(queues.map(({ stats: { succeeded } }) => succeeded), [3, 3])
})

t.test('runs that follow each other need one thread', async t => {
  const { app } = await build(t)
  await app.ready()
  const task = app.addBackgroundTask('where', { every: '1h' }, job('where', { threads: 4 }))
  const seen = new Set()
  for (let i = 0; i < 5; i++) seen.add((await task.trigger().finished).value)
  t.equal(seen.size, 1)
})

t.test('a file with another query has threads of its own, and two applications do not share', async t => {
  const [one, two] = [await build(t), await build(t)]
  await Promise.all([one.app.ready(), two.app.ready()])
  const results = [
    await once(one.app, 'a', job('where')),
    await once(one.app, 'b', worker(new URL(`${moduleOf('jobs.js').href}?v=2#where`))),
    await once(two.app, 'c', job('where'))
  ]
  t.equal(new Set(results.map(({ value }) => value)).size, 3)
})

t.test('close ends the threads', async t => {
  const { app } = await build(t)
  await app.ready()
  const { Worker } = await import('node:worker_threads')
  const exits: Array<Promise<unknown>> = []
  const { emit } = Worker.prototype
  Worker.prototype.emit = function (this: InstanceType<typeof Worker>, ...args: [string]) {
    if (args[0] === 'online') exits.push(event(this, 'exit'))
    return emit.apply(this, args)
  } as typeof emit
  t.teardown(() => { Worker.prototype.emit = emit })
  await once(app, 'where', job('where'))
  t.equal(exits.length, 1)
  let over = false
  void exits[0]?.then(() => { over = true })
  await app.close()
  t.ok(over, 'before close() has resolved')
})

t.test('workers of one file that differ are refused', async t => {
  const { app } = await build(t)
  app.addBackgroundTask('two', { every: '1h' }, job('where', { threads: 2, memory: 64 }))
  app.addBackgroundTask('same', { every: '1h' }, job('echo', { threads: 2 }))
  app.addBackgroundTask('none', { every: '1h' }, job('echo'))
  t.match(refusal(() => app.addBackgroundTask('three', { every: '1h' }, job('echo', { threads: 3 }))), {
    code: 'FST_BG_INVALID_OPTION',
    message: /^Background task "three": its worker .*jobs\.js says threads: 3, and another one of the same file says 2\. They share their threads: say the same, or only once\.$/
  })
  t.match(refusal(() => app.addBackgroundQueue('more', job('echo', { memory: 32 }))), { message: /^Background queue "more": .* says memory: 32, and another one .* says 64/ })
  t.equal(app.backgroundTasks.get('three'), undefined)
})

t.test('HTTP is answered while a thread is in an endless loop', async t => {
  const { app, lines } = await build(t)
  app.get('/', async () => ({ ok: true }))
  const task = app.addBackgroundTask('loop', { every: '1h' }, job('loop', { killAfter: 0 }))
  await app.listen({ port: 0, host: '127.0.0.1' })
  task.trigger()
  await logged(lines, 'begun')
  const { port } = app.server.address() as AddressInfo
  t.same(await (await fetch(`http://127.0.0.1:${port}/`)).json(), { ok: true })
})

for (const [name, payload, options, expected] of [
  ['exit', 0, {}, { code: 'FST_BG_INVALID_OPTION', message: /ended its thread before it returned, with process\.exit\(0\)\. Return a value, or throw an error\.$/ }],
  ['exit', 3, {}, { code: 'FST_BG_INVALID_OPTION', message: /with process\.exit\(3\)/ }],
  ['hoards', 0, { memory: 200 }, { code: 'FST_BG_INVALID_OPTION', message: /needs more than 200 MB of heap, and its thread has ended\. Raise "memory", or work in smaller pieces\.$/, cause: { code: 'ERR_WORKER_OUT_OF_MEMORY' } }],
  ['rejects', 0, {}, { message: 'floating', code: 'E_FLOAT' }],
  ['throwsLater', 0, {}, { message: 'in a timer', name: 'TypeError', code: 'E_TIMER' }],
  ['abort', 0, {}, { message: /process\.abort/ }]
] as const) {
  t.test(`${name}(${payload}): the run fails, and no other`, async t => {
    const { app, lines } = await build(t)
    const memory = new SharedArrayBuffer(4)
    app.setValidatorCompiler(() => payload => ({ value: (payload as { gate?: true } | number) === payload && typeof payload === 'object' ? { memory } : payload }))
    const gate = app.addBackgroundQueue('gate', { schema: { payload: {} } }, job('gate', { threads: 2, ...options }))
    const bad = app.addBackgroundQueue('bad', job(name))
    const waiting = app.addBackgroundQueue('waiting', { concurrency: 3 }, job('where'))
    await app.ready()
    await gate.enqueue({})
    await logged(lines, 'begun')
    await bad.enqueue(payload)
    for (let i = 0; i < 3; i++) await waiting.enqueue({})
    await Promise.all([bad.drain(), waiting.drain()])
    t.match(bad.history, [{ outcome: 'failed', error: expected }])
    t.match(waiting.stats, { succeeded: 3, failed: 0 }, 'those that wait for its thread get another one')
    Atomics.store(new Int32Array(memory), 0, 1)
    await gate.drain()
    t.match(gate.stats, { succeeded: 1, failed: 0 }, 'one in another thread goes on')
  })
}

t.test('what a run leaves behind that rejects fails that run, and not the next one in its thread', async t => {
  const { app } = await build(t)
  const queue = app.addBackgroundQueue('bad', job('rejects', { threads: 1 }))
  const next = app.addBackgroundQueue('next', job('where'))
  await app.ready()
  for (let i = 0; i < 3; i++) {
    await queue.enqueue({})
    await next.enqueue({})
  }
  await app.backgroundTasks.drain()
  t.match(queue.stats, { succeeded: 0, failed: 3 })
  t.match(next.stats, { succeeded: 3, failed: 0 })
})

t.test('too little memory to start a thread fails the run, each time, and other files go on', async t => {
  const { app } = await build(t)
  const task = app.addBackgroundTask('small', { every: '1h', overlap: 'allow' }, job('where', { memory: 1, threads: 2 }))
  await app.ready()
  const small = { outcome: 'failed', error: { code: 'FST_BG_INVALID_OPTION', message: /^No thread could be started for the worker .*jobs\.js of "small": 1 MB of heap are too few to start\. Raise "memory": 16 is little\.$/, cause: { code: 'ERR_WORKER_OUT_OF_MEMORY' } } }
  t.match(await Promise.all([task.trigger().finished, task.trigger().finished, task.trigger().finished]), [small, small, small])
  t.match(await task.trigger().finished, small)
  t.match(await once(app, 'other', worker(new URL(`${moduleOf('jobs.js').href}?other#where`))), { outcome: 'succeeded' })
})

t.test('after close a worker refuses to run', async t => {
  const { app } = await build(t)
  const handler = job('where')
  let call: (() => Promise<unknown>) | undefined
  const task = app.addBackgroundTask('late', { every: '1h' }, async function (run) {
    await handler.call(this, run)
    call = async () => await handler.call(this, run)
  })
  await app.ready()
  await task.trigger().finished
  await app.close()
  t.match(await rejection(call as () => Promise<unknown>), { code: 'FST_BG_CLOSING' })
})
