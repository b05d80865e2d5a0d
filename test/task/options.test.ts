import Fastify from 'fastify'
import t from 'tap'
import backgroundTasks from '../../lib/index.ts'
import { build, refusal, rejection } from '../support/helper.ts'

type Call = [name: unknown, ...rest: unknown[]]

const handler = async (): Promise<void> => {}

t.test('a mistake in a declaration says where it is, what was received and what to do', async t => {
  const { app } = await build(t)
  const cases: [Call, RegExp][] = [
    [['', handler], /name must be a non-empty string; received ''/],
    [['  ', handler], /name must be .* received ' {2}'/],
    [[undefined, handler], /name must be .* received undefined/],
    [[handler], /name must be .* received \[AsyncFunction: handler\]/],
    [['a'], /"a": options must be an object; received undefined/],
    [['a', 'daily'], /"a": options must be an object; received 'daily'/],
    [['a', null], /"a": options must be an object; received null/],
    [['a', []], /"a": options must be an object; received \[\]/],
    [['a', {}], /"a" has no handler, and neither "start" nor "stop"\. Pass a function last/],
    [['a', { grace: 5 }], /"a" has no handler, and neither "start" nor "stop"/],
    [['a', {}, undefined], /"a": the handler must be a function, and the last argument; received undefined/],
    [['a', {}, 'handler'], /"a": the handler must be a function, and the last argument; received 'handler'/],
    [['a', handler, {}], /"a": the handler must be a function, and the last argument; received {}/],
    [['a', null, handler], /"a": options must be an object; received null/],
    [['a', handler, handler], /"a": options must be an object; received \[AsyncFunction: handler\]/],
    [['a', { gracee: 5 }, handler], /"a": unknown option "gracee"\. Did you mean "grace"\? It takes enabled, grace, logLevel, timeout, onGiveUp, restart\./],
    [['a', { strat: handler }], /"a": unknown option "strat"\. Did you mean "start"\?/],
    [['a', { startTimeOut: 5 }, handler], /"a": unknown option "startTimeOut"\. Did you mean "startTimeout"\?/],
    [['a', { EVERY: 5 }, handler], /"a": unknown option "EVERY"\. Did you mean "every"\?/],
    [['a', { xyz: 5 }, handler], /"a": unknown option "xyz"\. It takes enabled/],
    [['a', { toString: 5 }, handler], /"a": unknown option "toString"/],
    [['a', { start: handler }, handler], /"a": option "start" belongs to a hosted service/],
    [['a', { start: 5 }], /"a": option "start" must be a function; received 5/],
    [['a', { start: handler, stop: 'x' }], /"a": option "stop" must be a function; received 'x'/],
    [['a', { enabled: 'yes' }, handler], /"a": option "enabled" must be true or false; received 'yes'/],
    [['a', { grace: -1 }, handler], /"a": option "grace" must be a duration: .*'1h30m'.*; received -1/],
    [['a', { grace: '5 parsecs' }, handler], /received '5 parsecs'/],
    [['a', { grace: NaN }, handler], /received NaN/],
    [['a', { logLevel: 'loud' }, handler], /"a": option "logLevel" must be a level of the logger; received 'loud'.*unknown level loud/],
    [['a', { logLevel: 5 }, handler], /"a": option "logLevel" must be a non-empty string; received 5/],
    [['a', { start: handler, logLevel: 'loud' }], /"logLevel" must be a level/],
    [['a', { start: handler, startTimeout: 0 }], /"a": option "startTimeout" must be a duration.*above 0; received 0/],
    [['a', { start: handler, startTimeout: '10s' }], /"startTimeout" must be below Fastify's "pluginTimeout" \(10000 ms\).*received 10000 ms.*Lower it, or raise/],
    [['a', { start: handler, startTimeout: 9_999, grace: 'x' }], /"grace"/]
  ]
  for (const [given, message] of cases) {
    // The untyped way of JavaScript users.
    const error = refusal(() => (app.addBackgroundTask as (...given: unknown[]) => unknown).apply(app, given))
    t.equal(error.code, 'FST_BG_INVALID_OPTION', String(message))
    t.match(error.message, message)
  }
  t.same([...app.backgroundTasks], [], 'nothing is half-declared')
  app.addBackgroundTask('a', handler)
  t.equal(app.backgroundTasks.get('a')?.name, 'a', 'the name is free still')
})

t.test('options are looked at once, and what a class or a prototype brings along is refused', async t => {
  const { app } = await build(t)
  class Mqtt {
    start (): void {}
    stop (): void {}
  }
  class Schedule {
    get every (): string { return '1s' }
  }
  t.match(await rejection(app.addBackgroundQueue('queue', handler).enqueue(1, Object.create({ delay: 5 }))), { code: 'FST_BG_INVALID_OPTION', message: /option "delay" is not an/ })
  t.match(await rejection(Fastify().register(backgroundTasks, Object.create({ autostart: false })).ready()), { code: 'FST_BG_INVALID_OPTION', message: /option "autostart" is not an/ })
  const revocable = Proxy.revocable({}, {})
  revocable.revoke()
  const cases: Array<[declare: () => unknown, message: RegExp]> = [
    [() => app.addBackgroundTask('a', new Mqtt() as never), /"a": option "start" is not an ordinary property of the object, but comes from its class or prototype\. Pass a plain object, such as { start: run => object\.start\(run\) }/],
    [() => app.addBackgroundTask('a', new Schedule(), handler), /"a": option "every" is not an ordinary property of the object, .* such as { every: object\.every }/],
    [() => app.addBackgroundTask('a', Object.create({ every: '1s' }), handler), /option "every" is not/],
    [() => app.addBackgroundTask('a', Object.create({ restart: 'never' }), handler), /option "restart" is not/],
    [() => app.addBackgroundQueue('a', Object.create({ concurrency: 5 }), handler), /"a": option "concurrency" is not/],
    [() => app.addBackgroundTask('a', { restart: Object.create({ when: 'always' }) }, handler), /"a": restart: option "when" is not an ordinary property/],
    [() => app.addBackgroundQueue('a', { keep: Object.create({ failed: {} }) }, handler), /"a": keep: option "failed" is not/],
    [() => app.addBackgroundTask('a', { get every (): string { throw new Error('of the getter') } }, handler), /"a": the options cannot be read: of the getter\. Pass a plain object/],
    // eslint-disable-next-line no-throw-literal
    [() => app.addBackgroundTask('a', { get every (): string { throw 'a text' } }, handler), /"a": the options cannot be read: 'a text'\./],
    [() => app.addBackgroundTask('a', { every: Object.assign(() => {}, { [Symbol.for('nodejs.util.inspect.custom')] () { throw new Error('no') } }) as never }, handler), /received a function that throws when it is inspected/],
    [() => app.addBackgroundTask('a', revocable.proxy, handler), /"a": the options cannot be read: .*revoked/],
    [() => app.addBackgroundTask('a', { every: { [Symbol.for('nodejs.util.inspect.custom')] () { throw new Error('no') } } as never }, handler), /option "every" must be .* received an object that throws when it is inspected/]
  ]
  for (const [declare, message] of cases) t.match(refusal(declare), { code: 'FST_BG_INVALID_OPTION', message })
  let looks = 0
  const task = app.addBackgroundTask('once', { get every () { return ++looks === 1 ? '1s' : undefined } } as { every: string }, handler)
  await app.ready()
  t.ok(task.nextRunAt)
  t.equal(looks, 1)
  t.ok(app.addBackgroundTask('null', Object.assign(Object.create(null), { every: '1s' }), handler).nextRunAt, 'an object without a prototype is plain enough')
})

t.test('an option that is undefined counts as not given', async t => {
  const { app } = await build(t, { autostart: undefined, shutdownTimeout: undefined, onRun: undefined })
  const task = app.addBackgroundTask('a', { enabled: undefined, grace: undefined, logLevel: undefined, retry: undefined, jitter: undefined } as object, handler)
  const timed = app.addBackgroundTask('b', { every: '1h', restart: undefined }, handler)
  await app.ready()
  t.equal(task.state, 'running')
  t.equal(timed.state, 'idle')
})

t.test('the object with the options is neither kept nor changed', async t => {
  const { app } = await build(t)
  const called: string[] = []
  const options = { grace: '1s', start: async () => { called.push('start') }, stop: async () => { called.push('stop') } }
  const before = { ...options }
  app.addBackgroundTask('a', options)
  t.same(options, before, 'not changed')
  app.addBackgroundTask('b', Object.freeze({ ...options }))
  options.start = options.stop = async () => { t.fail('not kept') }
  await app.ready()
  await app.close()
  t.same(called, ['start', 'start', 'stop', 'stop'])
})

t.test('startTimeout has no upper limit where Fastify has none', async t => {
  const { app } = await build(t, {}, { pluginTimeout: 0 })
  app.addBackgroundTask('a', { start: handler, startTimeout: '30d' })
  await app.ready()
})

t.test('a mistake in the options of the plugin rejects ready()', async t => {
  const cases: [object, RegExp][] = [
    [{ shutdownTimeOut: 5 }, /fastify-background-tasks: unknown option "shutdownTimeOut"\. Did you mean "shutdownTimeout"\? It takes autostart, shutdownTimeout, onRun/],
    [{ shutdownTimeout: 0 }, /option "shutdownTimeout" must be a duration.*above 0; received 0/],
    [{ shutdownTimeout: 'soon' }, /received 'soon'/],
    [{ autostart: 1 }, /option "autostart" must be true or false; received 1/],
    [{ onRun: {} }, /option "onRun" must be a function; received {}/]
  ]
  for (const [options, message] of cases) {
    const app = Fastify()
    app.register(backgroundTasks, options)
    const error = await rejection(async () => { await app.ready() })
    t.equal(error.code, 'FST_BG_INVALID_OPTION')
    t.match(error.message, message)
    await app.close()
  }
})

t.test('what register() takes for Fastify itself is not taken for an option', async t => {
  const app = Fastify()
  app.register(backgroundTasks, { prefix: '/x', logLevel: 'warn' })
  await app.ready()
  await app.close()
})
