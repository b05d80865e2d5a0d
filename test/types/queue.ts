// Compile-only: what a queue's payload is, where `this` and `run.server` come from, and that a mistake is an error at the mistake.
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import { expectTypeOf } from 'expect-type'
import Fastify, { type FastifyInstance, type FastifyPluginAsync } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { Type } from 'typebox'
import { z } from 'zod'
import backgroundTasks, {
  type AnyInstance, type BackgroundQueue, type BackgroundTask, type Counts, type Enqueued, type EnqueueOptions, type ListedState, type QueuedRun,
  type QueueHandler, type QueueOptions, type Run, type RunPage, type Scheduled, type Store
} from '../../lib/index.ts'

interface Mail { to: string, copies?: number }

const app = Fastify()
await app.register(backgroundTasks)

// --- Without a schema and without a word of the handler the payload is unknown.

const untyped = app.addBackgroundQueue('untyped', async function (run) {
  expectTypeOf(this).toEqualTypeOf<typeof app>()
  expectTypeOf(run).toEqualTypeOf<Run<unknown, typeof app>>()
  expectTypeOf(run.server).toEqualTypeOf<typeof app>()
  expectTypeOf(run.payload).toEqualTypeOf<unknown>()
  expectTypeOf(run.progress).toEqualTypeOf<(value: number | object) => void>()
})
expectTypeOf(untyped).toEqualTypeOf<BackgroundQueue<unknown>>()
await untyped.enqueue('anything')
expectTypeOf(app.addBackgroundQueue('options', { concurrency: 5 }, async function (run) {
  expectTypeOf(this).toEqualTypeOf<typeof app>()
  expectTypeOf(run.payload).toEqualTypeOf<unknown>()
})).toEqualTypeOf<BackgroundQueue<unknown>>()
// A plain JSON schema tells the default type provider nothing.
expectTypeOf(app.addBackgroundQueue('json schema', { schema: { payload: { type: 'object', properties: { a: { type: 'string' } } } } }, async ({ payload }) => {
  expectTypeOf(payload).toEqualTypeOf<unknown>()
})).toEqualTypeOf<BackgroundQueue<unknown>>()

// --- From what the handler says.

const mails = app.addBackgroundQueue('mails', async ({ payload }: Run<Mail>) => {
  expectTypeOf(payload).toEqualTypeOf<Mail>()
})
expectTypeOf(mails).toEqualTypeOf<BackgroundQueue<Mail>>()
await mails.enqueue({ to: 'them' })
await mails.enqueue({ to: 'them', copies: 2 }, { delay: '1s', priority: 1, key: 'k', keyUntil: 'started', retry: { limit: 3 }, reqId: 'r' })
// @ts-expect-error: to is missing
await mails.enqueue({ copies: 2 })
await mails.enqueue({
  to: 'them',
  // @ts-expect-error: a number
  copies: 'two'
})
// @ts-expect-error: a payload
await mails.enqueue()
expectTypeOf(app.addBackgroundQueue('mails with options', { retry: 3 }, async function ({ payload, server }: Run<Mail, typeof app>) {
  expectTypeOf(this).toEqualTypeOf<typeof app>()
  expectTypeOf(server).toEqualTypeOf<typeof app>()
  expectTypeOf(payload).toEqualTypeOf<Mail>()
})).toEqualTypeOf<BackgroundQueue<Mail>>()
expectTypeOf(app.addBackgroundQueue('mails with a JSON schema', { schema: { payload: { type: 'object' } } }, async ({ payload }: Run<Mail>) => {
  expectTypeOf(payload).toEqualTypeOf<Mail>()
})).toEqualTypeOf<BackgroundQueue<Mail>>()
// By reference, for any server.
const send: QueueHandler<Mail> = async function ({ payload, signal }) {
  expectTypeOf(this).toEqualTypeOf<AnyInstance>()
  expectTypeOf(payload).toEqualTypeOf<Mail>()
  expectTypeOf(signal).toEqualTypeOf<AbortSignal>()
}
expectTypeOf(app.addBackgroundQueue('by reference', send)).toEqualTypeOf<BackgroundQueue<Mail>>()
expectTypeOf(app.addBackgroundQueue('by reference with options', { concurrency: 2 }, send)).toEqualTypeOf<BackgroundQueue<Mail>>()
expectTypeOf(app.addBackgroundQueue<typeof app, Mail>('by argument', async ({ payload }) => {
  expectTypeOf(payload).toEqualTypeOf<Mail>()
})).toEqualTypeOf<BackgroundQueue<Mail>>()

// --- From the schema, through TypeBox.

const typebox = app.withTypeProvider<TypeBoxTypeProvider>()
const boxed = typebox.addBackgroundQueue('typebox', {
  schema: { payload: Type.Object({ to: Type.String(), copies: Type.Optional(Type.Integer()) }) },
  concurrency: 5,
  retry: { limit: 5, delay: '1s', maxDelay: '5m' }
}, async function ({ payload, server }) {
  expectTypeOf(payload).toEqualTypeOf<{ to: string, copies?: number }>()
  expectTypeOf(this).toEqualTypeOf<typeof typebox>()
  expectTypeOf(server).toEqualTypeOf<typeof typebox>()
})
expectTypeOf(boxed).toEqualTypeOf<BackgroundQueue<{ to: string, copies?: number }>>()
await boxed.enqueue({ to: 'them' })
// @ts-expect-error: to is missing
await boxed.enqueue({})
// @ts-expect-error: a payload
await boxed.enqueue()
// @ts-expect-error: a payload
await boxed.enqueue(undefined)
// @ts-expect-error: a payload
await boxed.enqueueMany([{ key: 'k' }])
await boxed.enqueue({
  // @ts-expect-error: a text
  to: 5
})
typebox.addBackgroundQueue('typebox without a schema', async ({ payload }) => { expectTypeOf(payload).toEqualTypeOf<unknown>() })
typebox.addBackgroundQueue('typebox with options and no schema', { concurrency: 1 }, async ({ payload }) => { expectTypeOf(payload).toEqualTypeOf<unknown>() })

// --- And through zod: the handler is given what comes out, and enqueue takes what goes in.

const zod = app.withTypeProvider<ZodTypeProvider>()
const parsed = zod.addBackgroundQueue('zod', {
  schema: { payload: z.object({ to: z.email(), copies: z.number().default(1), at: z.iso.datetime().transform(text => new Date(text)) }) }
}, async function ({ payload }) {
  expectTypeOf(payload).toEqualTypeOf<{ to: string, copies: number, at: Date }>()
  expectTypeOf(this).toEqualTypeOf<typeof zod>()
})
expectTypeOf(parsed).toEqualTypeOf<BackgroundQueue<{ to: string, copies?: number | undefined, at: string }>>()
await parsed.enqueue({ to: 'them', at: new Date().toISOString() })
// @ts-expect-error: a payload
await parsed.enqueue()
await parsed.enqueue({
  to: 'them',
  // @ts-expect-error: a text, as what is stored is JSON
  at: new Date()
})

// --- In plugins and children.

export const plugin: FastifyPluginAsync = async child => {
  const queue = child.addBackgroundQueue('in a plugin', async function ({ server, payload }: Run<Mail, FastifyInstance>) {
    expectTypeOf(this).toEqualTypeOf<FastifyInstance>()
    expectTypeOf(server).toEqualTypeOf<FastifyInstance>()
    expectTypeOf(payload).toEqualTypeOf<Mail>()
  })
  child.post<{ Body: Mail }>('/', async (request, reply) => await reply.code(202).send(await queue.enqueue(request.body, { reqId: request.id })))
}
await app.register(async child => {
  child.addBackgroundQueue('in a child', async function () { expectTypeOf(this).toEqualTypeOf<typeof child>() })
})

// --- Mistakes in options.

app.addBackgroundQueue('typo', {
  // @ts-expect-error: concurrency
  concurency: 5
}, async ({ signal }) => {
  expectTypeOf(signal).toEqualTypeOf<AbortSignal>()
})
app.addBackgroundQueue('option of a task', {
  // @ts-expect-error: belongs to a timed task
  every: '1s'
}, async () => {})
app.addBackgroundQueue('option of a service', {
  // @ts-expect-error: a queue has retry
  restart: 'always'
}, async () => {})
app.addBackgroundQueue('onFull', {
  // @ts-expect-error: reject or wait
  onFull: 'drop'
}, async () => {})
app.addBackgroundQueue('rate', {
  // @ts-expect-error: per is missing
  rate: { limit: 5 }
}, async () => {})
app.addBackgroundQueue('schema', {
  schema: {
    // @ts-expect-error: payload
    body: {}
  }
}, async () => {})
app.addBackgroundQueue('undefined counts as not given', {
  enabled: undefined,
  grace: process.env.GRACE,
  logLevel: undefined,
  timeout: undefined,
  onGiveUp: undefined,
  retry: undefined,
  schema: undefined,
  store: undefined,
  concurrency: undefined,
  maxSize: undefined,
  onFull: undefined,
  rate: undefined,
  maxPayload: undefined,
  keep: { succeeded: undefined, failed: { count: undefined, age: undefined } }
}, async ({ payload }) => { expectTypeOf(payload).toEqualTypeOf<unknown>() })
// @ts-expect-error: a handler
app.addBackgroundQueue('no handler')
// @ts-expect-error: a handler
app.addBackgroundQueue('no handler', {})
const shared: QueueOptions = { concurrency: 5 }
app.addBackgroundQueue('shared', shared, async () => {})

// --- The handle

expectTypeOf(mails).toExtend<BackgroundTask>()
expectTypeOf(mails.kind).toEqualTypeOf<'queue'>()
expectTypeOf(mails.enqueue).parameters.toEqualTypeOf<[payload: Mail, options?: EnqueueOptions | undefined]>()
expectTypeOf(await mails.enqueue({ to: '' })).toEqualTypeOf<Enqueued>()
await mails.enqueueMany([{ payload: { to: 'them' }, delay: '1s' }, { payload: { to: 'them', copies: 2 }, key: 'k' }])
// @ts-expect-error: to is missing
await mails.enqueueMany([{ payload: { copies: 2 } }])
expectTypeOf(await mails.enqueueMany([])).toEqualTypeOf<Enqueued[]>()
expectTypeOf((await mails.finished('id', { timeout: '1s' })).outcome).toEqualTypeOf<'succeeded' | 'failed' | 'cancelled'>()
expectTypeOf(await mails.schedule('k', { every: '1h', payload: { to: 'them' }, overlap: 'allow', misfire: 'all', jitter: 5, priority: 1, retry: 3 })).toEqualTypeOf<Scheduled>()
await mails.schedule('k', { cron: '@daily', timezone: 'UTC', payload: { to: 'them', copies: 1 } })
await mails.schedule('k', {
  every: '1h',
  // @ts-expect-error: a text
  payload: { to: 5 }
})
// @ts-expect-error: a queue has no such overlap
await mails.schedule('k', { every: '1h', overlap: 'wait' })
expectTypeOf(await mails.unschedule('k')).toEqualTypeOf<boolean>()
expectTypeOf((await mails.schedules({ prefix: 'a', limit: 5, cursor: undefined })).schedules[0]?.payload).toEqualTypeOf<Mail | undefined>()
expectTypeOf<Run['schedule']>().toEqualTypeOf<string | undefined>()
expectTypeOf(await mails.counts()).toEqualTypeOf<Counts>()
expectTypeOf<Counts>().toEqualTypeOf<Record<ListedState, number>>()
expectTypeOf(await mails.list({ state: 'failed', limit: 5, cursor: undefined })).toEqualTypeOf<RunPage<Mail>>()
expectTypeOf((await mails.list({ state: 'failed' })).runs).toEqualTypeOf<Array<QueuedRun<Mail>>>()
expectTypeOf((await mails.list({ state: 'failed' })).runs[0]?.payload).toEqualTypeOf<Mail | undefined>()
expectTypeOf(await mails.get('id')).toEqualTypeOf<QueuedRun<Mail> | undefined>()
expectTypeOf<QueuedRun['value']>().toEqualTypeOf<unknown>()
expectTypeOf<Run['enqueuedAt']>().toEqualTypeOf<Date | undefined>()
expectTypeOf((await mails.list({ state: 'failed' })).cursor).toEqualTypeOf<string | undefined>()
expectTypeOf(mails.retry).toEqualTypeOf<(runId: string) => Promise<void>>()
expectTypeOf(await mails.retryFailed()).toEqualTypeOf<number>()
expectTypeOf(mails.cancel).toEqualTypeOf<(runId: string) => Promise<void>>()
expectTypeOf(mails.remove).toEqualTypeOf<(runId?: string) => Promise<void>>()
expectTypeOf(await mails.clear('waiting')).toEqualTypeOf<number>()
expectTypeOf(mails.drain).toEqualTypeOf<() => Promise<void>>()
// @ts-expect-error: which state
await mails.list({})
// @ts-expect-error: no such state
await mails.list({ state: 'done' })
// @ts-expect-error: active runs are cancelled one by one
await mails.clear('active')
// @ts-expect-error: a Date
await mails.enqueue({ to: '' }, { runAt: '2026-01-01' })
// @ts-expect-error: no such option
await mails.enqueue({ to: '' }, { dely: 5 })

// --- Stores

const store: Store = { open () { throw new Error('of no use') }, async stop () {} }
await app.register(backgroundTasks, { stores: { default: store, other: store } })
// @ts-expect-error: a store
await app.register(backgroundTasks, { stores: { default: 'redis' } })

// --- A transaction of the application's: a client of pg, or an adapter of pg-boss, and nothing else.

declare const client: import('pg').PoolClient
declare const adapter: ReturnType<typeof import('pg-boss').fromKnex>
await untyped.enqueue(1, { tx: client })
await untyped.enqueueMany([{ payload: 1 }], { tx: adapter })
// @ts-expect-error a connection string is no transaction
await untyped.enqueue(1, { tx: 'postgres://127.0.0.1' })
// @ts-expect-error one transaction for all
await untyped.enqueueMany([{ payload: 1, tx: client }])
