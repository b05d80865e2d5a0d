// One contender of footprint.js: prints what it measured as JSON.
import { Cron } from 'croner'
import Fastify from 'fastify'
import cron from 'node-cron'
import { SimpleIntervalJob, Task, ToadScheduler } from 'toad-scheduler'
import backgroundTasks from 'fastify-background-tasks'
import { Clock } from '../dist/lib/clock.js'
import { Every } from '../dist/lib/schedule.js'

const [, , name, given] = process.argv
const count = Number(given)
const PERIOD = 5_000
const SECONDS = '*/5 * * * * *'
let ticks = 0
const handler = () => { ticks++ }

const contenders = {
  async 'fastify-background-tasks' () {
    const app = Fastify()
    await app.register(backgroundTasks)
    return {
      async start () {
        for (let i = 0; i < count; i++) app.addBackgroundTask(`t${i}`, { every: PERIOD }, handler)
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
  async 'its clock alone' () {
    const clock = new Clock()
    const alarms = []
    return {
      start () {
        const grid = new Every(PERIOD)
        const origin = clock.now()
        for (let i = 0; i < count; i++) {
          const alarm = { due: 0, place: -1, set: false, ring (now) { handler(); clock.set(alarm, grid.next(now, origin)) } }
          alarms.push(alarm)
          clock.set(alarm, grid.next(clock.now(), origin))
        }
      },
      // As the close of the plugin does.
      stop () { clock.clear() }
    }
  },
  async setInterval () {
    const timers = []
    return {
      start () { for (let i = 0; i < count; i++) timers.push(setInterval(() => handler(i), PERIOD)) },
      stop () { for (const timer of timers) clearInterval(timer) }
    }
  },
  async 'toad-scheduler' () {
    const scheduler = new ToadScheduler()
    return {
      start () { for (let i = 0; i < count; i++) scheduler.addSimpleIntervalJob(new SimpleIntervalJob({ milliseconds: PERIOD }, new Task(`t${i}`, handler), { id: `t${i}` })) },
      stop () { scheduler.stop() }
    }
  },
  async croner () {
    const jobs = []
    return {
      start () { for (let i = 0; i < count; i++) jobs.push(new Cron(SECONDS, handler)) },
      stop () { for (const job of jobs) job.stop() }
    }
  },
  async 'node-cron' () {
    const tasks = []
    return {
      start () { for (let i = 0; i < count; i++) tasks.push(cron.schedule(SECONDS, handler)) },
      async stop () { for (const task of tasks) await task.destroy() }
    }
  }
}

let disarmed
const { start, stop } = await contenders[name]()
globalThis.gc()
const before = process.memoryUsage().heapUsed
const began = performance.now()
await start()
const boot = performance.now() - began
globalThis.gc()
const bytes = (process.memoryUsage().heapUsed - before) / count
const cpuBefore = process.cpuUsage()
// Until every task has ticked once more.
const ticked = () => ticks >= count
while (!ticked()) await new Promise(resolve => setTimeout(resolve, 50))
const { user, system } = process.cpuUsage(cpuBefore)
const cpu = (user + system) / ticks
const stopping = performance.now()
await stop()
const stopped = performance.now()
console.log(JSON.stringify({ boot, bytes, cpu, disarmed: (disarmed ?? stopped) - stopping, stop: stopped - stopping }))
process.exit()
