// What one server leaves behind is small; what five hundred leave shows.
import { setFlagsFromString } from 'node:v8'
import { setImmediate } from 'node:timers/promises'
import { runInNewContext } from 'node:vm'
import Fastify from 'fastify'
import t from 'tap'
import backgroundTasks, { type BackgroundTask } from '../lib/index.ts'
import { aborted, deferred } from './support/helper.ts'

const TASKS = 20

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

t.test('500 rounds of register, ready and close leave nothing behind', async t => {
  const warnings: Error[] = []
  const warned = (warning: Error): void => { warnings.push(warning) }
  process.on('warning', warned)
  t.teardown(() => { process.off('warning', warned) })

  // The first rounds fill the caches of everybody: they are not measured.
  for (let i = 0; i < 100; i++) await round()
  const resources = await activeResources()
  const listeners = processListeners()
  const heap = await usedHeap()
  for (let i = 0; i < 400; i++) await round()

  t.same(await activeResources(), resources, 'no timer and no handle')
  t.same(processListeners(), listeners, 'no listener on the process')
  t.same(warnings, [], 'no warning of too many listeners')
  const perTask = (await usedHeap() - heap) / (400 * TASKS)
  t.comment(`${Math.round(perTask)} bytes a task`)
  t.ok(perTask < 250, 'the heap is flat', { perTask })
})

/** One server, with a mix of tasks, from start to end. */
async function round (): Promise<void> {
  const app = Fastify()
  await app.register(backgroundTasks, { onRun: async (run, next) => await next() })
  const up = latch(TASKS)
  const closing = deferred()
  const tasks: BackgroundTask[] = []
  app.addHook('preClose', async () => { closing.resolve() })
  await app.register(async child => {
    for (let i = 0; i < TASKS; i += 4) {
      tasks.push(
        app.addBackgroundTask(`service ${i}`, async ({ signal }) => {
          up.pass()
          await aborted(signal)
        }),
        // Ends within its grace, whose timer is to be called off.
        child.addBackgroundTask(`service with grace ${i}`, { grace: '1m' }, async ({ log }) => {
          log.debug('up')
          up.pass()
          await closing.promise
        }),
        app.addBackgroundTask(`hosted ${i}`, { start () { up.pass() }, stop () {} }),
        child.addBackgroundTask(`hosted with signals ${i}`, {
          async start ({ signal }) {
            signal.addEventListener('abort', () => {})
            up.pass()
          },
          async stop ({ signal }) { signal.addEventListener('abort', () => {}) }
        })
      )
    }
  })
  await app.ready()
  await up.all
  await app.close()
  const states = statesOf(tasks)
  if (states.stopped !== TASKS) throw new Error(`not every task stopped: ${JSON.stringify(states)}`)
}

/** A promise that resolves when `pass` was called `count` times. */
function latch (count: number): { pass (): void, all: Promise<void> } {
  const all = deferred()
  return { all: all.promise, pass: () => { if (--count === 0) all.resolve() } }
}

function statesOf (tasks: Iterable<BackgroundTask>): Partial<Record<BackgroundTask['state'], number>> {
  return countBy([...tasks].map(task => task.state))
}

/** What keeps the process alive, by kind. */
async function activeResources (): Promise<Record<string, number>> {
  await setImmediate()
  return countBy(process.getActiveResourcesInfo())
}

function processListeners (): Record<string, number> {
  return Object.fromEntries(process.eventNames().map(name => [String(name), process.listenerCount(name)]))
}

/** Bytes in use after garbage collection, twice: what the first one finalizes, the second one frees. */
async function usedHeap (): Promise<number> {
  for (let i = 0; i < 2; i++) {
    collectGarbage()
    await setImmediate()
  }
  return process.memoryUsage().heapUsed
}

function countBy<Key extends string> (keys: Key[]): Record<Key, number> {
  const counts = {} as Record<Key, number>
  for (const key of keys) counts[key] = (counts[key] ?? 0) + 1
  return counts
}
