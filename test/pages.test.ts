// The programs of the pages about lifecycle, deploying, .NET and BullMQ do what these pages say. Those of docs/recipes.md are in recipes.test.ts.
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Queue } from 'bullmq'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { parseAllDocuments } from 'yaml'
import { build } from './support/helper.ts'
import { compiled, filesOf, outputOf } from './support/page.ts'
import { needsSignals, Program } from './support/program.ts'
import { needsRedis, redisUrl } from './support/redis.ts'

const run = promisify(execFile)

/** Sets variables for programs that are loaded into this process, until the end of the test. */
function setEnv (t: Test, values: Record<string, string>): void {
  for (const [name, value] of Object.entries(values)) {
    const before = process.env[name]
    process.env[name] = value
    t.teardown(() => {
      if (before === undefined) delete process.env[name]
      else process.env[name] = before
    })
  }
}

t.test('docs/lifecycle.md', async t => {
  const folder = compiled(t, 'lifecycle')

  t.test('the program prints the order that the page shows', needsSignals(), async t => {
    const expected = outputOf('lifecycle', 'order')
    t.match(expected, /close\(\) was called\nconsumer: hears FST_BG_SHUTDOWN/)
    const { stdout, stderr } = await run(process.execPath, [fileURLToPath(new URL(`${folder}order.js`, import.meta.url))])
    t.equal(stdout, expected)
    t.equal(stderr, '')
  })

  t.test('the server exits with 0 after SIGTERM', needsSignals(), async t => {
    const program = new Program(t, `${folder}server.js`)
    await program.line('alive')
    await program.address()
    await program.end(t)
    t.ok(program.messages.indexOf('closing because of a signal') < program.messages.indexOf('background tasks have stopped'))
  })

  t.test('the server exits with 1 when it cannot listen, after what had started is stopped', needsSignals(), async t => {
    const taken = createServer().listen(0, 'localhost')
    t.teardown(() => { taken.close() })
    await once(taken, 'listening')
    const program = new Program(t, `${folder}server.js`, { PORT: String((taken.address() as AddressInfo).port) })
    t.match(await program.line('closing because of an error'), { err: { code: 'EADDRINUSE' } })
    t.same(await program.exit, { code: 1, signal: null })
    t.equal(program.messages.at(-1), 'background tasks have stopped')
  })

  t.test('the deadlines of the page are those of the code', async t => {
    const page = readFileSync(new URL('../docs/lifecycle.md', import.meta.url), 'utf8')
    const shutdown = readFileSync(new URL('../lib/app/shutdown.ts', import.meta.url), 'utf8')
    t.match(shutdown, /return limit \* 3 \/ 4/)
    t.match(page, /\| 6 s \(¾\) \| the longest `grace`/)
    const { RELEASE } = await import('../lib/store/index.ts')
    t.equal(RELEASE, 7 / 8)
    t.match(page, /\| 7 s \(⅞\) \| stored queues give/)
  })
})

t.test('docs/deploying.md', async t => {
  const folder = compiled(t, 'deploying')
  const page = readFileSync(new URL('../docs/deploying.md', import.meta.url), 'utf8').replaceAll('\r\n', '\n')
  const blocks = (language: string): string[] => [...page.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, 'gms'))].map(([, text = '']) => text)

  t.test('the web process enqueues, the worker runs, both answer probes, and both stop', needsSignals(needsRedis()), async t => {
    const env = { REDIS_URL: await redisUrl(t), PREFIX: `t${randomUUID()}` }
    const [web, worker] = ['web', 'worker'].map(ROLE => new Program(t, `${folder}server.js`, { ...env, ROLE })) as [Program, Program]
    t.equal((await web.send('POST', '/mails', { to: 'ada' })).status, 202)
    t.match(await worker.line('mail sent'), { to: 'ada' })
    await web.line('prices refreshed')
    for (const program of [web, worker]) {
      t.equal((await program.get('/live')).status, 200)
      t.same(await program.json('/ready'), { failing: [] })
    }
    t.equal((await worker.send('POST', '/mails', { to: 'bob' })).status, 404)
    await Promise.all([web.end(t), worker.end(t)])
    t.notOk(web.messages.includes('mail sent'))
    t.notOk(worker.messages.includes('prices refreshed'))
  })

  t.test('the program, Kubernetes, Compose, PM2 and systemd wait longer from the inside out', async t => {
    const text = filesOf('deploying').get('server') as string
    const delay = Number(/delay: ([\d_]+)/.exec(text)?.[1]?.replaceAll('_', ''))
    const shutdown = Number(/shutdownTimeout: '(\d+)s'/.exec(text)?.[1]) * 1_000
    t.ok(Number(/grace: '(\d+)s'/.exec(text)?.[1]) * 1_000 <= shutdown * 3 / 4)
    t.ok(shutdown < delay)

    const documents = blocks('yaml').flatMap(text => parseAllDocuments(text)).map(document => {
      t.same(document.errors, [])
      return document.toJS() as Record<string, any>
    })
    const [compose, ...deployments] = documents
    t.same(deployments.map(({ kind }) => kind), ['Deployment', 'Deployment'])
    for (const { spec: { selector, template: { metadata, spec } } } of deployments) {
      t.same(selector.matchLabels, metadata.labels)
      const [container] = spec.containers
      const wait = Number(container.lifecycle?.preStop.exec.command[1] ?? 0)
      t.ok(spec.terminationGracePeriodSeconds * 1_000 > wait * 1_000 + delay)
      for (const probe of ['startupProbe', 'livenessProbe']) t.equal(container[probe].httpGet.path, '/live')
      t.ok([undefined, '/ready'].includes(container.readinessProbe?.httpGet.path))
    }
    for (const name of ['web', 'worker']) t.ok(parseInt(compose?.['services'][name].stop_grace_period) * 1_000 > delay)
    const [pm2 = ''] = blocks('js')
    for (const [, timeout] of pm2.matchAll(/kill_timeout: (\d+)/g)) t.ok(Number(timeout) > delay)
    const [unit = ''] = blocks('ini')
    t.ok(Number(/TimeoutStopSec=(\d+)/.exec(unit)?.[1]) * 1_000 > delay)
    const [docker = ''] = blocks('dockerfile')
    t.match(docker, /^CMD \["node", "dist\/server\.js"\]$/m)
  })
})

t.test('docs/coming-from-dotnet.md', async t => {
  const folder = compiled(t, 'coming-from-dotnet')

  /** Loads a program of the page, whose application the test makes ready, and closes. */
  async function load<T> (t: Test, name: string): Promise<T & { app: FastifyInstance }> {
    const loaded = await import(`${folder}${name}.js`) as T & { app: FastifyInstance }
    t.teardown(async () => { await loaded.app.close() })
    return loaded
  }

  t.test('BackgroundService: a service ends when the application closes', async t => {
    const { app } = await load(t, 'background-service')
    await app.ready()
    const task = app.backgroundTasks.get('order-consumer')
    t.equal(task?.state, 'running')
    await app.close()
    t.equal(task?.state, 'stopped')
    t.equal(task?.lastRun?.outcome, 'cancelled')
  })

  t.test('IHostedService: it connects before the application is ready, and disconnects when it closes', async t => {
    const server = createServer().listen(0, '127.0.0.1')
    t.teardown(() => { server.close() })
    await once(server, 'listening')
    const connected = once(server, 'connection')
    setEnv(t, { MQTT_PORT: String((server.address() as AddressInfo).port) })
    const { app } = await load(t, 'hosted-service')
    await app.ready()
    const [socket] = await connected
    socket.resume()
    await Promise.all([once(socket, 'close'), app.close()])
    t.equal(app.backgroundTasks.get('mqtt')?.state, 'stopped')
  })

  t.test('PeriodicTimer: both ways poll again and again', async t => {
    const loaded = await load<{ polls: number }>(t, 'timers')
    await loaded.app.ready()
    const poll = loaded.app.backgroundTasks.get('poll')
    while ((poll?.stats.succeeded ?? 0) < 3) await new Promise(resolve => { setTimeout(resolve, 10) })
    t.ok(loaded.polls >= 3 + 2, 'the loop, too')
    await loaded.app.close()
  })

  t.test('HostOptions: what is ignored fails, and the server lives', async t => {
    const { app } = await load(t, 'host-options')
    await app.ready()
    while (app.backgroundTasks.get('ignored')?.state !== 'failed') await new Promise(resolve => { setImmediate(resolve) })
    t.equal((await app.backgroundTasks.health()).status, 'failing')
    t.equal((await app.inject('/')).statusCode, 404)
  })

  t.test('IServiceScopeFactory: each run has a scope, which is disposed of', async t => {
    const { app, events } = await load<{ events: string[] }>(t, 'scopes')
    await app.ready()
    await app.backgroundTasks.get('purge')?.trigger().finished
    t.same(events, ['opened', 'purged', 'disposed'])
  })

  t.test('BackgroundTaskQueue: what a route enqueues runs', async t => {
    const { app, sent } = await load<{ sent: string[] }>(t, 'task-queue')
    t.equal((await app.inject({ method: 'POST', url: '/signup', payload: { email: 'ada' } })).statusCode, 202)
    await app.backgroundTasks.drain()
    t.same(sent, ['ada'])
  })

  t.test('Quartz.NET: the schedule is that of the trigger, without the holidays', needsRedis(), async t => {
    setEnv(t, { REDIS_URL: await redisUrl(t) })
    const { app } = await load(t, 'quartz')
    await app.ready()
    const days = app.backgroundTasks.get('report')?.nextRuns(300).map(due => due.toLocaleDateString('sv', { timeZone: 'Asia/Seoul' })) ?? []
    t.equal(days.length, 300)
    t.notOk(days.includes('2027-01-01'))
    t.notOk(days.some(day => [0, 6].includes(new Date(day).getUTCDay())), 'no weekend')
    await app.close()
  })

  t.test('Quartz.NET: what the page says about its cron expressions', async t => {
    const { app } = await build(t)
    await app.ready()
    const declare = (cron: string): number | undefined => app.addBackgroundTask(randomUUID(), { cron, timezone: 'UTC' }, async () => {}).nextRuns(1)[0]?.getUTCDay()
    t.equal(declare('0 0 2 ? * 2'), 2, 'Tuesday')
    t.equal(declare('0 0 2 ? * MON'), 1)
    for (const cron of ['0 0/5 14 * * ?', '0 0 2 * * ? 2027', '0 0 2 L-3 * ?']) t.throws(() => declare(cron), { code: 'FST_BG_INVALID_OPTION' }, cron)
    for (const cron of ['0-59/5 14 * * *', '0 0 2 L * ?', '0 0 2 15W * ?', '0 0 2 ? * FRI#3', '0 0 2 LW * ?']) t.not(declare(cron), undefined, cron)
  })

  t.test('Hangfire: the continuation follows, what is delayed waits, and the dashboard is there', async t => {
    const { app, done } = await load<{ done: string[] }>(t, 'hangfire')
    t.equal((await app.inject({ method: 'POST', url: '/orders' })).statusCode, 202)
    const mails = app.backgroundTasks.get('mails')
    while (mails?.stats.succeeded !== 1) await new Promise(resolve => { setImmediate(resolve) })
    t.same(done, ['shipped 7', 'mail to ada@example.com'])
    t.equal((await app.inject('/jobs/api/tasks')).statusCode, 200)
    t.equal((await app.inject({ url: '/jobs/api/tasks', remoteAddress: '10.0.0.1' })).statusCode, 401)
  })
})

t.test('docs/migrating-from-bullmq.md', async t => {
  const folder = compiled(t, 'migrating-from-bullmq')

  // Of the page, and not of one test: it ends after the queues of all of them.
  const REDIS_URL = needsRedis().skip === undefined ? await redisUrl(t) : ''

  /** A queue as an application has it that uses BullMQ by hand. */
  async function oldQueue (t: Test): Promise<{ old: Queue, env: NodeJS.ProcessEnv }> {
    const env = { REDIS_URL, PREFIX: `new${randomUUID()}`, OLD_PREFIX: `old${randomUUID()}` }
    const old = new Queue('emails', { connection: { url: REDIS_URL, maxRetriesPerRequest: null }, prefix: env.OLD_PREFIX })
    t.teardown(async () => { await old.close() })
    return { old, env }
  }

  t.test('the bridge runs what waits in the old queue, what becomes due there, and what is still added', needsSignals(needsRedis()), async t => {
    const { old, env } = await oldQueue(t)
    await old.add('welcome', { to: 'waiting' })
    await old.add('welcome', { to: 'first' }, { priority: 1 })
    await old.add('welcome', { to: 'delayed' }, { delay: 300 })
    const program = new Program(t, `${folder}bridge.js`, env)
    const sent = async (to: string): Promise<unknown> => await program.line(line => line.msg === 'mail sent' && line['to'] === to)
    await Promise.all(['waiting', 'first', 'delayed'].map(sent))
    await old.add('welcome', { to: 'late' })
    await sent('late')
    t.equal((await program.send('POST', '/signup', { to: 'new' })).status, 202)
    await sent('new')
    await program.end(t)
    const counts = await old.getJobCounts()
    t.equal(counts['completed'], 4)
    t.equal(counts['failed'], 0)
    t.equal(program.messages.filter(msg => msg === 'mail sent').length, 5)
  })

  t.test('the script moves what is delayed, and the schedulers', needsSignals(needsRedis()), async t => {
    const { old, env } = await oldQueue(t)
    await old.add('welcome', { to: 'in a month' }, { delay: 30 * 86_400_000, jobId: 'month' })
    await old.upsertJobScheduler('weekly', { pattern: '0 2 * * 1', tz: 'Asia/Seoul' }, { name: 'digest', data: { to: 'monday' } })
    await old.upsertJobScheduler('often', { every: 60_000 }, { name: 'digest', data: { to: 'each minute' } })
    const move = async (): Promise<void> => {
      const program = new Program(t, `${folder}move.js`, env)
      t.same(await program.exit, { code: 0, signal: null })
      t.equal(program.rest, '')
      t.notOk(program.messages.includes('mail sent'))
    }
    await move()
    t.equal(await old.getJobSchedulersCount(), 0)
    t.equal(await old.getDelayedCount(), 0)
    // Moved again, it finds nothing, and what it has moved is there.
    await move()

    setEnv(t, { REDIS_URL, PREFIX: env['PREFIX'] as string })
    const { app, emails } = await (await import(`${folder}emails.js`)).build(async () => {})
    t.teardown(async () => { await app.close() })
    const { runs } = await emails.list({ state: 'delayed' })
    t.match(runs, [{ payload: { to: 'in a month' }, key: 'bull-month' }])
    t.equal(runs.length, 1)
    const month = runs[0].runAt.getTime() - Date.now()
    t.ok(month > 29.9 * 86_400_000 && month < 30.1 * 86_400_000)
    t.match((await emails.schedules()).schedules, [
      { key: 'often', every: 60_000, payload: { to: 'each minute' } },
      { key: 'weekly', cron: '0 2 * * 1', timezone: 'Asia/Seoul', payload: { to: 'monday' } }
    ])
  })

  t.test('an old job under the same name and prefix fails at once, as the page warns', needsSignals(needsRedis()), async t => {
    const { old, env } = await oldQueue(t)
    const { id } = await old.add('welcome', { to: 'ada' }, { attempts: 5 })
    const program = new Program(t, `${folder}bridge.js`, { ...env, PREFIX: env['OLD_PREFIX'], OLD_PREFIX: `none${randomUUID()}` })
    t.match(await program.line('run failed'), { run: id, err: { code: 'FST_BG_INVALID_PAYLOAD' } })
    await program.end(t)
    t.notOk(program.messages.includes('mail sent'))
  })

  t.test('the last picture of an album publishes it, once', async t => {
    const { app, published } = await import(`${folder}album.js`) as { app: FastifyInstance, published: string[] }
    t.teardown(async () => { await app.close() })
    await app.inject({ method: 'POST', url: '/albums', payload: { album: 'summer', pictures: ['a', 'b', 'c', 'd'] } })
    await app.backgroundTasks.drain()
    t.same(published, ['summer'])
  })
})
