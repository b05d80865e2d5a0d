import { AsyncLocalStorage } from 'node:async_hooks'
import t from 'tap'
import { type Run } from '../../lib/index.ts'
import { build, deferred } from '../support/helper.ts'

// What one run enters with AsyncLocalStorage.enterWith reaches nobody else.

/** An app in which `enter` says what its caller sees that another has entered, and then enters something itself, before and after an await. */
async function polluted (t: Parameters<typeof build>[0], lines: unknown[] = []) {
  const storage = new AsyncLocalStorage<string>()
  const leaks: string[] = []
  const { app } = await build(t, {}, {
    logger: { level: 'trace', mixin: () => ({ store: storage.getStore() }), stream: { write (text: string) { lines.push(JSON.parse(text)) } } }
  })
  const look = (who: string): void => {
    const store = storage.getStore()
    if (store !== undefined) leaks.push(`${who} sees ${store}`)
  }
  const enter = async (who: string): Promise<void> => {
    look(who)
    storage.enterWith(`${who}, before its await`)
    await Promise.resolve()
    storage.enterWith(`${who}, after its await`)
  }
  const request = async <T>(work: () => Promise<T>): Promise<T> => await storage.run('the request', work)
  return { app, leaks, look, enter, request, storage }
}

t.test('runs, retries and enqueues of a queue', async t => {
  const lines: Array<Record<string, unknown>> = []
  const { app, leaks, look, enter, request } = await polluted(t, lines)
  const second = app.addBackgroundQueue('second', { concurrency: 2 }, async () => { await enter('second') })
  const queue = app.addBackgroundQueue('first', { concurrency: 2, retry: { limit: 1, delay: 0 } }, ({ attempt }: Run) => {
    const entered = enter(`attempt ${attempt}`)
    void second.enqueue(1)
    if (attempt === 1) throw new Error('again')
    return entered
  })
  await app.ready()
  await request(async () => await Promise.all(Array.from({ length: 5 }, async () => await queue.enqueue(1))))
  await app.backgroundTasks.drain()
  await request(async () => await queue.enqueue(1))
  await app.backgroundTasks.drain()
  look('whoever enqueues')
  t.equal(second.stats.succeeded, 12)
  t.same(leaks, [])
  t.same(lines.filter(({ msg, store }) => msg === 'run succeeded' && store !== undefined), [], 'nor the log of a run, by a mixin')
})

t.test('ticks, excludes and the lives of a service', async t => {
  const { app, leaks, look, enter, request } = await polluted(t)
  const done = deferred()
  const counts: Record<string, number> = { a: 0, b: 0, service: 0, tenant: 0 }
  const count = (who: string): void => {
    counts[who] = (counts[who] ?? 0) + 1
    if (Object.values(counts).every(n => n >= 3)) done.resolve()
  }
  let excludes = 0
  for (const name of ['a', 'b']) {
    app.addBackgroundTask(name, { every: 2, exclude: () => { look('exclude'); excludes++; return false } }, () => {
      count(name)
      return enter(name)
    })
  }
  app.addBackgroundTask('service', { restart: { when: 'always', delay: 1, jitter: false } }, () => {
    count('service')
    return enter('service')
  })
  app.post('/', async ({ server }) => {
    server.addBackgroundTask('tenant', { every: 2 }, () => {
      count('tenant')
      return enter('tenant')
    })
  })
  await app.ready()
  await request(async () => await app.inject({ method: 'POST', url: '/' }))
  await done.promise
  t.ok(excludes >= 6)
  t.same(leaks, [])
})

t.test('hosted tasks, onRun and background runs', async t => {
  const storage = new AsyncLocalStorage<string>()
  const seen: unknown[] = []
  const enter = (who: string): void => {
    seen.push(storage.getStore())
    storage.enterWith(who)
  }
  const { app } = await build(t, {
    async onRun (_run, next) {
      enter('onRun')
      await next()
    }
  })
  app.addBackgroundTask('one', { async start () { t.equal(storage.getStore(), 'onRun', 'its own does'); storage.enterWith('start') }, async stop () { storage.enterWith('stop') } })
  app.addBackgroundTask('two', { async start () { storage.enterWith('start') }, async stop () { storage.enterWith('stop') } })
  await app.ready()
  for (let i = 0; i < 3; i++) await app.runInBackground(() => { storage.enterWith('background') }).finished
  await app.close()
  t.same(seen, Array.from({ length: 7 }, () => undefined))
})
