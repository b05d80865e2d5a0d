import { errorCodes } from '../../common/errors.ts'
import { type Attempt, type Execution, type RunHandle, Result, type RunResult } from '../../run/index.ts'
import type { TaskState } from '../states.ts'
import { Task } from '../task.ts'

/** The common part of a service and a hosted service: each life begins with a run, and a pause ends it. */
export abstract class ServiceBase extends Task {
  /** The first run of the current life. */
  protected last: Execution | undefined

  override get first (): Attempt | undefined { return this.last?.attempt }

  override pause (): Promise<void> {
    if (this.host.closing) return Promise.resolve()
    const wasLive = this.live || this.starting
    if (wasLive) this.shutDown(new errorCodes.FST_BG_CANCELLED(this.name, 'the task was paused'), 0, 'paused')
    return this.withStopTimeout(this.perform('pause', async () => {
      if (this.state === 'idle') {
        this.resumable = wasLive
        this.enter('paused')
      } else if (wasLive) {
        this.resumable = true
        await this.endOrThrow()
      }
    }))
  }

  override resume (): Promise<void> {
    return this.perform('resume', async () => {
      if (this.state !== 'paused' || this.host.closing) return
      this.enter('idle')
      if (!this.resumable) return
      this.resumable = false
      await this.begin()
    })
  }

  protected override enter (next: TaskState): void {
    // A new life ends in `stopped` by default, even if the one before ended in `paused`.
    if (next === 'running') this.stopState.target = 'stopped'
    super.enter(next)
  }

  override trigger (): RunHandle {
    this.refuse('triggered')
    if (this.live || this.starting) return this.skip()
    return this.handle((id, settle) => {
      if (this.state === 'paused') this.enter('idle')
      const ended = async (error?: unknown): Promise<void> => {
        // Another run, or none, if a stop has superseded the start.
        const begun = this.last?.attempt.id === id
        settle(begun ? await this.last?.ended as RunResult : new Result('cancelled', undefined, error, 0))
      }
      this.startAs(id).then(async () => { await ended() }, ended)
    })
  }
}
