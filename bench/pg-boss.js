// What does the store on pg-boss cost over pg-boss itself? Both on one PostgreSQL and in one process, in turns that last a fraction of a second, so that what disturbs
// one disturbs the other. Raw pg-boss is used as well as it can be: fetched in batches by a loop of its own, woken by notifications, since `boss.work()` looks twice a second.
import { randomUUID } from 'node:crypto'
import Fastify from 'fastify'
import pg from 'pg'
import { PgBoss } from 'pg-boss'
import backgroundTasks from 'fastify-background-tasks'
import { pgBoss } from 'fastify-background-tasks/pg-boss'
import { median, section, table } from './report.js'

const connectionString = process.env.POSTGRES_URL ?? 'postgres://postgres@127.0.0.1:5432/postgres'
const schema = `bench_${randomUUID().slice(0, 8)}`
const RUNS = 1_000
const IN_FLIGHT = 20
const WARM_UP = 2
const ROUNDS = 11
const CALLS = 200
const payload = { to: 'ada@example.com', n: 1 }

/** A contender calls `handled` from its handler. */
async function raw (name, concurrency) {
  const boss = new PgBoss({ connectionString, schema, schedule: false, useListenNotify: true })
  boss.on('error', () => {})
  // The only way to hear its notifications without boss.work().
  const db = boss.getDb()
  const { listen } = db
  let wake = () => {}
  db.listen = async (channel, heard, again) => await listen.call(db, channel, queue => {
    heard(queue)
    wake()
  }, again)
  await boss.start()
  await boss.createQueue(name, { notify: true })
  const state = { over: false, paused: false }
  const loop = (async () => {
    while (!state.over) {
      const jobs = state.paused ? [] : await boss.fetch(name, { batchSize: concurrency })
      if (jobs.length === 0) {
        await new Promise(resolve => {
          const timer = setTimeout(resolve, 500)
          wake = () => {
            clearTimeout(timer)
            resolve()
          }
        })
        continue
      }
      jobs.forEach(() => { contender.handled() })
      await boss.complete(name, jobs.map(({ id }) => id))
    }
  })()
  const contender = {
    handled () {},
    add: async () => { await boss.send(name, payload) },
    async pause () { state.paused = true },
    async resume () {
      state.paused = false
      wake()
    },
    async close () {
      state.over = true
      wake()
      await loop
      await boss.stop({ graceful: false })
    }
  }
  return contender
}

async function ours (name, concurrency) {
  const app = Fastify()
  await app.register(backgroundTasks, { stores: { default: pgBoss({ connectionString, schema }) } })
  // By default the last hundred are kept, and the others deleted, beside the runs. Raw pg-boss deletes in a maintenance of its own, some days later.
  const keep = { succeeded: { age: '1d' } }
  const queue = app.addBackgroundQueue(name, { concurrency, keep }, async () => { contender.handled() })
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
  await new Promise(resolve => { setTimeout(resolve, 20) })
  return { latency: at - began }
}

/** What both measured, in turns: the figures of each, and the ratios of raw to ours in time. They take turns in who begins. */
async function compare (name, concurrency, measure, rounds, warmUp) {
  const contenders = [await raw(`${name}-raw`, concurrency), await ours(`${name}-ours`, concurrency)]
  const all = []
  for (let round = -warmUp; round < rounds; round++) {
    // As autovacuum does about once a minute: without it the plans of raw pg-boss's statements are many times as slow.
    await analyze()
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

/** pg-boss makes indexes anew now and then, which the server refuses beside this. */
async function analyze () {
  try {
    await client.query(`ANALYZE "${schema}".job_common`)
  } catch (error) {
    if (error.code !== '40P01') throw error
    await analyze()
  }
}

const client = new pg.Client({ connectionString })
await client.connect()
const rows = []
for (const concurrency of [1, 10, 100]) {
  const of = await compare(`c${concurrency}`, concurrency, throughput, ROUNDS, WARM_UP)
  for (const key of ['enqueued', 'processed']) {
    const { rawTimes, ourTimes, ratio } = of(key)
    const perSecond = times => Math.round(RUNS * 1_000 / median(times)).toLocaleString('en')
    rows.push([`${key} a second, concurrency ${concurrency}`, perSecond(rawTimes), perSecond(ourTimes), ratio.toFixed(2)])
  }
}
const { rawTimes, ourTimes, ratio } = (await compare('latency', 1, latency, CALLS, 20))('latency')
const at = (times, part) => times.sort((a, b) => a - b)[Math.floor(times.length * part)]
rows.push(['from enqueue to start, idle, median, ms', at(rawTimes, 0.5).toFixed(2), at(ourTimes, 0.5).toFixed(2), ratio.toFixed(2)])
rows.push(['from enqueue to start, idle, 99th percentile, ms', at(rawTimes, 0.99).toFixed(2), at(ourTimes, 0.99).toFixed(2), ''])

await client.query(`DROP SCHEMA "${schema}" CASCADE`)
await client.end()

section('pg-boss', `## Runs in PostgreSQL, beside raw pg-boss

Runs on one PostgreSQL, with a handler that does nothing: ${RUNS.toLocaleString('en')} are enqueued while the queue is paused, ${IN_FLIGHT} under way at a time, and then processed. Both in
one process, in turns: medians of ${ROUNDS} rounds after ${WARM_UP} to warm up. Raw pg-boss is a loop of \`fetch\` and \`complete\` in batches, woken by its notifications.
The table is analyzed before each round, and neither deletes what has succeeded. *Ratio* is the
median over the rounds of how fast ours is over how fast pg-boss is, so that 1 is the same, and less is slower. With a hundred runs at a time pg-boss is ahead: ours
says of each end whose claim it was, whether its key is free, and who waits for it.

${table(['', 'raw pg-boss', 'fastify-background-tasks', 'ratio'], rows)}
`)
process.exit()
