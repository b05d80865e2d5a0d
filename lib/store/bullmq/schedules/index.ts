// The schedules of a queue in Redis: their changes, and the ticker that all processes run together.

export { ScheduleTicker } from './schedule-ticker.ts'
export { BullmqSchedules } from './schedules.ts'
