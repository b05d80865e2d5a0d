import type { FastifyInstance } from 'fastify'
import { AnyService } from './any-service.ts'
import type { Attempt } from './attempt.ts'
import { formatDuration } from './duration.ts'
import { errorCodes } from './errors.ts'
import type { HostedOptions } from './options.ts'
import { report, toError } from './report.ts'
import type { RunResult } from './run.ts'
import type { Surroundings } from './runs.ts'

/** A task that is started before the server listens, and stopped when it closes. */
export class HostedService extends AnyService {
  readonly #options: HostedOptions
  /** Whether `start` has succeeded, so that `stop` is due. */
  #started = false

  constructor (name: string, owner: FastifyInstance, options: HostedOptions, surroundings: Surroundings) {
    super(name, owner, options, surroundings)
    this.#options = options
  }

  get kind (): 'hosted' { return 'hosted' }

  protected get live (): boolean { return this.state === 'running' }

  protected override get holding (): boolean { return this.#started }

  protected async begin (id?: string): Promise<void> {
    this.enter('running')
    const { start, startTimeout } = this.#options
    if (start === undefined) {
      this.#started = true
      return
    }
    let timedOut = false
    const execution = this.runs.launch({ handler: start, settled: (attempt, result) => { this.#startSettled(attempt, result, timedOut) }, id, later: true })
    this.last = execution
    const result = await new Promise<RunResult | undefined>(resolve => {
      const limit = this.surroundings.clock.after(startTimeout, () => {
        timedOut = true
        this.enter('failed')
        execution.abort(new errorCodes.FST_BG_TIMEOUT(this.name, formatDuration(startTimeout)))
        resolve(undefined)
      })
      void execution.ended.then(result => {
        limit.cancel()
        resolve(result)
      })
    })
    if (result === undefined) throw new errorCodes.FST_BG_START_TIMEOUT(this.name, formatDuration(startTimeout))
    if (result.outcome !== 'succeeded') throw toError(result.error)
  }

  protected async finish (): Promise<Error | undefined> {
    if (!this.#started) return undefined
    this.#started = false
    const { stop } = this.#options
    if (stop === undefined) return undefined
    const settled = (attempt: Attempt, result: RunResult): void => {
      const line = result.outcome === 'succeeded' ? report.stopped : report.stopFailed
      line(this.log, this.name, attempt, result)
    }
    const result = await this.runs.launch({ handler: stop, settled, last: true }).ended
    return result.outcome === 'succeeded' ? undefined : toError(result.error)
  }

  #startSettled (attempt: Attempt, result: RunResult, timedOut: boolean): void {
    if (result.outcome === 'succeeded') {
      this.#started = true
      if (timedOut) {
        report.startedLate(this.log, this.name, attempt, result)
        void this.end()
      } else {
        report.started(this.log, this.name, attempt, result)
        // Close waits for it no more, and calls its stop no more.
        if (this.surroundings.deadline.passed) void this.end()
      }
    } else if (timedOut || result.outcome === 'cancelled') {
      report.startCancelled(this.log, this.name, attempt, result)
      // That one run was cancelled by id: that stops the whole.
      if (this.state === 'running') this.enter('stopping')
    } else {
      this.enter('failed')
    }
  }
}
