import type { Task } from '../task/index.ts'
import type { BackgroundRuns } from './background.ts'

/** All tasks and background runs of an application. */
export class Registry {
  /** Tasks by name, in the order of their declaration. */
  readonly tasks: Map<string, Task> = new Map()
  /** Tasks that close must stop: all but timed tasks between two runs. */
  readonly closeable: Set<Task> = new Set()
  /** Tasks without a place in the boot order: they were declared while the onReady hooks ran, or later. */
  readonly late: Set<Task> = new Set()
  /** Removed tasks that have not ended. */
  readonly removed: Set<Task> = new Set()
  /** Background runs of each instance. */
  readonly backgrounds: Set<BackgroundRuns> = new Set()

  /** Everything that close may have to stop. */
  get all (): Array<Task | BackgroundRuns> { return [...this.removed, ...this.tasks.values(), ...this.backgrounds] }

  /** Everything that close has to stop now. */
  get active (): Array<Task | BackgroundRuns> { return [...this.removed, ...this.closeable, ...this.backgrounds] }

  /** What has no place in the boot order, and ends before anything is closed that the application has opened. */
  get placeless (): Task[] { return [...this.removed, ...this.late] }

  /** Frees the name of a task, and keeps the task until it has ended. */
  remove (task: Task): void {
    // Another task may have taken the name since.
    if (this.tasks.get(task.name) === task) this.tasks.delete(task.name)
    this.late.delete(task)
    // Its handler may ignore the signal, and a `start` in progress may have something to stop: close waits for it as for any task.
    this.removed.add(task)
    void task.end().then(() => {
      this.removed.delete(task)
      this.closeable.delete(task)
    })
  }
}
