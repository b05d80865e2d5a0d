// A job over HTTP: POST answers 202 with the job's address, GET says where it is, and a client that wants the result waits for it; no client polls.
import { setTimeout } from 'node:timers/promises'
import Fastify from 'fastify'
import backgroundTasks, { type Run } from 'fastify-background-tasks'

const app = Fastify()
await app.register(backgroundTasks)

const exports = app.addBackgroundQueue('exports', { concurrency: 2 }, async ({ payload, signal, progress }: Run<{ month: string }>) => {
  await setTimeout(50, undefined, { signal })
  progress(0.5)
  await setTimeout(50, undefined, { signal })
  // What the handler returns is kept with the run.
  return { file: `/files/orders-${payload.month}.csv` }
})

app.post<{ Body: { month: string } }>('/exports', async (request, reply) => {
  const { id } = await exports.enqueue(request.body, { reqId: request.id })
  return await reply.code(202).header('location', `/exports/${id}`).send({ id })
})

app.get<{ Params: { id: string } }>('/exports/:id', async (request, reply) => {
  const run = await exports.get(request.params.id)
  if (run === undefined) return await reply.code(404).send({ error: 'no such export' })
  const { state, progress, value } = run
  return { state, progress, result: value }
})

// A client that waits: the answer comes when the export is done. After 30 s it is told to come again (FST_BG_TIMEOUT).
app.get<{ Params: { id: string } }>('/exports/:id/result', async request => {
  const gone = new AbortController()
  request.raw.once('close', () => { gone.abort() })
  const { outcome, value } = await exports.finished(request.params.id, { timeout: '30s', signal: gone.signal })
  return { outcome, result: value }
})

const address = await app.listen({ port: 0 })

const created = await fetch(`${address}/exports`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ month: '2026-11' }) })
const location = created.headers.get('location') ?? ''
console.log('created:', created.status, location.replace(/[\da-f-]{36}/, '<id>'))
console.log('unknown:', (await fetch(`${address}/exports/unknown`)).status)
console.log('result: ', JSON.stringify(await (await fetch(`${address}${location}/result`)).json()))
console.log('later:  ', JSON.stringify(await (await fetch(`${address}${location}`)).json()))
await app.close()

// Output:
// created: 202 /exports/<id>
// unknown: 404
// result:  {"outcome":"succeeded","result":{"file":"/files/orders-2026-11.csv"}}
// later:   {"state":"succeeded","progress":0.5,"result":{"file":"/files/orders-2026-11.csv"}}
