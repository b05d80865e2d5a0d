let guarded = false

/**
 * Sees to it that this process exits with 1. The code alone does not last: close-with-grace ends with `process.exit(0)`, and
 * a supervisor would take a crash for a job well done.
 */
export function exitWithFailure (): void {
  process.exitCode = 1
  if (guarded) return
  guarded = true
  process.once('exit', code => { if (code === 0) process.exitCode = 1 })
}
