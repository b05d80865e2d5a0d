import type { FastifyInstance } from 'fastify'
import { errorCodes, isGiveUp, type Reason } from '../../common/errors.ts'
import { type Condition, IN_A_ROW } from '../../common/health.ts'
import { report } from '../../common/log.ts'
import type { Attempt, RunHandle, RunResult, TaskHandler } from '../../run/index.ts'
import { formatDuration, type Timer } from '../../time/index.ts'
import type { TaskHost } from '../host.ts'
import { ServiceBase } from './base.ts'
import type { ServiceOptions } from './options.ts'
import { Restarts } from './restart.ts'

/**
 * A task that is one run, from ready to close. Each life of it is a new run. After a failure the next life begins as `restart` says, after a
 * wait, and only when the one before has ended.
 */
export class Service extends ServiceBase {
  declare readonly options: ServiceOptions
  readonly #handler: TaskHandler
  readonly #restarts: Restarts
  /** Monotonic time at which the current life began. */
  #began = 0
  /** Armed in `backoff`. */
  #restart: Timer | undefined

  constructor (name: string, owner: FastifyInstance, options: ServiceOptions, handler: TaskHandler, host: TaskHost) {
    super(name, owner, options, host)
    this.#handler = handler
    this.#restarts = new Restarts(options.restart)
  }

  get kind (): 'service' { return 'service' }

  override shutDown (reason: Reason, grace: number, rest?: 'stopped' | 'paused'): void {
    this.#restart?.cancel()
    super.shutDown(reason, grace, rest)
  }

  /** In `backoff` it ends the wait: the operator who triggers the service has mended what failed. */
  override trigger (): RunHandle {
    if (this.state !== 'backoff') return super.trigger()
    return this.handle((id, settle) => {
      this.#restart?.cancel()
      this.#beginLife(id)
      void this.last?.ended.then(settle)
    })
  }

  protected get live (): boolean { return this.state === 'running' || this.state === 'backoff' }

  protected async begin (id?: string): Promise<void> {
    this.#restarts.reset()
    this.#beginLife(id)
  }

  protected async finish (): Promise<undefined> {}

  protected override * conditions (): Iterable<Condition> {
    const { within } = this.options.restart
    const lasts = this.state === 'running' && this.host.clock.now() - this.#began >= within
    // A stopped or paused service is not failing any more.
    if (this.live && !lasts && this.#restarts.failures >= IN_A_ROW) yield { status: 'failing', reason: `failed ${this.#restarts.failures} times in a row` }
    // Between two lives of `restart: 'always'` nothing has failed.
    const isWell = lasts || (this.state === 'backoff' && this.#restarts.failures === 0)
    for (const condition of super.conditions()) {
      if (!isWell || condition.status === 'failing') yield condition
    }
  }

  #beginLife (id?: string): void {
    this.enter('running')
    this.#began = this.host.clock.now()
    this.last = this.runs.start({
      handler: this.#handler,
      settled: (attempt, result) => { this.#settled(attempt, result) },
      id,
      later: true,
      always: true,
      timeout: this.options.timeout
    })
    report.serviceStarted(this.log, this.name, this.last.attempt)
  }

  #settled (attempt: Attempt, result: RunResult): void {
    const failed = result.outcome === 'failed'
    this.#restarts.ended(this.host.clock.now() - this.#began, failed)
    if (this.state === 'stopping') {
      if (failed) this.#giveUp(attempt, result)
      else report.serviceStopped(this.log, this.name, attempt, result)
      return
    }
    if (result.outcome === 'cancelled') {
      // Somebody has cancelled the run by its id: that stops the service until somebody starts it.
      this.enter('stopping')
      report.serviceStopped(this.log, this.name, attempt, result)
    } else if (failed) {
      if (isGiveUp(result.error)) this.#giveUp(attempt, result)
      else this.#again(attempt, result)
    } else if (this.options.restart.when === 'always') {
      this.#again(attempt, result)
    } else {
      this.enter('completed')
      report.serviceCompleted(this.log, this.name, attempt, result)
    }
  }

  /** Begins the next life after a wait, or gives up. */
  #again (attempt: Attempt, result: RunResult): void {
    const { clock } = this.host
    const delay = this.#restarts.next(clock.now())
    if (delay === undefined) {
      const { limit, within } = this.options.restart
      const error = result.outcome === 'failed' ? result.error : new errorCodes.FST_BG_GAVE_UP(this.name, `it returned, after ${limit} restarts within ${formatDuration(within)}`)
      this.#giveUp(attempt, { ...result, error })
      return
    }
    if (result.outcome === 'failed') report.serviceFails(this.log, this.name, attempt, result, this.#restarts.failures, delay)
    else report.serviceRestarted(this.log, this.name, attempt, result)
    this.enter('backoff')
    this.#restart = clock.after(delay, () => {
      this.host.observer?.restarted(this)
      this.#beginLife()
    })
  }

  #giveUp (attempt: Attempt, result: RunResult): void {
    this.enter('failed')
    this.host.giveUp(this, attempt, result)
  }
}
