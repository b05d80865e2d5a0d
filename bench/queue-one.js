// One contender of queue.js, in a process of its own: measures a burst whenever it is told to, or prints how much a run that waits takes.
import { randomUUID } from 'node:crypto'
import BetterQueue from 'better-queue'
import Bottleneck from 'bottleneck'
import Fastify from 'fastify'
import fastq from 'fastq'
import pLimit from 'p-limit'
import PQueue from 'p-queue'
import backgroundTasks from 'fastify-background-tasks'

const [, , name, what, given] = process.argv
/** How many runs are a burst: a fraction of a second, and of the slow ones fewer, as they would take minutes. */
const RUNS = { bottleneck: 100, 'better-queue': 2_000 }[name] ?? 20_000
const QUEUED = 1_000_000
/** How many come in one turn of the event loop, as requests do. */
const PORTION = 100
// Each text is one of its own, as a payload's are.
const payload = i => ({ to: `ada${i}@example.com`, n: i })

// Each gives `add`, which enqueues a payload. The handler is called with the payload, in an async function unless the name says callback.
const contenders = {
  async 'fastify-background-tasks' (handler, concurrency) {
    const app = Fastify()
    await app.register(backgroundTasks)
    const queue = app.addBackgroundQueue('bench', { concurrency, maxSize: 10_000_000 }, async ({ payload }) => { handler(payload) })
    await app.ready()
    return { add: payload => { queue.enqueue(payload) }, pause: () => queue.pause() }
  },
  'fastq, callback' (handler, concurrency) {
    const queue = fastq((payload, done) => { handler(payload); done() }, concurrency)
    return { add: payload => { queue.push(payload) }, pause: () => queue.pause() }
  },
  'fastq.promise' (handler, concurrency) {
    const queue = fastq.promise(async payload => { handler(payload) }, concurrency)
    return { add: payload => { queue.push(payload) }, pause: () => queue.pause() }
  },
  // What a queue like ours does to each payload besides, written by hand: an id, and copies through JSON.
  'fastq.promise, ids, copies' (handler, concurrency) {
    const queue = fastq.promise(async ({ json }) => { handler(JSON.parse(json)) }, concurrency)
    return { add: payload => { queue.push({ id: randomUUID(), json: JSON.stringify(payload) }) }, pause: () => queue.pause() }
  },
  'p-limit' (handler, concurrency) {
    const limit = pLimit(concurrency)
    // It cannot be paused: some that never end hold the others up.
    return { add: payload => { limit(async () => { handler(payload) }) }, pause: () => { for (let i = 0; i < concurrency; i++) limit(() => new Promise(() => {})) } }
  },
  'p-queue' (handler, concurrency) {
    const queue = new PQueue({ concurrency })
    return { add: payload => { queue.add(async () => { handler(payload) }) }, pause: () => queue.pause() }
  },
  bottleneck (handler, concurrency) {
    const limiter = new Bottleneck({ maxConcurrent: concurrency })
    return { add: payload => { limiter.schedule(async () => { handler(payload) }) }, pause: () => { for (let i = 0; i < concurrency; i++) limiter.schedule(() => new Promise(() => {})) } }
  },
  'better-queue' (handler, concurrency) {
    const queue = new BetterQueue((payload, done) => { handler(payload); done() }, { concurrent: concurrency })
    return { add: payload => { queue.push(payload) }, pause: () => queue.pause() }
  }
}

const turn = () => new Promise(resolve => { setImmediate(resolve) })

async function addAll (add, count) {
  for (let i = 0; i < count; i++) {
    add(payload(i))
    if (i % PORTION === PORTION - 1) await turn()
  }
}

/** Measures bursts: microseconds for a run, from enqueue to the end of its handler, of the clock and of the processor. */
async function speed (concurrency) {
  let left
  let done
  const { add } = await contenders[name](() => { if (--left === 0) done() }, concurrency)
  process.on('message', async () => {
    left = RUNS
    const ended = new Promise(resolve => { done = resolve })
    const cpuBefore = process.cpuUsage()
    const began = performance.now()
    await addAll(add, RUNS)
    await ended
    const wall = (performance.now() - began) * 1_000 / RUNS
    const { user, system } = process.cpuUsage(cpuBefore)
    process.send({ wall, cpu: (user + system) / RUNS })
  })
}

/** Bytes for a run that waits. */
async function size () {
  // Global, so that it is not collected.
  globalThis.contender = await contenders[name](() => {}, 1)
  const { add, pause } = globalThis.contender
  await pause()
  await turn()
  globalThis.gc()
  const before = process.memoryUsage().heapUsed
  await addAll(add, QUEUED)
  globalThis.gc()
  return { bytes: (process.memoryUsage().heapUsed - before) / QUEUED }
}

if (what === 'speed') {
  await speed(Number(given))
} else {
  console.log(JSON.stringify(await size()))
  process.exit()
}
