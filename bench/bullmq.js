// What does the store on BullMQ cost over BullMQ itself? Both on the same Redis, in processes of their own, in turns.
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { median, section, table } from './report.js'

const contenders = ['raw BullMQ', 'fastify-background-tasks']
const ROUNDS = Number(process.env['ROUNDS'] ?? 7)
const url = process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379'
const run = promisify(execFile)
const one = fileURLToPath(new URL('bullmq-one.js', import.meta.url))

/** What each contender measured, in each round: they take turns in who begins. */
async function rounds (what) {
  const measured = Object.fromEntries(contenders.map(name => [name, []]))
  for (let round = 0; round < ROUNDS; round++) {
    for (const name of round % 2 === 0 ? contenders : [...contenders].reverse()) {
      const { stdout } = await run(process.execPath, [one, name, url, what], { timeout: 300_000 })
      measured[name].push(JSON.parse(stdout.trim().split('\n').at(-1)))
    }
  }
  return measured
}

/** The median of the ratios of the rounds: what disturbs a round disturbs both. */
function ratioOf (measured, key) {
  const [raw, ours] = contenders.map(name => measured[name])
  return median(ours.map((one, round) => one[key] / raw[round][key]))
}

const rows = []
for (const concurrency of ['1', '10', '100']) {
  const measured = await rounds(concurrency)
  for (const key of ['enqueued', 'processed']) {
    const [raw, ours] = contenders.map(name => median(measured[name].map(one => one[key])))
    rows.push([`${key}, concurrency ${concurrency}`, Math.round(raw).toLocaleString('en'), Math.round(ours).toLocaleString('en'), ratioOf(measured, key).toFixed(2)])
  }
}
const measured = await rounds('latency')
for (const key of ['p50', 'p99']) {
  const [raw, ours] = contenders.map(name => median(measured[name].map(one => one[key])))
  rows.push([`from enqueue to start, idle, ${key}, ms`, raw.toFixed(2), ours.toFixed(2), ratioOf(measured, key).toFixed(2)])
}

section('bullmq', `## Durable runs, beside raw BullMQ

Runs a second on one Redis, with a handler that does nothing: enqueued with 20 under way, then processed. Medians of ${ROUNDS} rounds in which
both take turns; *ratio* is the median of the rounds' ratios.

${table(['', ...contenders, 'ratio'], rows)}
`)
