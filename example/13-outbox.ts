// A mail in the same transaction as its order ("outbox"): if the order is rolled back, the mail was never enqueued; if it is committed, the mail is sent, whatever
// crashes. It needs a PostgreSQL, whose address is in POSTGRES_URL, and a Node that pg-boss can live with (22.12 or later):
//
//   docker run --rm -p 5432:5432 -e POSTGRES_PASSWORD=example postgres
//   POSTGRES_URL=postgres://postgres:example@127.0.0.1/postgres node dist/example/13-outbox.js
import Fastify from 'fastify'
import pg from 'pg'
import backgroundTasks, { type Run } from 'fastify-background-tasks'
import { pgBoss } from 'fastify-background-tasks/pg-boss'

const connectionString = process.env['POSTGRES_URL']
if (connectionString === undefined) {
  console.log('This example needs a PostgreSQL: set POSTGRES_URL to its address, such as postgres://postgres:example@127.0.0.1/postgres')
  process.exit()
}

const pool = new pg.Pool({ connectionString })
const app = Fastify()
app.addHook('onClose', async () => { await pool.end() })
await pool.query('CREATE TABLE IF NOT EXISTS example_orders (item text)')

await app.register(backgroundTasks, { stores: { default: pgBoss({ pool, schema: 'example' }) } })

const mails = app.addBackgroundQueue('mails', async ({ payload }: Run<{ text: string }>) => {
  console.log(`mail: ${payload.text}`)
})

app.post<{ Body: { item: string } }>('/orders', async (request, reply) => {
  const { item } = request.body
  const client = await pool.connect()
  try {
    await client.query('BEGIN')
    await client.query('INSERT INTO example_orders VALUES ($1)', [item])
    await mails.enqueue({ text: `your order of ${item} is on its way` }, { tx: client, reqId: request.id })
    if (item === 'soup') throw new Error('we are out of soup')
    await client.query('COMMIT')
  } catch (error) {
    await client.query('ROLLBACK')
    return await reply.code(409).send(error)
  } finally {
    client.release()
  }
  return await reply.code(201).send({ item })
})

for (const item of ['tea', 'soup', 'cake']) {
  const { statusCode } = await app.inject({ method: 'POST', url: '/orders', payload: { item } })
  console.log(`order of ${item}: ${statusCode}`)
  await mails.drain()
}
const { rows } = await pool.query<{ item: string }>('SELECT item FROM example_orders')
console.log(`orders: ${rows.map(({ item }) => item).join(', ')}`)
await pool.query('DROP TABLE example_orders')
await app.close()

// Output:
// order of tea: 201
// mail: your order of tea is on its way
// order of soup: 409
// order of cake: 201
// mail: your order of cake is on its way
// orders: tea, cake
