import { COUNTED, LATE, type Misfire } from '../../time/index.ts'
import type { DueTimes } from './due-times.ts'
import { isTicking, type TickTarget, tickStateOf } from './tick-target.ts'

/** Missed ticks: from the oldest one up to the next one, which is in the future. */
export interface Missed {
  oldest: number
  next: number
  now: number
}

/** Fires a tick that stands for `missed` earlier ones; without a due time, none. */
export type Fire = (due: number | undefined, missed: number) => void

/** Does with missed ticks what `misfire` says. */
export function handleMissed (misfire: Misfire, dueTimes: DueTimes, task: TickTarget, { oldest, next, now }: Missed, fire: Fire): void {
  switch (misfire) {
    case 'skip':
      // The ticks of the last second are not missed: they become one run.
      dueTimes.gather(task, now - LATE, next, (dues, count) => { fire(dues[0], count - 1) })
      return
    case 'once':
      dueTimes.gather(task, oldest, next, (dues, count) => {
        const tickState = tickStateOf(task)
        fire(dues[0], Math.min(count - 1 + tickState.carried, COUNTED))
        tickState.carried = 0
      })
      return
    case 'all':
      dueTimes.gather(task, oldest, next, dues => {
        const admitted = dues.reverse().filter(due => dueTimes.admit(task, due))
        if (isTicking(task)) task.catchUp(admitted.map(due => dueTimes.date(task, due)))
      })
  }
}
