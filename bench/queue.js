// From enqueue to the end of a handler that does nothing, and the memory of a million that wait.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { median, section, spawnOne, table } from './report.js'

const OURS = 'fastify-background-tasks'
/** Those that have what a queue needs besides running functions: retries, priorities, limits, or a store. */
const COMPARABLE = ['p-queue', 'bottleneck', 'better-queue']
const contenders = [OURS, 'fastq, callback', 'fastq.promise', 'fastq.promise, ids, copies', 'p-limit', ...COMPARABLE]
const CONCURRENCIES = [1, 10, 100]
const ROUNDS = 31
const WARM_UP = 5

/** Bursts of all contenders, in turns, so that what disturbs one disturbs all. Each is the first as often as the others, and has a heap of its own. */
async function bursts (concurrency) {
  const children = contenders.map(name => fork(fileURLToPath(new URL('queue-one.js', import.meta.url)), [name, 'speed', String(concurrency)]))
  const all = Object.fromEntries(contenders.map(name => [name, []]))
  for (let round = 0; round < WARM_UP + ROUNDS; round++) {
    for (let i = 0; i < contenders.length; i++) {
      const turn = (i + round) % contenders.length
      children[turn].send('burst')
      const [measured] = await once(children[turn], 'message')
      if (round >= WARM_UP) all[contenders[turn]].push(measured)
    }
  }
  for (const child of children) child.kill()
  return all
}

let text = `## Queue

A queue in memory, from \`enqueue\` to the end of a handler that does nothing; 100 come in each turn of the event loop. Each in a process of its own,
in bursts of a fraction of a second, in turn: microseconds a run, of the processor and of the clock, medians of ${ROUNDS} rounds. *Ratio* is the median of each round's ratio of
the processor's time, ours = 1: above 1 is slower than ours. \`enqueue\` gives a promise and the handler is async, so \`fastq.promise\` is what is like
for like among the bare ones; *ids, copies* is the same with what a queue owes its payloads, written by hand: a UUID, and JSON there and back.
`
for (const concurrency of CONCURRENCIES) {
  const all = await bursts(concurrency)
  const of = (name, key) => median(all[name].map(one => one[key]))
  const ratioOf = name => median(all[name].map((one, round) => one.cpu / all[OURS][round].cpu))
  const rows = contenders.map(name => [name, of(name, 'cpu').toFixed(2), of(name, 'wall').toFixed(2), ratioOf(name).toFixed(2)])
  text += `\n### Concurrency ${concurrency}\n\n${table(['', 'CPU, µs', 'clock, µs', 'ratio'], rows)}\n`
  for (const name of COMPARABLE) if (ratioOf(name) <= 1) process.exitCode = 1
}

const bytes = {}
for (const name of contenders) bytes[name] = (await spawnOne('queue-one.js', [name, 'size'])).bytes
text += `\n### Memory

1,000,000 queued, each with a payload of an address and a number, which is counted in: bytes each.

${table(['', 'bytes', 'ratio'], contenders.map(name => [name, bytes[name].toFixed(0), (bytes[name] / bytes[OURS]).toFixed(2)]))}`
for (const name of COMPARABLE) if (bytes[name] <= bytes[OURS]) process.exitCode = 1
section('queue', text)
