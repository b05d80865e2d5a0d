// The application that `npm start` runs. Stop it with Ctrl-C or SIGTERM: the log shows what ends after what.
import { setTimeout as sleep } from 'node:timers/promises'
import closeWithGrace from 'close-with-grace'
import Fastify from 'fastify'
import backgroundTasks from 'fastify-background-tasks'
import broker, { type Order } from './broker.ts'
import dashboard from './dashboard.ts'
import feed from './feed.ts'
import mails, { schema as mail, type Mail } from './mails.ts'
import metrics from './metrics.ts'
import { openStore } from './store.ts'

// Fastify's own stream writes in the background: on exit the last lines could come out of order.
const app = Fastify({ logger: { stream: process.stdout } })

// Fastify installs no signal handlers, and neither does the plugin. Its shutdownTimeout (8 s) is below the 10 s
// that close-with-grace waits before it ends the process.
closeWithGrace({ logger: app.log }, async ({ signal, err }) => {
  if (err) app.log.error({ err }, 'closing because of an error')
  else app.log.info({ signal }, 'closing because of a signal')
  await app.close()
  app.log.info('closed')
})

// What is registered first is closed last: the service below ends, then the mails, then the feed stops, then the broker closes.
const { store, where } = openStore()
app.log.info(where)
await app.register(backgroundTasks, { stores: store === undefined ? {} : { default: store } })
await app.register(broker)
await app.register(feed)
await app.register(mails)

const handled: Order[] = []

app.addBackgroundTask('handle-orders', async function ({ signal, log }) {
  for await (const order of this.broker.subscribe({ signal })) {
    log.info({ order }, 'order in hand')
    await sleep(1000) // the work; it is not given the signal, so that an order in hand is finished
    handled.push(order)
    this.feed.send(order)
    log.info({ order }, 'order handled')
  }
  log.info({ reason: signal.reason.code }, 'no more orders are taken')
})

let lastId = 0

const schema = {
  body: { type: 'object', required: ['item'], properties: { item: { type: 'string', minLength: 1 } } }
}

app.post<{ Body: { item: string } }>('/orders', { schema }, async (request, reply) => {
  const order = { id: ++lastId, item: request.body.item }
  app.broker.publish(order)
  return reply.code(202).send(order)
})

app.get('/orders', async () => handled)

// The mail is sent later: 202 and the id of its run. When ten thousand wait in memory, or the store cannot be reached, the answer is 503.
app.post<{ Body: Mail }>('/mails', { schema: { body: mail } }, async (request, reply) => {
  return await reply.code(202).send(await app.mails.enqueue(request.body, { reqId: request.id }))
})

app.get('/mails', async () => await app.mails.counts())

app.get('/', async () => ({ try: ['POST /orders { item }', 'GET /orders', 'POST /mails { to }', 'GET /mails', 'GET /tasks', 'GET /health', 'GET /metrics', '/dashboard'] }))

app.get('/tasks', async () => [...app.backgroundTasks].map(({ name, kind, state }) => ({ name, kind, state })))

await app.register(dashboard)
await app.register(metrics)

await app.listen({ port: Number(process.env.PORT ?? 3000), host: process.env.HOST ?? '127.0.0.1' })
