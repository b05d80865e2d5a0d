import { errorCodes, toError } from '../common/errors.ts'
import { report } from '../common/log.ts'
import type { Attempt, RunResult } from '../run/index.ts'
import type { GivenUp } from '../task/index.ts'

/** Does what the `onGiveUp` of a task says, when the task has failed for good. `close` closes the application with the error. */
export function giveUp (task: GivenUp, attempt: Attempt, result: RunResult, close: (error: Error) => void): void {
  const { onGiveUp } = task.options
  const closes = onGiveUp === 'close' && !task.host.closing
  report.gaveUp(task.log, closes, task.kind === 'service' ? 'service' : 'run', task.name, attempt, result)
  const error = toError(result.error)
  if (closes) {
    exitWithFailure()
    close(error === result.error ? error : new errorCodes.FST_BG_GAVE_UP(task.name, error.message, { cause: result.error }))
  } else if (typeof onGiveUp === 'function') {
    void callBack(task, attempt, error)
  }
}

async function callBack ({ options: { onGiveUp }, owner, log, name }: GivenUp, attempt: Attempt, error: Error): Promise<void> {
  try {
    if (typeof onGiveUp === 'function') await onGiveUp(error, owner)
  } catch (failure) {
    report.onGiveUpFailed(log, name, attempt, failure)
  }
}

let guarded = false

/**
 * Makes this process exit with 1, or with the failure code that it has set already. The exit code alone does not last: close-with-grace ends with
 * `process.exit(0)`, and a supervisor would take the crash for success.
 */
function exitWithFailure (): void {
  const failure = Number(process.exitCode ?? 0) === 0 ? 1 : process.exitCode
  process.exitCode = failure
  if (guarded) return
  guarded = true
  process.once('exit', code => { if (code === 0) process.exitCode = failure })
}
