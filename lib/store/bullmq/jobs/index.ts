// Jobs as they stand in Redis: how ours are written, and how any is read, whoever wrote it and whatever is left of it.

export type { JobData } from '../../engines/index.ts'
export { JobReader } from './job-reader.ts'
export { claimedRunOf, crashed, crashOf, errorFor, errorOf, jobOf, plainDataOf, type RunJob } from './job.ts'
export { Pages, sets } from './pages.ts'
export { JobTransaction } from './transaction.ts'
export { CANCELLED, isCancelled, returnValueOf, valueOf } from './value.ts'
