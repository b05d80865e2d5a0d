// Does an app get slower by tasks that are idle? A bare Fastify app, the same with the plugin and no task, and with a thousand tasks and a
// queue, in turn.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import autocannon from 'autocannon'
import { median, section, table } from './report.js'

const SETS = 7
const ROUNDS = 6
const names = ['bare', 'plugin', 'tasks']
const titles = { bare: 'bare', plugin: 'with the plugin', tasks: 'with 1,000 idle tasks and a queue' }
/** Below this the idle tasks cost something. */
const LEAST = 0.98

/** Requests per second, and microseconds of the server's processor for each. */
async function load ({ child, port }, duration) {
  const cpu = async () => {
    child.send('cpu')
    const [used] = await once(child, 'message')
    return used
  }
  const before = await cpu()
  const { requests, errors, non2xx } = await autocannon({ url: `http://127.0.0.1:${port}/`, connections: 10, pipelining: 4, duration })
  if (errors + non2xx > 0) throw new Error(`${errors} errors and ${non2xx} answers that are not 200`)
  return { rate: requests.total / duration, cpu: (await cpu() - before) / requests.total }
}

const all = { bare: [], plugin: [], tasks: [] }
for (let set = 0; set < SETS; set++) {
  const servers = {}
  for (const name of names) {
    const child = fork(fileURLToPath(new URL('http-one.js', import.meta.url)), [name])
    const [port] = await once(child, 'message')
    servers[name] = { child, port }
  }
  // To warm up.
  for (const name of names) await load(servers[name], 2)
  for (let round = 0; round < ROUNDS; round++) {
    // Each is the first as often as the others.
    for (let i = 0; i < names.length; i++) {
      const name = names[(i + round) % names.length]
      all[name].push(await load(servers[name], 1))
    }
  }
  for (const { child } of Object.values(servers)) {
    child.send('end')
    await once(child, 'exit')
  }
}

const of = (name, key) => median(all[name].map(one => one[key]))
// Of each round by itself, as the rounds differ more than the apps do.
const ratioOf = (name, key) => median(all[name].map((one, i) => one[key] / all.bare[i][key]))
const ratio = ratioOf('tasks', 'rate')
section('http', `## HTTP

A bare Fastify app, and the same app with 500 timed tasks, 500 services and a queue, all idle: ${ROUNDS} rounds of a second each in turn, on loopback,
${SETS} times in fresh processes. The route does nothing. Each ratio is the median of the rounds' own. The server's processor time for a request is what other work
on the machine disturbs least.

${table(['', 'requests per second', 'ratio', 'CPU a request, µs', 'ratio'], names.map(name => [titles[name], of(name, 'rate').toFixed(0), ratioOf(name, 'rate').toFixed(3), of(name, 'cpu').toFixed(1), ratioOf(name, 'cpu').toFixed(3)]))}`)
if (ratio < LEAST) process.exitCode = 1
