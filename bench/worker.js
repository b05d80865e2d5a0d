// What does a computing task do to the requests beside it: in a thread, and on the loop? What does a run in a thread cost, beside piscina alone? And what does
// the watch of the event loop cost while nothing happens?
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { Agent, get } from 'node:http'
import { fileURLToPath } from 'node:url'
import { median, section, spawnOne, table } from './report.js'

/** Beside a computing thread, p99 is at most this many times the idle one; a run in a thread is at least at this part of piscina's speed. */
const MOST = 2
const LEAST = 0.8
const modes = { idle: 'idle', thread: 'in a thread', loop: 'on the loop' }

/** Latencies in milliseconds of 200 requests a second, for three seconds. */
async function latencies (port) {
  const agent = new Agent({ keepAlive: true })
  const all = []
  const request = () => new Promise((resolve, reject) => {
    const from = performance.now()
    get({ host: '127.0.0.1', port, agent }, response => {
      response.resume().on('end', () => {
        all.push(performance.now() - from)
        resolve()
      })
    }).on('error', reject)
  })
  const pending = []
  const began = performance.now()
  for (let i = 0; i < 600; i++) {
    const wait = began + i * 5 - performance.now()
    if (wait > 0) await new Promise(resolve => { setTimeout(resolve, wait) })
    pending.push(request())
  }
  await Promise.all(pending)
  agent.destroy()
  return all.sort((one, other) => one - other)
}

const http = { idle: [], thread: [], loop: [] }
for (let round = 0; round < 5; round++) {
  for (const mode in modes) {
    const child = fork(fileURLToPath(new URL('worker-one.js', import.meta.url)), ['http', mode])
    const [port] = await once(child, 'message')
    await latencies(port)
    const found = await latencies(port)
    http[mode].push({ median: found[Math.floor(found.length * 0.5)], p99: found[Math.floor(found.length * 0.99)] })
    child.send('end')
    await once(child, 'exit')
  }
}
const of = (mode, key) => median(http[mode].map(one => one[key]))
const ratio = mode => median(http[mode].map((one, i) => one.p99 / http.idle[i].p99))

const costs = []
for (const [name, title] of [['nothing', 'nothing'], ['millisecond', 'a millisecond of hashes']]) {
  for (const atOnce of [1, 8]) costs.push({ title: `${title}, ${atOnce} at once`, rounds: await spawnOne('worker-one.js', ['cost', name, String(atOnce)]) })
}
const speed = ({ rounds }, one) => median(rounds.map(times => times.piscina / times[one]))
const micro = ({ rounds }, one) => median(rounds.map(times => times[one])).toFixed(1)

const idle = { none: [], service: [] }
for (let round = 0; round < 5; round++) for (const mode in idle) idle[mode].push(await spawnOne('worker-one.js', ['idle', mode]))
const share = mode => median(idle[mode]) / 4_000 * 100

section('worker', `## Work that computes

A task that hashes for 200 ms four times in a second, and 200 requests a second to the same server: medians of 5 processes each, in turn.

${table(['the task', 'median, ms', 'p99, ms', 'p99, idle = 1'], Object.entries(modes).map(([mode, title]) => [title, of(mode, 'median').toFixed(2), of(mode, 'p99').toFixed(2), ratio(mode).toFixed(2)]))}

A run in one thread, beside piscina alone: microseconds, medians of 10 rounds in turn; *speed* is that of piscina = 1. *Queue* is from \`enqueue\` to the end of the run.

${table(['the module does', 'piscina', 'worker()', 'speed', 'queue', 'speed'], costs.map(one => [one.title, micro(one, 'piscina'), micro(one, 'handler'), speed(one, 'handler').toFixed(2), micro(one, 'queue'), speed(one, 'queue').toFixed(2)]))}

The watch of the event loop, while nothing happens: the share of one processor, over four seconds, medians of 5 processes in turn. Without an active run there is no watch.

${table(['', 'CPU, %'], [['no run is active', share('none').toFixed(3)], ['a service waits, and the loop is watched', share('service').toFixed(3)]])}`)
if (ratio('thread') > MOST || costs.some(one => speed(one, 'handler') < LEAST)) process.exitCode = 1
