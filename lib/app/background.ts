import type { FastifyBaseLogger, FastifyInstance, FastifyRequest } from 'fastify'
import { checkHandler, invalid, show } from '../common/check.ts'
import { errorCodes, type Reason } from '../common/errors.ts'
import { report } from '../common/log.ts'
import { type ActiveRun, activeTrace, type Attempt, Handle, type RunHandle, type RunHost, Runs, type TaskContext, type TaskHandler } from '../run/index.ts'
import { Responses } from './response.ts'

const GRACE = 5_000
const NAME = 'background'

/** What background runs use of the application. */
export interface BackgroundHost extends RunHost {
  /** Whether the plugin's own onClose has ended. */
  readonly closed: boolean
  /** Whether `instance` belongs to this application. */
  has (instance: unknown): instance is FastifyInstance
  isBooted (owner: FastifyInstance): boolean
  /** Adds the background runs of one more instance, for close to end. */
  addBackground (background: BackgroundRuns): void
  /** Calls `hook` before anything of the application is closed. Returns false if it is too soon for that. */
  runFirstOnClose (hook: () => Promise<void>): boolean
  /** Waits for all background runs, at most until the shutdown deadline. */
  endBackgrounds (): Promise<void>
}

/**
 * `runInBackground` of all instances.
 *
 * A background run must end before what it uses is closed, and the plugin cannot know what that is. So close awaits all of them before it closes
 * anything: a hook that is added in preClose is the first to run once HTTP has drained. Close awaits runs that begin after that next, in the same
 * way.
 */
export class RunInBackground {
  readonly #host: BackgroundHost
  readonly #responses: Responses
  readonly #byOwner = new Map<FastifyInstance, BackgroundRuns>()

  constructor (fastify: FastifyInstance, host: BackgroundHost) {
    this.#host = host
    this.#responses = new Responses(fastify)
    const backgrounds = this
    // If another plugin's preClose hook fails, ours does not run. Background runs of a route must still end before what was opened before the
    // declaration of that route is closed.
    fastify.addHook('onRoute', function (this: FastifyInstance) { backgrounds.#of(this).addHook() })
  }

  /** `fastify.runInBackground`. */
  run (owner: unknown, given: readonly unknown[]): RunHandle {
    if (!this.#host.has(owner)) throw new errorCodes.FST_BG_INVALID_THIS('runInBackground()', show(owner))
    return this.#of(owner).run(given)
  }

  /** `request.runInBackground`: runs after the response to that request. */
  runAfter (request: unknown, given: readonly unknown[]): RunHandle {
    if (!isRequest(request) || !this.#host.has(request.server)) throw new errorCodes.FST_BG_INVALID_THIS('request.runInBackground()', show(request))
    if (!this.#responses.sees(request)) {
      throw invalid('request.runInBackground() was called in an onRequest hook that was added before fastify-background-tasks was registered, which has not seen the request yet. Register fastify-background-tasks before that.')
    }
    return this.#of(request.server).run(given, request, this.#responses.to(request))
  }

  #of (owner: FastifyInstance): BackgroundRuns {
    let background = this.#byOwner.get(owner)
    if (background === undefined) {
      background = new BackgroundRuns(owner, this.#host)
      this.#byOwner.set(owner, background)
      this.#host.addBackground(background)
    }
    return background
  }
}

/** The background runs of one instance. */
export class BackgroundRuns implements TaskContext {
  readonly name = NAME
  readonly kind = 'background'
  readonly owner: FastifyInstance
  readonly options: { logLevel: undefined, grace: number } = { logLevel: undefined, grace: GRACE }
  readonly host: BackgroundHost
  readonly #runs: Runs
  /** The number of onClose hooks that have not run: one for each route, and one for work before the boot. */
  #hooks = 0
  /** Whether the last of these hooks has run. */
  #over = false
  /** Whether an avvio hook that awaits the runs has not run yet. */
  #awaited = false
  /** Set when the application closes: the reason and the time at which the runs abort. */
  #ends: { reason: Reason, at: number } | undefined

  constructor (owner: FastifyInstance, host: BackgroundHost) {
    this.owner = owner
    this.host = host
    this.#runs = new Runs(this)
  }

  get active (): boolean { return this.#runs.size > 0 }

  get isDown (): boolean { return !this.active }

  /** The active runs, as they are shown. */
  get activeRuns (): ActiveRun[] { return this.#runs.active }
  get hasRun (): boolean { return this.active || this.#runs.newest !== undefined }

  /** Background runs never wait for others. */
  get waitingRuns (): number { return 0 }

  /** The active attempts. */
  get attempts (): Attempt[] { return this.#runs.attempts }

  get log (): FastifyBaseLogger { return this.owner.log }

  /** Names of the active runs. */
  get names (): string[] { return this.#runs.names }

  /** Adds an onClose hook, so that the runs end before what has been opened until now is closed. Only while plugins load. */
  addHook (): void {
    this.#hooks++
    this.owner.addHook('onClose', async () => {
      await this.host.endBackgrounds()
      this.#over = --this.#hooks === 0
    })
  }

  /** Runs a handler once, after the promise `after`. */
  run (given: readonly unknown[], request?: FastifyRequest, after?: Promise<void>): RunHandle {
    const [name, handler] = given.length < 2 ? [NAME, given[0]] : given
    if (typeof name !== 'string' || name.trim() === '') throw invalid(`runInBackground(): the name must be a non-empty string; received ${show(name)}.`)
    checkHandler('runInBackground()', handler)
    if (this.#over || this.host.closed) throw new errorCodes.FST_BG_CLOSING(`"${name}" cannot run in the background`)
    if (this.#hooks === 0 && !this.host.isBooted(this.owner)) this.addHook()

    const log = request?.log ?? this.owner.log
    const { attempt, ended } = this.#runs.start({
      handler: handler as TaskHandler,
      settled: (attempt, result) => {
        const { outcome } = result
        if (outcome === 'failed') report.backgroundFailed(log, name, attempt, result)
        else if (outcome === 'succeeded') report.backgroundSucceeded(log, name, attempt, result)
        else report.runCutShort(log, name, attempt, result)
      },
      task: name,
      parent: log,
      trace: activeTrace(),
      later: true,
      after,
      always: true
    })
    this.#endInTime()
    return new Handle(attempt.id, ended)
  }

  runEnded (): void {}

  /** Aborts active and future runs after `grace` milliseconds. */
  shutDown (reason: Reason, grace: number): void {
    this.#ends ??= { reason, at: this.host.clock.now() + grace }
    this.#endInTime()
  }

  /** Aborts every active run: the shutdown deadline has passed. */
  expire (reason: Reason): void {
    this.#runs.expire(reason)
  }

  /** Resolves when the runs that are active now have ended. */
  async idle (): Promise<void> {
    await this.#runs.idle()
  }

  /** Resolves when the runs that are active now have ended, to whether there were any. */
  async drained (): Promise<boolean> {
    if (!this.active) return false
    await this.idle()
    return true
  }

  #endInTime (): void {
    if (this.#ends === undefined) return
    const { reason, at } = this.#ends
    this.#runs.cancel(reason, at - this.host.clock.now())
    this.endFirst()
  }

  /** Makes close await the active runs before anything else. */
  endFirst (): void {
    if (this.#awaited || !this.active) return
    this.#awaited = this.host.runFirstOnClose(async () => {
      this.#awaited = false
      await this.host.endBackgrounds()
    })
  }
}

function isRequest (value: unknown): value is FastifyRequest {
  return typeof value === 'object' && value !== null && 'raw' in value && 'server' in value
}
