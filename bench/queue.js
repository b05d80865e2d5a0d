// From enqueue to the end of a handler that does nothing, and the memory of a million that wait. Each contender in a process of its own,
// several rounds in turn, so that what else the machine does meets all of them.
import { median, section, spawnOne, table } from './report.js'

const OURS = 'fastify-background-tasks'
/** Those that have what a queue needs besides running functions: retries, priorities, limits, or a store. */
const COMPARABLE = ['p-queue', 'bottleneck', 'better-queue']
const contenders = [OURS, 'fastq, callback', 'fastq.promise', 'fastq.promise, ids, copies', 'p-limit', ...COMPARABLE]
const ROUNDS = 5
const CONCURRENCIES = [1, 10, 100]

let text = `## Queue

A queue in memory, from \`enqueue\` to the end of a handler that does nothing; 100 come in each turn of the event loop. Microseconds a run, of
the processor and of the clock, medians of ${ROUNDS} rounds in processes of their own, in turn. *Ratio* is the processor's time, ours = 1: above 1 is slower
than ours. \`enqueue\` gives a promise and the handler is async, so \`fastq.promise\` is what is like for like among the bare ones; *ids, copies* is the
same with what a queue owes its payloads, written by hand: a UUID, and JSON there and back.
`
for (const concurrency of CONCURRENCIES) {
  const all = Object.fromEntries(contenders.map(name => [name, []]))
  for (let round = 0; round < ROUNDS; round++) {
    for (const name of contenders) {
      // Five rounds of it would take longer than all the others.
      if (name === 'bottleneck' && round > 1) continue
      all[name].push(await spawnOne('queue-one.js', [name, 'speed', String(concurrency)]))
    }
  }
  const of = (name, key) => median(all[name].map(one => one[key]))
  const rows = contenders.map(name => [name, of(name, 'cpu').toFixed(2), of(name, 'wall').toFixed(2), (of(name, 'cpu') / of(OURS, 'cpu')).toFixed(2)])
  text += `\n### Concurrency ${concurrency}\n\n${table(['', 'CPU, µs', 'clock, µs', 'ratio'], rows)}\n`
  for (const name of COMPARABLE) if (of(name, 'cpu') <= of(OURS, 'cpu')) process.exitCode = 1
}

const bytes = {}
for (const name of contenders) bytes[name] = (await spawnOne('queue-one.js', [name, 'size'])).bytes
text += `\n### Memory

1,000,000 queued, each with a payload of an address and a number, which is counted in: bytes each.

${table(['', 'bytes', 'ratio'], contenders.map(name => [name, bytes[name].toFixed(0), (bytes[name] / bytes[OURS]).toFixed(2)]))}`
for (const name of COMPARABLE) if (bytes[name] <= bytes[OURS]) process.exitCode = 1
section('queue', text)
