// Compile-only: what the exports and the decorators give back.
import { expectTypeOf } from 'expect-type'
import Fastify, { type FastifyPluginAsync } from 'fastify'
import type { FastifyErrorConstructor } from '@fastify/error'
import backgroundTasks, {
  errorCodes,
  type BackgroundTask, type BackgroundTasks, type BackgroundTasksOptions, type TaskKind, type TaskState
} from '../../lib/index.ts'

const app = Fastify()
await app.register(backgroundTasks)

// --- The plugin itself is a plugin of Fastify.

expectTypeOf(backgroundTasks).toExtend<FastifyPluginAsync<BackgroundTasksOptions>>()
expectTypeOf(backgroundTasks).parameter(1).toEqualTypeOf<BackgroundTasksOptions>()

// --- fastify.backgroundTasks

expectTypeOf(app.backgroundTasks).toEqualTypeOf<BackgroundTasks>()
expectTypeOf(app.backgroundTasks.get).parameters.toEqualTypeOf<[name: string]>()
expectTypeOf(app.backgroundTasks.get('some')).toEqualTypeOf<BackgroundTask | undefined>()
expectTypeOf(app.backgroundTasks.start).toEqualTypeOf<() => Promise<void>>()
for (const task of app.backgroundTasks) expectTypeOf(task).toEqualTypeOf<BackgroundTask>()
expectTypeOf([...app.backgroundTasks]).toEqualTypeOf<BackgroundTask[]>()
expectTypeOf(new Map([...app.backgroundTasks].map(task => [task.name, task.state]))).toEqualTypeOf<Map<string, TaskState>>()
// @ts-expect-error: there may be no task of that name
app.backgroundTasks.get('some').state.toUpperCase()
// @ts-expect-error: read-only
app.backgroundTasks = Fastify().backgroundTasks
// @ts-expect-error: by get()
app.backgroundTasks.some?.()

// --- The handle of a task

const task = app.addBackgroundTask('some', async () => {})
expectTypeOf(task).toEqualTypeOf<BackgroundTask>()
expectTypeOf(task.name).toEqualTypeOf<string>()
expectTypeOf(task.kind).toEqualTypeOf<TaskKind>()
expectTypeOf(task.state).toEqualTypeOf<TaskState>()
expectTypeOf(task.start).toEqualTypeOf<() => Promise<void>>()
expectTypeOf(task.stop).toEqualTypeOf<() => Promise<void>>()
expectTypeOf<TaskKind>().toEqualTypeOf<'service' | 'hosted' | 'timed' | 'queue'>()
expectTypeOf<TaskState>().toEqualTypeOf<'idle' | 'running' | 'backoff' | 'paused' | 'stopping' | 'stopped' | 'completed' | 'failed'>()
// @ts-expect-error: read-only
task.state = 'running'
// @ts-expect-error: read-only
task.name = 'other'
// @ts-expect-error: there is no such state
if (task.state === 'sleeping') await task.start()
// @ts-expect-error: what the library keeps to itself
task.cancel()

// --- errorCodes: each code is a literal, and the class can be told by instanceof

type Codes = keyof typeof errorCodes
expectTypeOf<Codes>().toEqualTypeOf<
  'FST_BG_INVALID_OPTION' | 'FST_BG_INVALID_THIS' | 'FST_BG_DUPLICATE_NAME' | 'FST_BG_ALREADY_REGISTERED' | 'FST_BG_CLOSING' |
  'FST_BG_START_TIMEOUT' | 'FST_BG_TIMEOUT' | 'FST_BG_SHUTDOWN' | 'FST_BG_SHUTDOWN_TIMEOUT' | 'FST_BG_CANCELLED' | 'FST_BG_GAVE_UP' |
  'FST_BG_QUEUE_FULL' | 'FST_BG_INVALID_PAYLOAD' | 'FST_BG_UNKNOWN_STORE' | 'FST_BG_STORE_UNAVAILABLE' | 'FST_BG_STORE_LOCKED' |
  'FST_BG_NOT_FOUND'
>()
/** The code that instances of a class have. */
type CodeOf<Class extends FastifyErrorConstructor> = InstanceType<Class>['code']
expectTypeOf<{ [Code in Codes]: CodeOf<typeof errorCodes[Code]> }>().toEqualTypeOf<{ [Code in Codes]: Code }>()
expectTypeOf<InstanceType<typeof errorCodes.FST_BG_SHUTDOWN>['statusCode']>().toEqualTypeOf<503>()
expectTypeOf<InstanceType<typeof errorCodes.FST_BG_CLOSING>['statusCode']>().toEqualTypeOf<503>()
expectTypeOf<InstanceType<typeof errorCodes.FST_BG_TIMEOUT>['statusCode']>().toEqualTypeOf<500>()

export function why (signal: AbortSignal): string {
  if (signal.reason instanceof errorCodes.FST_BG_SHUTDOWN) {
    expectTypeOf(signal.reason.code).toEqualTypeOf<'FST_BG_SHUTDOWN'>()
    expectTypeOf(signal.reason.message).toEqualTypeOf<string>()
    return signal.reason.code
  }
  return ''
}
// @ts-expect-error: a table is not to be changed
errorCodes.FST_BG_SHUTDOWN = {} as typeof errorCodes.FST_BG_SHUTDOWN
// @ts-expect-error: no such code
expectTypeOf(errorCodes.FST_BG_NOTHING)
