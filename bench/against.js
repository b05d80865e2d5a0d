// Is this checkout as fast as another? Both are measured in turns in one run: node bench/against.js ../other, where the other is a clone that has
// been built. Prints medians, and the ratio of this one to the other in what is measured: above 1 is slower or larger than it was.
import { execFile, fork } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import Fastify from 'fastify'
import { median, table, WITHOUT_CODE } from './report.js'

/** Processes, each of which has both checkouts: the same code in two processes differs by a tenth and more, as V8 and the machine treat them, for all of their lives. */
const PROCESSES = 6
/** Rounds of each process, both checkouts in turn. */
const ROUNDS = 9
const WARM_UP = 3
const RUNS = { queue: 20_000, bullmq: 1_000 }
const TICKS = 100

/** What a child measures each time it is told to. `root` is the folder of one of the two checkouts. */
const measures = {
  async queue (root, concurrency) { return await burst(await open(root, {}, { concurrency, maxSize: 1_000_000 }), RUNS.queue, 100) },
  async bullmq (root, concurrency) {
    const { bullmq } = await load(root, './bullmq')
    const prefix = `bench-${randomUUID()}`
    return await burst(await open(root, { default: bullmq({ connection: process.env.REDIS_URL ?? 'redis://127.0.0.1:6379', prefix }) }, { concurrency }), RUNS.bullmq, 20)
  },
  /** A hundred tasks that tick each 10 ms: how late the last tick is, and the processor's time. */
  async time (root) {
    const { default: backgroundTasks } = await load(root, '.')
    const app = Fastify()
    await app.register(backgroundTasks, { autostart: false })
    let left
    let done
    for (let i = 0; i < 100; i++) app.addBackgroundTask(`tick-${i}`, { every: 10 }, ({ missed }) => { if ((left -= 1 + missed) <= 0) done() })
    await app.ready()
    return async () => {
      left = TICKS * 100
      const ended = new Promise(resolve => { done = resolve })
      const began = performance.now()
      await Promise.all([...app.backgroundTasks].map(task => task.start()))
      await ended
      const late = performance.now() - began - TICKS * 10
      await Promise.all([...app.backgroundTasks].map(task => task.stop()))
      return { late }
    }
  }
}

/** An entry of a checkout. Where it is, its package.json says: files move. */
async function load (root, entry) {
  const { exports } = JSON.parse(readFileSync(new URL('package.json', root), 'utf8'))
  return await import(new URL(exports[entry].default, root))
}

async function open (root, stores, options) {
  const { default: backgroundTasks } = await load(root, '.')
  const app = Fastify()
  await app.register(backgroundTasks, { stores })
  const contender = { handled () {} }
  contender.queue = app.addBackgroundQueue(`bench-${options.concurrency}`, options, async () => { contender.handled() })
  await app.ready()
  await contender.queue.counts()
  return contender
}

async function burst (contender, runs, portion) {
  return async () => {
    let left = runs
    const ended = new Promise(resolve => { contender.handled = () => { if (--left === 0) resolve() } })
    const began = performance.now()
    for (let i = 0; i < runs; i += portion) {
      const all = Array.from({ length: portion }, (_, n) => contender.queue.enqueue({ to: `ada${i + n}@example.com`, n }))
      if (portion < 100) await Promise.all(all)
      else await new Promise(resolve => { setImmediate(resolve) })
    }
    await ended
    return { wall: (performance.now() - began) * 1_000 / runs }
  }
}

if (process.send !== undefined) {
  const [, , what, concurrency, ...folders] = process.argv
  const both = []
  for (const root of folders) both.push(await measures[what](new URL(root), Number(concurrency)))
  process.on('message', async i => {
    const before = process.cpuUsage()
    const measured = await both[i]()
    const { user, system } = process.cpuUsage(before)
    process.send({ ...measured, cpu: (user + system) / (RUNS[what] ?? TICKS * 100) })
  })
  process.send('ready')
} else {
  const [, , other, ...named] = process.argv
  if (other === undefined) throw new Error('Name the other checkout: node bench/against.js ../other [footprint time queue bullmq]')
  const roots = [fileURLToPath(new URL('..', import.meta.url)), resolve(other)]
  const wanted = what => named.length === 0 || named.includes(what)
  const rows = []
  const report = (what, both, digits = 2) => {
    const [ours, theirs] = [0, 1].map(i => median(both.map(round => round[i])))
    rows.push([what, ours.toFixed(digits), theirs.toFixed(digits), median(both.map(([now, before]) => now / before)).toFixed(3)])
    console.error(rows.at(-1).join('  '))
  }

  const turns = async (what, concurrency = '', processes = PROCESSES) => {
    const all = []
    for (let n = 0; n < processes; n++) {
      // Which is loaded first may matter, too.
      const order = n % 2 === 0 ? [0, 1] : [1, 0]
      const child = fork(fileURLToPath(import.meta.url), [what, String(concurrency), ...order.map(i => pathToFileURL(`${roots[i]}/`).href)], { execArgv: ['--max-old-space-size=4096'] })
      await once(child, 'message')
      for (let round = -WARM_UP; round < ROUNDS; round++) {
        const both = []
        for (const i of round % 2 === 0 ? [0, 1] : [1, 0]) {
          child.send(order.indexOf(i))
          both[i] = (await once(child, 'message'))[0]
        }
        if (round >= 0) all.push(both)
      }
      child.kill()
    }
    for (const key of Object.keys(all[0][0])) report(`${what} ${concurrency} ${key}${key === 'late' ? ', ms' : ', µs'}`, all.map(both => both.map(one => one[key])))
  }

  if (wanted('footprint')) {
    for (const [count, rounds] of [[10_000, 9], [100_000, 3]]) {
      const all = []
      for (let round = 0; round < rounds; round++) {
        const both = []
        for (const i of round % 2 === 0 ? [0, 1] : [1, 0]) {
          const one = {}
          for (const what of ['memory', 'time']) {
            const flags = ['--expose-gc', '--max-old-space-size=8192', ...what === 'memory' ? WITHOUT_CODE : []]
            const { stdout } = await promisify(execFile)(process.execPath, [...flags, `${roots[i]}/bench/footprint-one.js`, 'fastify-background-tasks', String(count), what], { timeout: 300_000 })
            Object.assign(one, JSON.parse(stdout.trim().split('\n').at(-1)))
          }
          both[i] = one
        }
        all.push(both)
      }
      for (const key of ['boot', 'bytes', 'cpu', 'stop']) report(`footprint ${count.toLocaleString('en')} ${key}`, all.map(both => both.map(one => one[key])), 1)
    }
  }
  if (wanted('time')) await turns('time', '', 4)
  if (wanted('queue')) for (const concurrency of [1, 10, 100]) await turns('queue', concurrency)
  if (wanted('bullmq')) for (const concurrency of [1, 10, 100]) await turns('bullmq', concurrency, 4)
  console.log(table(['', 'this checkout', 'the other', 'ratio'], rows))
}
