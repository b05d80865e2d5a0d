// One contender of bullmq.js: prints what it measured as JSON. Raw BullMQ, set up as the store sets it up, or the store.
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { Queue, Worker } from 'bullmq'
import Fastify from 'fastify'
import { Redis } from 'ioredis'
import backgroundTasks from 'fastify-background-tasks'
import { bullmq } from 'fastify-background-tasks/bullmq'

const [, , name, url, given] = process.argv
const RUNS = 6_000
const IN_FLIGHT = 20
const payload = { to: 'ada@example.com', n: 1 }
const prefix = `bench-${randomUUID()}`

// Each gives `add`, which resolves when Redis has taken the run in; `work`, which begins to take them; and `close`.
const contenders = {
  async 'raw BullMQ' (handler, concurrency) {
    const connection = new Redis(url, { maxRetriesPerRequest: null })
    const queue = new Queue('bench', { connection, prefix })
    await queue.waitUntilReady()
    let worker
    return {
      add: async () => { await queue.add('bench', payload, { jobId: randomUUID() }) },
      async work () {
        worker = new Worker('bench', async () => { handler() }, { connection, prefix, concurrency, lockDuration: 10_000, stalledInterval: 2_500, removeOnComplete: { count: 100, age: 86_400 }, removeOnFail: { count: 1_000 } })
        await worker.waitUntilReady()
      },
      async close () {
        await worker.close()
        await queue.close()
        connection.disconnect()
      }
    }
  },
  async 'fastify-background-tasks' (handler, concurrency) {
    const app = Fastify()
    await app.register(backgroundTasks, { autostart: false, stores: { default: bullmq({ connection: url, prefix }) } })
    const queue = app.addBackgroundQueue('bench', { concurrency }, async () => { handler() })
    await app.ready()
    await queue.counts()
    return { add: async () => { await queue.enqueue(payload) }, work: async () => { await queue.start() }, close: async () => { await app.close() } }
  }
}

/** Runs a second: enqueued with some under way, and processed. */
async function throughput (concurrency) {
  let left = RUNS
  let done
  const ended = new Promise(resolve => { done = resolve })
  const { add, work, close } = await contenders[name](() => { if (--left === 0) done() }, concurrency)
  let toAdd = RUNS
  let began = performance.now()
  await Promise.all(Array.from({ length: IN_FLIGHT }, async () => { while (toAdd-- > 0) await add() }))
  const enqueued = RUNS / (performance.now() - began) * 1_000
  began = performance.now()
  await work()
  await ended
  const processed = RUNS / (performance.now() - began) * 1_000
  await close()
  return { enqueued, processed }
}

/** Milliseconds from the call of `add` to the handler, of an idle queue: the median and the 99th percentile. */
async function latency () {
  let started
  const { add, work, close } = await contenders[name](() => { started() }, 1)
  await work()
  const times = []
  for (let i = 0; i < 300; i++) {
    const called = new Promise(resolve => { started = resolve })
    const began = performance.now()
    await Promise.all([add(), called])
    times.push(performance.now() - began)
    await new Promise(resolve => { setTimeout(resolve, 5) })
  }
  await close()
  times.sort((a, b) => a - b)
  return { p50: times[Math.floor(times.length / 2)], p99: times[Math.floor(times.length * 0.99)] }
}

const measured = given === 'latency' ? await latency() : await throughput(Number(given))
const cleaner = new Redis(url)
for await (const keys of cleaner.scanStream({ match: `${prefix}*`, count: 1_000 })) if (keys.length > 0) await cleaner.unlink(keys)
cleaner.disconnect()
await once(cleaner, 'end')
console.log(JSON.stringify(measured))
process.exit()
