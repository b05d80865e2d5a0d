// Where the runs of a queue wait: the contract of a store, and the store in memory. Each engine has an export path of its own.

export { copyOf, decode, type Stored } from './codec.ts'
export { MemoryStore } from './memory/index.ts'
export type { Counts, Enqueued, ListedState, QueuedRun, RunEnd, RunPage } from './queued-run.ts'
export { type ClaimedRun, type Damage, type EndListener, type Keep, type NewRun, type OpenOptions, RELEASE, type RunOptions, type ScheduleStore, type Settlement, type Shared, type Store, type StoreQueue, type StoreWorker, type Tick } from './store.ts'
export type { QueueSchedule, ScheduleDefinition, SchedulePage } from './schedules/index.ts'
export { storedError, type StoredError } from './stored-error.ts'
