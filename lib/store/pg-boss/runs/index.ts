// The runs that this process has claimed: fetched, renewed, settled, and taken over from processes that have died.

export { Fetcher } from './fetcher.ts'
export { type Look, Poller } from './poller.ts'
export { type Supervised, Supervisor } from './supervisor.ts'
