import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Socket } from 'node:net'
import { isBooted } from './booted.ts'
import { invalid, show } from './check.ts'
import type { Timer } from './clock.ts'
import { errorCodes } from './errors.ts'
import type { Reason } from './execution.ts'
import { report } from './report.ts'
import type { RunHandle, TaskHandler } from './run.ts'
import { Runs, type Runner } from './runs.ts'
import type { Runtime } from './runtime.ts'

const GRACE = 5_000
const NAME = 'background'

/** On a request: what waits for its response to be sent; `true` once it has been. */
const responded = Symbol('fastify-background-tasks.responded')

interface Request extends FastifyRequest {
  [responded]: (() => void) | true | null
}

/** avvio's own, which takes a hook at any time; Fastify's types know only `addHook`, which does not after `listen()`. */
interface Closeable { onClose (hook: () => Promise<void>): void }

/** Work that nobody has declared: what `runInBackground` was given, on any instance. */
export class Backgrounds {
  readonly #runtime: Runtime
  readonly #byOwner = new Map<FastifyInstance, Background>()

  constructor (fastify: FastifyInstance, runtime: Runtime) {
    this.#runtime = runtime
    const backgrounds = this
    // What a request leaves behind must end before what its route uses is closed. That was opened before the route was declared, so now is
    // the time for a hook that runs before that closes.
    fastify.addHook('onRoute', function (this: FastifyInstance) { backgrounds.#of(this).addHook() })
    fastify.decorateRequest(responded, null)
    fastify.addHook('onResponse', (request, _reply, done) => {
      const waiting = (request as Request)[responded]
      ;(request as Request)[responded] = true
      if (typeof waiting === 'function') waiting()
      done()
    })
  }

  /** Runs what `fastify.runInBackground` was given. */
  run (owner: unknown, given: readonly unknown[]): RunHandle {
    if (!this.#runtime.has(owner)) throw new errorCodes.FST_BG_INVALID_THIS('runInBackground()', show(owner))
    return this.#of(owner).run(given, undefined, undefined)
  }

  /** Runs what `request.runInBackground` was given, after the response to that request. */
  runAfter (request: unknown, given: readonly unknown[]): RunHandle {
    if (typeof request !== 'object' || request === null || !(responded in request)) throw new errorCodes.FST_BG_INVALID_THIS('request.runInBackground()', show(request))
    const asked = request as Request
    return this.#of(asked.server).run(given, asked, responseTo(asked))
  }

  #of (owner: FastifyInstance): Background {
    let background = this.#byOwner.get(owner)
    if (background === undefined) {
      background = new Background(owner, this.#runtime)
      this.#byOwner.set(owner, background)
      this.#runtime.addBackground(background)
    }
    return background
  }
}

/** Resolves when the response has been sent; or when the client has gone, as no onResponse hook runs then. Undefined if that has been. */
function responseTo (request: Request): Promise<void> | undefined {
  const before = request[responded]
  if (before === true) return undefined
  // Not the request's own 'close', which comes when its body has been read. Over HTTP/2 a client goes by closing a stream.
  const { socket, stream = socket } = request.raw as { socket?: Socket, stream?: Socket }
  if (stream?.destroyed === true) return undefined
  return new Promise(resolve => {
    const end = (): void => {
      stream?.removeListener('close', end)
      resolve()
    }
    stream?.once('close', end)
    request[responded] = () => {
      if (typeof before === 'function') before()
      end()
    }
  })
}

/** The background runs of one instance. */
export class Background implements Runner {
  readonly name = NAME
  readonly owner: FastifyInstance
  readonly options: { logLevel: undefined, onGiveUp: 'log', grace: number } = { logLevel: undefined, onGiveUp: 'log', grace: GRACE }
  readonly surroundings: Runtime
  readonly #runs: Runs
  /** How many of its onClose hooks have not run. */
  #hooks = 0
  /** Whether the last of them has. */
  #over = false
  #reason: Reason | undefined
  #grace: Timer | undefined

  constructor (owner: FastifyInstance, runtime: Runtime) {
    this.owner = owner
    this.surroundings = runtime
    this.#runs = new Runs(this)
  }

  get down (): boolean { return this.#runs.size === 0 }

  get active (): boolean { return this.#runs.size > 0 }

  /** Sees to it that its runs end before whatever was opened until now is closed. */
  addHook (): void {
    this.#hooks++
    const hook = async (): Promise<void> => {
      await this.surroundings.endOf(this)
      this.#over = --this.#hooks === 0
    }
    if (isBooted(this.owner)) (this.owner as unknown as Closeable).onClose(hook)
    else this.owner.addHook('onClose', hook)
  }

  run (given: readonly unknown[], request: FastifyRequest | undefined, after: Promise<void> | undefined): RunHandle {
    const [name, handler] = given.length < 2 ? [NAME, given[0]] : given
    if (typeof name !== 'string' || name.trim() === '') throw invalid(`runInBackground(): the name must be a text that is not empty; received ${show(name)}.`)
    if (typeof handler !== 'function') throw invalid(`runInBackground(): the handler must be a function, and the last argument; received ${show(handler)}.`)
    if (this.#over || this.surroundings.closed) throw new errorCodes.FST_BG_CLOSING(`"${name}" cannot run in the background`)
    if (this.#hooks === 0) this.addHook()

    const log = request?.log ?? this.owner.log
    const execution = this.#runs.launch({
      handler: handler as TaskHandler,
      settled: (attempt, result) => {
        const { outcome } = result
        if (outcome === 'failed') report.backgroundFailed(log, name, attempt, result)
        else if (outcome === 'succeeded') report.backgroundSucceeded(log, name, attempt, result)
        else report.runCutShort(log, name, attempt, result)
      },
      task: name,
      parent: request?.log,
      later: true,
      after,
      always: true
    })
    if (this.#reason !== undefined) execution.abort(this.#reason)
    return { id: execution.attempt.id, finished: execution.ended }
  }

  runEnded (): void {}

  shutDown (reason: Reason, grace: number): void {
    this.#grace ??= this.surroundings.clock.after(grace, () => { this.expire(reason) })
  }

  expire (reason: Reason): void {
    this.#grace?.cancel()
    this.#reason = reason
    this.#runs.expire(reason)
  }

  /** Resolves when those that are active now have ended. */
  async idle (): Promise<void> {
    await this.#runs.idle()
  }

  async drained (): Promise<boolean> {
    if (!this.active) return false
    await this.idle()
    return true
  }
}
