import type { FastifyBaseLogger } from 'fastify'

/** What the user asked of a task last (`start()`, `stop()`, `pause()`, `resume()`), while it is in progress. */
export interface Operation {
  kind: 'start' | 'stop' | 'pause' | 'resume'
  done: Promise<void>
  /** Tells the operation that the user has asked for another one since. */
  supersede (): void
}

/** How a task stops, and what follows. */
export class StopState {
  /** The state in which the task ends. */
  target: 'stopped' | 'paused' = 'stopped'
  /** Whether `resume()` starts the task: it ran when the user paused it, or the user has called `start()` since. */
  resumable = false
  /** The end in progress; a second caller gets the same promise. */
  ending: Promise<Error | undefined> | undefined
}

// Few tasks have these, or only for a moment. As fields they would take 8 bytes each of every one of ten thousand idle tasks, which
// have 240 bytes in all (bench/footprint.js). That is why they stand here, in maps, and nowhere else.

export const operations: WeakMap<object, Operation> = new WeakMap()
export const stopStates: WeakMap<object, StopState> = new WeakMap()
export const removedTasks: WeakSet<object> = new WeakSet()
/** Loggers of the tasks that have a level of their own. */
export const loggers: WeakMap<object, FastifyBaseLogger> = new WeakMap()
