// A stand-in for NATS, Kafka or Redis streams, so that there is nothing to install.
import { EventEmitter, once } from 'node:events'
import fp from 'fastify-plugin'

export interface Order {
  id: number
  item: string
}

class Broker {
  readonly #orders: Order[] = []
  readonly #events = new EventEmitter()

  get unread (): number { return this.#orders.length }

  publish (order: Order): void {
    this.#orders.push(order)
    this.#events.emit('published')
  }

  /** The orders as they come. Ends when the signal aborts; what has not been read by then stays in the broker. */
  async * subscribe ({ signal }: { signal: AbortSignal }): AsyncGenerator<Order> {
    while (!signal.aborted) {
      const order = this.#orders.shift()
      if (order !== undefined) yield order
      else await once(this.#events, 'published', { signal }).catch(() => {}) // it rejects when the signal aborts
    }
  }
}

declare module 'fastify' {
  interface FastifyInstance { broker: Broker }
}

export default fp(async fastify => {
  fastify.decorate('broker', new Broker())
  fastify.addHook('onClose', async ({ broker, log }) => {
    log.info({ unread: broker.unread }, 'broker closed')
  })
}, { name: 'broker' })
