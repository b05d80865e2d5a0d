// Jobs as they stand in Redis: how ours are written, and how any is read, whoever wrote it and whatever is left of it.

export { type JobData } from './job-data.ts'
export { JobReader } from './job-reader.ts'
export { claimedRunOf, crashed, errorFor, jobOf, type RunJob } from './job.ts'
export { Pages, sets } from './pages.ts'
