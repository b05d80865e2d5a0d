import type { TaskKind } from './handle.ts'
import type { TaskState } from './states.ts'

/** How a task, or the whole, is. */
export type HealthStatus = 'ok' | 'degraded' | 'failing'

/** How one task is, and why. */
export interface Condition {
  /** How it is. */
  status: HealthStatus
  /** Why, where it is not `ok`. */
  reason?: string
}

/** How a task is, with its name. */
export interface TaskHealth extends Condition {
  /** The task's name. */
  name: string
  /** What kind of task it is. */
  kind: TaskKind
  /** Where it is in its life. */
  state: TaskState
}

/** How all tasks are: as bad as the worst of them. */
export interface Health {
  /** How the worst of them is. */
  status: HealthStatus
  /** All tasks, in the order of their declaration. */
  tasks: TaskHealth[]
}

/** How many lives of a service fail in a row, or ticks are skipped behind one run, until it is failing. */
export const IN_A_ROW = 3
/** How many milliseconds after it was due a tick that has not run is a failure. */
export const OVERDUE = 60_000

const order: readonly HealthStatus[] = ['ok', 'degraded', 'failing']

/** The worst of them; ok if there are none. */
export function worst (conditions: Iterable<Condition>): Condition {
  let found: Condition = { status: 'ok' }
  for (const condition of conditions) {
    if (order.indexOf(condition.status) > order.indexOf(found.status)) found = condition
  }
  return found
}
