// A hosted service is started and stopped by hand: `start` is awaited before the app listens, and `stop` when it closes,
// after the tasks declared later have ended. Here: a server of the daytime protocol, and a service that needs it.
import { once } from 'node:events'
import { connect, createServer, type AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import Fastify from 'fastify'
import backgroundTasks from 'fastify-background-tasks'

const app = Fastify()
const daytime = createServer(socket => socket.end('teatime'))

await app.register(backgroundTasks)

app.addBackgroundTask('daytime', {
  async start ({ task, signal }) {
    daytime.listen(0, '127.0.0.1')
    await once(daytime, 'listening', { signal })
    console.log(`${task} is started`)
  },
  async stop ({ task, signal }) {
    daytime.close()
    await once(daytime, 'close', { signal })
    console.log(`${task} is stopped`)
  }
})

const read = async () => await text(connect((daytime.address() as AddressInfo).port, '127.0.0.1'))

app.addBackgroundTask('last-look', async ({ task, signal }) => {
  if (!signal.aborted) await once(signal, 'abort')
  console.log(`${task} reads ${await read()}, and ends`)
})

await app.listen({ port: 0 })
console.log(`the app listens: it is ${await read()}`)
await app.close()
console.log('the app is closed')

// Output:
// daytime is started
// the app listens: it is teatime
// last-look reads teatime, and ends
// daytime is stopped
// the app is closed
