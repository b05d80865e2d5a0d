import { backgroundTasks } from './app/plugin.ts'

export { errorCodes, GiveUp } from './errors.ts'
export type { HealthStatus } from './health.ts'
export { ticks, type Duration, type Misfire, type TicksOptions } from './time/index.ts'
// Whole, so that users can augment `Run` by the name of the package: TypeScript merges that only through `export *`.
export type * from './run/run.ts'
export type { RetryPolicy, RunRecord, RunTrace } from './run/index.ts'
export type { ClaimedRun, Counts, Damage, Enqueued, Keep, ListedState, NewRun, OpenOptions, QueuedRun, RunOptions, RunPage, Settlement, Shared, Store, StoredError, StoreQueue, StoreWorker } from './store/index.ts'
export type { BackgroundTask, CronTaskOptions, HandlerOptions, HostedServiceOptions, Overlap, PeriodicTaskOptions, RestartPolicy, RestartWhen, ServiceTaskOptions, TaskKind, TaskOptions, TaskState, TaskStats, TimedTaskOptions } from './task/index.ts'
export type { BackgroundQueue, EnqueuedOf, EnqueueOptions, KeepPolicy, ListOptions, PayloadOf, QueueOptions } from './queue/index.ts'
export type { Health, TaskHealth } from './app/health.ts'
export type { BackgroundTasksOptions } from './app/options.ts'
export { backgroundTasks, type BackgroundTasks } from './app/plugin.ts'

export default backgroundTasks
