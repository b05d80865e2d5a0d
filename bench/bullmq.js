// What does the store on BullMQ cost over BullMQ itself? Both on one Redis and in one process, in turns that last a fraction of a second, so that
// what disturbs one disturbs the other.
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { Queue, Worker } from 'bullmq'
import Fastify from 'fastify'
import { Redis } from 'ioredis'
import backgroundTasks from 'fastify-background-tasks'
import { bullmq } from 'fastify-background-tasks/bullmq'
import { median, section, table } from './report.js'

const url = process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379'
const prefix = `bench-${randomUUID()}`
const RUNS = 2_000
const IN_FLIGHT = 20
const WARM_UP = 3
const ROUNDS = 25
const CALLS = 400
const payload = { to: 'ada@example.com', n: 1 }

/** A contender calls `handled` from its handler. Its settings are those that the store gives to BullMQ. */
async function raw (name, concurrency) {
  const connection = new Redis(url, { maxRetriesPerRequest: null })
  const queue = new Queue(name, { connection, prefix })
  const worker = new Worker(name, async () => { contender.handled() }, { connection, prefix, concurrency, lockDuration: 10_000, stalledInterval: 2_500, removeOnComplete: { count: 100, age: 86_400 }, removeOnFail: { count: 1_000 } })
  await worker.waitUntilReady()
  const contender = {
    handled () {},
    add: async () => { await queue.add(name, payload, { jobId: randomUUID() }) },
    pause: async () => { await queue.pause() },
    resume: async () => { await queue.resume() },
    async close () {
      await worker.close()
      await queue.close()
      connection.disconnect()
    }
  }
  return contender
}

async function ours (name, concurrency) {
  const app = Fastify()
  await app.register(backgroundTasks, { stores: { default: bullmq({ connection: url, prefix }) } })
  const queue = app.addBackgroundQueue(name, { concurrency }, async () => { contender.handled() })
  await app.ready()
  const contender = {
    handled () {},
    add: async () => { await queue.enqueue(payload) },
    pause: async () => { await queue.pause() },
    resume: async () => { await queue.resume() },
    close: async () => { await app.close() }
  }
  await queue.counts()
  return contender
}

/** Milliseconds to enqueue RUNS with some under way, and then to process them. */
async function throughput (contender) {
  await contender.pause()
  let toAdd = RUNS
  const began = performance.now()
  await Promise.all(Array.from({ length: IN_FLIGHT }, async () => { while (toAdd-- > 0) await contender.add() }))
  const added = performance.now()
  let left = RUNS
  const ended = new Promise(resolve => { contender.handled = () => { if (--left === 0) resolve() } })
  await contender.resume()
  await ended
  return { enqueued: added - began, processed: performance.now() - added }
}

/** Milliseconds from the call of `add` to the handler, of an idle queue. */
async function latency (contender) {
  const began = performance.now()
  const called = new Promise(resolve => { contender.handled = () => { resolve(performance.now()) } })
  const [at] = await Promise.all([called, contender.add()])
  await new Promise(resolve => { setTimeout(resolve, 5) })
  return { latency: at - began }
}

/** What both measured, in turns: the figures of each, and the ratios of raw to ours in time. They take turns in who begins. */
async function compare (name, concurrency, measure, rounds, warmUp) {
  const contenders = [await raw(`${name}-raw`, concurrency), await ours(`${name}-ours`, concurrency)]
  const all = []
  for (let round = -warmUp; round < rounds; round++) {
    const both = [undefined, undefined]
    for (const i of round % 2 === 0 ? [0, 1] : [1, 0]) both[i] = await measure(contenders[i])
    if (round >= 0) all.push(both)
  }
  for (const { close } of contenders) await close()
  return key => {
    const [rawTimes, ourTimes] = [0, 1].map(i => all.map(both => both[i][key]))
    return { rawTimes, ourTimes, ratio: median(all.map(([raw, ours]) => raw[key] / ours[key])) }
  }
}

const rows = []
for (const concurrency of [1, 10, 100]) {
  const of = await compare(`c${concurrency}`, concurrency, throughput, ROUNDS, WARM_UP)
  for (const key of ['enqueued', 'processed']) {
    const { rawTimes, ourTimes, ratio } = of(key)
    const perSecond = times => Math.round(RUNS * 1_000 / median(times)).toLocaleString('en')
    rows.push([`${key} a second, concurrency ${concurrency}`, perSecond(rawTimes), perSecond(ourTimes), ratio.toFixed(2)])
  }
}
const { rawTimes, ourTimes, ratio } = (await compare('latency', 1, latency, CALLS, 50))('latency')
const at = (times, part) => times.sort((a, b) => a - b)[Math.floor(times.length * part)]
rows.push(['from enqueue to start, idle, median, ms', at(rawTimes, 0.5).toFixed(2), at(ourTimes, 0.5).toFixed(2), ratio.toFixed(2)])
rows.push(['from enqueue to start, idle, 99th percentile, ms', at(rawTimes, 0.99).toFixed(2), at(ourTimes, 0.99).toFixed(2), ''])

const cleaner = new Redis(url)
for await (const keys of cleaner.scanStream({ match: `${prefix}*`, count: 1_000 })) if (keys.length > 0) await cleaner.unlink(keys)
cleaner.disconnect()
await once(cleaner, 'end')

section('bullmq', `## Durable runs, beside raw BullMQ

Runs on one Redis, with a handler that does nothing: ${RUNS.toLocaleString('en')} are enqueued while the queue is paused, ${IN_FLIGHT} under way at a time, and then processed. Both in one
process, in turns: medians of ${ROUNDS} rounds after ${WARM_UP} to warm up. *Ratio* is the median over the rounds of how fast ours is over how fast BullMQ is, so that 1 is
the same, and less is slower.

${table(['', 'raw BullMQ', 'fastify-background-tasks', 'ratio'], rows)}
`)
process.exit()
