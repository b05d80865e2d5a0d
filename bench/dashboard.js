// What the dashboard costs: requests a second of a plain route with it registered and idle, with a viewer, and with a thousand busy tasks, against the
// same application without it; and how long the overview of ten thousand tasks takes.
import { section, spawnOne, table } from './report.js'

/** An even number: V8 treats what is built first better, so each application is the first one in half of them. */
const PROCESSES = 4

const mean = numbers => numbers.reduce((sum, one) => sum + one) / numbers.length

async function ratios (tasks) {
  const all = []
  for (let i = 0; i < PROCESSES; i++) all.push(await spawnOne('dashboard-one.js', [String(tasks), i % 2 === 0 ? 'watched' : 'plain']))
  return { idle: mean(all.map(({ idle }) => idle)), viewed: mean(all.map(({ viewed }) => viewed)) }
}

const [quiet, busy] = [await ratios(0), await ratios(1_000)]
const { ms, held } = await spawnOne('dashboard-one.js', ['overview'])
const rows = [
  ['registered and idle', quiet.idle, 0.98],
  ['with a viewer', quiet.viewed, 0.95],
  ['with a viewer and 1,000 busy tasks', busy.viewed, 0.95]
]
if (rows.some(([, ratio, least]) => ratio < least) || ms > 50 || held > 20) process.exitCode = 1

section('dashboard', `## The dashboard

Requests a second of a route that does nothing, as a part of those of an application without the dashboard, which is in the same process, while nobody views: what the tasks themselves cost is not seen;
both by \`inject()\`, medians of 16 rounds of 0.4 s in turn, and the mean of ${PROCESSES} processes.

${table(['the dashboard is', 'ratio', 'wanted'], rows.map(([title, ratio, least]) => [title, ratio.toFixed(3), `≥ ${least}`]))}

The overview of 10,000 tasks answers in ${ms.toFixed(0)} ms, and holds the event loop for ${held.toFixed(0)} ms at a time at most.`)
