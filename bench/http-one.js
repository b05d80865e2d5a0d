// One app of http.js, in a process of its own: says its port, and ends when it is told to.
import Fastify from 'fastify'
import backgroundTasks from 'fastify-background-tasks'

const app = Fastify()
app.get('/', async () => ({ hello: 'world' }))
if (process.argv[2] === 'tasks') {
  await app.register(backgroundTasks)
  // Idle: the first tick of the timed ones is an hour away, and the services wait for the end.
  for (let i = 0; i < 500; i++) app.addBackgroundTask(`timed-${i}`, { every: '1h' }, async () => {})
  for (let i = 0; i < 500; i++) {
    app.addBackgroundTask(`service-${i}`, async ({ signal }) => {
      await new Promise(resolve => { signal.addEventListener('abort', resolve) })
    })
  }
  app.addBackgroundQueue('queue', async () => {})
}
await app.listen({ port: 0, host: '127.0.0.1' })
process.send(app.server.address().port)
process.on('message', async () => {
  await app.close()
  process.exit()
})
