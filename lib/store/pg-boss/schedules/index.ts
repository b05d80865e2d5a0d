// Schedules as data in PostgreSQL.

export { PgBossSchedules } from './schedules.ts'
export { ScheduleTicker } from './schedule-ticker.ts'
