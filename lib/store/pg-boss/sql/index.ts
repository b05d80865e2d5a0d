// All SQL of the store. `jobs.ts` is the only file that knows how pg-boss keeps its jobs.

export { jobStatements, type JobStatements } from './jobs.ts'
export { scheduleStatements, type ScheduleStatements } from './schedules.ts'
export { creation, TABLES_VERSION } from './tables.ts'
