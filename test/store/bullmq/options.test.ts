// bullmq(): what it is given, and what it refuses; and applications that share one Redis.
import { randomUUID } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import Module, { createRequire } from 'node:module'
import { createServer, type AddressInfo } from 'node:net'
import { cp, mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execFile } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Cluster, Redis as IORedis } from 'ioredis'
import { createClient } from 'redis'
import t, { type Test } from 'tap'
import type { Run } from '../../../lib/index.ts'
import { bullmq, type BullmqOptions } from '../../../lib/store/bullmq/index.ts'
import { forRedis } from '../../../lib/store/bullmq/redis/options.ts'
import { built, Child, noSignals } from '../../support/child.ts'
import type { Work } from '../../fixtures/durable.ts'
import { aborted, build, deferred, logged, rejection } from '../../support/helper.ts'
import { needsRedis, redisUrl } from '../../support/redis.ts'
import { nextMillisecond } from '../../support/queues.ts'
import { share, until } from '../../support/shared.ts'

const run = promisify(execFile)
const { skip } = needsRedis()
const work: Work = { n: 1, do: 'work', ms: 0 }
const code = 'FST_BG_INVALID_OPTION'

// First, as what is loaded stays loaded.
t.test('where a package cannot be loaded, the error says what is missing', async t => {
  const Resolver = Module as unknown as { _resolveFilename (request: string, ...rest: unknown[]): string }
  const resolve = Resolver._resolveFilename
  t.teardown(() => { Resolver._resolveFilename = resolve })
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'background-tasks-')))
  t.teardown(async () => { await rm(folder, { recursive: true, force: true }) })
  await writeFile(join(folder, 'package.json'), JSON.stringify({ version: '5.66.1' }))
  const { cache } = createRequire(import.meta.url)
  const instead = (found: Record<string, string>): void => {
    // A module that is loaded is not looked for again.
    for (const file of Object.keys(cache)) if (file.startsWith(folder) || /node_modules.(bullmq|ioredis)\b/.test(file)) Reflect.deleteProperty(cache, file)
    Resolver._resolveFilename = (request, ...rest) => resolve.call(Resolver, found[request] ?? request, ...rest)
  }
  const connection = 'redis://127.0.0.1:1'
  instead({ bullmq: 'bullmq-not-installed' })
  t.throws(() => bullmq({ connection }), { code, message: /npm install bullmq ioredis/, cause: { code: 'MODULE_NOT_FOUND' } })
  const manifest = join(folder, 'package.json')
  instead({ 'bullmq/package.json': manifest })
  t.throws(() => bullmq({ connection }), { code, message: /from version 6 on; installed is 5.66.1/ })
  instead({ ioredis: 'ioredis-not-installed' })
  t.throws(() => bullmq({ connection }), { code, message: /npm install ioredis; or pass a client/, cause: { code: 'MODULE_NOT_FOUND' } })
  t.ok(bullmq({ connection: createClient() as never }), 'a client of redis needs no ioredis')

  // What we use of BullMQ that its types hide.
  await writeFile(manifest, JSON.stringify({ version: '7.0.0' }))
  const parts: Record<string, string> = {
    'Worker.createJob': 'exports.Worker = class { moveStalledJobsToWait () {} }; exports.RedisQueueBackend = class { execCommand () {} }',
    'Worker.moveStalledJobsToWait': 'exports.Worker = class { createJob () {} }; exports.RedisQueueBackend = class { execCommand () {} }',
    'RedisQueueBackend.execCommand': 'exports.Worker = class { createJob () {} moveStalledJobsToWait () {} }',
    'Worker.createJob and Worker.moveStalledJobsToWait': 'exports.Worker = class {}; exports.RedisQueueBackend = class { execCommand () {} }'
  }
  for (const [part, without] of Object.entries(parts)) {
    await writeFile(join(folder, 'index.js'), without)
    instead({ bullmq: join(folder, 'index.js'), 'bullmq/package.json': manifest })
    t.throws(() => bullmq({ connection }), { code, message: `bullmq() needs ${part} of BullMQ, which the installed version 7.0.0 does not have. Run: npm install bullmq@6; or update fastify-background-tasks.` })
  }
  instead({ bullmq: join(folder, 'index.js'), 'bullmq/package.json': 'hidden' })
  t.throws(() => bullmq({ connection }), { code, message: /the installed version \(unknown\) does not have/ })
  instead({})
  t.ok(bullmq({ connection }))
})

t.test('options that are none are refused', async t => {
  const connection = 'redis://127.0.0.1'
  const refused: Array<[unknown, RegExp]> = [
    [undefined, /^bullmq\(\): options must be an object; received undefined/],
    [{}, /^bullmq\(\) needs a connection: a URL such as 'redis:\/\/127.0.0.1:6379'/],
    [{ connection: 'localhost:6379' }, /option "connection" must be a URL such as .*; received 'localhost:6379'/],
    [{ connection: 'http://localhost' }, /option "connection" must be a URL/],
    [{ connection: 6379 }, /option "connection" must be/],
    [{ connection: null }, /option "connection" must be/],
    [{ connection: [] }, /option "connection" must be/],
    [{ connection: { keyPrefix: 'app:' } }, /option "connection" must be one without a "keyPrefix", .*"prefix".*; received 'app:'/],
    [{ connection, conection: 1 }, /unknown option "conection". Did you mean "connection"\? It takes connection, prefix, lease, maxCrashes/],
    [{ connection, prefix: '' }, /option "prefix" must be a non-empty string; received ''/],
    [{ connection, prefix: 5 }, /option "prefix" must be a non-empty string; received 5/],
    [{ connection, lease: '999ms' }, /option "lease" must be a duration of 1 s or more; received '999ms'/],
    [{ connection, lease: 'long' }, /option "lease" must be a duration/],
    [{ connection, lease: 0 }, /option "lease" must be/],
    [{ connection, maxCrashes: 0 }, /option "maxCrashes" must be a whole number from 1; received 0/],
    [{ connection, maxCrashes: 1.5 }, /option "maxCrashes"/]
  ]
  for (const [options, message] of refused) t.throws(() => bullmq(options as BullmqOptions), { code, message }, JSON.stringify(options))
  const raw = new IORedis({ lazyConnect: true, keyPrefix: 'app:' })
  t.throws(() => bullmq({ connection: raw }), { code, message: /keyPrefix/ }, 'of a client, too')
  const cluster = new Cluster([{ port: 1 }], { lazyConnect: true })
  t.throws(() => bullmq({ connection: cluster }), { code, message: /on a Redis cluster .*"prefix" a part in braces, such as '{shop}'; received 'bull'\./ })
  for (const prefix of ['{}', '{}{a}', '}a{', '{a']) t.throws(() => bullmq({ connection: cluster, prefix }), { code, message: /a part in braces/ }, prefix)
  for (const prefix of ['{a}', 'b{a}', '{a}{}']) t.ok(bullmq({ connection: cluster, prefix }), prefix)
})

t.test('while it was never connected, a store says only that', async t => {
  // It takes connections, and never says a word.
  const server = createServer().listen(0, '127.0.0.1')
  t.teardown(() => { server.close() })
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const { app } = await build(t, { stores: { default: bullmq({ connection: { host: '127.0.0.1', port } }) } })
  const queue = app.addBackgroundQueue('a', () => {})
  await app.ready()
  const refused = rejection(queue.enqueue(1))
  await app.close()
  t.equal((await refused).message, 'The store of background runs cannot be reached: not connected. It reconnects by itself: try again later.')
})

t.test('that the store is away is logged, however quiet its queues are', async t => {
  const { app, lines } = await build(t, { stores: { default: bullmq({ connection: 'redis://127.0.0.1:1' }) } })
  app.addBackgroundQueue('a', { logLevel: 'silent' }, () => {})
  app.addBackgroundTask('b', { every: '1h', cluster: true, logLevel: 'silent' }, () => {})
  await app.ready()
  t.match(await logged(lines, 'the store cannot be reached: it is tried again'), { level: 'error', err: { code: 'ECONNREFUSED' } })
})

t.test('queues that BullMQ cannot have are refused, and nothing is connected to', async t => {
  const { app } = await build(t, { stores: { default: bullmq({ connection: 'redis://127.0.0.1:1' }) } })
  t.throws(() => app.addBackgroundQueue('a:b', () => {}), { code, message: /"a:b": BullMQ takes no name with a colon. Choose another, such as 'a-b'/ })
  t.throws(() => app.addBackgroundQueue('a', { maxSize: 1 }, () => {}), { code, message: /option "maxSize" belongs to a queue in memory/ })
  t.throws(() => app.addBackgroundQueue('a', { onFull: 'wait' }, () => {}), { code, message: /option "onFull" belongs to a queue in memory/ })
  t.equal(app.addBackgroundQueue('a', { store: 'memory', maxSize: 1 }, () => {}).name, 'a')
  await app.ready()
  t.match(await app.backgroundTasks.health(), { status: 'ok' })
})

t.test('without the packages it says which command to run', async t => {
  const root = fileURLToPath(new URL('../../..', import.meta.url))
  const folder = await mkdtemp(join(tmpdir(), 'background-tasks-'))
  t.teardown(async () => { await rm(folder, { recursive: true, force: true }) })
  built('durable')
  const modules = join(folder, 'node_modules')
  const ours = join(modules, 'fastify-background-tasks')
  for (const file of ['index', 'fastify-background-tasks', 'bullmq', 'engines']) await cp(join(root, `dist/${file}.js`), join(ours, `dist/${file}.js`))
  await cp(join(root, 'package.json'), join(ours, 'package.json'))
  await mkdir(join(modules, '@fastify'))
  for (const name of ['fastify', '@fastify/error', '@fastify/ajv-compiler', 'croner', 'fastify-plugin', 'leven']) await symlink(join(root, 'node_modules', name), join(modules, name), 'junction')
  await writeFile(join(folder, 'program.mjs'), `
    import Fastify from 'fastify'
    import backgroundTasks from 'fastify-background-tasks'
    import { bullmq } from 'fastify-background-tasks/bullmq'
    const app = Fastify()
    try {
      await app.register(backgroundTasks, { stores: { default: bullmq({ connection: process.argv[2] === 'client' ? { duplicate: () => ({ duplicate () {}, sendCommand () {}, on () {} }) } : 'redis://127.0.0.1:1' }) } })
      app.addBackgroundQueue('a', () => {})
      console.log('declared')
    } catch (error) {
      console.log(error.code, error.message, error.cause?.code)
    }`)
  const program = async (): Promise<string> => (await run(process.execPath, ['program.mjs'], { cwd: folder })).stdout
  t.match(await program(), /^FST_BG_INVALID_OPTION bullmq\(\) needs the package bullmq, which is not installed. Run: npm install bullmq ioredis MODULE_NOT_FOUND/)
  await mkdir(join(modules, 'bullmq'))
  await writeFile(join(modules, 'bullmq/package.json'), JSON.stringify({ name: 'bullmq', version: '5.66.1', main: 'index.js' }))
  t.match(await program(), /^FST_BG_INVALID_OPTION bullmq\(\) needs the package bullmq from version 6 on; installed is 5.66.1. Run: npm install bullmq@latest/)
  await writeFile(join(modules, 'bullmq/package.json'), JSON.stringify({ name: 'bullmq', version: '6.0.0', main: 'index.js' }))
  await writeFile(join(modules, 'bullmq/index.js'), 'exports.Worker = class { createJob () {} moveStalledJobsToWait () {} }; exports.RedisQueueBackend = class { execCommand () {} }')
  t.match(await program(), /^FST_BG_INVALID_OPTION bullmq\(\) needs the package ioredis, which is not installed. Run: npm install ioredis; or pass a client of the package redis as "connection". MODULE_NOT_FOUND/)
})

t.test('over Redis', skip === undefined ? {} : { skip }, async t => {
  t.jobs = 4
  const url = await redisUrl(t)

  const { hostname: host, port } = new URL(url)
  const forms: Record<string, (t: Test) => Promise<{ connection: BullmqOptions['connection'], left?: () => Promise<unknown> }>> = {
    'a URL': async () => ({ connection: url }),
    'options of ioredis': async () => ({ connection: { host, port: Number(port) } }),
    'options with a URL': async () => ({ connection: { url, lazyConnect: true } as BullmqOptions['connection'] }),
    'a client of ioredis': async t => {
      const client = new IORedis(url)
      t.teardown(() => { client.disconnect() })
      return { connection: client, left: async () => await client.ping() }
    },
    'a client of the package redis': async t => {
      const client = createClient({ url })
      client.on('error', () => {})
      await client.connect()
      t.teardown(() => { client.destroy() })
      return { connection: client, left: async () => await client.ping() }
    }
  }
  for (const [form, make] of Object.entries(forms)) {
    t.test(`${form} is a connection; a client is left open`, async t => {
      const { connection, left } = await make(t)
      const prefix = randomUUID()
      const held = deferred<Run<Work>>()
      const one = await share(t, { connection, prefix }, {}, {}, async run => {
        if (run.payload.do !== 'hold') return
        held.resolve(run)
        await aborted(run.signal)
        throw run.signal.reason
      })
      const two = await share(t, { connection, prefix }, {}, { enabled: false })
      const { id } = await two.queue.enqueue({ n: 1, do: 'hold' })
      const { signal } = await held.promise
      t.match(await two.queue.counts(), { active: 1 })
      await two.queue.cancel(id)
      t.equal(signal.aborted, true)
      t.same([one, two].map(({ queue }) => queue.stats.cancelled), [1, 0], 'counted where it ran')
      await two.queue.pause()
      await until(async () => one.queue.state === 'paused')
      await two.queue.enqueue(work, { key: 'k', delay: 1 })
      await one.queue.resume()
      await until(async () => (await two.queue.counts()).succeeded === 1)
      await one.app.close()
      await two.app.close()
      if (left !== undefined) t.equal(await left(), 'PONG')
    })
  }

  t.test('a web process and a worker share a queue: the one accepts and looks after it, the other runs', { skip: noSignals }, async t => {
    const prefix = randomUUID()
    const web = await share(t, { connection: url, prefix }, {}, { enabled: false })
    const shell = await share(t, { connection: url, prefix }, { autostart: false })
    const worker = new Child(t, built('durable'), [`--url=${url}`, `--prefix=${prefix}`])
    const { queue } = web
    const [one, two, three] = [await queue.enqueue({ n: 1, do: 'hold' }), await queue.enqueue({ n: 2, do: 'work', ms: 1 }), await shell.queue.enqueue({ n: 3, do: 'work', ms: 1 }, { delay: '1h' })]
    t.match(await worker.line('begins'), { id: one.id, n: 1 })
    for (const { queue } of [web, shell]) {
      t.equal(queue.state, 'idle')
      t.match(await queue.counts(), { active: 1, waiting: 1, delayed: 1 })
      t.match((await queue.list({ state: 'active' })).runs, [{ id: one.id, payload: { n: 1 } }])
      t.match((await queue.list({ state: 'waiting' })).runs, [{ id: two.id }])
    }
    await queue.cancel(three.id)
    t.match(await rejection(queue.cancel(three.id)), { code: 'FST_BG_NOT_FOUND' })

    // Through its signal, in the other process.
    await queue.cancel(one.id)
    t.match(await worker.line('hears'), { id: one.id, reason: 'FST_BG_CANCELLED' })
    await worker.line(({ msg, n }) => msg === 'done' && n === 2)

    await queue.pause()
    await queue.enqueue({ n: 4, do: 'work', ms: 1 })
    for (const { queue } of [web, shell]) await until(async () => queue.state === 'paused')
    await sleep(300)
    t.match(await shell.queue.counts(), { waiting: 1, active: 0 })
    await shell.queue.resume()
    for (const { queue } of [web, shell]) await until(async () => queue.state === 'idle')
    await worker.line(({ msg, n }) => msg === 'done' && n === 4)

    const bad = await queue.enqueue({ n: 5, do: 'throw' })
    await worker.line(({ msg, run }) => msg === 'run failed' && run === bad.id)
    await until(async () => (await queue.counts()).failed === 1)
    t.match((await queue.list({ state: 'failed' })).runs, [{ id: bad.id, error: { message: 'told to' } }])
    await queue.retry(bad.id)
    await worker.line(({ msg, run, attempt }) => msg === 'run failed' && run === bad.id && attempt === 2)
    t.equal(queue.stats.succeeded + shell.queue.stats.succeeded, 0, 'nothing has run here')
  })

  t.test('applications with different prefixes do not see each other', async t => {
    const one = await share(t, { connection: url, prefix: randomUUID() })
    const two = await share(t, { connection: url, prefix: randomUUID() }, {}, { enabled: false })
    await one.queue.pause()
    const { id } = await one.queue.enqueue(work)
    await two.queue.enqueue(work, { key: 'k' })
    t.equal(two.queue.state, 'idle')
    t.match(await rejection(two.queue.cancel(id)), { code: 'FST_BG_NOT_FOUND' })
    t.match(await two.queue.counts(), { waiting: 1 })
    await one.queue.resume()
    await one.queue.drain()
    t.match(await two.queue.counts(), { waiting: 1 })
    t.equal(one.queue.stats.succeeded, 1)
  })

  t.test('a payload over the limit is refused before it is sent', async t => {
    const { queue } = await share(t, { connection: url, prefix: randomUUID() }, {}, { maxPayload: 100 })
    t.match(await rejection(queue.enqueue({ ...work, text: 'x'.repeat(100) } as Work)), { code: 'FST_BG_INVALID_PAYLOAD' })
    t.match(await queue.counts(), { waiting: 0, succeeded: 0 })
  })

  t.test('one store for two servers: the first that closes leaves it to the other', async t => {
    const store = bullmq({ connection: url, prefix: randomUUID() })
    const [one, two] = [await build(t, { stores: { default: store } }), await build(t, { stores: { default: store } })]
    const seen = deferred<unknown>()
    one.app.addBackgroundQueue('one', () => {})
    const queue = two.app.addBackgroundQueue('two', ({ payload }) => { seen.resolve(payload) })
    await one.app.ready()
    await two.app.ready()
    await one.app.close()
    await queue.enqueue('still there')
    t.equal(await seen.promise, 'still there')
  })

  t.test('a run may wait for ever between attempts, and has a policy without end', async t => {
    const { queue, begun } = await share(t, { connection: url, prefix: randomUUID() }, {}, {}, ({ attempt }) => { if (attempt < 3) throw new Error('again') })
    await queue.enqueue(work, { retry: { limit: Infinity, delay: 1, jitter: false } })
    await begun
    await queue.drain()
    t.match(await queue.list({ state: 'succeeded' }), { runs: [{ attempt: 3 }] })
  })

  t.test('errors that have no trace, or an odd name, are listed all the same', async t => {
    const prefix = randomUUID()
    const redis = new IORedis(url)
    t.teardown(() => { redis.disconnect() })
    const errors = [Object.assign(new Error('no trace'), { stack: '' }), Object.assign(new Error('odd'), { name: 'a: [b]' }), Object.assign(new Error(''), { code: 'E_CODE' })]
    const { queue } = await share(t, { connection: url, prefix }, {}, {}, async ({ payload }) => {
      await nextMillisecond()
      await Promise.reject(errors[payload.n])
    })
    const ids: string[] = []
    for (const n of errors.keys()) ids.push((await queue.enqueue({ ...work, n })).id)
    await queue.drain()
    const errorsOf = async (): Promise<unknown[]> => (await queue.list({ state: 'failed' })).runs.map(({ error }) => error).reverse()
    t.match(await errorsOf(), [{ name: 'Error', message: 'no trace' }, { message: 'odd' }, { name: 'Error', message: '', code: 'E_CODE' }])
    // As another program that uses BullMQ may leave it.
    await redis.hset(`${prefix}:work:${ids[0]}`, 'stacktrace', '[]')
    t.match((await errorsOf())[0], { name: 'Error', message: 'no trace', stack: undefined })
  })

  t.test('a run that a worker is about to take is cancelled all the same', async t => {
    const prefix = randomUUID()
    const redis = new IORedis(url)
    t.teardown(() => { redis.disconnect() })
    const { queue } = await share(t, { connection: url, prefix }, { autostart: false })
    const { id } = await queue.enqueue(work)
    await redis.set(`${prefix}:work:${id}:lock`, 'of a worker', 'PX', 200)
    await queue.cancel(id)
    t.match(await queue.counts(), { waiting: 0, active: 0 })
  })

  t.test('runs that are cancelled as they begin are cancelled, and counted once', async t => {
    const { queue } = await share(t, { connection: url, prefix: randomUUID() }, {}, { concurrency: 3 }, async ({ signal }) => {
      await aborted(signal)
      throw signal.reason
    })
    await Promise.all(Array.from({ length: 300 }, async () => {
      const { id } = await queue.enqueue(work)
      await queue.cancel(id)
    }))
    t.equal(queue.stats.cancelled, 300)
    t.match(await queue.counts(), { waiting: 0, active: 0, succeeded: 0, failed: 0 })
  })

  t.test('a key until started is taken again while the run waits for its next attempt', async t => {
    const { queue, begun } = await share(t, { connection: url, prefix: randomUUID() }, {}, { retry: { limit: 1, delay: '1h', maxDelay: '1h' } }, () => { throw new Error('later') })
    const key = { key: 'k', keyUntil: 'started' } as const
    const { id } = await queue.enqueue(work, key)
    await begun
    await until(async () => (await queue.counts()).delayed === 1)
    t.same(await queue.enqueue(work, key), { id, duplicate: true })
    await queue.cancel(id)
  })

  t.test('a queue that is declared when the connection is up', async t => {
    const { app, queue } = await share(t, { connection: url, prefix: randomUUID() })
    await queue.enqueue(work)
    await queue.drain()
    const seen = deferred<unknown>()
    const late = app.addBackgroundQueue('late', ({ payload }) => { seen.resolve(payload) })
    await late.enqueue(1)
    t.equal(await seen.promise, 1)
  })
})

t.test('a Redis that loads its data is asked again soon, and not after the time that it says', async t => {
  const asked = new EventEmitter()
  const server = createServer(socket => {
    socket.on('error', () => {})
    socket.on('data', data => {
      for (const command of data.toString().split(/^\*\d+\r\n/m).slice(1)) {
        const isQuestion = /^\$4\r\ninfo\r\n/i.test(command)
        socket.write(isQuestion ? bulk('loading:1\r\nloading_eta_seconds:60\r\n') : '+OK\r\n')
        if (isQuestion) asked.emit('info')
      }
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = new IORedis({ ...forRedis({}), host: '127.0.0.1', port: (server.address() as AddressInfo).port })
  client.on('error', () => {})
  t.teardown(() => {
    client.disconnect()
    server.close()
  })
  await once(asked, 'info')
  // What it waits by is a timer that outlives the client. After 4 s in silence it would connect anew, and ask, too.
  const signal = AbortSignal.timeout(3_000)
  await t.resolves(once(asked, 'info', { signal }), 'it waits for half a second')
})

function bulk (text: string): string {
  return `$${text.length}\r\n${text}\r\n`
}
