import type { FastifyInstance } from 'fastify'
import { errorCodes, toError } from '../../common/errors.ts'
import { report } from '../../common/log.ts'
import type { Attempt, RunResult } from '../../run/index.ts'
import { formatDuration } from '../../time/index.ts'
import type { TaskHost } from '../host.ts'
import { settingsOf } from '../options.ts'
import { ServiceBase } from './base.ts'
import type { HostedOptions } from './options.ts'

/** A task with a `start` before the server listens, and a `stop` when it closes. */
export class HostedService extends ServiceBase {
  readonly #options: HostedOptions
  /** Whether `start` has succeeded, so that `stop` must run. */
  #started = false

  constructor (name: string, owner: FastifyInstance, options: HostedOptions, host: TaskHost) {
    super(name, owner, options, host)
    this.#options = options
  }

  get kind (): 'hosted' { return 'hosted' }

  override get settings (): Record<string, unknown> { return settingsOf(this.#options) }

  protected get live (): boolean { return this.state === 'running' }

  protected override get needsFinish (): boolean { return this.#started }

  protected async begin (id?: string): Promise<void> {
    this.enter('running')
    const { start, startTimeout } = this.#options
    if (start === undefined) {
      this.#started = true
      return
    }
    let timedOut = false
    const execution = this.runs.start({ handler: start, settled: (attempt, result) => { this.#startSettled(attempt, result, timedOut) }, id, later: true })
    this.last = execution
    const result = await new Promise<RunResult | undefined>(resolve => {
      const limit = this.host.clock.after(startTimeout, () => {
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
    const result = await this.runs.start({ handler: stop, settled, last: true }).ended
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
        // Close has given up waiting, and will not call `stop`: do it here.
        if (this.host.deadline.passed) void this.end()
      }
    } else if (timedOut || result.outcome === 'cancelled') {
      report.startCancelled(this.log, this.name, attempt, result)
      // Somebody has cancelled the run by its id: that stops the task.
      if (this.state === 'running') this.enter('stopping')
    } else {
      this.enter('failed')
    }
  }
}
