// The queue: a task that runs the payloads which the application enqueues.

export type { BackgroundQueue, EnqueueOptions, ListOptions } from './handle.ts'
export { type EnqueuedOf, type KeepPolicy, type PayloadOf, type QueueOptions, queueOptions } from './options.ts'
export { Queue } from './queue.ts'
