// That the tables of the documents have every option, property and method of the code, and no other.
import { pathToFileURL } from 'node:url'
import Fastify from 'fastify'
import t from 'tap'
import dashboard from '../../lib/dashboard/index.ts'
import backgroundTasks from '../../lib/index.ts'
import { metrics } from '../../lib/metrics/index.ts'
import { bullmq } from '../../lib/store/bullmq/index.ts'
import { pgBoss } from '../../lib/store/pg-boss/index.ts'
import { worker } from '../../lib/worker/index.ts'
import { noEmbedded } from '../support/embedded.ts'
import { build } from '../support/helper.ts'
import { read } from '../support/pages.ts'

/** The keys in the first column of the table with that heading. */
function rowsOf (page: string, heading: string): string[] {
  const [, table = ''] = new RegExp(`^\\| ${heading} \\|.*\\n\\|[-|]+\\n((?:\\|.*\\n)+)`, 'm').exec(read(page)) ?? []
  return [...table.matchAll(/^\| (`[^|]+) \|/gm)].flatMap(([, cell = '']) => [...cell.matchAll(/`(\w+)/g)].map(([, key = '']) => key)).sort()
}

/** What a call says it takes, when it is given an unknown option. */
async function taken (call: () => unknown): Promise<string[]> {
  const message = await Promise.resolve().then(call).then(() => '', (error: Error) => error.message)
  return (/It takes (.*)\.$/.exec(message)?.[1] ?? '').split(', ').sort()
}

const unknown = { xyzxyzxyz: 1 }
const handler = (): void => {}

t.test('options of tasks', async t => {
  const { app } = await build(t)
  const declare = (...given: unknown[]) => async (): Promise<string[]> => await taken(() => (app.addBackgroundTask as (...given: unknown[]) => unknown).call(app, 'bad', ...given))
  const [shared, handlers, timed] = ['option of a task', 'option of a service or timed task', 'option of a timed task'].map(heading => rowsOf('docs/tasks.md', heading))
  const both = (...tables: Array<string[] | undefined>): string[] => tables.flatMap(table => table ?? [])
  const hosted = ['start', 'stop', 'startTimeout']
  const [service, timedTask, hostedService] = await Promise.all([declare(unknown, handler)(), declare({ every: 1, ...unknown }, handler)(), declare({ start: handler, ...unknown })()])
  t.same(hostedService, [...shared ?? []].sort())
  t.same(service, both(shared?.filter(key => !hosted.includes(key)), handlers?.filter(key => key !== 'retry')).sort())
  t.same(timedTask, both(shared?.filter(key => !hosted.includes(key)), handlers?.filter(key => key !== 'restart'), timed).sort())
  t.same(await declare({ restart: unknown }, handler)(), rowsOf('docs/supervision.md', 'option of `restart`'))
  t.same(await declare({ every: 1, retry: unknown }, handler)(), rowsOf('docs/supervision.md', 'option of `retry`'))
})

t.test('options of the plugin', async t => {
  t.same(await taken(async () => await Fastify().register(backgroundTasks, unknown as object)), rowsOf('docs/tasks.md', 'option of the plugin'))
})

t.test('options of queues, of enqueue and of schedule', async t => {
  const { app } = await build(t)
  const page = 'docs/queues.md'
  t.same(rowsOf(page, 'option of a queue'), await taken(() => (app.addBackgroundQueue as (...given: unknown[]) => unknown).call(app, 'bad', unknown, handler)))
  const queue = app.addBackgroundQueue('mails', async () => {})
  t.same(rowsOf(page, 'option of `enqueue`'), await taken(async () => await queue.enqueue({}, unknown as object)))
  t.same(rowsOf(page, 'option of `schedule`'), await taken(async () => await queue.schedule('key', unknown as never)))
})

t.test('options of bullmq(), worker(), the dashboard and the metrics', async t => {
  const { app } = await build(t)
  t.same(rowsOf('docs/stores.md', 'option of `bullmq\\(\\)`'), await taken(() => bullmq(unknown as never)))
  t.same(rowsOf('docs/worker.md', 'option of `worker\\(\\)`'), await taken(() => worker(pathToFileURL(import.meta.filename), unknown as never)))
  // The prefix is Fastify's.
  t.same(rowsOf('docs/dashboard.md', 'option').filter(key => key !== 'prefix'), await taken(async () => await app.register(dashboard, unknown as never)))
  const { app: other } = await build(t)
  t.same(['registry'], await taken(async () => await other.register(metrics, unknown as never)))
})

t.test('options of pgBoss()', { skip: noEmbedded }, async t => {
  const options = await taken(() => pgBoss(unknown as never))
  t.same([...rowsOf('docs/stores.md', 'option of `pgBoss\\(\\)`'), 'dataDir'].sort(), options)
})

/** The properties and methods that an interface declares itself. */
function membersOf (file: string, name: string): string[] {
  const [, declared = ''] = new RegExp(`export interface ${name}\\b.*?\\{\\n(.*?)^\\}`, 'ms').exec(read(file)) ?? []
  return [...declared.matchAll(/^ {2}(?:readonly )?(\w+)(?: \(|\??:)/gm)].map(([, member = '']) => member)
}

t.test('docs/tasks.md has every property of a run, and every property and method of a handle', async t => {
  const page = read('docs/tasks.md')
  const part = (heading: string): string => new RegExp(`^## ${heading}\\n(.*?)^## `, 'ms').exec(page)?.[1] ?? ''
  const run = membersOf('lib/run/run.ts', 'Run')
  t.ok(run.length > 8)
  for (const member of run) t.match(part('The run'), new RegExp(`\`run\\.${member}\\b`), member)
  const handle = membersOf('lib/task/handle.ts', 'BackgroundTask')
  t.ok(handle.length > 15)
  for (const member of handle) t.match(part('Handles'), new RegExp(`\`${member}\\b`), member)
  const all = membersOf('lib/app/plugin.ts', 'BackgroundTasks')
  t.ok(all.length > 3)
  for (const member of all) t.match(part('Handles'), new RegExp(`\`(fastify\\.backgroundTasks\\.)?${member}\\(`), member)
})

t.test('docs/queues.md has every method that a queue has besides those of a task', async t => {
  const [, table = ''] = /## The handle\n(.*?)\n## /s.exec(read('docs/queues.md')) ?? []
  const methods = membersOf('lib/queue/handle.ts', 'BackgroundQueue').filter(name => name !== 'kind')
  t.ok(methods.length > 8)
  for (const name of methods) t.ok(table.includes(`\`${name}(`), `${name}()`)
})

t.test('docs/tasks.md draws the states', async t => {
  const { transitions } = await import('../../lib/task/states.ts')
  const arrows = [...read('docs/tasks.md').matchAll(/^ {4}(\w+) --> (\w+)$/gm)].map(([, from, to]) => `${from} → ${to}`)
  t.same(arrows.sort(), Object.entries(transitions).flatMap(([from, all]) => all.map(to => `${from} → ${to}`)).sort())
})
