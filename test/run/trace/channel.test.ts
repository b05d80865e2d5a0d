import { AsyncLocalStorage } from 'node:async_hooks'
import { channel, tracingChannel, type TracingChannelSubscribers } from 'node:diagnostics_channel'
import t, { type Test } from 'tap'
import { GiveUp, type Run, type RunTrace } from '../../../lib/index.ts'
import { aborted, build, deferred, later, mortal } from '../../support/helper.ts'

const NAME = 'fastify-background-tasks:run'
const backoff = { delay: 0, jitter: false }

/** What is published besides what it is about. */
type Traced = RunTrace & { result?: unknown, error?: unknown }
interface Published { event: keyof TracingChannelSubscribers<RunTrace>, context: Traced }

/** Collects what is published, for one test. */
function subscribe (t: Test): Published[] {
  const published: Published[] = []
  const note = (event: Published['event']) => (context: object): void => { published.push({ event, context: context as Traced }) }
  const subscribers = { start: note('start'), end: note('end'), asyncStart: note('asyncStart'), asyncEnd: note('asyncEnd'), error: note('error') }
  const traced = tracingChannel<unknown, RunTrace>(NAME)
  traced.subscribe(subscribers)
  t.teardown(() => { traced.unsubscribe(subscribers) })
  return published
}

function eventsOf (published: Published[]): string[] {
  return published.map(({ event }) => event)
}

t.test('an attempt that succeeds is published: start, end, asyncStart, asyncEnd, with what it is about', async t => {
  const published = subscribe(t)
  const { app } = await build(t)
  const duringRun: string[][] = []
  await app.register(async child => {
    const task = child.addBackgroundTask('a', { every: '1h' }, async () => {
      duringRun.push(eventsOf(published))
      await later()
      duringRun.push(eventsOf(published))
      return 42
    })
    await app.after()
    child.addHook('onReady', async () => {
      const { id, finished } = task.trigger()
      await finished
      t.same(duringRun, [['start'], ['start', 'end']], 'start before the handler, end when it has returned its promise')
      t.same(eventsOf(published), ['start', 'end', 'asyncStart', 'asyncEnd'])
      const [{ context }] = published as [Published]
      t.equal(context.server, child, 'the owner')
      t.match(context, { task: 'a', run: id, attempt: 1, result: 42 })
      t.notOk('error' in context)
      t.ok(published.every(one => one.context === context), 'one context for all of them')
    })
  })
  await app.ready()
})

t.test('an attempt that fails is published with its error', async t => {
  const published = subscribe(t)
  const { app } = await build(t)
  const error = new Error('of the handler')
  const handlers: Record<string, () => unknown> = {
    rejects: async () => { throw error },
    throws: () => { throw error },
    'gives up': async () => { throw new GiveUp('enough', { cause: error }) }
  }
  for (const [name, handler] of Object.entries(handlers)) {
    const task = app.addBackgroundTask(name, { every: '1h', retry: 0 }, handler)
    published.length = 0
    const { finished } = task.trigger()
    const result = await finished
    t.same(eventsOf(published), ['start', 'end', 'error', 'asyncStart', 'asyncEnd'], name)
    t.ok(published.every(({ context }) => context.error === result.error && context.task === name), name)
  }
})

t.test('each attempt of a run is published for itself, and has ended before the next starts', async t => {
  const published = subscribe(t)
  const { app } = await build(t)
  const task = app.addBackgroundTask('a', { every: '1h', retry: { limit: 2, ...backoff } }, async ({ attempt }) => {
    if (attempt < 3) throw new Error(`of attempt ${attempt}`)
  })
  const { id, finished } = task.trigger()
  await finished
  t.same(published.map(({ event, context: { attempt } }) => `${attempt} ${event}`), [
    '1 start', '1 end', '1 error', '1 asyncStart', '1 asyncEnd',
    '2 start', '2 end', '2 error', '2 asyncStart', '2 asyncEnd',
    '3 start', '3 end', '3 asyncStart', '3 asyncEnd'
  ])
  t.ok(published.every(({ context: { run } }) => run === id), 'of one run')
  t.equal(new Set(published.map(({ context }) => context)).size, 3)
})

t.test('each life of a service is published as a run of its own', async t => {
  const published = subscribe(t)
  const { app } = await build(t)
  const third = deferred()
  let lives = 0
  app.addBackgroundTask('a', { restart: backoff }, async ({ signal }) => {
    if (++lives < 3) throw new Error('of a life')
    third.resolve()
    await aborted(signal)
  })
  await app.ready()
  await third.promise
  const starts = published.filter(({ event }) => event === 'start')
  t.equal(starts.length, 3)
  t.equal(new Set(starts.map(({ context: { run } }) => run)).size, 3)
  t.ok(starts.every(({ context: { attempt } }) => attempt === 1))
  await app.close()
  t.equal(published.filter(({ event }) => event === 'asyncEnd').length, 3)
})

t.test('start and stop of a hosted service are published', async t => {
  const published = subscribe(t)
  const { app } = await build(t)
  const runs: Run[] = []
  app.addBackgroundTask('a', { start (run) { runs.push(run) }, stop (run) { runs.push(run) } })
  await app.ready()
  await app.close()
  t.same(published.map(({ event, context: { run } }) => `${event} ${run}`), runs.flatMap(({ id }) => ['start', 'end', 'asyncStart', 'asyncEnd'].map(event => `${event} ${id}`)))
  t.equal(runs.length, 2)
})

t.test('onRun is inside of what is published', async t => {
  const published = subscribe(t)
  const seen: string[][] = []
  const { app } = await build(t, {
    async onRun (run, next) {
      seen.push(eventsOf(published))
      await next()
      throw new Error('of onRun')
    }
  })
  const { finished } = app.addBackgroundTask('a', { every: '1h' }, async () => {}).trigger()
  const { error } = await finished
  t.same(seen, [['start']])
  t.ok(published.some(({ event, context }) => event === 'error' && context.error === error))
})

t.test('a run that never begins, a skipped one too, publishes nothing', async t => {
  const published = subscribe(t)
  const { app } = await build(t)
  const task = app.addBackgroundTask('a', { every: '1h' }, async () => { t.fail('called') })
  const cancelled = task.trigger()
  const skipped = task.trigger()
  await task.cancel(cancelled.id)
  t.equal((await cancelled.finished).outcome, 'cancelled')
  t.equal((await skipped.finished).outcome, 'skipped')
  t.same(published, [])
})

t.test('with no subscriber, nothing is published and nothing breaks', async t => {
  const names = ['start', 'end', 'asyncStart', 'asyncEnd', 'error'].map(event => `tracing:${NAME}:${event}`)
  t.same(names.filter(name => channel(name).hasSubscribers), [])
  const { app } = await build(t)
  const task = app.addBackgroundTask('a', { every: '1h', retry: { limit: 1, ...backoff } }, async ({ attempt }) => {
    if (attempt === 1) throw new Error('of the handler')
    return 42
  })
  t.match(await task.trigger().finished, { outcome: 'succeeded', value: 42 })
  const published = subscribe(t)
  t.match(await task.trigger().finished, { outcome: 'succeeded', value: 42 })
  t.equal(published.length, 5 + 4, 'a subscriber hears from its subscription on')
})

t.test('one who subscribes to a single channel is heard', async t => {
  const { app } = await build(t)
  const task = app.addBackgroundTask('a', { every: '1h' }, async () => { throw new Error('of the handler') })
  const errors: unknown[] = []
  const note = (context: unknown): void => { errors.push((context as Traced).error) }
  const only = channel(`tracing:${NAME}:error`)
  only.subscribe(note)
  t.teardown(() => { only.unsubscribe(note) })
  const { error } = await task.trigger().finished
  t.same(errors, [error])
})

t.test('a store that is bound to start reaches the handler and onRun, is told apart by run, and does not leak', async t => {
  const spans = new AsyncLocalStorage<{ span: string }>()
  const { start } = tracingChannel<unknown, RunTrace>(NAME)
  start.bindStore(spans, context => ({ span: `${context.task} ${context.run} ${context.attempt}` }))
  t.teardown(() => { start.unbindStore(spans) })
  const seen: Array<string | undefined> = []
  const { app } = await build(t, {
    async onRun (run, next) {
      seen.push(spans.getStore()?.span)
      return await next()
    }
  })
  const task = app.addBackgroundTask('a', { every: '1h', overlap: 'allow', retry: { limit: 1, ...backoff } }, async ({ attempt }) => {
    await later()
    seen.push(spans.getStore()?.span)
    if (attempt === 1) throw new Error('of the handler')
  })
  const { id, finished } = task.trigger()
  await finished
  t.same(seen, [1, 1, 2, 2].map(attempt => `a ${id} ${attempt}`))
  t.equal(spans.getStore(), undefined)

  seen.length = 0
  const two = [task.trigger(), task.trigger()]
  await Promise.all(two.map(async ({ finished }) => await finished))
  t.same(new Set(seen), new Set(two.flatMap(({ id }) => [`a ${id} 1`, `a ${id} 2`])))
})

t.test('a subscriber that throws breaks no run', async t => {
  const uncaught: unknown[] = []
  const before = process.listeners('uncaughtException')
  const note = (error: unknown): void => { uncaught.push(error) }
  process.removeAllListeners('uncaughtException')
  process.on('uncaughtException', note)
  t.teardown(() => {
    process.off('uncaughtException', note)
    for (const listener of before) process.on('uncaughtException', listener)
  })
  const failure = new Error('of the subscriber')
  const fail = (): void => { throw failure }
  const only = channel(`tracing:${NAME}:start`)
  only.subscribe(fail)
  t.teardown(() => { only.unsubscribe(fail) })
  const { app } = await build(t)
  const task = app.addBackgroundTask('a', mortal, async () => 42)
  t.match(await task.trigger().finished, { outcome: 'succeeded', value: 42 })
  await later()
  t.same(uncaught, [failure], 'as diagnostics_channel has it')
})
