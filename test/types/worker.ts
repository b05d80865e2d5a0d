// Compile-only: a worker fits tasks, queues and background runs, and its payload is typed.
import { expectTypeOf } from 'expect-type'
import Fastify from 'fastify'
import backgroundTasks, { type BackgroundQueue, type BackgroundTask, type RunHandle } from '../../lib/index.ts'
import { worker, type WorkerHandler, type WorkerRun } from '../../lib/worker/index.ts'

interface Picture { path: string }

const app = Fastify()
await app.register(backgroundTasks)
const url = new URL('./some.js', import.meta.url)

expectTypeOf(worker(url)).toEqualTypeOf<WorkerHandler<unknown>>()
expectTypeOf(worker<Picture>(url, { threads: 1, killAfter: '1s', memory: 64 })).toEqualTypeOf<WorkerHandler<Picture>>()
expectTypeOf(app.addBackgroundTask('service', worker(url))).toEqualTypeOf<BackgroundTask>()
expectTypeOf(app.addBackgroundTask('timed', { every: '1h' }, worker(url, { killAfter: process.env.KILL_AFTER }))).toEqualTypeOf<BackgroundTask>()
expectTypeOf(app.addBackgroundQueue('untyped', worker(url))).toEqualTypeOf<BackgroundQueue<unknown>>()
expectTypeOf(app.runInBackground(worker(url))).toEqualTypeOf<RunHandle>()
const pictures = app.addBackgroundQueue('pictures', { concurrency: 2 }, worker<Picture>(url))
expectTypeOf(pictures).toEqualTypeOf<BackgroundQueue<Picture>>()
await pictures.enqueue({ path: 'a' })
// @ts-expect-error: no path
await pictures.enqueue({})
// @ts-expect-error: a typo
worker(url, { thread: 2 })
// @ts-expect-error: no URL
worker('./some.js')

expectTypeOf<WorkerRun<Picture>['payload']>().toEqualTypeOf<Picture>()
expectTypeOf<WorkerRun['payload']>().toEqualTypeOf<unknown>()
expectTypeOf<WorkerRun['signal']>().toEqualTypeOf<AbortSignal>()
expectTypeOf<WorkerRun['dueAt']>().toEqualTypeOf<Date | undefined>()
// @ts-expect-error: there is no server in the thread
export const serverOf = (run: WorkerRun): unknown => run.server
export const log = ({ log, progress }: WorkerRun): void => {
  log.child({ a: 1 }).info({ b: 2 }, 'text %s', 'more')
  progress(0.5)
  progress({ step: 1 })
  // @ts-expect-error: neither a fraction nor an object
  progress('half')
}
