// How long do ten thousand payloads take that are enqueued together: against as many calls of enqueue, and against BullMQ's own addBulk, which is no
// transaction? All on one Redis, in turns.
import { randomUUID } from 'node:crypto'
import { Queue } from 'bullmq'
import Fastify from 'fastify'
import { Redis } from 'ioredis'
import backgroundTasks from 'fastify-background-tasks'
import { bullmq } from 'fastify-background-tasks/bullmq'
import { median, section, table } from './report.js'

const url = process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379'
const prefix = `bench-${randomUUID()}`
const COUNT = 10_000
const WARM_UP = 1
const ROUNDS = 7
const payloads = Array.from({ length: COUNT }, (_, n) => ({ to: 'ada@example.com', n }))

const connection = new Redis(url, { maxRetriesPerRequest: null })
const raw = new Queue('raw', { connection, prefix })
const app = Fastify()
await app.register(backgroundTasks, { autostart: false, stores: { default: bullmq({ connection: url, prefix }) } })
const queue = app.addBackgroundQueue('ours', async () => {})
const memory = app.addBackgroundQueue('memory', { store: 'memory', maxSize: COUNT }, async () => {})
await app.ready()
await queue.counts()

const contenders = {
  'BullMQ, addBulk': async () => { await raw.addBulk(payloads.map(data => ({ name: 'raw', data, opts: { jobId: randomUUID() } }))) },
  'BullMQ, enqueueMany': async () => { await queue.enqueueMany(payloads.map(payload => ({ payload }))) },
  'BullMQ, enqueue one by one': async () => { for (const payload of payloads) await queue.enqueue(payload) },
  'BullMQ, enqueue all at once': async () => { await Promise.all(payloads.map(async payload => await queue.enqueue(payload))) },
  'memory, enqueueMany': async () => { await memory.enqueueMany(payloads.map(payload => ({ payload }))) },
  'memory, enqueue one by one': async () => { for (const payload of payloads) await memory.enqueue(payload) }
}
const taken = Object.fromEntries(Object.keys(contenders).map(name => [name, []]))
for (let round = -WARM_UP; round < ROUNDS; round++) {
  for (const [name, work] of Object.entries(contenders)) {
    const before = performance.now()
    await work()
    if (round >= 0) taken[name].push(performance.now() - before)
    await Promise.all([raw.drain(), queue.clear('waiting'), memory.clear('waiting')])
  }
}
const ms = name => median(taken[name])
const times = (a, b) => (ms(a) / ms(b)).toFixed(2)
section('many', `## Ten thousand payloads enqueued together

Medians of ${ROUNDS} turns, to an idle queue.

${table(['', 'ms', 'payloads a second'], Object.keys(contenders).map(name => [name, ms(name).toFixed(0), Math.round(COUNT / ms(name) * 1_000).toLocaleString('en')]))}

\`enqueueMany\` has ${times('BullMQ, addBulk', 'BullMQ, enqueueMany')} times the speed of \`addBulk\`, and ${times('BullMQ, enqueue one by one', 'BullMQ, enqueueMany')} times that of as many calls of \`enqueue\` one after another
(${times('BullMQ, enqueue all at once', 'BullMQ, enqueueMany')} times that of all of them at once).`)
await app.close()
await raw.close()
const keys = await connection.keys(`${prefix}*`)
if (keys.length > 0) await connection.del(keys)
connection.disconnect()
