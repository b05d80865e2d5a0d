import type { Attempt } from './attempt.ts'
import { errorCodes } from './errors.ts'
import { skipped, type Execution } from './execution.ts'
import type { RunHandle, RunResult } from './run.ts'
import type { TaskState } from './states.ts'
import { Task } from './task.ts'

/** What a service and a hosted service share: each of their lives begins with a run, and a pause ends it. */
export abstract class AnyService extends Task {
  /** The run that a life began with. */
  protected last: Execution | undefined

  override get first (): Attempt | undefined { return this.last?.attempt }

  override pause (): Promise<void> {
    if (this.surroundings.closing) return Promise.resolve()
    const up = this.live || this.starting
    if (up) this.shutDown(new errorCodes.FST_BG_CANCELLED(this.name, 'the task was paused'), 0, 'paused')
    return this.patiently(this.ask('pause', async () => {
      if (this.state === 'idle') {
        this.resumable = up
        this.enter('paused')
      } else if (up) {
        this.resumable = true
        await this.goDown()
      }
    }))
  }

  override resume (): Promise<void> {
    return this.ask('resume', async () => {
      if (this.state !== 'paused' || this.surroundings.closing) return
      this.enter('idle')
      if (!this.resumable) return
      this.resumable = false
      await this.begin()
    })
  }

  protected override enter (next: TaskState): void {
    // A life that begins leads to a stop, unless it is told otherwise: not to the pause that the one before has led to.
    if (next === 'running') this.descent.to = 'stopped'
    super.enter(next)
  }

  override trigger (): RunHandle {
    this.refuse('triggered')
    if (this.live || this.starting) return this.skip()
    return this.handle((id, settle) => {
      if (this.state === 'paused') this.enter('idle')
      const ended = async (error?: unknown): Promise<void> => {
        // None where a stop has overtaken the start.
        const begun = this.last?.attempt.id === id
        settle(begun ? await this.last?.ended as RunResult : { ...skipped, outcome: 'cancelled', error })
      }
      this.startAs(id).then(async () => { await ended() }, ended)
    })
  }
}
