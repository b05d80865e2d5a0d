// A schedule that runs once, however many processes there are. It needs a Redis, on this machine or at REDIS_URL. Run it in as many terminals as
// you like: each second one of them runs the task, and when you end one, in whatever way, the others go on.
//
//   node dist/example/09-cluster-cron.js
import closeWithGrace from 'close-with-grace'
import Fastify from 'fastify'
import backgroundTasks from 'fastify-background-tasks'
import { bullmq } from 'fastify-background-tasks/bullmq'

const app = Fastify()
await app.register(backgroundTasks, {
  stores: { default: bullmq({ connection: process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379', prefix: 'example' }) }
})

app.addBackgroundTask('every-second', {
  cron: '* * * * * *',
  timezone: 'UTC', // the processes may be in several zones
  cluster: true // one of them runs each tick; without it, each would run all
}, async ({ dueAt, missed }) => {
  const late = missed > 0 ? `, and ${missed} before it that nobody was there for` : ''
  console.log(`process ${process.pid} runs the tick of ${dueAt?.toISOString()}${late}`)
})

closeWithGrace(async () => { await app.close() })
await app.ready()
console.log(`process ${process.pid} is ready`)

// Output of two of them:
// process 101 is ready
// process 101 runs the tick of 2026-01-01T00:00:01.000Z
// process 101 runs the tick of 2026-01-01T00:00:03.000Z
//
// process 102 is ready
// process 102 runs the tick of 2026-01-01T00:00:02.000Z
// process 102 runs the tick of 2026-01-01T00:00:04.000Z
