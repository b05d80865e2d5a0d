// What the adapters of engines share: the form of a job's data, which producers in other languages write, and the comparison of clocks.

export { type JobData, readData, type ReadData, unreadable, VERSION } from './job-data.ts'
export { StoreClock } from './store-clock.ts'
