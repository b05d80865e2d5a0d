/**
 * The states of a task, and every transition between them.
 *
 * - `idle`: declared and not started; or a timed task between its runs
 * - `running`: its handler or its `start` runs, or a hosted service has started
 * - `backoff`: failed, and waits for its next attempt or restart
 * - `paused`: nothing new starts until it is resumed
 * - `stopping`: told to end, and not ended yet
 * - `stopped`: ended because it was told to
 * - `completed`: a service's handler returned
 * - `failed`: the handler of a service, a `start` or a `stop` failed
 */
export const transitions = {
  idle: ['running', 'paused', 'stopped'],
  running: ['idle', 'backoff', 'paused', 'completed', 'failed', 'stopping'],
  backoff: ['idle', 'running', 'paused', 'stopping', 'stopped'],
  paused: ['idle', 'running', 'stopping', 'stopped'],
  stopping: ['paused', 'stopped', 'failed'],
  stopped: ['idle', 'running'],
  completed: ['running'],
  failed: ['running']
} as const

/** State of a task. */
export type TaskState = keyof typeof transitions
