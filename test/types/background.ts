// Compile-only: `this` and `run.server` of what runInBackground is given, and what it gives back.
import { expectTypeOf } from 'expect-type'
import Fastify, { type FastifyInstance } from 'fastify'
import backgroundTasks, { type Run, type RunHandle, type RunResult } from '../../lib/index.ts'

const app = Fastify()
await app.register(backgroundTasks)

const handle = app.runInBackground(async function (run) {
  expectTypeOf(this).toEqualTypeOf<typeof app>()
  expectTypeOf(run).toEqualTypeOf<Run<undefined, typeof app>>()
})
expectTypeOf(handle).toEqualTypeOf<RunHandle>()
expectTypeOf(handle.id).toEqualTypeOf<string>()
expectTypeOf(handle.finished).toEqualTypeOf<Promise<RunResult>>()
app.runInBackground('named', function ({ signal, payload }) {
  expectTypeOf(this).toEqualTypeOf<typeof app>()
  expectTypeOf(signal).toEqualTypeOf<AbortSignal>()
  expectTypeOf(payload).toEqualTypeOf<undefined>()
})

app.get('/', async request => {
  expectTypeOf(request.runInBackground('named', async function (run) {
    expectTypeOf(this).toEqualTypeOf<FastifyInstance>()
    expectTypeOf(run.server).toEqualTypeOf<FastifyInstance>()
  })).toEqualTypeOf<RunHandle>()
  request.runInBackground(() => {})
  // @ts-expect-error: the handler comes last
  request.runInBackground(() => {}, 'named')
  // @ts-expect-error: a name is a text
  request.runInBackground(7, () => {})
  // @ts-expect-error: there are no options
  request.runInBackground('named', { grace: '1s' }, () => {})
})

await app.register(async child => {
  child.runInBackground(async function ({ server }) {
    expectTypeOf(this).toEqualTypeOf<typeof child>()
    expectTypeOf(server).toEqualTypeOf<typeof child>()
  })
})

// @ts-expect-error: a handler is needed
app.runInBackground('named')
const { runInBackground } = app
// @ts-expect-error: the plugin cannot know which instance it belongs to
runInBackground(async () => {})
