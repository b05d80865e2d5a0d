// One app of http.js, in a process of its own: says its port, and then how much of the processor it has used whenever it is asked.
import Fastify from 'fastify'
import backgroundTasks from 'fastify-background-tasks'

const app = Fastify()
app.get('/', async () => ({ hello: 'world' }))
if (process.argv[2] !== 'bare') await app.register(backgroundTasks)
if (process.argv[2] === 'tasks') {
  // Idle: the first tick of the timed ones is an hour away, and the services wait for the end.
  for (let i = 0; i < 500; i++) app.addBackgroundTask(`timed-${i}`, { every: '1h' }, async () => {})
  for (let i = 0; i < 500; i++) {
    app.addBackgroundTask(`service-${i}`, async ({ signal }) => {
      await new Promise(resolve => { signal.addEventListener('abort', resolve) })
    })
  }
  app.addBackgroundQueue('queue', async () => {})
}
// All boot in the same way. One of which nothing at all was asked before listen() answers a sixth faster on Node 20: any plugin, hook or
// ready() makes that difference, and none of them is ours.
await app.ready()
await app.listen({ port: 0, host: '127.0.0.1' })
process.send(app.server.address().port)
process.on('message', async what => {
  if (what === 'cpu') {
    const { user, system } = process.cpuUsage()
    process.send(user + system)
  } else {
    await app.close()
    process.exit()
  }
})
