// What need not keep a client waiting is done after the response, or when the client has gone. Unlike a promise that nobody awaits,
// it is in the log when it fails, it is told when the app closes, and it has ended before what it uses is closed.
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify, { type FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import backgroundTasks from 'fastify-background-tasks'

declare module 'fastify' {
  interface FastifyInstance { counter: { count (link: string, options: { signal: AbortSignal }): Promise<void> } }
}

// Here, the log is what you read below.
const app: FastifyInstance = Fastify({
  logger: {
    level: 'error',
    stream: {
      write (line: string) {
        const { task, reqId, msg, err } = JSON.parse(line)
        console.log(`log: ${task}, ${reqId}: ${msg}: ${err.message}`)
      }
    }
  }
})

await app.register(backgroundTasks)

await app.register(fp(async fastify => {
  fastify.decorate('counter', {
    async count (link, { signal }) {
      await sleep(50, undefined, { signal })
      if (link === 'unknown') throw new Error('there is no such link')
      console.log(`counted: ${link}`)
    }
  })
  fastify.addHook('onClose', async () => { console.log('the counter is closed') })
}))

app.get<{ Params: { link: string } }>('/to/:link', async (request, reply) => {
  const { link } = request.params
  request.runInBackground('count-click', async ({ server, signal }) => { await server.counter.count(link, { signal }) })
  return await reply.redirect(`https://example.com/${link}`)
})

for (const link of ['tea', 'unknown']) {
  const { statusCode } = await app.inject(`/to/${link}`)
  console.log(`answered: ${statusCode}`)
  await app.backgroundTasks.drain()
}

// The same without a request; and close() waits for what still runs.
app.runInBackground('count-start', async function ({ signal }) { await this.counter.count('start', { signal }) })
await app.close()
console.log('the app is closed')

// Output:
// answered: 302
// counted: tea
// answered: 302
// log: count-click, req-2: background run failed: there is no such link
// counted: start
// the counter is closed
// the app is closed
