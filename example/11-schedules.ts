// A schedule for each tenant, which they make, list and delete themselves. In memory the schedules end with the process; with a durable store (08-durable.ts)
// they stay, and all processes run them together.
import Fastify from 'fastify'
import backgroundTasks, { type Run } from 'fastify-background-tasks'

const app = Fastify()
await app.register(backgroundTasks)

const reports = app.addBackgroundQueue('reports', async ({ payload, schedule }: Run<{ tenant: string }>) => {
  console.log(`the report of ${payload.tenant}, by schedule ${schedule}`)
})

interface Body { name: string, every?: string, cron?: string, timezone?: string }

app.put<{ Params: { tenant: string }, Body: Body }>('/tenants/:tenant/schedules', async request => {
  const { tenant } = request.params
  const { name, ...when } = request.body
  return await reports.schedule(`${tenant}:${name}`, { ...when, payload: { tenant } })
})

app.get<{ Params: { tenant: string }, Querystring: { cursor?: string } }>('/tenants/:tenant/schedules', async request => {
  return await reports.schedules({ prefix: `${request.params.tenant}:`, cursor: request.query.cursor })
})

app.delete<{ Params: { tenant: string, name: string } }>('/tenants/:tenant/schedules/:name', async (request, reply) => {
  const { tenant, name } = request.params
  return await reply.code(await reports.unschedule(`${tenant}:${name}`) ? 204 : 404).send()
})

await app.ready()
const put = async (tenant: string, body: Body): Promise<void> => { await app.inject({ method: 'PUT', url: `/tenants/${tenant}/schedules`, body }) }

await put('acme', { name: 'often', every: '100ms' })
await put('acme', { name: 'nightly', cron: '0 2 * * *', timezone: 'Asia/Seoul' })
await put('globex', { name: 'weekly', every: '7d' })

const { schedules } = (await app.inject('/tenants/acme/schedules')).json<{ schedules: Array<{ key: string, every?: number, cron?: string }> }>()
for (const { key, every, cron } of schedules) console.log(key, every ?? cron)

while ((await reports.counts()).succeeded === 0) await new Promise(resolve => { setTimeout(resolve, 10) })
console.log('deleted:', (await app.inject({ method: 'DELETE', url: '/tenants/acme/schedules/often' })).statusCode)
console.log('again:  ', (await app.inject({ method: 'DELETE', url: '/tenants/acme/schedules/often' })).statusCode)
await app.close()

// Output:
// acme:nightly 0 2 * * *
// acme:often 100
// the report of acme, by schedule acme:often
// deleted: 204
// again:   404
