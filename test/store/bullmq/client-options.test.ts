// Options of clients that a store cannot use: it does without them, or refuses them.
import { Cluster, Redis as IORedis, type RedisOptions } from 'ioredis'
import { createClient, createClientPool, createCluster, createSentinel } from 'redis'
import t, { type Test } from 'tap'
import { bullmq } from '../../../lib/store/bullmq/index.ts'
import { needsRedis, Redis } from '../../support/redis.ts'
import { open } from '../../support/connections.ts'

const options = needsRedis(true)
const code = 'FST_BG_INVALID_OPTION'

/** With any of them, a connection that waits for runs ends, a command is refused, or an answer has another form. */
const bad: RedisOptions[] = [
  { commandTimeout: 500 }, { blockingTimeout: 500 }, { socketTimeout: 500 }, { maxRetriesPerRequest: 1 }, { enableOfflineQueue: false }, { lazyConnect: true },
  { readOnly: true }, { stringNumbers: true }, { enableAutoPipelining: true }, { autoResubscribe: false }, { autoResendUnfulfilledCommands: false },
  { enableReadyCheck: false }, { retryStrategy: () => null }
]
const forms: Record<string, (t: Test, port: number, options: RedisOptions) => Parameters<typeof bullmq>[0]['connection'] | undefined> = {
  'in a URL': (_t, port, options) => {
    const [name, value] = Object.entries(options)[0] as [string, unknown]
    // ioredis takes any text but an empty one for true.
    return typeof value === 'function' ? undefined : `redis://127.0.0.1:${port}?${name}=${value === false ? '' : String(value)}`
  },
  'beside a URL': (_t, port, options) => ({ ...options, url: `redis://127.0.0.1:${port}` }) as RedisOptions,
  'in options': (_t, port, options) => ({ ...options, port }),
  'of a client': (t, port, options) => {
    const client = new IORedis({ ...options, port })
    t.teardown(() => { client.disconnect() })
    return client.on('error', () => {})
  }
}

t.test('options that a store cannot use do no harm', options, async t => {
  t.jobs = 8 // they mostly wait
  const { port } = await Redis.start(t)

  for (const [form, make] of Object.entries(forms)) {
    for (const options of bad) {
      const connection = make(t, port, options)
      if (connection === undefined) continue
      t.test(`${Object.keys(options)[0]} ${form}`, async t => { await works(t, connection) })
    }
  }

  const ofNodeRedis = [{ commandsQueueMaxLength: 1 }, { readonly: true }, { disableOfflineQueue: true }, { commandOptions: { timeout: 500 } }, { pingInterval: 100_000 }, { RESP: 3 }, { RESP: 3, clientSideCache: { ttl: 0 } }, { socket: { port, reconnectStrategy: false } }] as object[]
  for (const options of ofNodeRedis) {
    t.test(`${Object.keys(options).join(', ')} of a client of redis`, async t => { await works(t, createClient({ url: `redis://127.0.0.1:${port}`, ...options }).on('error', () => {}) as never) })
  }

  async function works (t: Test, connection: Parameters<typeof bullmq>[0]['connection']): Promise<void> {
    const { run, queue, lines } = await open(t, connection)
    await run(0)
    // Longer than the limit that the user has set, while the connection waits for runs.
    await new Promise(resolve => { setTimeout(resolve, 1_500) })
    await Promise.all([run(1), run(2), run(3)])
    await queue.drain()
    t.match(await queue.counts(), { succeeded: 4, active: 0 })
    t.same(lines.filter(({ level }) => level === 'error' || level === 'warn'), [])
  }
})

t.test('options that change what a store does are refused, in whatever form', async t => {
  const client = (options: RedisOptions): IORedis => new IORedis({ ...options, lazyConnect: true })
  const cluster = (options: ConstructorParameters<typeof Cluster>[1]): Cluster => new Cluster([{ port: 1 }], { ...options, lazyConnect: true })
  const keyPrefix = /^bullmq\(\): option "connection" must be one without a "keyPrefix", which BullMQ does not take: give the store a "prefix"; received 'app:'\.$/
  const role = /^bullmq\(\): option "connection" must be one to the primary, which a store writes to, and so without role: 'slave'; received 'slave'\.$/
  const other = /^bullmq\(\): option "connection" must be a URL .* or a client of ioredis or redis \(createClient\(\)\)/
  const sentinels = [{ host: '127.0.0.1', port: 1 }]
  const refused: Array<[unknown, RegExp]> = [
    ['redis://127.0.0.1?keyPrefix=app:', keyPrefix],
    [{ url: 'redis://127.0.0.1?keyPrefix=app:' }, keyPrefix],
    [{ url: 'redis://127.0.0.1', keyPrefix: 'app:' }, keyPrefix],
    [{ keyPrefix: 'app:' }, keyPrefix],
    [client({ keyPrefix: 'app:' }), keyPrefix],
    [cluster({ keyPrefix: 'app:' }), keyPrefix],
    [cluster({ redisOptions: { keyPrefix: 'app:' } }), keyPrefix],
    [{ sentinels, name: 'main', role: 'slave' }, role],
    [client({ sentinels, name: 'main', role: 'slave' }), role],
    [createCluster({ rootNodes: [] }), other],
    [createSentinel({ name: 'main', sentinelRootNodes: sentinels }), other],
    [createClientPool(), other]
  ]
  for (const [connection, message] of refused) t.throws(() => bullmq({ connection: connection as string, prefix: '{a}' }), { code, message })
  t.ok(bullmq({ connection: 'redis://127.0.0.1?keyPrefix=' }), 'an empty one changes nothing')
})

t.test('a URL that is none is refused, and its password is not told', t => {
  for (const connection of ['redis://user:secret@[::1', { url: 'redis://user:secret@[::1' }]) {
    try {
      bullmq({ connection: connection as string })
      t.fail('it was accepted')
    } catch (error) {
      t.match(error, { code, message: /^bullmq\(\): option "connection" must be one that ioredis takes \(Invalid URL\)/ })
      t.notMatch(JSON.stringify(error, Object.getOwnPropertyNames(error)), /secret/)
    }
  }
  t.end()
})
