import { type Condition, type HealthStatus, worst } from '../common/health.ts'
import type { Task, TaskKind, TaskState } from '../task/index.ts'

/** Health of one task. */
export interface TaskHealth extends Condition {
  /** The task's name. */
  name: string
  /** Kind of the task. */
  kind: TaskKind
  /** State of the task. */
  state: TaskState
}

/** Health of all tasks. */
export interface Health {
  /** Health of the worst task. */
  status: HealthStatus
  /** All tasks, in the order of their declaration. */
  tasks: TaskHealth[]
}

/** The health of all tasks, and the worst of it. */
export function healthOf (all: Iterable<Task>): Health {
  const tasks = [...all].map(task => ({ name: task.name, kind: task.kind, state: task.state, ...task.condition }))
  return { status: worst(tasks).status, tasks }
}
