import { defer } from './clock.ts'
import type { Schedule } from './schedule.ts'

/** What happens with missed ticks: no run, one run for them all, or one run each. */
export type Misfire = 'skip' | 'once' | 'all'

/** A tick is missed if it is later than this, in milliseconds. */
export const LATE = 1_000
/** The most missed ticks that run one by one. */
export const MAX_CATCH_UP = 100
/** The most missed ticks that one run counts. */
export const COUNTED = 1_000
/** How many passed ticks are computed before the event loop gets its turn. */
export const SLICE = 50

/** A tick that fires, with the number of earlier ticks that it stands for. */
export interface Fired { due: number, missed: number }

/** A due tick: when it was due, when its jitter had passed, and what time it is. */
export interface Passed { due: number, at: number, now: number }

/**
 * Which ticks fire when the alarm of a schedule rings, and when the next one is due (Infinity if there is none), without `exclude`. One that is on time
 * fires; of several, the latest stands for all; with missed ones `misfire` decides. Calls `done` at once, unless it has to count many.
 */
export function passedTicks (schedule: Schedule, origin: number, misfire: Misfire, { due, at, now }: Passed, done: (fired: Fired[], next: number) => void): void {
  const following = schedule.next(due, origin)
  const late = now - at > LATE
  if (following > now) {
    done(late && misfire === 'skip' ? [] : [{ due, missed: 0 }], following)
    return
  }
  const next = schedule.next(now, origin)
  const oldest = late && misfire === 'skip' ? now - LATE : due
  const dues: number[] = []
  let count = 0
  let tick = schedule.previous(next, origin)
  const look = (): void => {
    do {
      if (tick === undefined || tick < oldest || count > COUNTED) {
        if (late && misfire === 'all') done(dues.reverse().map(due => ({ due, missed: 0 })), next)
        else done(dues.slice(0, 1).map(due => ({ due, missed: Math.min(count - 1, COUNTED) })), next)
        return
      }
      count++
      if (dues.length < MAX_CATCH_UP) dues.push(tick)
      tick = schedule.previous(tick, origin)
    } while (count % SLICE > 0)
    defer(look)
  }
  look()
}
