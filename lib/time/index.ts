// Time: the clock, durations, schedules, and what ticks.

export { backoff, type Backoff, type BackoffOptions, checkBackoff, limit } from './backoff.ts'
export { type Alarm, Clock, defer, lastNow, now, type Timer } from './clock.ts'
export { parseCron, UnknownZone } from './cron.ts'
export { Deadline } from './deadline.ts'
export { duration, type Duration, formatDuration, period, positiveDuration } from './duration.ts'
export { Aligned, ByCron, Every } from './schedule.ts'
export { LATE, type Misfire, MAX_CATCH_UP, Ticker, type TickerOptions, TickState, type TickTarget } from './ticker.ts'
export { ticks, type TicksOptions } from './ticks.ts'
