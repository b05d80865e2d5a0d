// The queue: a task that runs the payloads which the application enqueues.

export type { BackgroundQueue, EnqueueItem, EnqueueManyOptions, EnqueueOptions, FinishedOptions, ListOptions, Transaction } from './handle.ts'
export { type EnqueuedOf, type KeepPolicy, type PayloadOf, type QueueOptions, queueOptions } from './options.ts'
export { Queue } from './queue.ts'
export type { Scheduled, ScheduleOptions, SchedulesOptions } from './schedule-options.ts'
