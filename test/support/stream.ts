import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import type { FastifyInstance } from 'fastify'

/** Gives the app a stream of server-sent events that never ends; resolves with the response of a client that reads it. */
export async function streaming (app: FastifyInstance): Promise<IncomingMessage> {
  app.get('/events', (_request, reply) => {
    reply.hijack()
    reply.raw.writeHead(200, { 'content-type': 'text/event-stream' })
    reply.raw.write('data: hello\n\n')
  })
  const address = await app.listen({ port: 0 })
  const [response] = await once(get(`${address}/events`), 'response') as [IncomingMessage]
  response.on('error', () => {})
  await once(response, 'data')
  return response
}
