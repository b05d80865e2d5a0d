// What the property tests share: numbers from a seed, and eyes on what must never happen.
import { Runs } from '../lib/runs.ts'
import { transitions, type TaskState } from '../lib/states.ts'
import { Task } from '../lib/task.ts'

/** What has come up in all sequences of a kind. */
export interface Seen { states: Set<TaskState>, outcomes: Set<string>, runs: number }

/** Notes what nobody handles. */
export function watchProcess (broken: string[]): () => void {
  const events = ['unhandledRejection', 'uncaughtException'] as const
  const before = events.map(event => process.listeners(event as 'uncaughtException'))
  const notes = events.map(event => (error: unknown): void => { broken.push(`${event}: ${String(error)}`) })
  events.forEach((event, i) => {
    process.removeAllListeners(event)
    process.on(event, notes[i] as (error: unknown) => void)
  })
  return () => {
    events.forEach((event, i) => {
      process.off(event, notes[i] as (error: unknown) => void)
      for (const listener of before[i] ?? []) process.on(event, listener)
    })
  }
}

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

/** Numbers from 0 to 1 that are always the same (mulberry32). */
export function generator (seed: number): () => number {
  let state = seed * 0x9e3779b9 | 0
  return () => {
    state = state + 0x6d2b79f5 | 0
    let mixed = Math.imul(state ^ state >>> 15, 1 | state)
    mixed = mixed + Math.imul(mixed ^ mixed >>> 7, 61 | mixed) ^ mixed
    return ((mixed ^ mixed >>> 14) >>> 0) / 2 ** 32
  }
}
