// What the dashboard costs: requests a second of a plain route with it registered and idle, with a viewer, and with a thousand busy tasks, against the
// same application without it; and how long the overview of ten thousand tasks takes.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { get } from 'node:http'
import { fileURLToPath } from 'node:url'
import autocannon from 'autocannon'
import { median, section, table } from './report.js'

const SETS = Number(process.env.SETS ?? 5)
const ROUNDS = Number(process.env.ROUNDS ?? 6)

async function start (...args) {
  const child = fork(fileURLToPath(new URL('dashboard-one.js', import.meta.url)), args)
  const [port] = await once(child, 'message')
  const end = async () => {
    child.send('end')
    await once(child, 'exit')
  }
  return { child, port, end }
}

async function rate ({ port }, duration) {
  const { requests, errors, non2xx } = await autocannon({ url: `http://127.0.0.1:${port}/`, connections: 10, pipelining: 4, duration })
  if (errors + non2xx > 0) throw new Error(`${errors} errors and ${non2xx} answers that are not 200`)
  return requests.total / duration
}

async function view ({ port }) {
  const [response] = await once(get(`http://127.0.0.1:${port}/dashboard/api/events`), 'response')
  response.on('error', () => {}).resume()
  await once(response, 'data')
}

/** Each with the same application without a dashboard: the median of the rounds' ratios. */
const pairs = [
  { title: 'registered and idle', args: ['idle', '0'], against: ['none', '0'], least: 0.98 },
  { title: 'with a viewer', args: ['viewed', '0'], against: ['none', '0'], viewer: true, least: 0.95 },
  { title: 'with a viewer and 1,000 busy tasks', args: ['viewed', '1000'], against: ['none', '1000'], viewer: true, least: 0.95 }
]
const rows = []
for (const { title, args, against, viewer = false, least } of pairs) {
  const ratios = []
  for (let set = 0; set < SETS; set++) {
    const [one, other] = [await start(...args), await start(...against)]
    if (viewer) await view(one)
    for (const server of [one, other]) await rate(server, 1)
    for (let round = 0; round < ROUNDS; round++) {
      const order = round % 2 === 0 ? [one, other] : [other, one]
      const rates = new Map()
      for (const server of order) rates.set(server, await rate(server, 1))
      ratios.push(rates.get(one) / rates.get(other))
    }
    await one.end()
    await other.end()
  }
  const ratio = median(ratios)
  rows.push([title, ratio.toFixed(3), `≥ ${least}`])
  if (ratio < least) process.exitCode = 1
}

const many = await start('many', '10000')
many.child.send('overview')
const [{ times, held }] = await once(many.child, 'message')
await many.end()
if (median(times) > 50 || held > 20) process.exitCode = 1

section('dashboard', `## The dashboard

Requests a second of a route that does nothing, as a part of those of the same application without the dashboard: ${ROUNDS} rounds of a second each in turn, ${SETS} times in fresh processes.

${table(['the dashboard is', 'ratio', 'wanted'], rows)}

The overview of 10,000 tasks answers in ${median(times).toFixed(0)} ms, and holds the event loop for ${held.toFixed(0)} ms at a time at most.`)
