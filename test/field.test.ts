// Situations that users of other packages have reported: each hurt there, and would here.
import { createServer, type RequestListener } from 'node:http'
import { runInNewContext } from 'node:vm'
import Fastify from 'fastify'
import t from 'tap'
import backgroundTasks, { GiveUp, ticks } from '../lib/index.ts'
import { fake, SECOND, START, turns } from './support/fakes.ts'
import { aborted, build, deferred, rejection } from './support/helper.ts'

t.test('two applications on one http.Server each have their tasks', async t => {
  let handle: RequestListener | undefined
  const server = createServer((request, response) => { handle?.(request, response) })
  const apps = []
  for (const generation of [1, 2]) {
    const app = Fastify({ serverFactory: own => { handle = own; return server } })
    t.teardown(async () => { await app.close() })
    await app.register(backgroundTasks)
    const ran = deferred<number>()
    const task = app.addBackgroundTask('job', { every: '1h' }, async () => { ran.resolve(generation) })
    await app.ready()
    await task.trigger().finished
    t.equal(await ran.promise, generation)
    apps.push(app)
  }
  const [first, second] = apps
  t.not(first?.backgroundTasks.get('job'), second?.backgroundTasks.get('job'))
  const declare = first?.addBackgroundTask as unknown as (this: unknown, name: string, handler: () => Promise<void>) => void
  t.throws(() => { declare.call(second, 'other', async () => {}) }, { code: 'FST_BG_INVALID_THIS' })
})

t.test('one application takes the plugin once, wherever the second registration is', async t => {
  for (const [first, second] of [['root', 'root'], ['root', 'child'], ['child', 'sibling']]) {
    const app = Fastify()
    t.teardown(async () => { await app.close() })
    const register = (where: string | undefined): void => {
      if (where === 'root') app.register(backgroundTasks)
      else app.register(async child => { await child.register(backgroundTasks) })
    }
    register(first)
    register(second)
    t.match(await rejection(app.ready()), { code: 'FST_BG_ALREADY_REGISTERED', message: /already registered in this application/ }, `${first}, then ${second}`)
  }
})

t.test('GiveUp of another copy of the package ends the retries', async t => {
  const { app } = await build(t)
  // A copy has a class of its own, which a minifier has renamed; what both have is the symbol.
  class Copied extends Error { get [Symbol.for('fastify-background-tasks.GiveUp')] (): true { return true } }
  for (const [name, error] of Object.entries({ ours: new GiveUp('no use'), copy: new Copied('no use') })) {
    let attempts = 0
    const task = app.addBackgroundTask(name, { every: '1h', retry: { limit: 3, delay: 1 } }, async () => {
      attempts++
      throw error
    })
    t.match(await task.trigger().finished, { outcome: 'failed', error })
    t.equal(attempts, 1, name)
  }
})

t.test('what comes from another realm is taken for what it is', async t => {
  const { app } = await build(t, { autostart: false })
  const foreign = <T>(code: string): T => runInNewContext(code) as T
  const queue = app.addBackgroundQueue('q', async () => {})
  await queue.enqueue(1, { runAt: foreign<Date>('new Date(4102444800000)') })
  t.same((await queue.list({ state: 'delayed' })).runs[0]?.runAt, new Date('2100-01-01'))
  for (const code of ['new Map()', 'new Set()', 'Promise.resolve()', 'new Error("x")', '/x/', 'new WeakMap()', 'new WeakSet()']) {
    t.match(await rejection(queue.enqueue({ a: foreign(code) })), { code: 'FST_BG_INVALID_PAYLOAD', message: /it would lose payload\.a, which is an? \w+/ }, code)
  }
  t.match(await rejection(queue.enqueue({ a: new DOMException('x') })), { code: 'FST_BG_INVALID_PAYLOAD', message: /which is an Error/ })
})

t.test('a signal of a DOM, whose AbortController is not Node\'s, works', async t => {
  const { AbortController: Real } = globalThis
  t.teardown(() => { globalThis.AbortController = Real })
  /** As happy-dom's: an event target of its own. */
  class DomSignal {
    aborted = false
    reason: unknown
    #listeners = new Set<() => void>()
    addEventListener (_: string, listener: () => void): void { this.#listeners.add(listener) }
    removeEventListener (_: string, listener: () => void): void { this.#listeners.delete(listener) }
    dispatchEvent (): boolean { for (const listener of this.#listeners) listener(); return true }
  }
  globalThis.AbortController = class {
    signal = new DomSignal() as unknown as AbortSignal
    abort (reason: unknown): void {
      Object.assign(this.signal, { aborted: true, reason })
      this.signal.dispatchEvent(new Event('abort'))
    }
  } as typeof AbortController

  const { app } = await build(t)
  const began = deferred()
  const ended = deferred<string>()
  const task = app.addBackgroundTask('ticks', async ({ signal }) => {
    began.resolve()
    for await (const tick of ticks('1h', { signal })) t.fail(String(tick))
    ended.resolve((await aborted(signal)).code)
  })
  await app.ready()
  await began.promise
  t.equal(task.state, 'running')
  await app.close()
  t.equal(await ended.promise, 'FST_BG_SHUTDOWN')
})

t.test('a service that is closed before it was called ends, whether it looks at its signal or only listens', async t => {
  const { app } = await build(t)
  const log: string[] = []
  const handlers = {
    looks: async (signal: AbortSignal) => { while (!signal.aborted) await aborted(signal) },
    listens: async (signal: AbortSignal) => { await new Promise(resolve => { signal.addEventListener('abort', resolve) }) },
    'listens later': async (signal: AbortSignal) => { await turns(1); t.equal(signal.aborted, true) }
  }
  for (const [name, handler] of Object.entries(handlers)) {
    app.addBackgroundTask(name, async ({ signal }) => {
      await handler(signal)
      log.push(`${name}: ${(signal.reason as { code: string }).code}`)
    })
  }
  await app.ready()
  await app.close()
  t.same(log.sort(), ['listens later: FST_BG_SHUTDOWN', 'listens: FST_BG_SHUTDOWN', 'looks: FST_BG_SHUTDOWN'])
})

t.test('so does one inside onRun, also where that waits first, or for the signal', async t => {
  for (const wait of [async () => {}, async () => { await turns(5) }, async (signal: AbortSignal) => { await aborted(signal) }]) {
    const { app } = await build(t, {
      async onRun ({ signal }, next) {
        await wait(signal)
        return await next()
      }
    })
    let code: string | undefined
    app.addBackgroundTask('listens', async ({ signal }) => {
      await new Promise(resolve => { signal.addEventListener('abort', resolve) })
      code = (signal.reason as { code: string }).code
    })
    await app.ready()
    await app.close()
    t.equal(code, 'FST_BG_SHUTDOWN')
  }
})

t.test('a background run of a hijacked reply begins at once, whenever it is hijacked', async t => {
  const { app } = await build(t)
  const ran: string[] = []
  const all = deferred()
  const run = (name: string) => async () => { if (ran.push(name) === 2) all.resolve() }
  app.get('/', (request, reply) => {
    request.runInBackground(run('before'))
    reply.hijack()
    request.runInBackground(run('after'))
    reply.raw.writeHead(200).write('an open stream')
    void all.promise.then(() => reply.raw.end())
  })
  await app.listen({ port: 0 })
  const response = await fetch(app.listeningOrigin)
  await all.promise
  t.same(ran.sort(), ['after', 'before'])
  await response.text()
})

t.test('between two lives of restart: always nothing has failed', async t => {
  const { app } = await build(t)
  const task = app.addBackgroundTask('pass', { restart: { when: 'always', delay: '1h' } }, async () => {})
  const failing = app.addBackgroundTask('fail', { restart: { when: 'always', delay: '1h' } }, async () => { throw new Error('x') })
  await app.ready()
  while (task.state !== 'backoff' || failing.state !== 'backoff') await turns(1)
  const { tasks } = await app.backgroundTasks.health()
  t.same(tasks.map(({ name, status }) => [name, status]), [['pass', 'ok'], ['fail', 'degraded']])
})

t.test('misfire: skip leaves out what was missed, and not the tick that is on time', async t => {
  const clock = fake(t)
  const { app } = await build(t)
  const runs: Array<[due: number, missed: number]> = []
  app.addBackgroundTask('a', { cron: '* * * * * *', timezone: 'UTC', misfire: 'skip' }, async ({ dueAt, missed }) => { runs.push([Number(dueAt) - START, missed]) })
  await app.ready()
  // The event loop is blocked until 300 ms after the fifth second.
  clock.setSystemTime(START + 5_300)
  clock.tick(SECOND)
  await turns()
  t.same(runs[0], [6_000, 0])
  clock.tick(SECOND)
  await turns()
  t.same(runs.map(([due]) => due), [6_000, 7_000])
})

t.test('what no calculator can reach is not known, and hides no start', async t => {
  const { app, lines } = await build(t)
  let ran = 0
  const task = app.addBackgroundTask('past', {
    cron: '0 9 1 1 *', timezone: 'Asia/Seoul', immediate: true, exclude: due => due.getUTCFullYear() > 1999
  }, async () => { ran++ })
  await app.ready()
  await app.backgroundTasks.drain()
  t.equal(task.nextRunAt, undefined)
  t.same(task.nextRuns(5), [])
  t.equal(ran, 1, 'the immediate run ran')
  t.match(lines.find(({ level }) => level === 'warn'), { task: 'past', msg: /exclude leaves out every tick/ })
  t.match((await app.backgroundTasks.health()).tasks, [{ name: 'past', status: 'ok' }])
})

t.test('a schedule keeps the zone of the moment of its declaration', async t => {
  const { TZ } = process.env
  t.teardown(() => { if (TZ === undefined) delete process.env.TZ; else process.env.TZ = TZ })
  fake(t)
  const { app } = await build(t)
  await app.ready()
  const hours: number[] = []
  const zones = ['Asia/Tokyo', 'America/New_York', 'UTC']
  const tasks = zones.map((zone, i) => {
    process.env.TZ = zone
    return app.addBackgroundTask(zone, { cron: '0 2 * * *', ...i === 2 && { timezone: 'UTC' } }, async () => {})
  })
  process.env.TZ = 'Asia/Kolkata'
  for (const task of tasks) hours.push(Number(task.nextRunAt?.getUTCHours()), Number(task.nextRuns(2)[1]?.getUTCHours()))
  t.same(hours, [17, 17, 7, 7, 2, 2])
})

t.test('spellings of other cron programs get a hint', async t => {
  const { app } = await build(t)
  const hints: Record<string, RegExp> = {
    '@every 1h': /write every: '1h' instead of "cron"/,
    '@reboot': /write immediate: true, or a service/,
    'CRON_TZ=Asia/Tokyo 0 2 * * *': /write the zone as an option of its own: cron: '0 2 \* \* \*', timezone: 'Asia\/Tokyo'/,
    'TZ=UTC 0 2 * * *': /cron: '0 2 \* \* \*', timezone: 'UTC'/,
    '5/15 * * * *': /write '5-59\/15' instead of '5\/15'/,
    '0 5/15 * * * *': /write '5-59\/15' instead of '5\/15'/,
    '0 8/2 * * *': /write '8-23\/2' instead of '8\/2'/,
    '0 0 12 1/5 * ? *': /no field for the year/
  }
  for (const [cron, message] of Object.entries(hints)) {
    t.throws(() => app.addBackgroundTask('a', { cron }, async () => {}), { code: 'FST_BG_INVALID_OPTION', message }, cron)
  }
})
