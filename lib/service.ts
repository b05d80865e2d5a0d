import type { FastifyInstance } from 'fastify'
import { AnyService } from './any-service.ts'
import type { Attempt } from './attempt.ts'
import type { Timer } from './clock.ts'
import { formatDuration } from './duration.ts'
import { errorCodes, isGiveUp } from './errors.ts'
import type { Reason } from './execution.ts'
import { IN_A_ROW, type Condition } from './health.ts'
import type { ServiceOptions } from './options.ts'
import { report } from './report.ts'
import { Restarts } from './restarts.ts'
import type { RunHandle, RunResult, TaskHandler } from './run.ts'
import type { Surroundings } from './runs.ts'

/**
 * A task that is one run, from ready to close. A run that fails is one life of it: another begins after a wait, as `restart` says,
 * and only after the one before has ended.
 */
export class Service extends AnyService {
  declare readonly options: ServiceOptions
  readonly #handler: TaskHandler
  readonly #restarts: Restarts
  /** When the life that runs has begun. */
  #began = 0
  /** Armed in backoff. */
  #restart: Timer | undefined

  constructor (name: string, owner: FastifyInstance, options: ServiceOptions, handler: TaskHandler, surroundings: Surroundings) {
    super(name, owner, options, surroundings)
    this.#handler = handler
    this.#restarts = new Restarts(options.restart)
  }

  get kind (): 'service' { return 'service' }

  override shutDown (reason: Reason, grace: number, rest?: 'stopped' | 'paused'): void {
    this.#restart?.cancel()
    super.shutDown(reason, grace, rest)
  }

  /** In backoff the wait for the next life is over: whoever asks for a run now has seen to what went wrong. */
  override trigger (): RunHandle {
    if (this.state !== 'backoff') return super.trigger()
    return this.handle((id, settle) => {
      this.#restart?.cancel()
      this.#live(id)
      void this.last?.ended.then(settle)
    })
  }

  protected get live (): boolean { return this.state === 'running' || this.state === 'backoff' }

  protected async begin (id?: string): Promise<void> {
    this.#restarts.reset()
    this.#live(id)
  }

  protected async finish (): Promise<undefined> {}

  protected override * conditions (): Iterable<Condition> {
    const { within } = this.options.restart
    const lasts = this.state === 'running' && this.surroundings.clock.now() - this.#began >= within
    // One that was stopped or paused does not fail any more.
    if (this.live && !lasts && this.#restarts.failures >= IN_A_ROW) yield { status: 'failing', reason: `failed ${this.#restarts.failures} times in a row` }
    for (const condition of super.conditions()) {
      if (!lasts || condition.status === 'failing') yield condition
    }
  }

  #live (id?: string): void {
    this.enter('running')
    this.#began = this.surroundings.clock.now()
    this.last = this.runs.launch({
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
    this.#restarts.ended(this.surroundings.clock.now() - this.#began, failed)
    if (this.state === 'stopping') {
      if (failed) this.#giveUp(attempt, result)
      else report.serviceStopped(this.log, this.name, attempt, result)
      return
    }
    if (result.outcome === 'cancelled') {
      // Its one run was cancelled by id: that stops it, until somebody starts it.
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

  /** Begins another life after a wait, or gives up. */
  #again (attempt: Attempt, result: RunResult): void {
    const { clock } = this.surroundings
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
    this.#restart = clock.after(delay, () => { this.#live() })
  }

  #giveUp (attempt: Attempt, result: RunResult): void {
    this.enter('failed')
    this.surroundings.giveUp(this, attempt, result)
  }
}
