// One run: its attempts, retries, signal, log, history and trace.

export { Activity, type ActivityMinute, type ActivityReport, type FailedRun } from './past/activity.ts'
export { Attempt } from './attempt.ts'
export { Execution, type ExecutionSpec, skipped } from './execution.ts'
export { Handle, Result, type RunRecord } from './past/history.ts'
export { type DeclaredHandler, declaredKey, type HandlerHost, hostKey, type ObservedTask, onAbortKey, type Resource, type RunHost, type RunObserver, type TaskContext } from './host.ts'
export { type LinkedItem, LinkedList } from './linked-list.ts'
export { retry, type RetryOptions, type RetryPolicy } from './retry.ts'
export type { ActiveRun, AnyInstance, OnGiveUp, OnRun, Progress, QueueHandler, Run, RunHandle, RunOutcome, RunResult, TaskHandler, TimedHandler } from './run.ts'
export { Runs } from './runs.ts'
export { activeTrace, readTrace, type RunTrace, type TraceCarrier } from './trace/index.ts'
export { uuid } from './uuid.ts'
