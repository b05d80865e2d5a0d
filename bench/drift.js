// How late is the last of 400 ticks of 10 ms, with other work in the loop? All contenders run in one process at the same time, in
// several rounds, so that each has the same noise. A tick that was dropped or burst shows in the count.
import Fastify from 'fastify'
import { SimpleIntervalJob, Task, ToadScheduler } from 'toad-scheduler'
import backgroundTasks from 'fastify-background-tasks'
import { median, section, table } from './report.js'

const PERIOD = 10
const TICKS = 400
const ROUNDS = 7

/** Counts ticks and keeps when the last of them came. */
function counter () {
  const began = performance.now()
  let count = 0
  let late
  return {
    tick () {
      if (++count === TICKS) late = performance.now() - began - TICKS * PERIOD
    },
    get late () { return late },
    get count () { return count }
  }
}

const contenders = {
  async 'fastify-background-tasks' () {
    const app = Fastify()
    await app.register(backgroundTasks, { autostart: false })
    let seen
    const task = app.addBackgroundTask('tick', { every: PERIOD }, ({ missed }) => {
      for (let i = 0; i <= missed; i++) seen.tick()
    })
    await app.ready()
    return {
      start () { seen = counter(); task.start(); return seen },
      stop: () => app.close()
    }
  },
  async setInterval () {
    let timer
    return {
      start () { const seen = counter(); timer = setInterval(() => seen.tick(), PERIOD); return seen },
      stop () { clearInterval(timer) }
    }
  },
  async 'setTimeout chain' () {
    let timer
    return {
      start () {
        const seen = counter()
        const next = () => { timer = setTimeout(() => { seen.tick(); next() }, PERIOD) }
        next()
        return seen
      },
      stop () { clearTimeout(timer) }
    }
  },
  async 'toad-scheduler' () {
    const scheduler = new ToadScheduler()
    return {
      start () {
        const seen = counter()
        scheduler.addSimpleIntervalJob(new SimpleIntervalJob({ milliseconds: PERIOD }, new Task('tick', () => seen.tick())))
        return seen
      },
      stop () { scheduler.stop() }
    }
  }
}

/** Other work: 2 ms of it, 50 times a second. */
function work () {
  const until = performance.now() + 2
  while (performance.now() < until);
}

const late = Object.fromEntries(Object.keys(contenders).map(name => [name, []]))
for (let round = 0; round < ROUNDS; round++) {
  const ready = await Promise.all(Object.entries(contenders).map(async ([name, make]) => [name, await make()]))
  const load = setInterval(work, 20)
  const seen = ready.map(([name, { start }]) => [name, start()])
  await new Promise(resolve => {
    const check = setInterval(() => {
      if (seen.some(([, { late }]) => late === undefined)) return
      clearInterval(check)
      resolve()
    }, 50)
  })
  clearInterval(load)
  for (const [name, { late: ms }] of seen) late[name].push(ms)
  for (const [, { stop }] of ready) await stop()
}

const rows = Object.entries(late).map(([name, all]) => [name, median(all).toFixed(1), Math.max(...all).toFixed(1)])
section('drift', `## Drift

${TICKS} ticks of ${PERIOD} ms while other work takes 2 ms, 50 times a second: by how many milliseconds the last tick is late, over ${ROUNDS} rounds.

${table(['', 'median, ms', 'worst, ms'], rows)}`)
if (median(late['fastify-background-tasks']) > 3) process.exitCode = 1
