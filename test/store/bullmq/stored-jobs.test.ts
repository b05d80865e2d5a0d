// Jobs as they stand in Redis: those of other producers, and those that nobody can read. One bad job is one failed run.
import { randomUUID } from 'node:crypto'
import { Queue } from 'bullmq'
import Fastify, { type FastifyInstance } from 'fastify'
import { Redis as IORedis } from 'ioredis'
import t, { type Test } from 'tap'
import backgroundTasks, { type BackgroundQueue, type QueueOptions } from '../../../lib/index.ts'
import { bullmq } from '../../../lib/store/bullmq/index.ts'
import { capture, logged, rejection, type Line } from '../../support/helper.ts'
import { list, until } from '../../support/queues.ts'
import { needsRedis, redisUrl } from '../../support/redis.ts'
import { linksOf, telemetry } from '../../support/telemetry.ts'

const { skip } = needsRedis()

interface Given {
  app: FastifyInstance
  lines: Line[]
  queue: BackgroundQueue
  /** Payloads that the handler was given. */
  seen: unknown[]
  redis: IORedis
  /** BullMQ's own queue. */
  raw: Queue
  key (part: string): string
}

/** A queue that is not started, and ways around it. */
async function given (t: Test, options: QueueOptions = {}): Promise<Given> {
  const connection = await redisUrl(t)
  const prefix = randomUUID()
  const lines: Line[] = []
  const app = Fastify({ logger: capture(lines) }) as FastifyInstance
  const redis = new IORedis(connection)
  const own = new IORedis(connection, { maxRetriesPerRequest: null })
  const raw = new Queue('q', { prefix, connection: own as never })
  t.teardown(async () => {
    await app.close()
    await raw.close()
    own.disconnect()
    redis.disconnect()
  })
  await app.register(backgroundTasks, { autostart: false, stores: { default: bullmq({ connection, prefix, lease: '1s' }) } })
  const seen: unknown[] = []
  const queue = app.addBackgroundQueue('q', options, ({ payload }) => { seen.push(payload) })
  await app.ready()
  return { app, lines, queue, seen, redis, raw, key: part => `${prefix}:q:${part}` }
}

const code = 'FST_BG_INVALID_PAYLOAD'

t.test('a job that cannot be read is one failed run, and the runs around it go on', { skip: skip ?? false, timeout: 60_000 }, async t => {
  const bad: Array<[what: string, make: (given: Given, id: string) => Promise<unknown>, message: RegExp]> = [
    ['data null', async ({ raw }, jobId) => await raw.add('q', null, { jobId }), /its data is null, and no object\. Write \{ "v": 1, "payload": … \}/],
    ['data of another kind', async ({ raw }, jobId) => await raw.add('q', 'text', { jobId }), /its data is 'text', and no object/],
    ['a list', async ({ raw }, jobId) => await raw.add('q', [1], { jobId }), /no object/],
    ['no payload', async ({ raw }, jobId) => await raw.add('q', { to: 'ada' }, { jobId }), /its data has no "payload", but 'to'\. Write/],
    ['empty data', async ({ raw }, jobId) => await raw.add('q', {}, { jobId }), /its data has no "payload"\. Write/],
    ['a version that is none', async ({ raw }, jobId) => await raw.add('q', { v: 'x', payload: 1 }, { jobId }), /its "v" is 'x', and not 1/],
    ['a newer version', async ({ raw }, jobId) => await raw.add('q', { v: 2, payload: 1 }, { jobId }), /version 2 of the form of jobs, and this process knows version 1: deploy/],
    ['a retry that is none', async ({ raw }, jobId) => await raw.add('q', { payload: 1, retry: { limit: 'x' } }, { jobId }), /its "retry" .*'x'/],
    ['a retry of null', async ({ raw }, jobId) => await raw.add('q', { payload: 1, retry: null }, { jobId }), /its "retry" must be a number/],
    ['a reqId that is none', async ({ raw }, jobId) => await raw.add('q', { payload: 1, reqId: 5 }, { jobId }), /"reqId" must be a text; received 5/],
    ['a keyUntil that is none', async ({ raw }, jobId) => await raw.add('q', { payload: 1, keyUntil: 5 }, { jobId }), /"keyUntil" must be 'started' or 'finished'; received 5/],
    ['data that is no JSON', async ({ raw, redis, key }, jobId) => {
      await raw.add('q', { payload: 1 }, { jobId })
      await redis.hset(key(jobId), 'data', '{"payload":')
    }, /its "data" in Redis is no JSON/],
    ['a number of attempts that is none', async ({ raw, redis, key }, jobId) => {
      await raw.add('q', { payload: 1 }, { jobId })
      await redis.hset(key(jobId), 'atm', 'many')
    }, /its "atm", the number of its attempts in Redis, is no number/],
    ...['opts', 'progress', 'parent'].map((field): typeof bad[number] => [`${field} that are no JSON`, async ({ raw, redis, key }, jobId) => {
      await raw.add('q', { payload: 1 }, { jobId })
      await redis.hset(key(jobId), field, '{"a":')
    }, new RegExp(`its "${field}" in Redis is no JSON`)]),
    ['no data', async ({ raw, redis, key }, jobId) => {
      await raw.add('q', { payload: 1 }, { jobId })
      await redis.hdel(key(jobId), 'data')
    }, /is lost: Redis has no data of the run any more, as after an eviction/],
    ['an evicted hash', async ({ raw, redis, key }, jobId) => {
      await raw.add('q', { payload: 1 }, { jobId })
      await redis.del(key(jobId))
    }, /is lost: Redis has no data of the run any more, as after an eviction/],
    ['an evicted hash with a priority', async ({ raw, redis, key }, jobId) => {
      await raw.add('q', { payload: 1 }, { jobId, priority: 5 })
      await redis.del(key(jobId))
    }, /is lost/],
    ['an evicted hash with a delay', async ({ raw, redis, key }, jobId) => {
      await raw.add('q', { payload: 1 }, { jobId, delay: 100 })
      await redis.del(key(jobId))
    }, /is lost/]
  ]
  const about = await given(t)
  const { queue, seen, lines, redis, key } = about
  await queue.enqueue('first')
  for (const [i, [, make]] of bad.entries()) await make(about, `bad-${i}`)
  await queue.enqueue('last')
  // An error cut in two does not keep the others out of the list.
  const waiting = await queue.list({ state: 'waiting' })
  t.equal(waiting.runs.length, bad.length + 1, 'they are all listed')
  t.match(waiting.runs.find(({ id }) => id === 'bad-0'), { payload: undefined, error: { code, message: /its data is null/ } }, 'with what is wrong, before they have run')
  t.equal((await list(queue, 'delayed')).length, 1)
  await queue.start()
  await queue.drain()
  t.same(seen, ['first', 'last'], 'the handler was called for no other')
  t.match(await queue.counts(), { waiting: 0, delayed: 0, active: 0, succeeded: 2, failed: bad.length })
  const failed = new Map((await list(queue, 'failed')).map(run => [run.id, run]))
  for (const [i, [what, , message]] of bad.entries()) {
    t.match(failed.get(`bad-${i}`), { state: 'failed', attempt: 1, error: { code, message } }, what)
    t.match(lines.find(({ msg, run }) => msg === 'run failed' && run === `bad-${i}`), { level: 'error', err: { code } }, `${what}, in the log`)
  }
  t.equal(queue.stats.failed, bad.length)
  t.ok([...failed.values()].every(({ enqueuedAt }) => !Number.isNaN(enqueuedAt.getTime())))

  await redis.hset(key('bad-0'), 'stacktrace', '["Error: cut', 'failedReason', 'cut')
  await redis.hset(key('bad-1'), 'stacktrace', '[5]', 'timestamp', 'x', 'priority', 'y', 'atm', 'z', 'processedOn', '99999999999999999999')
  await redis.del(key('bad-2'))
  const runs = await list(queue, 'failed')
  t.equal(runs.length, bad.length)
  t.match(runs.find(({ id }) => id === 'bad-0'), { error: { message: 'cut', stack: undefined } })
  t.match(runs.find(({ id }) => id === 'bad-1'), { priority: 0, attempt: 1, startedAt: undefined, enqueuedAt: new Date(0) })
  t.match(runs.find(({ id }) => id === 'bad-2'), { error: { message: /is lost/ } }, 'also of a run that had failed before')
  t.match(await rejection(queue.retry('bad-2')), { code: 'FST_BG_INVALID_OPTION', message: /Run bad-2 .* cannot be retried: Redis has lost its data\. Remove it\./ })
  // Whoever has mended a job makes it run again.
  await redis.hset(key('bad-3'), 'data', '{"v":1,"payload":"mended"}')
  await queue.retry('bad-3')
  await queue.drain()
  t.same(seen, ['first', 'last', 'mended'])
  t.equal(await queue.retryFailed(), bad.length - 2 - bad.filter(([what]) => /evicted|^no data/.test(what)).length, 'all but those that are lost')
  await queue.drain()
  t.match(await queue.counts(), { waiting: 0, active: 0, failed: bad.length - 3 }, 'and the link to a parent is no more')
  await queue.remove('bad-2')
  await queue.remove('bad-4')
  t.equal(await queue.clear('failed'), bad.length - 5)
  t.match(await queue.counts(), { waiting: 0, delayed: 0, active: 0, failed: 0 })
})

t.test('what another program writes as the documentation says runs as any other', { skip: skip ?? false, timeout: 60_000 }, async t => {
  const gaveUp: unknown[] = []
  const onGiveUp = (error: unknown): void => { gaveUp.push(error) }
  const { queue, seen, raw, redis, key } = await given(t, { onGiveUp, schema: { payload: { type: 'object', required: ['to'], properties: { to: { type: 'string' } } } } })
  await raw.add('any name', { v: 1, payload: { to: 'ada' }, reqId: 'req-7' }, { jobId: 'of-bullmq', priority: 2 })
  await raw.add('any name', { payload: { to: 'bob' } })
  await raw.add('any name', { v: 1, payload: {}, retry: 1 }, { attempts: 9 })
  await raw.add('any name', { v: 1, payload: { to: 'eve' }, retry: { limit: null, delay: '1ms' }, later: 'unknown to this version' })
  // Plain commands of Redis, in one transaction.
  await redis.multi()
    .hset(key('of-redis'), 'name', 'any', 'data', '{"v":1,"payload":{"to":"sam"}}', 'opts', '{}', 'timestamp', String(Date.now()), 'delay', '0', 'priority', '0')
    .lpush(key('wait'), 'of-redis')
    .zadd(key('marker'), 0, '0')
    .exec()
  t.match((await list(queue, 'waiting')).map(({ payload, reqId, priority, error }) => ({ payload, reqId, priority, error })), [
    { payload: { to: 'bob' } }, { payload: {} }, { payload: { to: 'eve' } }, { payload: { to: 'sam' } }, { payload: { to: 'ada' }, reqId: 'req-7', priority: 2 }
  ])
  t.ok((await list(queue, 'waiting')).every(({ error }) => error === undefined))
  await queue.start()
  await queue.drain()
  t.same(seen, [{ to: 'bob' }, { to: 'eve' }, { to: 'sam' }, { to: 'ada' }])
  t.match(await list(queue, 'failed'), [{ attempt: 2, error: { code, message: /must have required property 'to'/ } }], 'its own retry, not that of BullMQ')
  t.match(gaveUp, [{ code, validation: [{ keyword: 'required' }] }])
})

t.test('a job that is lost while it runs is run once more, and fails', { skip: skip ?? false, timeout: 60_000 }, async t => {
  const { app, redis, key } = await given(t)
  const seen: unknown[] = []
  const queue = app.addBackgroundQueue('lost', async ({ payload, id }) => {
    seen.push(payload)
    await redis.del(key(id).replace(':q:', ':lost:'))
  })
  const { id } = await queue.enqueue('once')
  await queue.start()
  await queue.drain()
  t.same(seen, ['once'])
  t.match(await list(queue, 'failed'), [{ id, error: { code, message: /is lost/ } }])
})

t.test('during a deploy an old process puts back what only the new one takes', { skip: skip ?? false, timeout: 60_000 }, async t => {
  const connection = await redisUrl(t)
  const prefix = randomUUID()
  const version = async (kinds: string[], enabled: boolean, seen: unknown[]): Promise<{ app: FastifyInstance, queue: BackgroundQueue, lines: Line[] }> => {
    const lines: Line[] = []
    const app = Fastify({ logger: capture(lines) }) as FastifyInstance
    t.teardown(async () => { await app.close() })
    await app.register(backgroundTasks, { stores: { default: bullmq({ connection, prefix }) } })
    const schema = { payload: { type: 'object', properties: { kind: { enum: kinds } } } }
    const queue = app.addBackgroundQueue('events', { schema, enabled, retry: { limit: 10, delay: '50ms', jitter: false } }, ({ payload }) => { seen.push(payload) })
    await app.ready()
    return { app, queue, lines }
  }
  const [byOld, byNew]: [unknown[], unknown[]] = [[], []]
  const old = await version(['created'], true, byOld)
  const next = await version(['created', 'archived'], false, byNew)
  const { id } = await next.queue.enqueue({ kind: 'archived' })
  t.match(await logged(old.lines, 'attempt failed, and is retried'), { level: 'warn', run: id, attempt: 1, err: { code } })
  await next.queue.start()
  await old.app.close()
  await next.queue.drain()
  t.same(byOld, [])
  t.same(byNew, [{ kind: 'archived' }])
  t.match(await next.queue.counts(), { failed: 0, succeeded: 1 })
})

t.test('paging goes on where it was when the run before the position has come back elsewhere, or is lost', { skip: skip ?? false, timeout: 60_000 }, async t => {
  const { queue, redis, key } = await given(t)
  const ids: string[] = []
  for (let i = 0; i < 30; i++) ids.push((await queue.enqueue(i)).id)
  const page = async (cursor?: string): Promise<{ ids: string[], cursor: string | undefined }> => {
    const found = await queue.list({ state: 'waiting', limit: 10, cursor })
    return { ids: found.runs.map(({ id }) => id), cursor: found.cursor }
  }
  const first = await page()
  t.same(first.ids, ids.slice(0, 10))
  // What an attempt that failed, and is tried again, does to the list.
  const last = ids[9] as string
  await redis.multi().lrem(key('wait'), 1, last).hincrby(key(last), 'ats', 1).lpush(key('wait'), last).exec()
  const second = await page(first.cursor)
  t.same(second.ids, ids.slice(10, 20))
  for (const id of ids.slice(14, 20)) await redis.del(key(id))
  const third = await page(second.cursor)
  t.same(third.ids, ids.slice(20, 30), 'a lost run is not shown twice')
  await redis.del(key(ids[20] as string))
  t.same((await page(second.cursor)).ids, ids.slice(20, 30), 'nor left out')
})

t.test('jobs that ended in the same millisecond are each on one page', { skip: skip ?? false, timeout: 60_000 }, async t => {
  const { queue, redis, key } = await given(t)
  const ids = Array.from({ length: 25 }, (_, i) => `${'éaB_-'[i % 5] as string}${i}`)
  for (const id of ids) await redis.zadd(key('failed'), 1_000, id)
  const seen: string[] = []
  let cursor: string | undefined
  do {
    const page = await queue.list({ state: 'failed', limit: 4, cursor })
    seen.push(...page.runs.map(({ id }) => id))
    cursor = page.cursor
    // The last one of the page, at which the next begins.
    await queue.remove(seen.at(-1) as string)
  } while (cursor !== undefined)
  t.same(seen, ids.sort((a, b) => Buffer.compare(Buffer.from(b), Buffer.from(a))))
})

t.test('a job that is no tick is a failed run of a cluster task, and ticks go on', { skip: skip ?? false, timeout: 60_000 }, async t => {
  const connection = await redisUrl(t)
  const prefix = randomUUID()
  const lines: Line[] = []
  const app = Fastify({ logger: capture(lines) }) as FastifyInstance
  const own = new IORedis(connection, { maxRetriesPerRequest: null })
  const raw = new Queue('tick', { prefix, connection: own as never })
  t.teardown(async () => {
    await app.close()
    await raw.close()
    own.disconnect()
  })
  await app.register(backgroundTasks, { stores: { default: bullmq({ connection, prefix }) } })
  await raw.add('tick', null)
  await raw.add('tick', { v: 1, payload: { dueAt: 'soon' } })
  const dueAts: Date[] = []
  const task = app.addBackgroundTask('tick', { every: 200, cluster: true }, ({ dueAt }) => { dueAts.push(dueAt as Date) })
  await app.ready()
  await until(async () => task.stats.failed === 2 && task.stats.succeeded > 0)
  t.match(lines.filter(({ msg }) => msg === 'run failed'), [{ task: 'tick', err: { code, message: /its data is null/ } }, { err: { code, message: /is no tick of this task/ } }])
  t.ok(dueAts.every(dueAt => !Number.isNaN(dueAt.getTime())))
  t.equal((await raw.getJobCounts('failed'))['failed'], 2)
})

t.test('another producer may pass its trace on, and a trace that nobody can read does no harm', { skip: skip ?? false, timeout: 60_000 }, async t => {
  const { spans } = telemetry(t)
  const { queue, raw, seen } = await given(t)
  const [traceId, spanId] = ['0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331']
  const traceparent = `00-${traceId}-${spanId}-01`
  const readable: unknown[] = [{ traceparent }, { traceparent: `cc-${traceId}-${spanId}-00-more`, tracestate: 'a=b' }, { traceparent, tracestate: 'x'.repeat(1_000_000), more: 5 }]
  const unreadable = [
    null, 5, 'text', [], {}, traceparent, { traceparent: 5 }, { traceparent: '' }, { traceparent: 'garbage' }, { traceparent: `00-${'0'.repeat(32)}-${spanId}-01` },
    { traceparent: `ff-${traceId}-${spanId}-01` }, { traceparent: `00-${traceId.toUpperCase()}-${spanId}-01` }, { traceparent: 'x'.repeat(1_000_000) }, { traceparent: `${traceparent}0` }
  ]
  for (const [i, trace] of [...readable, ...unreadable].entries()) await raw.add('q', { v: 1, payload: i, trace }, { jobId: `run-${i}` })
  t.equal((await list(queue, 'waiting'))[0]?.error, undefined)
  await queue.start()
  await queue.drain()
  t.equal(seen.length, readable.length + unreadable.length)
  t.same(spans('process q').map(linksOf), [...readable.map(() => [`${traceId} ${spanId}`]), ...unreadable.map(() => [])])
})
