// Time: the clock, durations, backoff, schedules, and `ticks()`.

export { withoutStores } from './async-context.ts'
export { backoff, type Backoff, type BackoffOptions, checkBackoff, limit } from './backoff.ts'
export { BLOCKED, BlockWatch, type Suspect } from './loop/block-watch.ts'
export { afterRealTime, type Alarm, Clock, defer, lastNow, now, SET_BACK, type Timer } from './clock.ts'
export { cronOf, parseCron } from './cron.ts'
export { Deadline } from './deadline.ts'
export { duration, type Duration, formatDuration, period, positiveDuration } from './duration.ts'
export { type Block, eventLoop, type LoopWatcher } from './loop/event-loop.ts'
export { Aligned, ByCron, Every, type Schedule } from './schedule.ts'
export { COUNTED, LATE, MAX_CATCH_UP, type Misfire, type Passed, passedTicks, SLICE } from './missed.ts'
export { ticks, type TicksOptions } from './ticks.ts'
