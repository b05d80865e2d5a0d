import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { EventEmitter } from 'node:events'

/** Key under which a request has its reply. */
const replyOf = Symbol('fastify-background-tasks.reply')

interface Request extends FastifyRequest {
  [replyOf]: FastifyReply | null
}

/** An emitter of 'close': a response, a socket, or an HTTP/2 stream. */
type Closing = EventEmitter & { destroyed?: boolean }

/** The end of one response, for all its background runs. */
class Ending {
  readonly promise: Promise<void>
  over = false

  constructor (response: Closing, connection: Closing, reply: FastifyReply) {
    let resolve!: () => void
    this.promise = new Promise(_resolve => { resolve = _resolve })
    const end = (): void => {
      this.over = true
      callbacksOf(connection).delete(end)
      resolve()
    }
    // A reply that is sent although its response has not ended was hijacked, such as by an upgrade to a WebSocket: no response will come.
    if (response.destroyed === true || connection.destroyed === true || (reply.sent && !reply.raw.writableEnded)) {
      end()
    } else {
      const { hijack } = reply
      reply.hijack = () => {
        end()
        return hijack.call(reply)
      }
      response.once('close', end)
      callbacksOf(connection).add(end)
    }
  }
}

/** By response: most responses have no background runs. */
const endings = new WeakMap<Closing, Ending>()

/** Callbacks for the close of a connection. One listener calls them all: requests can be pipelined, and Node warns at eleven listeners. */
const closeCallbacks = new WeakMap<Closing, Set<() => void>>()

function callbacksOf (connection: Closing): Set<() => void> {
  let ends = closeCallbacks.get(connection)
  if (ends === undefined) {
    const all = new Set<() => void>()
    connection.once('close', () => { for (const end of all) end() })
    closeCallbacks.set(connection, ends = all)
  }
  return ends
}

/**
 * Knows when the response to a request has been sent. A request has no reference to its reply, so an onRequest hook adds one. An onResponse hook
 * would cost every response some microseconds, and Fastify does not call it when the client has gone.
 */
export class Responses {
  constructor (fastify: FastifyInstance) {
    fastify.decorateRequest(replyOf, null)
    fastify.addHook('onRequest', (request, reply, done) => {
      ;(request as Request)[replyOf] = reply
      done()
    })
  }

  /** Whether it knows the reply of a request. It does not in an onRequest hook that was added before ours. */
  sees (request: FastifyRequest): boolean {
    return replyOf in request && request[replyOf] !== null
  }

  /** Resolves when the response has been sent, or the client has gone. Undefined if that has happened already. */
  to (request: FastifyRequest): Promise<void> | undefined {
    const response: Closing = (request as Request)[replyOf]?.raw as Closing
    let ending = endings.get(response)
    if (ending === undefined) {
      ending = new Ending(response, connectionOf(request), (request as Request)[replyOf] as FastifyReply)
      endings.set(response, ending)
    }
    return ending.over ? undefined : ending.promise
  }
}

/** The connection of a request: a pipelined response that still waits for earlier ones gets no 'close'. With HTTP/2 each request has a stream of its own. */
function connectionOf ({ raw }: FastifyRequest): Closing {
  const { socket, stream = socket } = raw as unknown as { socket: Closing, stream?: Closing }
  return stream
}
