// Runs that survive a crash: they wait in Redis, and several processes work on them. It needs a Redis, on this machine or at REDIS_URL. Run it in
// three terminals:
//
//   node dist/example/08-durable.js            a worker
//   node dist/example/08-durable.js            another worker
//   node dist/example/08-durable.js enqueue    ten pictures
//
// Then end a worker with `kill -9` and its number: within 15 s the other one does again what that had in hand. Nothing is lost. End one with
// Ctrl-C: it finishes what it has in hand.
import { setTimeout } from 'node:timers/promises'
import closeWithGrace from 'close-with-grace'
import Fastify from 'fastify'
import backgroundTasks, { type Run } from 'fastify-background-tasks'
import { bullmq } from 'fastify-background-tasks/bullmq'

const enqueues = process.argv[2] === 'enqueue'
const who = `worker ${process.pid}`

const app = Fastify()
await app.register(backgroundTasks, {
  stores: { default: bullmq({ connection: process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379', prefix: 'example' }) }
})

const pictures = app.addBackgroundQueue('pictures', {
  enabled: !enqueues, // the process that enqueues runs nothing: a web server, say, beside its workers
  concurrency: 2
}, async ({ payload, signal, attempt }: Run<{ picture: number }>) => {
  console.log(`${who}: picture ${payload.picture} begins, attempt ${attempt}`)
  await setTimeout(1_000, undefined, { signal })
  console.log(`${who}: picture ${payload.picture} is done`)
})

closeWithGrace(async () => { await app.close() })
await app.ready()

if (enqueues) {
  for (let picture = 1; picture <= 10; picture++) await pictures.enqueue({ picture })
  console.log('ten pictures are enqueued')
  await app.close()
} else {
  console.log(`${who} waits for pictures`)
}

// Output of a worker that ran alone, and of one that took over:
// worker 101 waits for pictures
// worker 101: picture 1 begins, attempt 1
// worker 101: picture 2 begins, attempt 1
//
// worker 102 waits for pictures
// worker 102: picture 2 begins, attempt 1
// worker 102: picture 1 begins, attempt 1
