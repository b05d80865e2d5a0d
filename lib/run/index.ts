// One run: its attempts, retries, signal, log, history and trace.

export { Attempt } from './attempt.ts'
export { Execution, type ExecutionSpec, skipped } from './execution.ts'
export type { RunRecord } from './history.ts'
export type { RunHost, TaskContext } from './host.ts'
export { type LinkedItem, LinkedList } from './linked-list.ts'
export { retry, type RetryOptions, type RetryPolicy } from './retry.ts'
export type { AnyInstance, OnGiveUp, OnRun, Progress, QueueHandler, Run, RunHandle, RunOutcome, RunResult, TaskHandler } from './run.ts'
export { Runs } from './runs.ts'
export type { RunTrace } from './tracing.ts'
export { uuid } from './uuid.ts'
