// How the jobs of a queue end, for those who wait: the stream of BullMQ's events, and looks at the jobs.

export { EndWatcher } from './end-watcher.ts'
