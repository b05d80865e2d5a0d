// A periodic task runs on a fixed grid: a slow run does not shift it, and what falls due meanwhile is skipped, not run beside
// it. Here the run due at 400 ms takes 500 ms, so that the ticks at 600 ms and 800 ms find it at work.
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify from 'fastify'
import backgroundTasks from 'fastify-background-tasks'

const app = Fastify()
await app.register(backgroundTasks)

let started: number | undefined
let runs = 0

const purge = app.addBackgroundTask('purge-sessions', { every: '200ms', immediate: true }, async ({ dueAt, signal }) => {
  started ??= Number(dueAt)
  console.log(`run ${++runs} was due ${Math.round((Number(dueAt) - started) / 200) * 200} ms after the start`)
  if (runs === 3) await sleep(500, undefined, { signal })
  if (runs === 5) void app.close()
})

app.addHook('onClose', async () => {
  console.log(`${purge.stats.succeeded} succeeded, ${purge.stats.skipped} skipped`)
})

await app.ready()

// Output:
// run 1 was due 0 ms after the start
// run 2 was due 200 ms after the start
// run 3 was due 400 ms after the start
// run 4 was due 1000 ms after the start
// run 5 was due 1200 ms after the start
// 5 succeeded, 2 skipped
