// The kinds of task that run by themselves, their options, states and handles.

export type { BackgroundTask, TaskJson, TaskKind, TaskTiming, TaskStats } from './handle.ts'
export type { GivenUp, TaskHost } from './host.ts'
export { checkLevel, handlerChecks, type HandlerOptions, settingsOf, type SharedHandlerOptions, type TaskOptions } from './options.ts'
export { HostedService } from './service/hosted.ts'
export { hostedOptions, type HostedServiceOptions, serviceOptions, type ServiceTaskOptions } from './service/options.ts'
export type { RestartPolicy, RestartWhen } from './service/restart.ts'
export { Service } from './service/service.ts'
export type { TaskState } from './states.ts'
export { Task } from './task.ts'
export { ClusterTask } from './timed/cluster.ts'
export { type CronTaskOptions, isTimed, type Overlap, type PeriodicTaskOptions, timedOptions, type TimedTaskOptions } from './timed/options.ts'
export { TimedTask } from './timed/timed.ts'
