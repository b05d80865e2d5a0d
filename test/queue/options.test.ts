// Every option of a queue and of its calls, and of the stores that the plugin is given: what is refused, and what is said then.
import Fastify from 'fastify'
import t from 'tap'
import backgroundTasks, { type BackgroundQueue, type Store } from '../../lib/index.ts'
import { build, refusal, rejection } from '../support/helper.ts'
import { held, list } from '../support/queues.ts'

const handler = async (): Promise<void> => {}

t.test('a mistake in a declaration says where it is, what was received and what to do', async t => {
  const { app } = await build(t)
  const cases: Array<[unknown[], RegExp]> = [
    [['', handler], /addBackgroundQueue\(\): the name must be a non-empty string; received ''/],
    [[undefined, handler], /name must be .* received undefined/],
    [['a'], /"a": the handler must be a function, and the last argument; received undefined/],
    [['a', {}], /"a": the handler must be a function, and the last argument; received {}/],
    [['a', {}, 'handler'], /"a": the handler must be .* received 'handler'/],
    [['a', handler, {}], /"a": the handler must be .* received {}/],
    [['a', null, handler], /^Background queue "a": options must be an object; received null/],
    [['a', [], handler], /"a": options must be an object; received \[\]/],
    [['a', 5, handler], /"a": options must be an object; received 5/]
  ]
  const options: Array<[object, RegExp]> = [
    [{ concurency: 2 }, /"a": unknown option "concurency"\. Did you mean "concurrency"\? It takes enabled, grace, logLevel, timeout, onGiveUp, retry, schema, store, concurrency, maxSize, onFull, rate, maxPayload, keep\./],
    [{ evry: '1s' }, /unknown option "evry"\. Did you mean "every"\?/],
    [{ strat: handler }, /unknown option "strat"\. Did you mean "start"\?/],
    [{ xyz: 5 }, /unknown option "xyz"\. It takes/],
    [{ constructor: 5 }, /unknown option "constructor"/],
    [{ every: '1s' }, /option "every" belongs to a timed task, which has "every" or "cron"/],
    [{ overlap: 'skip' }, /option "overlap" belongs to a timed task/],
    [{ restart: 'always' }, /option "restart" belongs to a service; a queue has "retry"\./],
    [{ start: handler }, /option "start" belongs to a hosted service/],
    [{ enabled: 'yes' }, /option "enabled" must be true or false; received 'yes'/],
    [{ grace: -1 }, /option "grace" must be a duration.*received -1/],
    [{ logLevel: 'loud' }, /option "logLevel" must be a level of the logger; received 'loud'/],
    [{ timeout: 0 }, /option "timeout" must be a duration.*above 0; received 0/],
    [{ onGiveUp: 'die' }, /option "onGiveUp" must be 'log', 'close', or a function; received 'die'/],
    [{ retry: -1 }, /option "retry" must be a whole number from 0, or Infinity; received -1/],
    [{ retry: { delay: 5 } }, /option "retry" must be an object with a limit/],
    [{ retry: { limit: 1, tries: 5 } }, /retry: unknown option "tries"/],
    [{ schema: 5 }, /option "schema" must be an object with payload; received 5/],
    [{ schema: null }, /option "schema" must be an object with payload; received null/],
    [{ schema: {} }, /option "schema" must be an object with the schema of the payload: { payload: … }; received {}/],
    [{ schema: { payload: null } }, /with the schema of the payload/],
    [{ schema: { payload: 'object' } }, /with the schema of the payload/],
    [{ schema: { body: {} } }, /schema: unknown option "body"\. Did you mean "payload"\? It takes payload\./],
    [{ schema: { type: 'object' } }, /schema: unknown option "type"/],
    [{ store: '' }, /option "store" must be a non-empty string; received ''/],
    [{ store: 5 }, /option "store" must be a non-empty string; received 5/],
    [{ concurrency: 0 }, /option "concurrency" must be a whole number from 1; received 0/],
    [{ concurrency: 1.5 }, /received 1\.5/],
    [{ concurrency: '5' }, /received '5'/],
    [{ concurrency: Infinity }, /received Infinity/],
    [{ maxSize: 0 }, /option "maxSize" must be a whole number from 1; received 0/],
    [{ onFull: 'drop' }, /option "onFull" must be one of 'reject', 'wait'; received 'drop'/],
    [{ rate: 5 }, /option "rate" must be an object with limit, per; received 5/],
    [{ rate: { limit: 5 } }, /option "rate" must be an object with both, such as { limit: 10, per: '1s' }; received { limit: 5 }/],
    [{ rate: { per: '1s' } }, /object with both/],
    [{ rate: { limit: 0, per: '1s' } }, /rate: option "limit" must be a whole number from 1; received 0/],
    [{ rate: { limit: 1, per: 0 } }, /rate: option "per" must be a duration.*above 0; received 0/],
    [{ rate: { max: 5 } }, /rate: unknown option "max"/],
    [{ maxPayload: '1kB' }, /option "maxPayload" must be a whole number from 1; received '1kB'/],
    [{ keep: true }, /option "keep" must be an object with succeeded, failed; received true/],
    [{ keep: { failed: 5 } }, /keep: option "failed" must be an object with count, age; received 5/],
    [{ keep: { completed: {} } }, /keep: unknown option "completed"/],
    [{ keep: { failed: { count: -1 } } }, /keep: option "count" must be a whole number from 0; received -1/],
    [{ keep: { succeeded: { age: 'a day' } } }, /keep: option "age" must be a duration.*received 'a day'/],
    [{ keep: { succeeded: { max: 5 } } }, /keep: unknown option "max"/]
  ]
  for (const [given, message] of [...cases, ...options.map(([option, message]) => [['a', option, handler], message] as [unknown[], RegExp])]) {
    // The untyped way of JavaScript users.
    const error = refusal(() => (app.addBackgroundQueue as (...given: unknown[]) => unknown).apply(app, given))
    t.equal(error.code, 'FST_BG_INVALID_OPTION', String(message))
    t.match(error.message, message)
  }
  t.same([...app.backgroundTasks], [], 'nothing is half-declared')
})

t.test('an option of a queue on a task is said to be one', async t => {
  const { app } = await build(t)
  for (const options of [{ concurrency: 2 }, { every: '1s', schema: { payload: {} } }, { maxSize: 5 }]) {
    t.throws(() => app.addBackgroundTask('a', options as object, handler), { code: 'FST_BG_INVALID_OPTION', message: /belongs to a queue, which is declared with addBackgroundQueue\(\)/ })
  }
})

t.test('every option is taken, also as undefined', async t => {
  const { app } = await build(t)
  const all = {
    enabled: true,
    grace: '1s',
    logLevel: 'warn',
    timeout: '1m',
    onGiveUp: 'log' as const,
    retry: { limit: 3, delay: '1s', factor: 2, maxDelay: '1m', jitter: false },
    schema: { payload: {} },
    store: 'memory',
    concurrency: 2,
    maxSize: 5,
    onFull: 'wait' as const,
    rate: { limit: 1_000, per: '1s' },
    maxPayload: 1_000,
    keep: { succeeded: { count: 1, age: '1h' }, failed: { count: 0 } }
  }
  app.addBackgroundQueue('all', all, handler)
  app.addBackgroundQueue('undefined', Object.fromEntries(Object.keys(all).map(key => [key, undefined])), handler)
  app.addBackgroundQueue('none', {}, handler)
  app.addBackgroundQueue('nested', { keep: { succeeded: undefined, failed: { count: undefined, age: undefined } }, retry: { limit: 0, delay: undefined } }, handler)
  await app.ready()
  for (const task of app.backgroundTasks) t.equal(task.state, 'running')
})

t.test('the objects with options are neither kept nor changed', async t => {
  const { app } = await build(t)
  const freeze = <T extends object>(value: T): T => {
    for (const one of Object.values(value)) if (typeof one === 'object') freeze(one as object)
    return Object.freeze(value)
  }
  const options = { concurrency: 1, retry: { limit: 1, delay: 0 }, keep: { succeeded: { count: 5 } }, rate: { limit: 100, per: '1s' } }
  app.addBackgroundQueue('frozen', freeze(structuredClone(options)), handler)
  const hand = held()
  const queue = app.addBackgroundQueue('a', options, hand.handler)
  options.concurrency = 50
  options.keep.succeeded.count = 0
  options.rate.limit = 1
  await app.ready()
  const at = { key: 'k', priority: 3 }
  const first = queue.enqueue(1, at)
  at.key = 'other'
  at.priority = 0
  await first
  await queue.enqueue(2, freeze({ priority: 5 }))
  await hand.call(0)
  t.match(await queue.counts(), { active: 1, waiting: 1 })
  hand.endAll()
  await queue.drain()
  t.match(await list(queue, 'succeeded'), [{ payload: 2, priority: 5 }, { payload: 1, priority: 3, key: 'k' }])
})

t.test('a mistake in the options of a call says where it is, and nothing is enqueued', async t => {
  const { app } = await build(t, { autostart: false })
  const queue = app.addBackgroundQueue('a', handler)
  const call = queue as unknown as Record<keyof BackgroundQueue, (...given: unknown[]) => Promise<unknown>>
  const cases: Array<[() => Promise<unknown>, RegExp]> = [
    ...([
      [null, /^enqueue\(\) of background queue "a": options must be an object; received null/],
      [5, /options must be an object; received 5/],
      [{ dely: 5 }, /unknown option "dely"\. Did you mean "delay"\? It takes delay, runAt, priority, key, keyUntil, retry, reqId, tx\./],
      [{ delay: -1 }, /option "delay" must be a duration.*received -1/],
      [{ delay: 'soon' }, /option "delay" must be a duration.*received 'soon'/],
      [{ delay: NaN }, /received NaN/],
      [{ delay: Infinity }, /received Infinity/],
      [{ runAt: '2026-01-01' }, /option "runAt" must be a Date; received '2026-01-01'/],
      [{ runAt: 5 }, /option "runAt" must be a Date; received 5/],
      [{ runAt: new Date(NaN) }, /option "runAt" must be a Date; received Invalid Date/],
      [{ runAt: new Date(), delay: 5 }, /"delay" and "runAt" exclude each other\. Pass one of them\./],
      [{ priority: -1 }, /option "priority" must be a whole number from 0 to 2097151; received -1/],
      [{ priority: 0.5 }, /received 0\.5/],
      [{ priority: 2_097_152 }, /received 2097152/],
      [{ priority: 'high' }, /received 'high'/],
      [{ key: 5 }, /option "key" must be a non-empty string; received 5/],
      [{ key: '' }, /option "key" must be a non-empty string; received ''/],
      [{ key: 'k', keyUntil: 'ended' }, /option "keyUntil" must be one of 'started', 'finished'; received 'ended'/],
      [{ keyUntil: 'started' }, /"keyUntil" goes with "key"; received no key/],
      [{ retry: 'often' }, /option "retry" must be a number of further attempts, or an object/],
      [{ retry: { limit: 1, delay: '2m', maxDelay: '1m' } }, /maxDelay is not below its delay/],
      [{ reqId: 5 }, /option "reqId" must be a non-empty string; received 5/],
      [{ tx: 5 }, /option "tx" must be a client of pg in a transaction.*received 5/],
      [{ tx: { query () {} } }, /option "tx" needs a store of pgBoss\(\)/]
    ] as Array<[unknown, RegExp]>).map(([options, message]): [() => Promise<unknown>, RegExp] => [async () => await call.enqueue(1, options), message]),
    [async () => await call.enqueueMany([{ payload: 1 }], { tx: { executeSql () {} } }), /^enqueueMany\(\) of background queue "a": option "tx" needs a store of pgBoss\(\)/],
    [async () => await call.enqueueMany([{ payload: 1, tx: {} }]), /item 0: option "tx" belongs to the whole call: enqueueMany\(items, { tx }\)/],
    [async () => await call.list(), /^list\(\) of background queue "a": pass the state of the runs to list: { state: 'failed' }\. It takes waiting, delayed, active, succeeded, failed\./],
    [async () => await call.list({ limit: 5 }), /pass the state/],
    [async () => await call.list('failed'), /options must be an object; received 'failed'/],
    [async () => await call.list({ state: 'done' }), /option "state" must be one of 'waiting', 'delayed', 'active', 'succeeded', 'failed'; received 'done'/],
    [async () => await call.list({ state: 'failed', limit: 0 }), /option "limit" must be a whole number from 1 to 1000; received 0/],
    [async () => await call.list({ state: 'failed', limit: 1_001 }), /received 1001/],
    [async () => await call.list({ state: 'failed', cursor: 5 }), /option "cursor" must be a non-empty string; received 5/],
    [async () => await call.list({ state: 'failed', cursor: 'x' }), /option "cursor" must be what the page before gave; received 'x'/],
    [async () => await call.list({ state: 'failed', cursor: '-1' }), /received '-1'/],
    [async () => await call.clear(), /^clear\(\) of background queue "a": the state must be one of 'waiting', 'delayed', 'succeeded', 'failed'; received undefined\. Runs that are active can be cancelled\./],
    [async () => await call.clear('active'), /received 'active'/],
    [async () => await call.clear({ state: 'failed' }), /received { state: 'failed' }/]
  ]
  for (const [ask, message] of cases) t.match(await rejection(ask), { code: 'FST_BG_INVALID_OPTION', message })
  t.match(await queue.counts(), { waiting: 0, delayed: 0 })
})

t.test('every option of enqueue is taken, also as undefined', async t => {
  const { app } = await build(t, { autostart: false })
  const queue = app.addBackgroundQueue('a', handler)
  await queue.enqueue(1, {})
  await queue.enqueue(2, { delay: undefined, runAt: undefined, priority: undefined, key: undefined, keyUntil: undefined, retry: undefined, reqId: undefined })
  await queue.enqueue(3, { delay: '1h30m', priority: 2_097_151, key: 'k', keyUntil: 'started', retry: 0, reqId: 'r' })
  await queue.enqueue(4, { runAt: new Date(Date.now() + 1e9), delay: 0, keyUntil: 'finished', retry: { limit: Infinity } })
  t.match(await queue.counts(), { waiting: 2, delayed: 2 })
  t.match(await list(queue, 'delayed'), [{ payload: 3, key: 'k', priority: 2_097_151, reqId: 'r' }, { payload: 4 }])
  t.same(await queue.list({ state: 'waiting', limit: undefined, cursor: undefined }).then(({ runs }) => runs.length), 2)
})

t.test('a mistake in the stores of the plugin rejects ready()', async t => {
  const store: Store = { open () { throw new Error('not opened') }, async stop () {} }
  const cases: Array<[unknown, RegExp]> = [
    [5, /option "stores" must be an object of stores by name; received 5/],
    [null, /an object of stores by name; received null/],
    [[store], /an object of stores by name; received \[/],
    [{ default: {} }, /an object of stores by name; received { default: {} }/],
    [{ default: undefined }, /received { default: undefined }/],
    [{ default: { open () {} } }, /an object of stores by name/],
    [{ default: { stop () {} } }, /an object of stores by name/],
    [{ memory: store }, /stores by names other than "memory", which is always there/]
  ]
  for (const [stores, message] of cases) {
    const app = Fastify()
    app.register(backgroundTasks, { stores: stores as never })
    t.match(await rejection(async () => { await app.ready() }), { code: 'FST_BG_INVALID_OPTION', message })
    await app.close()
  }
  const stores: Record<string, Store> = Object.freeze({ default: store })
  const { app } = await build(t, { stores })
  await app.ready()
  const other = await build(t, { stores: undefined })
  await other.app.ready()
})
