// One contender of queue.js: prints what it measured as JSON.
import { randomUUID } from 'node:crypto'
import BetterQueue from 'better-queue'
import Bottleneck from 'bottleneck'
import Fastify from 'fastify'
import fastq from 'fastq'
import pLimit from 'p-limit'
import PQueue from 'p-queue'
import backgroundTasks from 'fastify-background-tasks'

const [, , name, what, given] = process.argv
// Enough to last, and no more: the slow ones would take minutes.
const RUNS = { bottleneck: 2_000, 'better-queue': 10_000 }[name] ?? 100_000
const BURSTS = { bottleneck: 2, 'better-queue': 3 }[name] ?? 7
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

/** Microseconds for a run, from enqueue to the end of its handler: of the clock, and of the processor, which others on the machine disturb less. */
async function speed (concurrency) {
  let left = RUNS
  let done
  const { add } = await contenders[name](() => { if (--left === 0) done() }, concurrency)
  const burst = async () => {
    left = RUNS
    const ended = new Promise(resolve => { done = resolve })
    const cpuBefore = process.cpuUsage()
    const began = performance.now()
    await addAll(add, RUNS)
    await ended
    const wall = (performance.now() - began) * 1_000 / RUNS
    const { user, system } = process.cpuUsage(cpuBefore)
    return { wall, cpu: (user + system) / RUNS }
  }
  // To warm up.
  await burst()
  const bursts = []
  for (let i = 0; i < BURSTS; i++) bursts.push(await burst())
  const middle = key => bursts.map(burst => burst[key]).sort((a, b) => a - b)[Math.floor(BURSTS / 2)]
  return { wall: middle('wall'), cpu: middle('cpu') }
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

console.log(JSON.stringify(what === 'speed' ? await speed(Number(given)) : await size()))
process.exit()
