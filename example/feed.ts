// A hosted service: a TCP server that sends every handled order to whoever is connected (try `nc`).
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import fp from 'fastify-plugin'

declare module 'fastify' {
  interface FastifyInstance { feed: { send (message: object): void } }
}

export default fp(async fastify => {
  const clients = new Set<Socket>()
  const server = createServer(client => {
    clients.add(client)
    client.on('error', () => {}) // a client that breaks off is no concern of ours
    client.on('close', () => { clients.delete(client) })
  })

  fastify.decorate('feed', {
    send (message: object) {
      for (const client of clients) client.write(`${JSON.stringify(message)}\n`)
    }
  })

  fastify.addBackgroundTask('feed', {
    // the app is ready, and listens, only when this has ended
    async start ({ log, signal }) {
      server.listen(0, '127.0.0.1')
      await once(server, 'listening', { signal })
      log.info({ address: server.address() }, 'feed open')
    },
    // called when the tasks declared after this one have ended
    async stop ({ log, signal }) {
      log.info({ clients: clients.size }, 'feed closing')
      server.close()
      for (const client of clients) client.destroySoon()
      await once(server, 'close', { signal })
      log.info('feed closed')
    }
  })
}, { name: 'feed', dependencies: ['fastify-background-tasks'] })
