import type { FastifyInstance } from 'fastify'
import type { Attempt } from './attempt.ts'
import type { ServiceOptions } from './options.ts'
import { report } from './report.ts'
import type { RunResult, TaskHandler } from './run.ts'
import type { Surroundings } from './runs.ts'
import { Task } from './task.ts'

/** A task that is one run, from ready to close. */
export class Service extends Task {
  readonly #handler: TaskHandler
  #last: { attempt: Attempt, ended: Promise<RunResult> } | undefined

  constructor (name: string, owner: FastifyInstance, options: ServiceOptions, handler: TaskHandler, surroundings: Surroundings) {
    super(name, owner, options, surroundings)
    this.#handler = handler
  }

  get kind (): 'service' { return 'service' }

  protected get live (): boolean { return this.state === 'running' }

  protected async begin (id?: string): Promise<void> {
    this.enter('running')
    const { attempt, ended } = this.runs.launch(this.#handler, (attempt, result) => { this.#settled(attempt, result) }, { id, later: true, always: true })
    this.#last = { attempt, ended }
  }

  protected ran (id: string): Promise<RunResult> | undefined {
    return this.#last?.attempt.id === id ? this.#last.ended : undefined
  }

  protected async finish (): Promise<undefined> {}

  #settled (attempt: Attempt, result: RunResult): void {
    const asked = this.state === 'stopping'
    if (result.outcome === 'failed') {
      this.enter('failed')
      report.serviceFailed(this.log, this.name, attempt, result)
    } else if (asked) {
      report.serviceStopped(this.log, this.name, attempt, result)
    } else {
      this.enter('completed')
      report.serviceCompleted(this.log, this.name, attempt, result)
    }
  }
}
