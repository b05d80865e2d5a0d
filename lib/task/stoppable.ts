import type { Reason } from '../common/errors.ts'
import { report } from '../common/log.ts'
import { TaskBase } from './base.ts'
import { StopState, stopStates } from './rare-fields.ts'

/**
 * How a task ends. A task begins a life with `start`, and ends it in two steps:
 *
 * - `shutDown` aborts the active runs, at once or after a grace, and waits for nothing. The plugin calls it in `preClose`.
 * - `end` waits for these runs, at most until the shutdown deadline, then does the final work of the kind, such as a `stop`. The plugin calls it
 *   in the owner's `onClose`. A second caller gets the same promise.
 */
export abstract class StoppableTask extends TaskBase {
  /** Whether the task has nothing left that close must wait for. */
  get isDown (): boolean {
    return !this.active && !this.needsFinish && this.state !== 'running' && this.state !== 'stopping'
  }

  /** How many runs wait that the task will begin before it ends. */
  get waitingRuns (): number { return 0 }

  /** Whether the task has ended for good. */
  get isOver (): boolean { return this.state === 'stopped' && this.isDown }

  /** Aborts the active runs with `reason` after `grace` milliseconds, and goes to the state `target`. Waits for nothing. */
  shutDown (reason: Reason, grace: number, target: 'stopped' | 'paused' = 'stopped'): void {
    this.stopState.target = target
    if (this.active) {
      if (this.state === 'running' || this.state === 'backoff' || this.state === 'paused') this.enter('stopping')
      this.runs.cancel(reason, grace)
    } else if (this.state === 'running') {
      this.enter('stopping')
    } else if (this.state === 'backoff') {
      this.enter(target)
    } else if (target === 'stopped' && (this.state === 'idle' || this.state === 'paused')) {
      this.enter('stopped')
    }
  }

  /** Aborts every active run, a `stop` too: the shutdown deadline has passed. */
  expire (reason: Reason): void {
    if (this.active) this.runs.expire(reason)
  }

  /** Waits for the active runs, then does the final work. Resolves with the error of that, if it failed; never rejects. */
  end (): Promise<Error | undefined> {
    const { stopState } = this
    stopState.ending ??= (async () => {
      const { deadline } = this.host
      await deadline.until(this.allEnded())
      const error = await this.finish()
      stopState.ending = undefined
      if (this.state === 'stopping' && error !== undefined) this.enter('failed')
      // A run that was triggered since goes on while the task is stopped.
      if (this.state === 'stopping' && !this.exclusive && !deadline.passed) this.enter(stopState.target)
      this.runEnded()
      return error
    })()
    return stopState.ending
  }

  /** Called when a run, or the final work, has ended. */
  runEnded (): void {
    if (this.active || this.needsFinish || this.state !== 'stopping' || this.ending !== undefined) return
    this.enter(this.stopState.target)
    if (this.host.deadline.passed) report.stoppedLate(this.log, this.name, this.lastRun)
  }

  protected get stopState (): StopState {
    const stopState = stopStates.get(this) ?? new StopState()
    stopStates.set(this, stopState)
    return stopState
  }

  /** The end in progress. */
  protected get ending (): Promise<unknown> | undefined { return stopStates.get(this)?.ending }

  /** Whether `resume()` starts the task: it ran when the user paused it, or the user has called `start()` since. */
  protected get resumable (): boolean { return stopStates.get(this)?.resumable ?? false }

  protected set resumable (resumable: boolean) {
    if (resumable !== this.resumable) this.stopState.resumable = resumable
  }

  /** Whether the task holds something that only its final work releases. */
  protected get needsFinish (): boolean { return false }

  /** Whether a life begins only after the runs of the one before have ended. */
  protected get exclusive (): boolean { return true }

  /** Resolves when every run of this life has ended. */
  protected async allEnded (): Promise<void> {
    await this.idle()
  }

  /** Does the final work of a life, after its runs have ended or the deadline has passed. Resolves with its error; never rejects. */
  protected abstract finish (): Promise<Error | undefined>

  /** Ends the task, and rejects with the error of its final work. */
  protected async endOrThrow (): Promise<void> {
    const error = await this.end()
    if (error !== undefined) throw error
  }
}
