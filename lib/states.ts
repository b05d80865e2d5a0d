/**
 * Where a task is in its life. Every state, and every way from one to another, stands here and nowhere else.
 *
 * - `idle`: declared, and not started
 * - `running`: its handler or its `start` runs, or a hosted service is up
 * - `stopping`: asked to end, and not ended yet
 * - `stopped`: ended because it was asked to
 * - `completed`: a service's handler returned
 * - `failed`: the handler, `start` or `stop` failed
 */
export const transitions = {
  idle: ['running', 'stopped'],
  running: ['completed', 'failed', 'stopping'],
  stopping: ['stopped', 'failed'],
  stopped: ['running'],
  completed: ['running'],
  failed: ['running']
} as const

/** Where a task is in its life. */
export type TaskState = keyof typeof transitions
