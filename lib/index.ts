import { backgroundTasks } from './app/plugin.ts'

export { errorCodes, GiveUp } from './common/errors.ts'
export type { Condition, HealthStatus } from './common/health.ts'
export { ticks, type Duration, type Misfire, type TicksOptions } from './time/index.ts'
// Whole, so that users can augment `Run` by the name of the package: TypeScript merges that only through `export *`.
export type * from './run/run.ts'
export type { ActivityMinute, ActivityReport, FailedRun, RetryPolicy, RunRecord, RunTrace, TraceCarrier } from './run/index.ts'
export type { ClaimedRun, Counts, Damage, EndListener, Enqueued, Keep, ListedState, NewRun, OpenOptions, QueuedRun, QueueSchedule, RunEnd, RunOptions, RunPage, ScheduleDefinition, SchedulePage, ScheduleStore, Settlement, Shared, Store, StoredError, StoreQueue, StoreWorker, Tick } from './store/index.ts'
export type { BackgroundTask, CronTaskOptions, HandlerOptions, HostedServiceOptions, Overlap, PeriodicTaskOptions, RestartPolicy, RestartWhen, ServiceTaskOptions, TaskJson, TaskKind, TaskOptions, TaskState, TaskStats, TaskTiming, TimedTaskOptions } from './task/index.ts'
export type { BackgroundQueue, EnqueuedOf, EnqueueItem, EnqueueManyOptions, EnqueueOptions, FinishedOptions, KeepPolicy, ListOptions, PayloadOf, QueueOptions, Scheduled, ScheduleOptions, SchedulesOptions, Transaction } from './queue/index.ts'
export type { Health, TaskHealth } from './app/health.ts'
export type { BackgroundTasksOptions } from './app/options.ts'
export { backgroundTasks, type BackgroundTasks } from './app/plugin.ts'

export default backgroundTasks
