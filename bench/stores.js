// The four stores beside each other: how fast they take and run what does nothing, how soon a run of an idle queue begins, and what the idle queue asks of its server.
// Needs a Redis and a PostgreSQL, each of its own: REDIS_URL and POSTGRES_URL.
import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Fastify from 'fastify'
import { Redis } from 'ioredis'
import pg from 'pg'
import backgroundTasks from 'fastify-background-tasks'
import { bullmq } from 'fastify-background-tasks/bullmq'
import { pgBoss } from 'fastify-background-tasks/pg-boss'
import { median, section, table } from './report.js'

const connection = process.env.REDIS_URL ?? 'redis://127.0.0.1:6379'
const connectionString = process.env.POSTGRES_URL ?? 'postgres://postgres@127.0.0.1:5432/postgres'
const name = `bench_${randomUUID().slice(0, 8)}`
const RUNS = 1_000
const [CONCURRENCY, IN_FLIGHT] = [10, 20]
const [WARM_UP, ROUNDS, CALLS] = [2, 7, 100]
const IDLE_SECONDS = 20
const payload = { to: 'ada@example.com', n: 1 }

const sleep = ms => new Promise(resolve => { setTimeout(resolve, ms) })
const dataDir = mkdtempSync(join(tmpdir(), 'bench-'))
const redis = new Redis(connection)
const postgres = new pg.Client({ connectionString })
await postgres.connect()

/** The stores, and the number of commands that the server of each has had. */
const stores = {
  memory: {},
  embedded: { store: () => pgBoss({ dataDir }) },
  PostgreSQL: {
    store: () => pgBoss({ connectionString, schema: name }),
    // Each statement outside of a transaction is one.
    asked: async () => (await postgres.query('SELECT sum(xact_commit + xact_rollback)::int AS n FROM pg_stat_database WHERE datname = current_database()')).rows[0].n
  },
  Redis: {
    store: () => bullmq({ connection, prefix: name }),
    asked: async () => Number(/total_commands_processed:(\d+)/.exec(await redis.info('stats'))[1])
  }
}

async function measure ({ store, asked }) {
  const app = Fastify()
  await app.register(backgroundTasks, store === undefined ? {} : { stores: { default: store() } })
  let handled = () => {}
  const queue = app.addBackgroundQueue('bench', { concurrency: CONCURRENCY }, async () => { handled() })
  await app.ready()
  await queue.counts()
  const rounds = []
  for (let round = -WARM_UP; round < ROUNDS; round++) {
    await queue.pause()
    let toAdd = RUNS
    const began = performance.now()
    await Promise.all(Array.from({ length: IN_FLIGHT }, async () => { while (toAdd-- > 0) await queue.enqueue(payload) }))
    const added = performance.now()
    let left = RUNS
    const ended = new Promise(resolve => { handled = () => { if (--left === 0) resolve() } })
    await queue.resume()
    await ended
    if (round >= 0) rounds.push({ enqueued: added - began, run: performance.now() - added })
  }
  const latencies = []
  for (let call = 0; call < CALLS; call++) {
    await sleep(10)
    const began = performance.now()
    const called = new Promise(resolve => { handled = () => { resolve(performance.now()) } })
    const [at] = await Promise.all([called, queue.enqueue(payload)])
    latencies.push(at - began)
  }
  await queue.drain()
  // A server process of PostgreSQL that falls idle tells what it did up to ten seconds later.
  await sleep(12_000)
  const before = await asked?.()
  const cpu = process.cpuUsage()
  await sleep(IDLE_SECONDS * 1_000)
  const { user, system } = process.cpuUsage(cpu)
  const commands = asked === undefined ? '' : ((await asked() - before) / IDLE_SECONDS).toFixed(1)
  await app.close()
  const perSecond = key => Math.round(RUNS * 1_000 / median(rounds.map(round => round[key]))).toLocaleString('en')
  return [perSecond('enqueued'), perSecond('run'), median(latencies).toFixed(2), commands, ((user + system) / 10_000 / IDLE_SECONDS).toFixed(2)]
}

const rows = []
for (const [what, store] of Object.entries(stores)) rows.push([what, ...await measure(store)])

await postgres.query(`DROP SCHEMA "${name}" CASCADE`)
const stream = redis.scanStream({ match: `${name}*`, count: 1_000 })
for await (const found of stream) if (found.length > 0) await redis.unlink(found)
rmSync(dataDir, { recursive: true })

section('stores', `## The four stores beside each other

One queue in one process, a handler that does nothing: ${RUNS.toLocaleString('en')} runs are enqueued, ${IN_FLIGHT} at a time, and then run, ${CONCURRENCY} at a time; medians of ${ROUNDS} rounds. *Begins after* is from \`enqueue\` to the
handler of an idle queue, the median of ${CALLS}. *Asked when idle* is how many statements or commands the server has in a second in which nothing happens, and *CPU* what this process takes of a processor then.

${table(['', 'enqueued a second', 'run a second', 'begins after, ms', 'asked when idle', 'CPU when idle, %'], rows)}
`)
process.exit()
