// One contender of footprint.js: prints as JSON what it measured, the memory or the time.
import { Cron } from 'croner'
import Fastify from 'fastify'
import cron from 'node-cron'
import { SimpleIntervalJob, Task, ToadScheduler } from 'toad-scheduler'
import backgroundTasks from 'fastify-background-tasks'
import { Clock } from '../dist/lib/time/clock.js'
import { Every } from '../dist/lib/time/schedule.js'

const [, , name, given, what] = process.argv
/** How many are started and stopped before memory is measured, so that the code is not counted. */
const WARM_UP = 1_000
// Names, as those of tenants, are there before their tasks are.
const names = Array.from({ length: Number(given) }, (_, i) => `t${i}`)
const PERIOD = 5_000
const SECONDS = '*/5 * * * * *'
let ticks = 0
const handler = () => { ticks++ }

/** How a scheduler that is no plugin is run with Fastify: started when the application is ready, and stopped when it closes. */
function inFastify (start, stop) {
  const app = Fastify()
  app.addHook('onReady', async () => { start() })
  app.addHook('onClose', async () => { await stop() })
  return { start: () => app.ready(), stop: () => app.close() }
}

const contenders = {
  async 'fastify-background-tasks' (count) {
    const app = Fastify()
    await app.register(backgroundTasks)
    return {
      async start () {
        for (let i = 0; i < count; i++) app.addBackgroundTask(names[i], { every: PERIOD }, handler)
        await app.ready()
      },
      async stop () {
        // The first timer that the close clears is the one that all schedules wait for.
        const { clearTimeout } = globalThis
        globalThis.clearTimeout = timer => {
          clearTimeout(timer)
          disarmed ??= performance.now()
        }
        await app.close()
        globalThis.clearTimeout = clearTimeout
      }
    }
  },
  async 'its clock alone' (count) {
    const clock = new Clock()
    const alarms = []
    return inFastify(() => {
      const grid = new Every(PERIOD)
      const origin = clock.now()
      for (let i = 0; i < count; i++) {
        const alarm = { place: 0, ring (now) { handler(); clock.set(alarm, grid.next(now, origin)) } }
        alarms.push(alarm)
        clock.set(alarm, grid.next(clock.now(), origin))
      }
    }, () => { clock.clear() })
  },
  async setInterval (count) {
    const timers = []
    return inFastify(() => {
      for (let i = 0; i < count; i++) timers.push(setInterval(() => handler(i), PERIOD))
    }, () => {
      for (const timer of timers) clearInterval(timer)
    })
  },
  async 'toad-scheduler' (count) {
    const scheduler = new ToadScheduler()
    return inFastify(() => {
      for (let i = 0; i < count; i++) scheduler.addSimpleIntervalJob(new SimpleIntervalJob({ milliseconds: PERIOD }, new Task(names[i], handler), { id: names[i] }))
    }, () => { scheduler.stop() })
  },
  async croner (count) {
    const jobs = []
    return inFastify(() => {
      for (let i = 0; i < count; i++) jobs.push(new Cron(SECONDS, handler))
    }, () => {
      for (const job of jobs) job.stop()
    })
  },
  async 'node-cron' (count) {
    const tasks = []
    return inFastify(() => {
      for (let i = 0; i < count; i++) tasks.push(cron.schedule(SECONDS, handler))
    }, async () => {
      for (const task of tasks) await task.destroy()
    })
  }
}

let disarmed

/** Bytes in the heap, when everything is gone that can go. */
function heap () {
  for (let i = 0; i < 5; i++) globalThis.gc()
  return process.memoryUsage().heapUsed
}

/** Bytes that the heap holds more for each. */
async function memory () {
  const first = await contenders[name](WARM_UP)
  await first.start()
  await first.stop()
  const { start } = await contenders[name](names.length)
  const before = heap()
  await start()
  return { bytes: (heap() - before) / names.length }
}

/** Milliseconds to boot and to stop, microseconds a tick: in a process that does each for the first time, as a server does. */
async function time () {
  const { start, stop } = await contenders[name](names.length)
  const began = performance.now()
  await start()
  const boot = performance.now() - began
  globalThis.gc()
  const cpuBefore = process.cpuUsage()
  // Until every task has ticked once more.
  const ticked = () => ticks >= names.length
  while (!ticked()) await new Promise(resolve => setTimeout(resolve, 50))
  const { user, system } = process.cpuUsage(cpuBefore)
  const cpu = (user + system) / ticks
  const stopping = performance.now()
  await stop()
  const stopped = performance.now()
  return { boot, cpu, disarmed: (disarmed ?? stopped) - stopping, stop: stopped - stopping }
}

console.log(JSON.stringify(await (what === 'memory' ? memory() : time())))
process.exit()
