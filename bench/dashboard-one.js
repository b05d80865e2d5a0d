// One process of dashboard.js: prints its figures as JSON. Arguments: how many busy tasks, or `overview`; and which application is built first.
import { once } from 'node:events'
import { get } from 'node:http'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout } from 'node:timers/promises'
import Fastify from 'fastify'
import backgroundTasks from 'fastify-background-tasks'
import dashboard from 'fastify-background-tasks/dashboard'
import { median } from './report.js'

const [what, first] = process.argv.slice(2)
console.log(JSON.stringify(what === 'overview' ? await overview() : await rates(Number(what))))
process.exit()

async function build (tasks, options, withDashboard) {
  const app = Fastify()
  app.get('/', async () => ({ hello: 'world' }))
  await app.register(backgroundTasks)
  for (let i = 0; i < tasks; i++) app.addBackgroundTask(`busy-${i}`, options, async ({ signal }) => { await setTimeout(50, undefined, { signal }) })
  if (withDashboard) await app.register(dashboard, { prefix: '/dashboard', authorize: () => true })
  await app.listen({ port: 0, host: '127.0.0.1' })
  return app
}

/**
 * Both applications in one process, in turn: two processes of Node that do the same differ by a tenth and more, for all of their lives. inject(), as over
 * sockets the rate hangs on how the answers happen to be batched.
 */
async function rates (tasks) {
  // Busy: each runs once a second, for 50 ms. They run all the time, beside both applications: what is seen is what a request and a viewer cost more.
  const builds = {
    watched: async () => await build(tasks, { every: 1_000, jitter: 900 }, true),
    plain: async () => await build(0, {}, false)
  }
  const apps = {}
  for (const name of first === 'plain' ? ['plain', 'watched'] : ['watched', 'plain']) apps[name] = await builds[name]()
  const { watched, plain } = apps
  const ratios = { idle: [], viewed: [] }
  const viewer = { request: undefined }
  for (let round = 0; round < 20; round++) {
    const idle = await inTurn(round, async () => await rate(watched), async () => await rate(plain))
    viewer.request = await view(watched)
    const viewed = await inTurn(round, async () => await rate(watched), async () => await rate(plain))
    viewer.request.destroy()
    await setTimeout(50)
    const without = await rate(plain)
    // The first rounds compile.
    if (round < 4) continue
    ratios.idle.push(idle[0] / idle[1])
    // Against the plain application while nobody views.
    ratios.viewed.push(viewed[0] / ((idle[1] + without) / 2))
  }
  return { idle: median(ratios.idle), viewed: median(ratios.viewed) }
}

async function inTurn (round, one, other) {
  if (round % 2 === 0) return [await one(), await other()]
  const second = await other()
  return [await one(), second]
}

/** Requests in 400 ms, by ten clients. */
async function rate (app) {
  const until = performance.now() + 400
  let requests = 0
  await Promise.all(Array.from({ length: 10 }, async () => {
    while (performance.now() < until) {
      await app.inject('/')
      requests++
    }
  }))
  return requests
}

async function view (app) {
  const request = get(`${app.listeningOrigin}/dashboard/api/events`)
  const [response] = await once(request, 'response')
  request.on('error', () => {})
  response.on('error', () => {}).resume()
  await once(response, 'data')
  return request
}

/** How long the overview of ten thousand tasks takes, and for how long at a time it holds the loop, past what the timer itself is late. */
async function overview () {
  const app = await build(10_000, { every: '1h' }, true)
  const times = []
  let held = 0
  for (let i = 0; i < 20; i++) {
    const delay = monitorEventLoopDelay({ resolution: 1 })
    delay.enable()
    await setTimeout(20)
    delay.reset()
    const began = performance.now()
    await app.inject('/dashboard/api/overview')
    times.push(performance.now() - began)
    await setTimeout(5)
    held = Math.max(held, i < 3 ? 0 : delay.max / 1e6)
    delay.disable()
  }
  return { ms: median(times.slice(3)), held }
}
