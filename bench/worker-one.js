// One contender of worker.js, in a process of its own.
import { fileURLToPath } from 'node:url'
import Fastify from 'fastify'
import { Piscina } from 'piscina'
import backgroundTasks from 'fastify-background-tasks'
import { worker } from 'fastify-background-tasks/worker'
import { busy } from './worker-job.js'

const job = name => new URL(`./worker-job.js#${name}`, import.meta.url)
const [what, mode] = process.argv.slice(2)
const app = Fastify()
await app.register(backgroundTasks)
await ({ http, cost, idle })[what]()

/** A server beside a task that computes for 200 ms, four times in a second. Tells its port, and ends when it is told to. */
async function http () {
  app.get('/', async () => ({ hello: 'world' }))
  if (mode !== 'idle') app.addBackgroundTask('busy', { every: 250, logLevel: 'silent' }, mode === 'thread' ? worker(job('busy'), { threads: 1 }) : async () => busy())
  await app.listen({ port: 0, host: '127.0.0.1' })
  process.send(app.server.address().port)
  process.once('message', async () => {
    await app.close()
    process.exit()
  })
}

/** Microseconds of a run in one thread: of piscina, of the handler alone, and of a queue's run from enqueue to its end; in turn. */
async function cost () {
  const [name, atOnce, count] = [mode, Number(process.argv[4]), mode === 'nothing' ? 2_000 : 300]
  const handler = worker(job(name), { threads: 1 })
  const pool = new Piscina({ filename: fileURLToPath(job(name)), name, minThreads: 0, maxThreads: 1, idleTimeout: Infinity })
  const queue = app.addBackgroundQueue('queue', { concurrency: atOnce }, handler)
  await app.ready()
  // A run that goes on, whose handler calls the worker.
  const run = await new Promise(resolve => {
    app.addBackgroundTask('run', { every: '1h' }, async run => {
      resolve(run)
      await new Promise(resolve => { run.signal.addEventListener('abort', resolve) })
    }).trigger()
  })
  const lanes = async work => {
    const lane = async () => { for (let i = 0; i < count / atOnce; i++) await work() }
    await Promise.all(Array.from({ length: atOnce }, lane))
  }
  const payload = { n: 1 }
  const contenders = {
    piscina: async () => { await lanes(() => pool.run({ payload })) },
    handler: async () => { await lanes(() => handler.call(app, run)) },
    queue: async () => {
      for (let i = 0; i < count; i++) await queue.enqueue(payload)
      await queue.drain()
    }
  }
  const rounds = []
  for (let round = 0; round < 13; round++) {
    const times = {}
    for (const one in contenders) {
      const from = performance.now()
      await contenders[one]()
      times[one] = (performance.now() - from) / count * 1_000
    }
    // The first ones warm up.
    if (round > 2) rounds.push(times)
  }
  await pool.destroy()
  await app.close()
  console.log(JSON.stringify(rounds))
}

/** Milliseconds of the processor in four seconds in which nothing happens, with or without a service that waits. */
async function idle () {
  if (mode === 'service') app.addBackgroundTask('waits', async ({ signal }) => { await new Promise(resolve => { signal.addEventListener('abort', resolve) }) })
  await app.ready()
  await new Promise(resolve => { setTimeout(resolve, 1_000) })
  const before = process.cpuUsage()
  await new Promise(resolve => { setTimeout(resolve, 4_000) })
  const { user, system } = process.cpuUsage(before)
  await app.close()
  console.log(JSON.stringify((user + system) / 1_000))
}
