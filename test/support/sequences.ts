// What the property tests share: sequences from a seed, and eyes on what must never happen.
import { Runs } from '../../lib/run/runs.ts'
import { transitions, type TaskState } from '../../lib/task/states.ts'
import { Task } from '../../lib/task/task.ts'
import { generator } from './random.ts'

/** What has come up in all sequences of a kind. */
export interface Seen { states: Set<TaskState>, outcomes: Set<string>, runs: number }

/** Notes every change of state that the table does not have, and what is recorded of runs. */
export function watchTasks (broken: string[], seen: Seen | undefined): { recorded: string[], restore: () => void } {
  const recorded: string[] = []
  const tasks = Task.prototype as unknown as { enter (this: Task, next: TaskState): void }
  const { enter } = tasks
  const { record } = Runs.prototype
  tasks.enter = function (next) {
    const allowed: readonly TaskState[] = transitions[this.state]
    if (!allowed.includes(next)) broken.push(`from ${this.state} to ${next}`)
    seen?.states.add(this.state).add(next)
    enter.call(this, next)
  }
  Runs.prototype.record = function (...given) {
    recorded.push(given[0])
    seen?.outcomes.add(given[1].outcome)
    record.apply(this, given)
  }
  return {
    recorded,
    restore () {
      tasks.enter = enter
      Runs.prototype.record = record
    }
  }
}

/** `Math.random` gives numbers of that seed. */
export function seededRandom (seed: number): () => void {
  const real = Math.random
  Math.random = generator(~seed)
  return () => { Math.random = real }
}

/** One step of a sequence. `n`, from 0 to 1, decides what it leaves open. */
export interface Step<Op> { op: Op, n: number }

/** The sequence of that seed: each op comes up as often as it stands in the lottery. */
export function sequence<Op> (seed: number, length: number, lottery: readonly Op[]): Array<Step<Op>> {
  const random = generator(-seed)
  return Array.from({ length }, () => ({ op: lottery[Math.floor(random() * lottery.length)] as Op, n: random() }))
}
