// What do schedules as data cost on Redis: a hundred thousand that are not due, ten thousand that are due at one instant, and a thousand waits for runs that do not end?
import { randomUUID } from 'node:crypto'
import Fastify from 'fastify'
import { Redis } from 'ioredis'
import backgroundTasks from 'fastify-background-tasks'
import { bullmq } from 'fastify-background-tasks/bullmq'
import { section, table } from './report.js'

const url = process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379'
const prefix = `bench-${randomUUID()}`
const [IDLE, DUE, WAITS] = [100_000, 10_000, 1_000]
const SECONDS = 5
const client = new Redis(url)
const sleep = ms => new Promise(resolve => { setTimeout(resolve, ms) })

const app = Fastify()
await app.register(backgroundTasks, { stores: { default: bullmq({ connection: url, prefix }) } })
const idle = app.addBackgroundQueue('idle', async () => {})
const due = app.addBackgroundQueue('due', { enabled: false }, async () => {})
const waits = app.addBackgroundQueue('waits', { enabled: false }, async () => {})
await app.ready()
await idle.counts()

const heap = () => {
  globalThis.gc?.()
  return process.memoryUsage().heapUsed
}
/** Commands a second of all clients of Redis (scripts count with what they call), CPU of this process in ms a second, and growth of its heap. */
async function measured () {
  await sleep(3_000)
  const commands = async () => Number(/total_commands_processed:(\d+)/.exec(await client.info('stats'))[1])
  const [before, cpu] = [await commands(), process.cpuUsage()]
  await sleep(SECONDS * 1_000)
  const { user, system } = process.cpuUsage(cpu)
  return [((await commands() - before - 1) / SECONDS).toFixed(1), ((user + system) / 1_000 / SECONDS).toFixed(1)]
}
async function scheduleAll (queue, count, options) {
  for (let n = 0; n < count; n += 1_000) await Promise.all(Array.from({ length: 1_000 }, async (_, i) => await queue.schedule(`tenant:${n + i}`, { payload: { n: n + i }, ...options })))
}

const rows = [['nothing', ...await measured(), '0']]
const empty = heap()
await scheduleAll(idle, IDLE, { every: '365d' })
rows.push([`${IDLE.toLocaleString('en')} schedules, none due`, ...await measured(), Math.max(0, (heap() - empty) / 1_024).toFixed(0)])

const ids = (await waits.enqueueMany(Array.from({ length: WAITS }, (_, payload) => ({ payload })))).map(({ id }) => id)
const before = heap()
const ended = Promise.all(ids.map(async id => await waits.finished(id)))
rows.push([`and ${WAITS.toLocaleString('en')} waits in finished()`, ...await measured(), ((heap() - before) / 1_024).toFixed(0)])
await waits.start()
await ended

// All are due at once: the ticks of the last period were missed while the queue was not started.
const period = 3_600_000
await scheduleAll(due, DUE, { every: period })
const times = `${prefix}:due:schedules`
const past = Math.floor(Date.now() / period) * period
const keys = await client.zrange(times, 0, -1)
for (let i = 0; i < keys.length; i += 1_000) {
  await client.zadd(times, ...keys.slice(i, i + 1_000).flatMap(key => [past, key]))
  await client.hset(`${prefix}:due:schedules:states`, ...keys.slice(i, i + 1_000).flatMap(key => [key, `1 ${past} - -`]))
}
const began = performance.now()
await due.start()
while (await client.zcount(times, '-inf', Date.now()) > 0) await sleep(5)
const took = performance.now() - began

section('schedules', `## Schedules as data, on Redis

One process; \`finished\` and the schedules of three queues.

${table(['', 'commands a second', 'CPU, ms a second', 'heap of the process, kB more'], rows)}

${DUE.toLocaleString('en')} schedules that are due at one instant have enqueued their runs after ${took.toFixed(0)} ms: ${Math.round(DUE / took * 1_000).toLocaleString('en')} ticks a second.`)
await app.close()
const stream = client.scanStream({ match: `${prefix}*`, count: 1_000 })
for await (const found of stream) if (found.length > 0) await client.unlink(found)
client.disconnect()
