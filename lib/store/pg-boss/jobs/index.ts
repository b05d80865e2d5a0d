// Jobs as they stand in PostgreSQL: how ours are written, and how any is read, whoever wrote it.

export { addRuns, addRunsIn } from './adding.ts'
export { claimedRunOf, crashed, crashesOf, endOf, errorOf, errorText, type JobRow, jobOf, millis, type NewJob, parsed, recordOf } from './job.ts'
export { engineId, engineName, isUuid, keyOf } from './names.ts'
export { pageOf } from './pages.ts'
