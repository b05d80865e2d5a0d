// Does an app get slower by tasks that are idle? Requests per second of a bare Fastify app, and of the same app with a thousand tasks and a
// queue, in turn.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import autocannon from 'autocannon'
import { median, section, table } from './report.js'

const ROUNDS = 15
const SECONDS = 2
const apps = { bare: [], tasks: [] }
/** Below this the idle tasks cost something. */
const LEAST = 0.98

async function load (port, duration) {
  const { requests, errors, non2xx } = await autocannon({ url: `http://127.0.0.1:${port}/`, connections: 10, pipelining: 4, duration })
  if (errors + non2xx > 0) throw new Error(`${errors} errors and ${non2xx} answers that are not 200`)
  return requests.total / duration
}

for (let round = 0; round < ROUNDS; round++) {
  // Fresh processes, both up at once, each first in every other round.
  const names = round % 2 === 0 ? ['bare', 'tasks'] : ['tasks', 'bare']
  const servers = {}
  for (const name of names) {
    const child = fork(fileURLToPath(new URL('http-one.js', import.meta.url)), [name])
    const [port] = await once(child, 'message')
    servers[name] = { child, port }
  }
  // To warm up.
  for (const name of names) await load(servers[name].port, 1)
  for (const name of names) apps[name].push(await load(servers[name].port, SECONDS))
  for (const { child } of Object.values(servers)) {
    child.send('end')
    await once(child, 'exit')
  }
}

const [bare, tasks] = [median(apps.bare), median(apps.tasks)]
// Of each round by itself, as the rounds differ more than the apps do.
const ratio = median(apps.bare.map((one, i) => apps.tasks[i] / one))
section('http', `## HTTP

Requests per second of a bare Fastify app, and of the same app with 500 timed tasks, 500 services and a queue, all idle: ${ROUNDS} rounds of ${SECONDS} seconds each in
turn, on loopback, in fresh processes. The ratio is the median of the rounds' own.

${table(['', 'requests per second, median', 'ratio'], [['bare', bare.toFixed(0), '1'], ['with 1,000 idle tasks and a queue', tasks.toFixed(0), ratio.toFixed(3)]])}`)
if (ratio < LEAST) process.exitCode = 1
