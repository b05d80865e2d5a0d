/** A schedule of a queue, as `schedules` shows it. */
export interface QueueSchedule<Payload = unknown> {
  /** Its key. */
  key: string
  /** The period in milliseconds; undefined with `cron`. */
  every: number | undefined
  /** The cron expression; undefined with `every`. */
  cron: string | undefined
  /** The zone of the cron expression. */
  timezone: string | undefined
  /** A copy of the payload that each tick enqueues. */
  payload: Payload
  /** When the next tick is due, without jitter. */
  nextRunAt: Date | undefined
  /** When the last tick that has enqueued a run was due; undefined if there was none. */
  lastRunAt: Date | undefined
}

/** A page of schedules. */
export interface SchedulePage<Payload = unknown> {
  /** By their keys, in the order of their bytes. */
  schedules: Array<QueueSchedule<Payload>>
  /** Pass it to `schedules` for the next page; undefined on the last one. */
  cursor: string | undefined
}
