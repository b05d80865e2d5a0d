// Metrics for Prometheus, through prom-client: what has happened to the runs, and how things are. GET /metrics gives them.
import Fastify from 'fastify'
import backgroundTasks, { type Run } from 'fastify-background-tasks'
import metrics from 'fastify-background-tasks/metrics'
import { Registry } from 'prom-client'

// In production: the `register` of prom-client, which has the metrics of Node, too.
const registry = new Registry()

const app = Fastify()
await app.register(backgroundTasks)
await app.register(metrics, { registry })

const mails = app.addBackgroundQueue('mails', { retry: { limit: 1, delay: '10ms' } }, async ({ payload }: Run<{ to: string }>) => {
  if (payload.to === 'nobody') throw new Error('there is no such address')
})
const report = app.addBackgroundTask('report', { cron: '0 2 * * *', timezone: 'UTC' }, async () => {})

app.get('/metrics', async (_request, reply) => await reply.type(registry.contentType).send(await registry.metrics()))

await app.listen({ port: 0 })
await mails.enqueueMany([{ payload: { to: 'ada@example.com' } }, { payload: { to: 'nobody' } }])
await mails.drain()
await mails.pause()
await mails.enqueue({ to: 'bob@example.com' })
await report.trigger().finished

const response = await fetch(`${app.listeningOrigin}/metrics`)
const shown = /^background_(runs_total|attempts|queue_runs|health)/
for (const line of (await response.text()).split('\n').filter(line => shown.test(line))) console.log(line)
await app.close()

// Output:
// background_runs_total{task="mails",kind="queue",outcome="succeeded"} 1
// background_runs_total{task="mails",kind="queue",outcome="failed"} 1
// background_runs_total{task="report",kind="timed",outcome="succeeded"} 1
// background_runs_total{task="report",kind="timed",outcome="failed"} 0
// background_attempts_failed_total{task="mails"} 2
// background_attempts_failed_total{task="report"} 0
// background_queue_runs{queue="mails",state="waiting"} 1
// background_queue_runs{queue="mails",state="delayed"} 0
// background_queue_runs{queue="mails",state="active"} 0
// background_queue_runs{queue="mails",state="succeeded"} 1
// background_queue_runs{queue="mails",state="failed"} 1
// background_health{task="mails"} 0
// background_health{task="report"} 0
