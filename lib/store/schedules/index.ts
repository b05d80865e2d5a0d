// Schedules as data: their form, and how each store is to keep and run them.

export { decodeDefinition, encodeDefinition, type ScheduleDefinition, scheduleOf } from './definition.ts'
export type { QueueSchedule, SchedulePage } from './queue-schedule.ts'
