// What a developer sees first: runs, handles and records in console.log and JSON, errors, and where their stacks begin.
import { inspect } from 'node:util'
import Fastify from 'fastify'
import t from 'tap'
import backgroundTasks, { type Run } from '../lib/index.ts'
import { withoutOurFrames } from '../lib/common/readable.ts'
import { build, refusal, rejection } from './support/helper.ts'

const INSIDES = /initialConfig|Symbol\(|_events|listeners:/
const boom = (): Error => Object.assign(new RangeError('boom'), { code: 'E_BOOM' })
const stored = { name: 'RangeError', message: 'boom', code: 'E_BOOM', stack: /^RangeError: boom\n {4}at boom .*readable\.test/ }

/** What JSON makes of a value. */
function json (value: unknown): unknown {
  return JSON.parse(JSON.stringify(value))
}

/** The function in the first frame of a stack. */
function firstFrame (stack: string | undefined): string | undefined {
  return /\n {4}at (?:async )?(.*)/.exec(stack ?? '')?.[1]
}

t.test('a run shows what it is in a few lines, and nothing of the server', async t => {
  const { app } = await build(t, { onRun: async (run, next) => { Object.assign(run, { db: run.server }); return await next() } })
  const runs: Run[] = []
  const queue = app.addBackgroundQueue('mails', async run => { runs.push(run) })
  const timed = app.addBackgroundTask('timed', { every: '1h' }, async run => { runs.push(run) })
  await app.ready()
  const { id } = await queue.enqueue({ to: 'them' }, { key: 'k', reqId: 'req-1' })
  await queue.drain()
  await timed.trigger().finished
  const [run, tick] = runs as [Run, Run]
  t.same(json(run), { id, task: 'mails', attempt: 1, payload: { to: 'them' }, enqueuedAt: run.enqueuedAt?.toISOString(), key: 'k', reqId: 'req-1' })
  t.match(json(tick), { id: String, task: 'timed', attempt: 1, dueAt: tick.dueAt?.toISOString() })
  t.match(inspect(run), /^Run \{\n {2}id: '[^]*task: 'mails'[^]*payload: \{ to: 'them' \}[^]*reqId: 'req-1'\n\}$/)
  for (const one of runs) {
    t.ok(inspect(one).split('\n').length < 12)
    t.notMatch(inspect(one), INSIDES)
  }
  t.match(inspect({ deep: { deeper: { deepest: run } } }), /Run { … }/)
})

t.test('a run that was aborted shows why', async t => {
  const { app } = await build(t)
  let shown = ''
  const task = app.addBackgroundTask('service', async run => {
    await new Promise(resolve => { run.signal.addEventListener('abort', resolve) })
    shown = inspect(run)
  })
  await app.ready()
  await new Promise(resolve => { setImmediate(resolve) })
  await task.stop()
  t.match(shown, /aborted: 'FST_BG_CANCELLED'/)
})

t.test('handles of tasks, queues and runs, their results and records show errors by name, message, code and stack', async t => {
  const { app } = await build(t)
  const task = app.addBackgroundTask('task', { every: '1h' }, async () => { throw boom() })
  const queue = app.addBackgroundQueue('queue', async () => { throw boom() })
  await app.ready()
  const handle = task.trigger()
  const background = app.runInBackground(async () => { throw boom() })
  t.same(json(handle), { id: handle.id })
  t.same(json(background), { id: background.id })
  t.match(json(await handle.finished), { outcome: 'failed', error: stored, duration: Number })
  t.match(json(await background.finished), { outcome: 'failed', error: stored })
  const { id } = await queue.enqueue(1)
  t.match(json(await queue.finished(id)), { outcome: 'failed', error: stored })
  t.match(json(await queue.get(id)), { state: 'failed', error: stored })
  for (const one of [task, queue]) {
    t.match(json(one), { name: one.name, kind: one.kind, state: one.state, stats: { failed: 1 }, lastRun: { outcome: 'failed', error: stored } })
    t.match(json(one.lastRun), { outcome: 'failed', startedAt: String, error: stored })
    t.match(json(one.history), [{ outcome: 'failed', error: stored }])
    t.match(inspect(one), new RegExp(`^Background${one === queue ? 'Queue' : 'Task'} {\\n  name: '${one.name}'`))
    t.notMatch(inspect(one), INSIDES)
    t.match(inspect(one.lastRun), /error: RangeError: boom/)
  }
  t.match(inspect(handle), /^RunHandle \{\n {2}id: '[^]*outcome: 'failed'/)
  const never = app.addBackgroundTask('never', { every: '1h' }, async () => {})
  t.same((json(never) as { lastRun?: unknown }).lastRun, undefined)
  t.same((json(await never.trigger().finished) as { error?: unknown }).error, undefined)
})

t.test('the stack of a failed run begins with the frames of the user, in the log, the handle and the store', async t => {
  const { app, lines } = await build(t)
  const handlers: Record<string, (run: Run) => unknown> = {
    throwsAtOnce () { throw boom() },
    async rejects () {
      await Promise.resolve()
      throw boom()
    },
    misusesProgress ({ progress }) { progress('half' as never) },
    usesTheApp ({ server }) { server.addBackgroundTask('', () => {}) },
    enqueues: async function enqueues () { await queue.enqueue(1n) }
  }
  const queue = app.addBackgroundQueue('queue', run => handlers[run.payload as string]?.(run))
  await app.ready()
  const expected = { throwsAtOnce: 'boom', rejects: 'boom', misusesProgress: 'misusesProgress', usesTheApp: 'usesTheApp', enqueues: 'enqueues' }
  for (const [payload, name] of Object.entries(expected)) {
    const { id } = await queue.enqueue(payload)
    const { error } = await queue.finished(id)
    const own = new RegExp(`^(Object\\.|async )*${name} .*readable\\.test`)
    t.match(firstFrame(error?.stack), own, payload)
    t.match(firstFrame(lines.find(line => line.run === id && line.err !== undefined)?.err?.stack), own, `${payload}, in the log`)
    t.match(firstFrame((queue.lastRun?.error as Error).stack), own, `${payload}, in the history`)
  }
  // What no code of the user has thrown has no frame of ours at the top.
  const slow = app.addBackgroundTask('slow', { every: '1h', timeout: 1 }, async ({ signal }) => {
    await new Promise(resolve => { signal.addEventListener('abort', resolve) })
    signal.throwIfAborted()
  })
  const { error } = await slow.trigger().finished as { error: Error }
  t.match(error.message, /did not end within 1ms/)
  t.notMatch(firstFrame(error.stack), /clock|execution/)
})

t.test('an error of a call begins with the line of that call', async t => {
  const { app } = await build(t)
  const queue = app.addBackgroundQueue('queue', async () => {})
  function declares (): void { app.addBackgroundTask('a', { retrys: 5 } as never, async () => {}) }
  function declaresQueue (): void { app.addBackgroundQueue('a', { concurrency: 0 }, async () => {}) }
  function runs (): void { app.runInBackground('' as never, async () => {}) }
  async function enqueues (): Promise<void> { await queue.enqueue(1, { dealy: 5 } as never) }
  for (const call of [declares, declaresQueue, runs]) t.match(firstFrame((refusal(call) as unknown as Error).stack), new RegExp(`^${call.name} .*readable\\.test`))
  t.match(firstFrame((await rejection(enqueues)).stack), /^enqueues .*readable\.test/)
  const silent = Fastify()
  t.teardown(async () => { await silent.close() })
  await silent.register(backgroundTasks)
  let seen: Error | undefined
  silent.setErrorHandler((error, request, reply) => {
    seen = error as Error
    return reply.send('')
  })
  silent.get('/', async function inRoute (request) { request.runInBackground('' as never) })
  await silent.inject('/')
  t.match(firstFrame(seen?.stack), /inRoute .*readable\.test/)
})

t.test('a stack without frames, or one that cannot be changed, is left as it is', async t => {
  for (const error of [
    Object.assign(new Error('a'), { stack: undefined }), Object.assign(new Error('b'), { stack: 'no frames' }),
    Object.freeze(new Error('c')), Object.defineProperty(new Error('d'), 'stack', { get () { throw new Error('no') } })
  ] as Error[]) t.equal(withoutOurFrames(error), error)
  const own = Object.assign(new Error('e'), { stack: `Error: e\n    at ours (${new URL('../lib/common/check.ts', import.meta.url).href}:1:1)` })
  t.equal(withoutOurFrames(own).stack, 'Error: e')
})
