import type { FastifyInstance } from 'fastify'
import type { Attempt } from './attempt.ts'
import type { Clock } from './clock.ts'
import { errorCodes } from './errors.ts'
import { skipped, type Reason } from './execution.ts'
import { IN_A_ROW, OVERDUE, type Condition } from './health.ts'
import type { TimedOptions } from './options.ts'
import { report, type RunReport } from './report.ts'
import type { RunHandle, RunResult, TaskHandler } from './run.ts'
import type { Surroundings } from './runs.ts'
import { Standby, type Expected, type Wanted } from './standby.ts'
import type { TaskState } from './states.ts'
import { Task } from './task.ts'
import type { Past, Ticking } from './ticker.ts'
import { uuid } from './uuid.ts'

/**
 * A task that runs when its schedule says so.
 *
 * A tick becomes a run, unless one is active: then `overlap` decides. A run that is active is never touched by a tick. Under
 * `wait`, one more run stands by until it ends. Ticks that are caught up (`misfire: 'all'`) queue behind it, and no overlap skips them.
 *
 * There may be ten thousand of them, of which few do anything at a time: what only those need is made when they need it.
 */
export class TimedTask extends Task implements Ticking {
  declare readonly options: TimedOptions
  readonly #handler: TaskHandler
  /** From when its ticks are counted; undefined while it is not started. */
  #origin: number | undefined
  #standby: Standby | undefined
  // The clock's and the ticker's to write.
  place = 0
  past: Past | undefined

  constructor (name: string, owner: FastifyInstance, options: TimedOptions, handler: TaskHandler, surroundings: Surroundings) {
    super(name, owner, options, surroundings)
    this.#handler = handler
  }

  get kind (): 'timed' { return 'timed' }

  /** One that does nothing has nothing to end: when the application closes it is stopped at once, and nobody has to tell it. */
  override get state (): TaskState {
    const state = super.state
    return this.surroundings.phase === 'closing' && (state === 'idle' || state === 'paused') && this.resting ? 'stopped' : state
  }

  override get resting (): boolean { return !this.active }

  get scheduleClock (): Clock { return this.surroundings.scheduleClock }

  get origin (): number { return this.#origin ?? NaN }

  override get nextRunAt (): Date | undefined { return this.options.ticker.nextAt(this) }

  override nextRuns (count: number): Date[] {
    super.nextRuns(count)
    return this.options.ticker.next(this, count)
  }

  override trigger (): RunHandle {
    this.refuse('triggered')
    return this.handle((id, settle) => {
      this.want({ dueAt: new Date(this.surroundings.clock.wall()), missed: 0, triggered: true, handle: { id, settle } }, true)
    })
  }

  override pause (): Promise<void> {
    const { starting } = this
    return this.ask('pause', async () => {
      if (this.surroundings.closing) return
      if (!this.enterPaused(starting)) return
      this.tickOff()
      this.#standby?.dropTicks()
    })
  }

  override resume (): Promise<void> {
    return this.ask('resume', async () => {
      if (this.state !== 'paused' || this.surroundings.closing) return
      this.enter(this.active ? 'running' : 'idle')
      if (this.live) this.tickOn(true)
      else if (this.resumable) await this.begin()
      this.resumable = false
    })
  }

  override async cancel (runId: string): Promise<void> {
    const waiting = this.#standby?.callOff(runId)
    if (waiting === undefined) await super.cancel(runId)
    else this.calledOff(waiting, new errorCodes.FST_BG_CANCELLED(this.name, 'the run was cancelled'))
  }

  override shutDown (reason: Reason, grace: number): void {
    this.tickOff()
    this.#origin = undefined
    this.past = undefined
    this.#standby?.dropTicks()
    const waiting = this.#standby?.callOff()
    if (waiting !== undefined) this.calledOff(waiting, reason)
    super.shutDown(reason, grace)
  }

  ring (now: number, due: number): void {
    this.options.ticker.ring(this, now, due)
  }

  setBack (): void {
    this.options.ticker.setBack(this)
  }

  tick (dueAt: Date, missed: number): void {
    this.want({ dueAt, missed }, false)
  }

  catchUp (dueAts: Date[]): void {
    if (this.options.overlap === 'allow') {
      for (const dueAt of dueAts) {
        // The one before may have stopped or paused the task in its first line.
        if (this.live && this.state !== 'paused') this.run({ dueAt, missed: 0 }, false)
      }
    } else {
      this.standby.catchUp(dueAts)
      if (!this.active) this.runNext()
    }
  }

  excluded (dueAt: Date): void {
    this.runs.record(uuid(), skipped, this.surroundings.clock.wall(), dueAt)
    report.tickExcluded(this.log, this.name, dueAt)
  }

  excludeFailed (dueAt: Date, error: unknown): void {
    this.run({ dueAt, missed: 0 }, false, () => { throw error }, { timeout: undefined, retry: undefined })
  }

  override runEnded (): void {
    if (this.resting) this.surroundings.up.delete(this)
    super.runEnded()
  }

  protected override * conditions (): Iterable<Condition> {
    const { skips = 0, dueAt: waiting }: Partial<Standby> = this.#standby ?? {}
    if (skips >= IN_A_ROW) yield { status: 'failing', reason: `${skips} ticks were skipped behind run ${this.runs.oldest?.attempt.id}` }
    if (waiting !== undefined && this.surroundings.clock.wall() - waiting.getTime() > OVERDUE) {
      yield { status: 'failing', reason: `the tick of ${waiting.toISOString()} has not run` }
    }
    yield * super.conditions()
  }

  /** `overlap` sees to runs that are active, such as a triggered one. */
  protected override get exclusive (): boolean { return false }

  protected get live (): boolean { return this.#origin !== undefined }

  protected async begin (): Promise<void> {
    const { scheduleClock: clock, options: { immediate, ticker: { options: { exclude } } } } = this
    this.#origin = clock.now()
    // A run that was triggered before may be active.
    const state = this.active ? 'running' : 'idle'
    if (this.state !== state) this.enter(state)
    this.tickOn(false)
    if (exclude !== undefined && this.nextRunAt === undefined) report.allExcluded(this.log, this.name)
    if (immediate) this.want({ dueAt: new Date(clock.wall()), missed: 0 }, true)
  }

  protected get standby (): Standby {
    this.#standby ??= new Standby()
    return this.#standby
  }

  /** Ticks from now on. */
  protected tickOn (_resumed: boolean): void {
    this.options.ticker.start(this)
  }

  /** Ticks as if it had stood still since. */
  protected tickSince (since: number | undefined): void {
    this.options.ticker.start(this, since)
  }

  protected tickOff (): void {
    this.options.ticker.stop(this)
  }

  protected async finish (): Promise<undefined> {}

  protected want (wanted: Wanted, later: boolean): void {
    const { overlap } = this.options
    if (!this.active || overlap === 'allow') this.run(wanted, later)
    else if (overlap !== 'wait' || !this.standby.takes(wanted)) this.skipTick(wanted)
  }

  protected run ({ dueAt, missed, handle }: Wanted, later: boolean, handler = this.#handler, { timeout, retry }: Pick<TimedOptions, 'timeout' | 'retry'> = this.options): void {
    if (this.state === 'idle' || this.state === 'backoff') this.enter('running')
    this.surroundings.up.add(this)
    this.runs.launch({
      handler,
      settled: (attempt, result) => {
        this.settled(attempt, result)
        handle?.settle(result)
      },
      dueAt,
      missed,
      id: handle?.id,
      later,
      timeout,
      retry,
      started: attempt => { if (attempt.number === 1) report.tick(this.log, this.name, attempt, dueAt) },
      retrying: (attempt, result, delay) => {
        report.retried(this.log, this.name, attempt, result, delay)
        if (this.state === 'running' && this.runs.size === 1) this.enter('backoff')
      },
      resumed: () => { if (this.state === 'backoff') this.enter('running') }
    })
  }

  protected settled (attempt: Attempt, result: RunResult): void {
    if (result.outcome === 'failed') this.surroundings.giveUp(this, attempt, result)
    else this.lineOf(attempt, result)(this.log, this.name, attempt, result)
    if (this.active) return
    if (this.#standby !== undefined) this.#standby.skips = 0
    if (this.state === 'running' || this.state === 'backoff') this.enter('idle')
    this.runNext()
  }

  protected runNext (): void {
    const next = this.#standby?.next()
    if (next !== undefined) this.run(next, false)
    else this.#standby = undefined
  }

  protected skipTick ({ dueAt, triggered = false, handle }: Wanted): void {
    this.runs.record(handle?.id ?? uuid(), skipped, this.surroundings.clock.wall(), dueAt)
    if (this.active && !triggered) this.countSkip(dueAt)
    else report.tickSkipped(this.log, false, this.name, dueAt, undefined, undefined)
    handle?.settle({ ...skipped })
  }

  /** A tick is skipped behind the run that is active. */
  protected countSkip (dueAt: Date): void {
    const skips = ++this.standby.skips
    // The third, the sixth, the twelfth: a run that hangs is said, and does not fill the log.
    const loud = skips % 3 === 0 && Number.isInteger(Math.log2(skips / 3))
    report.tickSkipped(this.log, loud, this.name, dueAt, skips, this.runs.oldest?.attempt.id)
  }

  /** A run that was triggered, or handed over, and has not begun: it never will. */
  protected calledOff ({ dueAt, handle }: Expected, reason: Reason): void {
    const result: RunResult = { ...skipped, outcome: 'cancelled', error: reason }
    this.runs.record(handle.id, result, this.surroundings.clock.wall(), dueAt)
    handle.settle(result)
  }

  protected lineOf (attempt: Attempt, { outcome }: RunResult): RunReport {
    if (outcome === 'succeeded') return report.runSucceeded
    return attempt.begun && this.surroundings.closing ? report.runCutShort : report.runCancelled
  }
}
