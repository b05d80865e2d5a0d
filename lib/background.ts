import type { FastifyInstance, FastifyRequest } from 'fastify'
import { isBooted } from './booted.ts'
import { invalid, show } from './check.ts'
import { errorCodes } from './errors.ts'
import type { Reason } from './execution.ts'
import { report } from './report.ts'
import { Responses } from './response.ts'
import type { RunHandle, TaskHandler } from './run.ts'
import { Runs, type Runner } from './runs.ts'
import type { Runtime } from './runtime.ts'

const GRACE = 5_000
const NAME = 'background'

/** avvio's own, which takes a hook at any time, and runs it before all that it has; Fastify's types know only `addHook`. */
interface Closeable { onClose (hook: () => Promise<void>): void }

/**
 * Work that nobody has declared: what `runInBackground` was given, on any instance.
 *
 * It is to end before what it uses is closed, and nobody can tell what that is. So, when the application closes, all of it is awaited
 * before anything is closed: a hook that avvio is given in preClose is the first to run once HTTP has drained. Work that is begun
 * after that is awaited next, in the same way.
 */
export class Backgrounds {
  readonly #runtime: Runtime
  readonly #responses: Responses
  readonly #byOwner = new Map<FastifyInstance, Background>()

  constructor (fastify: FastifyInstance, runtime: Runtime) {
    this.#runtime = runtime
    this.#responses = new Responses(fastify)
    const backgrounds = this
    // Where another plugin's preClose hook fails, ours does not run. What a request leaves behind still has to end before what was opened
    // before its route was declared is closed.
    fastify.addHook('onRoute', function (this: FastifyInstance) { backgrounds.#of(this).addPlace() })
  }

  /** Runs what `fastify.runInBackground` was given. */
  run (owner: unknown, given: readonly unknown[]): RunHandle {
    if (!this.#runtime.has(owner)) throw new errorCodes.FST_BG_INVALID_THIS('runInBackground()', show(owner))
    return this.#of(owner).run(given)
  }

  /** Runs what `request.runInBackground` was given, after the response to that request. */
  runAfter (request: unknown, given: readonly unknown[]): RunHandle {
    if (!isRequest(request) || !this.#runtime.has(request.server)) throw new errorCodes.FST_BG_INVALID_THIS('request.runInBackground()', show(request))
    if (!this.#responses.sees(request)) {
      throw invalid('request.runInBackground() was called in an onRequest hook that was added before fastify-background-tasks was registered, which has not seen the request yet. Register fastify-background-tasks before that.')
    }
    return this.#of(request.server).run(given, request, this.#responses.to(request))
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

/** The background runs of one instance. */
export class Background implements Runner {
  readonly name = NAME
  readonly owner: FastifyInstance
  readonly options: { logLevel: undefined, grace: number } = { logLevel: undefined, grace: GRACE }
  readonly surroundings: Runtime
  readonly #runs: Runs
  /** How many onClose hooks it has at the places where the instance was given routes, or work. */
  #places = 0
  /** Whether the last of them has run. */
  #over = false
  /** Whether a hook stands first that has not run. */
  #awaited = false
  /** Set when the application closes: why, and from when on, its runs are aborted. */
  #ends: { reason: Reason, at: number } | undefined

  constructor (owner: FastifyInstance, runtime: Runtime) {
    this.owner = owner
    this.surroundings = runtime
    this.#runs = new Runs(this)
  }

  get active (): boolean { return this.#runs.size > 0 }

  get down (): boolean { return !this.active }

  /** What runs, by name. */
  get names (): string[] { return this.#runs.names }

  /** Sees to it that its runs end before what was opened until now is closed. For as long as plugins load. */
  addPlace (): void {
    this.#places++
    this.owner.addHook('onClose', async () => {
      await this.surroundings.endBackgrounds()
      this.#over = --this.#places === 0
    })
  }

  /** Runs a handler once; not before `after`. */
  run (given: readonly unknown[], request?: FastifyRequest, after?: Promise<void>): RunHandle {
    const [name, handler] = given.length < 2 ? [NAME, given[0]] : given
    if (typeof name !== 'string' || name.trim() === '') throw invalid(`runInBackground(): the name must be a text that is not empty; received ${show(name)}.`)
    if (typeof handler !== 'function') throw invalid(`runInBackground(): the handler must be a function, and the last argument; received ${show(handler)}.`)
    if (this.#over || this.surroundings.closed) throw new errorCodes.FST_BG_CLOSING(`"${name}" cannot run in the background`)
    if (this.#places === 0 && !isBooted(this.owner)) this.addPlace()

    const log = request?.log ?? this.owner.log
    const { attempt, ended } = this.#runs.launch({
      handler: handler as TaskHandler,
      settled: (attempt, result) => {
        const { outcome } = result
        if (outcome === 'failed') report.backgroundFailed(log, name, attempt, result)
        else if (outcome === 'succeeded') report.backgroundSucceeded(log, name, attempt, result)
        else report.runCutShort(log, name, attempt, result)
      },
      task: name,
      parent: log,
      later: true,
      after,
      always: true
    })
    this.#endInTime()
    return { id: attempt.id, finished: ended }
  }

  runEnded (): void {}

  /** Aborts what runs, and what will, after `grace` milliseconds; has the close wait for it before anything else. */
  shutDown (reason: Reason, grace: number): void {
    this.#ends ??= { reason, at: this.surroundings.clock.now() + grace }
    this.#endInTime()
  }

  /** Aborts whatever runs: the deadline has passed. */
  expire (reason: Reason): void {
    this.#runs.expire(reason)
  }

  /** Resolves when those that are active now have ended. */
  async idle (): Promise<void> {
    await this.#runs.idle()
  }

  /** Resolves when those that are active now have ended, to whether there were any. */
  async drained (): Promise<boolean> {
    if (!this.active) return false
    await this.idle()
    return true
  }

  #endInTime (): void {
    if (this.#ends === undefined) return
    const { reason, at } = this.#ends
    this.#runs.cancel(reason, at - this.surroundings.clock.now())
    if (this.#awaited || !this.active) return
    this.#awaited = true
    ;(this.owner as unknown as Closeable).onClose(async () => {
      this.#awaited = false
      await this.surroundings.endBackgrounds()
    })
  }
}

function isRequest (value: unknown): value is FastifyRequest {
  return typeof value === 'object' && value !== null && 'raw' in value && 'server' in value
}
