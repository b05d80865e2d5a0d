import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { EventEmitter } from 'node:events'

/** On a request: how it ends, as far as anyone has asked. */
const ending = Symbol('fastify-background-tasks.ending')

interface Request extends FastifyRequest {
  [ending]: Ending | null
}

/** What closes when the client goes. */
type Connection = EventEmitter & { destroyed?: boolean }

/** Waits for the end of one request, for all who ask. */
class Ending {
  readonly promise: Promise<void>
  readonly end: () => void
  over = false

  constructor (connection?: Connection) {
    let resolve!: () => void
    this.promise = new Promise(_resolve => { resolve = _resolve })
    this.end = () => {
      this.over = true
      if (connection !== undefined) listeners(connection).delete(this.end)
      resolve()
    }
    if (connection === undefined || connection.destroyed === true) this.end()
    else listeners(connection).add(this.end)
  }
}

const past = new Ending()

/** Who is to hear that a connection has closed. One listener for all of them: requests can be pipelined, and Node warns of eleven. */
const waiting = new WeakMap<Connection, Set<() => void>>()

function listeners (connection: Connection): Set<() => void> {
  let ends = waiting.get(connection)
  if (ends === undefined) {
    const all = new Set<() => void>()
    connection.once('close', () => { for (const end of all) end() })
    waiting.set(connection, ends = all)
  }
  return ends
}

/** Tells when the response to a request has been sent. A request has no way to its reply, so a hook has to tell. */
export class Responses {
  constructor (fastify: FastifyInstance) {
    fastify.decorateRequest(ending, null)
    fastify.addHook('onResponse', (request, _reply, done) => {
      const asked = request as Request
      asked[ending]?.end()
      asked[ending] = past
      done()
    })
  }

  /** Whether it sees the response to a request: not to one of a plugin that was registered before this one. */
  sees (request: FastifyRequest): boolean {
    return ending in request
  }

  /** Resolves when the response has been sent; or when the client has gone, as no onResponse hook runs then. Undefined if that has been. */
  to (request: FastifyRequest): Promise<void> | undefined {
    const asked = request as Request
    asked[ending] ??= new Ending(connectionOf(request))
    return asked[ending].over ? undefined : asked[ending].promise
  }
}

function connectionOf ({ raw }: FastifyRequest): Connection {
  // Over HTTP/2 a client goes by closing a stream.
  const { socket, stream = socket } = raw as { socket?: Connection, stream?: Connection }
  // Not the request's own 'close', which comes when its body has been read; but where there is no real socket, as with inject(), it comes
  // when the request is aborted, and else not at all.
  return stream?.destroyed === undefined ? raw : stream
}
