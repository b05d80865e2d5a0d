// A service is one run of a function, from the time the app is ready until it closes.
// Pass its signal to what it waits for: it aborts as soon as close() is called.
import { once } from 'node:events'
import { addAbortSignal, PassThrough } from 'node:stream'
import Fastify from 'fastify'
import backgroundTasks from 'fastify-background-tasks'

const app = Fastify()
const orders = new PassThrough({ objectMode: true })

await app.register(backgroundTasks)

app.addBackgroundTask('handle-orders', async ({ task, signal }) => {
  console.log(`${task} starts`)
  try {
    for await (const order of addAbortSignal(signal, orders)) {
      console.log(`${task} handles ${order}`)
      orders.emit('handled')
    }
  } finally {
    console.log(`${task} ends: ${signal.reason.message}`)
  }
})

app.post<{ Params: { item: string } }>('/orders/:item', async (request, reply) => {
  orders.write(request.params.item)
  return reply.code(202).send()
})

for (const item of ['tea', 'cake']) {
  const handled = once(orders, 'handled')
  await app.inject({ method: 'POST', url: `/orders/${item}` })
  await handled
}

await app.close()
console.log('the app is closed')

// Output:
// handle-orders starts
// handle-orders handles tea
// handle-orders handles cake
// handle-orders ends: The application is closing.
// the app is closed
