// What the adapters of engines share: the form of a job's data, which producers in other languages write, the comparison of clocks, and how optional packages are loaded.

export { type JobData, readData, type ReadData, unreadable, VERSION } from './job-data.ts'
export { loadByNode, nodeRequire } from './packages.ts'
export { StoreClock } from './store-clock.ts'
