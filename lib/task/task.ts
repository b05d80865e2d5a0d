import { inspect, type InspectOptions } from 'node:util'
import { invalid, show } from '../common/check.ts'
import { errorCodes } from '../common/errors.ts'
import { errorJson, inspected } from '../common/readable.ts'
import type { Attempt, RunHandle } from '../run/index.ts'
import type { BackgroundTask, TaskJson, TaskTiming } from './handle.ts'
import { operationOf, perform, withStopTimeout, type Work } from './operations.ts'
import { settingsOf } from './options.ts'
import { removedTasks } from './rare-fields.ts'
import { StoppableTask } from './stoppable.ts'

/**
 * A task as its user steers it: start, stop, pause, resume, trigger, cancel, remove.
 *
 * `operations.ts` puts these calls in order. A start that another call has superseded does nothing.
 */
export abstract class Task extends StoppableTask implements BackgroundTask {
  get nextRunAt (): Date | undefined { return undefined }

  get timing (): TaskTiming | undefined { return undefined }

  get settings (): Record<string, unknown> { return settingsOf(this.options) }

  nextRuns (count: number): Date[] {
    if (!Number.isInteger(count) || count < 0 || count > 1_000) {
      throw invalid(`Background task "${this.name}": nextRuns() takes a whole number from 0 to 1000; received ${show(count)}.`)
    }
    return []
  }

  toJSON (): TaskJson {
    const { name, kind, state, condition, timing, nextRunAt, stats, lastRun } = this
    return {
      name,
      kind,
      state,
      condition,
      timing,
      nextRunAt,
      stats,
      lastRun: lastRun && { ...lastRun, error: errorJson(lastRun.error) },
      history: this.history.map(({ outcome, startedAt, duration }) => ({ outcome, startedAt, duration }))
    }
  }

  [inspect.custom] (depth: number, options: InspectOptions): string {
    return inspected(this.kind === 'queue' ? 'BackgroundQueue' : 'BackgroundTask', this.toJSON(), depth, options)
  }

  /** Resolves when the task has nothing to do, to whether it had to wait for that. Never waits for a service. */
  async drained (): Promise<boolean> {
    if (!this.active || this.kind === 'service') return false
    await this.idle()
    return true
  }

  /** Does before the start what can fail, such as compiling a schema. */
  prepare (): void {}

  /** Whether the task is between two runs, so that close does not have to tell it. */
  get dormant (): boolean { return false }

  /** Whether the plugin may start the task, or has to wait for a start that the user has begun. */
  get startable (): boolean {
    const operation = operationOf(this)
    if (operation !== undefined) return operation === 'start'
    // A timed task may run before it is started, when it is triggered.
    return !this.live && !['stopping', 'stopped', 'completed', 'failed'].includes(this.state)
  }

  /** Whether the task has begun to do anything. */
  get begun (): boolean { return this.live || this.state !== 'idle' }

  /** The first attempt of the current life, if it has one. */
  get first (): Attempt | undefined { return undefined }

  start (): Promise<void> {
    return this.startAs(undefined)
  }

  stop (): Promise<void> {
    const reason = new errorCodes.FST_BG_CANCELLED(this.name, 'the task was stopped')
    // At once, and again when the stop has its turn: an earlier operation may have started the task since.
    this.shutDown(reason, 0)
    return this.withStopTimeout(this.perform('stop', async () => {
      this.shutDown(reason, 0)
      await this.endOrThrow()
    }))
  }

  abstract pause (): Promise<void>

  abstract resume (): Promise<void>

  abstract trigger (): RunHandle

  async cancel (runId: string): Promise<void> {
    const ended = this.active ? this.runs.cancelOne(runId, new errorCodes.FST_BG_CANCELLED(this.name, 'the run was cancelled')) : undefined
    if (ended === undefined) throw new errorCodes.FST_BG_NOT_FOUND(`Background task "${this.name}" has no active run ${show(runId)}.`)
    await ended
  }

  async remove (): Promise<void> {
    removedTasks.add(this)
    try {
      await this.stop()
    } finally {
      this.host.removed(this)
    }
  }

  protected get removed (): boolean { return removedTasks.has(this) }

  /** Whether a `start()` is in progress. */
  protected get starting (): boolean { return operationOf(this) === 'start' }

  /** Whether a life has begun, and nobody has told it to end. */
  protected abstract get live (): boolean

  /** Begins a life, with the given id for its first run. */
  protected abstract begin (id?: string): Promise<void>

  protected perform (kind: 'start' | 'stop' | 'pause' | 'resume', work: Work): Promise<void> {
    return perform(this, kind, work)
  }

  protected withStopTimeout (work: Promise<void>): Promise<void> {
    return withStopTimeout(this, () => this.runs.oldest?.attempt, work)
  }

  /** Throws if the task was removed, or the application closes. */
  protected refuse (what: string): void {
    this.refuseRemoved(what)
    if (this.host.closing) throw new errorCodes.FST_BG_CLOSING(`Background task "${this.name}" cannot be ${what}`)
  }

  protected refuseRemoved (what: string): void {
    if (this.removed) throw new errorCodes.FST_BG_NOT_FOUND(`Background task "${this.name}" cannot be ${what}: it was removed. Declare it anew.`)
  }

  /** Enters `paused`, unless the task has ended. Returns whether it did. */
  protected enterPaused (starting: boolean): boolean {
    // This pause has superseded a start: resume() does it.
    if (starting && this.state === 'stopped') this.enter('idle')
    if (!['idle', 'running', 'backoff'].includes(this.state)) return false
    this.resumable = starting && !this.live
    this.enter('paused')
    return true
  }

  /** Starts the task, with the given id for the first run. */
  protected async startAs (id: string | undefined): Promise<void> {
    this.refuse('started')
    await this.perform('start', async (superseded, superseding) => {
      const { deadline } = this.host
      // A life begins only after the one before has ended, even where a handler ignores its signal. Neither a later operation nor the close
      // waits for that.
      while (!this.live && (this.ending !== undefined || (this.exclusive && this.active)) && !superseded() && !deadline.passed) {
        await deadline.until(Promise.race([Promise.all([this.ending, this.exclusive && this.idle()]), superseding]))
      }
      this.refuse('started')
      if (this.live || superseded()) return
      if (this.state === 'paused') this.resumable = true
      else await this.begin(id)
    })
  }
}
