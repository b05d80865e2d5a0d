// One contender of queue.js: prints what it measured as JSON.
import BetterQueue from 'better-queue'
import Bottleneck from 'bottleneck'
import Fastify from 'fastify'
import fastq from 'fastq'
import pLimit from 'p-limit'
import PQueue from 'p-queue'
import backgroundTasks from 'fastify-background-tasks'

const [, , name, what, given] = process.argv
const RUNS = { bottleneck: 10_000, 'better-queue': 20_000 }[name] ?? 100_000
const QUEUED = 1_000_000
const payload = () => ({ to: 'ada@example.com', n: 1 })

// Each gives `add`, which enqueues a payload and says nothing about when it has run; the handler is called with the payload.
const contenders = {
  async 'fastify-background-tasks' (handler, concurrency) {
    const app = Fastify()
    await app.register(backgroundTasks)
    const queue = app.addBackgroundQueue('bench', { concurrency, maxSize: 10_000_000 }, async ({ payload }) => { handler(payload) })
    await app.ready()
    return { add: payload => { queue.enqueue(payload) }, pause: () => queue.pause() }
  },
  fastq (handler, concurrency) {
    const queue = fastq((payload, done) => { handler(payload); done() }, concurrency)
    return { add: payload => { queue.push(payload) }, pause: () => queue.pause() }
  },
  'fastq.promise' (handler, concurrency) {
    const queue = fastq.promise(async payload => { handler(payload) }, concurrency)
    return { add: payload => { queue.push(payload) }, pause: () => queue.pause() }
  },
  'p-limit' (handler, concurrency) {
    const limit = pLimit(concurrency)
    // It cannot be paused: one that never ends holds the others up.
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

/** Microseconds for a run, from enqueue to the end of its handler, of a burst. */
async function speed (concurrency) {
  let left = RUNS
  let done
  const { add } = await contenders[name](() => { if (--left === 0) done() }, concurrency)
  const burst = async () => {
    left = RUNS
    const ended = new Promise(resolve => { done = resolve })
    const began = performance.now()
    // In portions, as requests come.
    for (let i = 0; i < RUNS; i++) {
      add(payload())
      if (i % 100 === 99) await new Promise(resolve => { setImmediate(resolve) })
    }
    await ended
    return (performance.now() - began) * 1_000 / RUNS
  }
  await burst()
  return [await burst(), await burst(), await burst()].sort((a, b) => a - b)[1]
}

/** Bytes for a run that waits. */
async function size () {
  // Global, so that it is not collected.
  globalThis.contender = await contenders[name](() => {}, 1)
  const { add, pause } = globalThis.contender
  await pause()
  globalThis.gc()
  const before = process.memoryUsage().heapUsed
  for (let i = 0; i < QUEUED; i++) {
    add(payload())
    if (i % 100 === 99) await new Promise(resolve => { setImmediate(resolve) })
  }
  globalThis.gc()
  return (process.memoryUsage().heapUsed - before) / QUEUED
}

console.log(JSON.stringify(what === 'speed' ? await speed(Number(given)) : await size()))
process.exit()
