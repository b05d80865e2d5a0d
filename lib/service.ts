import type { FastifyInstance } from 'fastify'
import type { Attempt, Result } from './attempt.ts'
import type { ServiceOptions } from './options.ts'
import { report } from './report.ts'
import type { TaskHandler } from './run.ts'
import { Task, type Surroundings } from './task.ts'

/** A task that is one run, from ready to close. */
export class Service extends Task {
  readonly kind = 'service'
  readonly #handler: TaskHandler

  constructor (name: string, owner: FastifyInstance, options: ServiceOptions, handler: TaskHandler, surroundings: Surroundings) {
    super(name, owner, options, surroundings)
    this.#handler = handler
  }

  protected async begin (): Promise<void> {
    this.launch(this.#handler, (attempt, result) => { this.#settled(attempt, result) })
  }

  protected async finish (): Promise<undefined> {}

  #settled (attempt: Attempt, result: Result): void {
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
