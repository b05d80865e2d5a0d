import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { EventEmitter } from 'node:events'

/** On a request: its reply. */
const replyOf = Symbol('fastify-background-tasks.reply')

interface Request extends FastifyRequest {
  [replyOf]: FastifyReply | null
}

/** What closes: a response, when it has been sent or its client has gone; and a socket, or a stream of HTTP/2. */
type Closing = EventEmitter & { destroyed?: boolean }

/** The end of one response, for all who wait for it. */
class Ending {
  readonly promise: Promise<void>
  over = false

  constructor (response: Closing, connection: Closing) {
    let resolve!: () => void
    this.promise = new Promise(_resolve => { resolve = _resolve })
    const end = (): void => {
      this.over = true
      leavingOf(connection).delete(end)
      resolve()
    }
    if (response.destroyed === true || connection.destroyed === true) {
      end()
    } else {
      response.once('close', end)
      leavingOf(connection).add(end)
    }
  }
}

/** By response, as most have none. */
const endings = new WeakMap<Closing, Ending>()

/** Who is to hear that a connection has closed. One listener for all of them: requests can be pipelined, and Node warns of eleven. */
const leaving = new WeakMap<Closing, Set<() => void>>()

function leavingOf (connection: Closing): Set<() => void> {
  let ends = leaving.get(connection)
  if (ends === undefined) {
    const all = new Set<() => void>()
    connection.once('close', () => { for (const end of all) end() })
    leaving.set(connection, ends = all)
  }
  return ends
}

/**
 * Tells when the response to a request has been sent. A request has no way to its reply, so a hook has to show it: an onRequest hook, as
 * one for onResponse would cost every response of the server some microseconds, and hears nothing when the client has gone.
 */
export class Responses {
  constructor (fastify: FastifyInstance) {
    fastify.decorateRequest(replyOf, null)
    fastify.addHook('onRequest', (request, reply, done) => {
      ;(request as Request)[replyOf] = reply
      done()
    })
  }

  /** Whether it knows the reply to a request: not in an onRequest hook that was added before this one. */
  sees (request: FastifyRequest): boolean {
    return replyOf in request && request[replyOf] !== null
  }

  /** Resolves when the response has been sent, or the client has gone. Undefined if that has been. */
  to (request: FastifyRequest): Promise<void> | undefined {
    const response: Closing = (request as Request)[replyOf]?.raw as Closing
    let ending = endings.get(response)
    if (ending === undefined) {
      ending = new Ending(response, connectionOf(request))
      endings.set(response, ending)
    }
    return ending.over ? undefined : ending.promise
  }
}

/** A response that waits its turn behind those before it on the same socket does not hear that it closes. Over HTTP/2 each has a stream of its own. */
function connectionOf ({ raw }: FastifyRequest): Closing {
  const { socket, stream = socket } = raw as unknown as { socket: Closing, stream?: Closing }
  return stream
}
