import type { Alarm, Clock, Timer } from '../../time/index.ts'

/** A task that ticks: what its ticker calls, and what that keeps in the task. The task itself is the alarm, which saves an object per task. */
export interface TickTarget extends Alarm {
  /** The clock of its ticks. */
  readonly scheduleClock: Clock
  /** The monotonic time from which a period counts. A pause does not move it. NaN while the task is not started. */
  readonly origin: number
  /** Only the ticker writes this. */
  tickState: TickState | undefined
  /** Runs a tick now. `missed` is how many earlier ticks it stands for. */
  tick (dueAt: Date, missed: number): void
  /** Runs missed ticks, oldest first, one after another. */
  catchUp (dueAts: Date[]): void
  /** Called for a tick that `exclude` leaves out. */
  excluded (dueAt: Date): void
  /** Called for a tick on which `exclude` threw. */
  excludeFailed (dueAt: Date, error: unknown): void
}

/** State of a task that ticks. Most tasks need none. */
export class TickState {
  /** Goes up with each stop, so that a search which has yielded does not go on after it. */
  life = 0
  /** Due ticks that wait for their jitter, by due time. */
  readonly delayed: Map<number, Timer> = new Map()
  /** When the alarm rang last, by the wall clock. Every tick until then has been handled. */
  rung = -Infinity
  /** Further missed ticks that the next run stands for. */
  carried = 0
  /** Passed ticks are being counted, over several turns of the event loop. */
  counting = false
  /** What to do with the ticks that rang meanwhile: never before the earlier ones. */
  readonly waiting: Array<() => void> = []
  /** Cache of the first tick from `from` that `exclude` does not leave out: the search may be long. */
  sought: { from: number, found: number[] } | undefined
}

/** Whether the task ticks. A stop, a pause and the close cancel its alarm. */
export function isTicking (task: TickTarget): boolean {
  return task.scheduleClock.dueOf(task) !== undefined
}

/** The state of a task that ticks, made when it is needed first. */
export function tickStateOf (task: TickTarget): TickState {
  task.tickState ??= new TickState()
  return task.tickState
}
