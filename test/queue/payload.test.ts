// What becomes of a payload: to JSON and back, and through the schema, by the compiler of the owner.
import buildAjv from '@fastify/ajv-compiler'
import { TypeBoxValidatorCompiler, type TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import Fastify, { type FastifyInstance } from 'fastify'
import { validatorCompiler, type ZodTypeProvider } from 'fastify-type-provider-zod'
import t from 'tap'
import { Type } from 'typebox'
import { z } from 'zod'
import backgroundTasks, { type BackgroundQueue } from '../../lib/index.ts'
import { Payloads } from '../../lib/queue/payload.ts'
import { build, rejection } from '../support/helper.ts'
import { list } from '../support/queues.ts'

const address = { type: 'object', required: ['to'], properties: { to: { type: 'string', format: 'email' }, copies: { type: 'integer', default: 1 } } }

/** A queue whose handler keeps what it is given. */
function keeping (app: FastifyInstance, schema: object | undefined, name = 'a'): { queue: BackgroundQueue, seen: unknown[] } {
  const seen: unknown[] = []
  const queue: BackgroundQueue = app.addBackgroundQueue(name, { schema: schema && { payload: schema }, keep: { succeeded: { count: 10 } } }, ({ payload }) => { seen.push(payload) })
  return { queue, seen }
}

async function refusal (queue: BackgroundQueue, payload: unknown): Promise<{ message: string, validation?: unknown, cause?: unknown, statusCode?: number }> {
  const error = await rejection(queue.enqueue(payload))
  t.equal(error.code, 'FST_BG_INVALID_PAYLOAD', error.message)
  return error
}

// JSON.

t.test('a payload that JSON cannot carry, or not whole, is refused, and nothing is enqueued', async t => {
  const { app } = await build(t, { autostart: false })
  const { queue } = keeping(app, undefined)
  const cycle: Record<string, unknown> = { a: 1 }
  cycle.deep = { cycle }
  const deep: unknown[] = []
  let at = deep
  for (let i = 0; i < 100_000; i++) at.push(at = [])
  const cases: Array<[unknown, RegExp]> = [
    [1n, /"a" cannot be written as JSON: Do not know how to serialize a BigInt\. Pass plain data\.$/],
    [{ a: [1n] }, /BigInt/],
    [cycle, /cannot be written as JSON: Converting circular structure to JSON\. Pass/],
    [() => {}, /it would lose \[Function \(anonymous\)\]\. Pass plain data/],
    [Symbol('s'), /it would lose Symbol\(s\)/],
    [{ toJSON: () => undefined }, /it would lose all of it/],
    [{ to: 'x', done: () => {} }, /it would lose payload\.done, which is a function/],
    [{ list: [{ s: Symbol('s') }] }, /it would lose payload\.list\.0\.s, which is a symbol/],
    [[class {}], /it would lose payload\.0, which is a function/],
    [new Map([[1, 2]]), /it would lose payload, which is a Map/],
    [{ deep: { set: new Set([1]) } }, /it would lose payload\.deep\.set, which is a Set/],
    [Promise.resolve({ to: 'x' }), /it would lose payload, which is a Promise/],
    [{ cause: new TypeError('x') }, /it would lose payload\.cause, which is an Error/],
    [{ match: /x/ }, /it would lose payload\.match, which is a RegExp/],
    [{ get a () { throw Object.assign(new Error(), { message: Symbol('s') }) } }, /cannot be written as JSON: Symbol\(s\)/],
    [{ get a () { throw new Error('a getter') } }, /cannot be written as JSON: a getter/],
    [deep, /cannot be written as JSON: Maximum call stack/]
  ]
  for (const [payload, message] of cases) t.match((await refusal(queue, payload)).message, message)
  t.match((await refusal(queue, 1n)).cause, TypeError, 'with what JSON said')
  t.same(await queue.counts(), { waiting: 0, delayed: 0, active: 0, succeeded: 0, failed: 0 })
})

t.test('what JSON leaves out as it should is no loss', async t => {
  const { app } = await build(t)
  const { queue, seen } = keeping(app, undefined)
  class Order {
    id = 5
    missing = undefined
    at = new Date(0)
    hidden = { toJSON: () => 'said', fn () {} }
    total (): number { return 1 }
  }
  const inherited = Object.create({ fn () {}, cycle: undefined as unknown }) as { own: number }
  Object.assign(Object.getPrototypeOf(inherited) as object, { cycle: Object.getPrototypeOf(inherited) as object })
  inherited.own = 1
  await app.ready()
  await queue.enqueue(new Order())
  await queue.enqueue(inherited)
  await queue.enqueue(null)
  await queue.enqueue(Object.create(null))
  await queue.drain()
  t.same(seen, [{ id: 5, at: '1970-01-01T00:00:00.000Z', hidden: 'said' }, { own: 1 }, null, {}])
})

t.test('a payload is as large as the queue allows, in bytes of JSON', async t => {
  const { app } = await build(t, { autostart: false })
  const { queue } = keeping(app, undefined)
  const small = app.addBackgroundQueue('small', { maxPayload: 10 }, () => {})
  await queue.enqueue('a'.repeat(255_998))
  t.match((await refusal(queue, 'a'.repeat(255_999))).message, /is 256001 bytes of JSON, of at most 256000\. Store the data elsewhere and enqueue where it is, or raise "maxPayload"\.$/)
  t.match((await refusal(queue, { a: 'ü'.repeat(128_000) })).message, /is 256008 bytes/)
  await queue.enqueue('ü'.repeat(127_999))
  t.match((await refusal(queue, Buffer.alloc(10_000_000, 1).toString())).message, /is 60000002 bytes/, 'ten megabytes, each of them escaped')
  for (const fits of ['12345678', 'üüüü', 1234567890, null, undefined]) await small.enqueue(fits)
  for (const large of ['123456789', 'üüüüü', '€€€', 12345678901]) await refusal(small, large)
})

// Fastify's own validator.

t.test('without a compiler of its owner a queue validates as Fastify does', async t => {
  const { app } = await build(t)
  const { queue, seen } = keeping(app, address)
  await app.ready()
  const error = await refusal(queue, { to: 'nobody' })
  t.match(error, {
    message: 'The payload for background queue "a" does not match its schema: payload/to must match format "email".',
    statusCode: 500,
    validation: [{ instancePath: '/to', keyword: 'format', message: 'must match format "email"' }],
    validationContext: 'payload'
  })
  t.match(await refusal(queue, {}), { message: /: payload must have required property 'to'\.$/, validation: [{ keyword: 'required' }] })
  t.match(await refusal(queue, undefined), { message: /: payload must be object/ }, 'undefined where something is required')
  t.match(await refusal(queue, 5), { validation: [{ keyword: 'type' }] })
  t.match(await queue.counts(), { waiting: 0 })

  const payload = { to: 'a@b.c', copies: '2', more: 'kept, as the default of Fastify removes only what the schema forbids' }
  await queue.enqueue(payload)
  await queue.enqueue({ to: 'd@e.f' })
  await queue.drain()
  t.equal(payload.copies, '2', 'the caller\'s own is not touched')
  t.same(seen, [{ ...payload, copies: 2 }, { to: 'd@e.f', copies: 1 }], 'the handler is given what the schema makes of it')
  t.same((await list(queue, 'succeeded')).map(({ payload }) => payload), [{ to: 'd@e.f' }, payload], 'and what is stored is what was given')
})

t.test('a value is coerced at the root too', async t => {
  const { app } = await build(t)
  const number = keeping(app, { type: 'number' }, 'number')
  const options = keeping(app, { type: 'object', properties: { a: { default: 5 } } }, 'options')
  const nullable = keeping(app, { type: ['object', 'null'] }, 'nullable')
  await app.ready()
  await number.queue.enqueue('7')
  await options.queue.enqueue({})
  await nullable.queue.enqueue(undefined)
  await app.backgroundTasks.drain()
  t.same(number.seen, [7])
  t.same(options.seen, [{ a: 5 }])
  t.same(nullable.seen, [null], 'what is missing is null, as a body is')
})

t.test('a queue without a schema takes anything', async t => {
  const { app } = await build(t)
  app.setValidatorCompiler(() => () => { throw new Error('not asked') })
  const { queue, seen } = keeping(app, undefined)
  await app.ready()
  await queue.enqueue('anything')
  await queue.drain()
  t.same(seen, ['anything'])
})

t.test('shared schemas, formats, keywords and options of the server hold for payloads', async t => {
  const { app } = await build(t, {}, {
    ajv: { customOptions: { coerceTypes: false, formats: { shout: /^[A-Z]+$/ }, keywords: [{ keyword: 'even', validate: (wanted: boolean, n: number) => (n % 2 === 0) === wanted }] } }
  })
  app.addSchema({ $id: 'address', ...address })
  const letter = keeping(app, { type: 'object', properties: { address: { $ref: 'address#' }, title: { type: 'string', format: 'shout' }, pages: { type: 'integer', even: true } } })
  await app.ready()
  t.match((await refusal(letter.queue, { address: { to: 1 } })).message, /payload\/address\/to must be string/)
  t.match((await refusal(letter.queue, { title: 'hello' })).message, /payload\/title must match format "shout"/)
  t.match((await refusal(letter.queue, { pages: 3 })).message, /payload\/pages must pass "even"/)
  t.match((await refusal(letter.queue, { pages: '4' })).message, /payload\/pages must be integer/)
  await letter.queue.enqueue({ address: { to: 'a@b.c' }, title: 'HELLO', pages: 4 })
  await letter.queue.drain()
  t.equal(letter.seen.length, 1)
})

t.test('a child uses its own shared schemas, also where the compiler that it inherits does not know them', async t => {
  const { app } = await build(t)
  // Makes the root have a compiler, which the child inherits.
  app.post('/', { schema: { body: { type: 'object' } } }, async () => {})
  let child: ReturnType<typeof keeping> | undefined
  await app.register(async instance => {
    instance.addSchema({ $id: 'address', ...address })
    child = keeping(instance, { $ref: 'address#' })
  })
  await app.ready()
  t.match((await refusal(child?.queue as BackgroundQueue, {})).message, /must have required property 'to'/)
})

t.test('the factory of validators that the server was made with is used', async t => {
  const schemas: unknown[] = []
  const app = Fastify({
    schemaController: {
      compilersFactory: {
        buildValidator: ((external: object) => {
          schemas.push(Object.keys(external))
          return () => (data: unknown) => data === 'good' ? true : { error: new Error('the factory refuses') }
        }) as never
      }
    }
  }) as FastifyInstance
  t.teardown(async () => { await app.close() })
  await app.register(backgroundTasks)
  app.addSchema({ $id: 'shared' })
  const { queue, seen } = keeping(app, {})
  await app.ready()
  t.match((await refusal(queue, 'bad')).message, /the factory refuses/)
  await queue.enqueue('good')
  await queue.drain()
  t.same(seen, ['good'])
  t.same(schemas, [['shared']])
})

t.test('where Fastify\'s options cannot be found, its defaults hold', t => {
  const owner = { getSchemas: () => ({}) } as unknown as FastifyInstance
  const payloads = new Payloads('a', owner, { type: 'number' }, 1_000)
  t.equal(payloads.validate('5'), 5)
  t.throws(() => payloads.validate('five'), { code: 'FST_BG_INVALID_PAYLOAD' })
  t.end()
})

// Validators of others.

t.test('zod validates and transforms, through its type provider', async t => {
  const { app: base } = await build(t)
  const app = base.withTypeProvider<ZodTypeProvider>()
  app.setValidatorCompiler(validatorCompiler)
  const seen: unknown[] = []
  const queue = app.addBackgroundQueue('a', {
    schema: { payload: z.object({ to: z.email(), at: z.coerce.date(), copies: z.number().default(1) }) }
  }, ({ payload }) => { seen.push([payload.to, payload.at.getTime(), payload.copies]) })
  await app.ready()
  const error = await refusal(queue as never, { to: 'nobody', at: 0 })
  t.match(error, { message: /payload.*Invalid email/, validation: [{ instancePath: '/to' }] })
  await queue.enqueue({ to: 'a@b.cc', at: new Date(5), copies: 2 })
  await queue.enqueue({ to: 'a@b.cc', at: '2026-01-01T00:00:00Z' })
  await queue.drain()
  t.same(seen, [['a@b.cc', 5, 2], ['a@b.cc', Date.UTC(2026, 0, 1), 1]])
})

t.test('TypeBox validates, by ajv or by its own compiler', async t => {
  for (const own of [false, true]) {
    const { app: base } = await build(t)
    const app = base.withTypeProvider<TypeBoxTypeProvider>()
    if (own) app.setValidatorCompiler(TypeBoxValidatorCompiler)
    const seen: number[] = []
    const queue = app.addBackgroundQueue('a', { schema: { payload: Type.Object({ n: Type.Integer({ minimum: 1 }) }) } }, ({ payload }) => { seen.push(payload.n) })
    await app.ready()
    const error = await refusal(queue as never, { n: 0 })
    t.match(error, { message: /payload\/n must be >= 1/, validation: [{ instancePath: '/n', keyword: 'minimum' }] })
    await queue.enqueue({ n: 1 })
    await queue.drain()
    t.same(seen, [1])
  }
})

t.test('the compiler of the owner is used, also one that was set after the declaration, and only for its own scope', async t => {
  const { app } = await build(t)
  const words: string[] = []
  const asking = (who: string) => ({ schema }: { schema: unknown }) => {
    words.push(`${who} compiles ${JSON.stringify(schema)}`)
    return () => true
  }
  const root = keeping(app, { a: 1 }, 'root')
  app.setValidatorCompiler(asking('root'))
  let child: ReturnType<typeof keeping> | undefined
  await app.register(async instance => {
    instance.setValidatorCompiler(asking('child'))
    child = keeping(instance, { b: 1 }, 'child')
  })
  await app.ready()
  await root.queue.enqueue(1)
  await child?.queue.enqueue(2)
  await app.backgroundTasks.drain()
  t.same(words, ['root compiles {"a":1}', 'child compiles {"b":1}'], 'each once')
})

t.test('a validator may say what it found in any way that Fastify knows, and some more', async t => {
  const { app } = await build(t, { autostart: false })
  const verdicts: Array<[unknown, object]> = [
    [false, { message: /payload undefined/, validation: [undefined] }],
    [{ error: new Error('an error\nof two lines') }, { message: /: payload an error\.$/, validation: [{ message: 'an error\nof two lines' }], cause: Error }],
    [{ error: [{ instancePath: '/a', message: 'one' }, { instancePath: '/b', message: 'two' }] }, { message: /payload\/a one/, validation: [{ message: 'one' }, { message: 'two' }] }],
    [{ error: { errors: ['e1', 'e2'] } }, { validation: ['e1', 'e2'] }],
    [{ error: 'a text' }, { message: /payload 'a text'/, validation: ['a text'] }],
    [Promise.resolve(false), { message: /payload undefined/ }],
    [Promise.reject(new Error('later')), { message: /payload later/, cause: Error }],
    [{ then (_resolve: unknown, reject: (error: Error) => void) { reject(new Error('thenable')) } }, { message: /payload thenable/ }]
  ]
  let verdict: unknown
  app.setValidatorCompiler(() => (() => verdict) as never)
  const { queue, seen } = keeping(app, {})
  await app.ready()
  for (const [one, expected] of verdicts) {
    verdict = one
    t.match(await refusal(queue, 1), { validationContext: 'payload', ...expected })
  }
  for (const passes of [true, undefined, null, {}, { value: 'made' }, { value: undefined }, { value: 0, error: null }, Promise.resolve(true), Promise.resolve()]) {
    verdict = passes
    await queue.enqueue(1)
    await queue.start()
    await queue.drain()
    await queue.stop()
  }
  t.same(seen, [1, 1, 1, 1, 'made', undefined, 0, 1, 1])
})

t.test('a validator that throws refuses the payload', async t => {
  const { app } = await build(t, { autostart: false })
  app.setValidatorCompiler(() => () => { throw new RangeError('the validator broke') })
  const { queue } = keeping(app, {})
  await app.ready()
  t.match(await refusal(queue, 1), { message: /the validator broke/, cause: RangeError })
})

t.test('an asynchronous validator holds enqueue up, and changes what the handler is given', async t => {
  const { app } = await build(t)
  app.setValidatorCompiler(() => (async (data: { n: number }) => {
    await new Promise(resolve => { setImmediate(resolve) })
    if (data.n < 0) throw Object.assign(new Error('negative'), { errors: [{ message: 'negative' }] })
    data.n++
  }) as never)
  const { queue, seen } = keeping(app, {})
  await app.ready()
  t.match(await refusal(queue, { n: -1 }), { message: /negative/, validation: [{ message: 'negative' }] })
  await queue.enqueue({ n: 1 })
  await queue.drain()
  t.same(seen, [{ n: 2 }])
  t.same((await list(queue, 'succeeded'))[0]?.payload, { n: 1 })
})

// A schema that is no good.

t.test('a schema that cannot be compiled rejects ready(), and says whose it is', async t => {
  const cases: Array<[(app: FastifyInstance) => void, object, RegExp]> = [
    [() => {}, { type: 'nonsense' }, /^Background queue "a": the schema of the payload cannot be compiled: schema is invalid.*type/],
    [() => {}, { $ref: 'nowhere#' }, /cannot be compiled: can't resolve reference nowhere#/],
    [app => { app.setValidatorCompiler(() => { throw new Error('the compiler broke') }) }, {}, /cannot be compiled: the compiler broke\.$/],
    // eslint-disable-next-line no-throw-literal
    [app => { app.setValidatorCompiler(() => { throw 'a text' }) }, {}, /cannot be compiled: a value that is not an Error was thrown: 'a text'/],
    [app => { app.setValidatorCompiler(() => undefined as never) }, {}, /the validator compiler made no function of the schema of the payload/]
  ]
  for (const [prepare, schema, message] of cases) {
    const { app } = await build(t, { autostart: false })
    prepare(app)
    const { queue } = keeping(app, schema)
    t.match(await rejection(queue.enqueue(1)), { code: 'FST_BG_INVALID_OPTION', message }, 'the first enqueue before ready finds it')
    t.match(await rejection(queue.enqueue(1)), { code: 'FST_BG_INVALID_OPTION' }, 'and so does each')
    t.match(await rejection(async () => { await app.ready() }), { code: 'FST_BG_INVALID_OPTION', message })
  }
})

t.test('a late queue with a schema that cannot be compiled is not declared, and opens nothing', async t => {
  let opened = 0
  const store = { open () { opened++ }, async stop () {} }
  const { app } = await build(t, { stores: { store: store as never } })
  await app.ready()
  t.throws(() => app.addBackgroundQueue('a', { schema: { payload: { type: 'nonsense' } }, store: 'store' }, () => {}), { code: 'FST_BG_INVALID_OPTION', message: /cannot be compiled/ })
  t.equal(opened, 0)
  t.equal(app.backgroundTasks.get('a'), undefined)
})

t.test('what ajv throws for another reason than a missing schema is not tried again', async t => {
  const { app } = await build(t)
  let compiled = 0
  const ajv = buildAjv()({}, { customOptions: {}, plugins: [] } as never)
  app.setValidatorCompiler(definition => {
    compiled++
    return ajv(definition as never) as never
  })
  keeping(app, { type: 'nonsense' })
  t.match(await rejection(async () => { await app.ready() }), { code: 'FST_BG_INVALID_OPTION' })
  t.equal(compiled, 1)
})
