// One app of dashboard.js, in a process of its own: says its port, and then whatever it is asked.
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout } from 'node:timers/promises'
import Fastify from 'fastify'
import backgroundTasks from 'fastify-background-tasks'
import dashboard from 'fastify-background-tasks/dashboard'

const [kind, tasks = '0'] = process.argv.slice(2)
const app = Fastify()
app.get('/', async () => ({ hello: 'world' }))
await app.register(backgroundTasks)
// Busy: each runs once a second, for 50 ms.
for (let i = 0; i < Number(tasks); i++) app.addBackgroundTask(`busy-${i}`, kind === 'many' ? { every: '1h' } : { every: 1_000, jitter: 900 }, async ({ signal }) => { await setTimeout(50, undefined, { signal }) })
if (kind !== 'none') await app.register(dashboard, { prefix: '/dashboard', authorize: () => true })
await app.ready()
await app.listen({ port: 0, host: '127.0.0.1' })
process.send(app.server.address().port)

process.on('message', async what => {
  if (what === 'overview') {
    // How long the overview takes, and for how long at a time it holds the loop, past what the timer itself is late.
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
    process.send({ times: times.slice(3), held })
  } else if (what === 'cpu') {
    const { user, system } = process.cpuUsage()
    process.send(user + system)
  } else {
    await app.close()
    process.exit()
  }
})
