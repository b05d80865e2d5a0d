import type { FastifyInstance } from 'fastify'
import type { Attempt } from './attempt.ts'
import { errorCodes } from './errors.ts'
import { skipped, type Reason } from './execution.ts'
import { IN_A_ROW, OVERDUE, type Condition } from './health.ts'
import type { TimedOptions } from './options.ts'
import { report, type RunReport } from './report.ts'
import type { RunHandle, RunResult, TaskHandler } from './run.ts'
import type { Surroundings } from './runs.ts'
import { Task } from './task.ts'
import { RUN, Ticker, type TickerListener } from './ticker.ts'
import { uuid } from './uuid.ts'

/** A run that is wanted: by a tick, or by `trigger`. */
export interface Wanted {
  dueAt: Date
  missed: number
  /** Of a trigger, or of a run that a store has handed over: who waits for its end. */
  handle?: { id: string, settle: (result: RunResult) => void }
}

/**
 * A task that runs when its schedule says so.
 *
 * A tick becomes a run, unless one is active: then `overlap` decides. A run that is active is never touched by a tick. Under
 * `wait`, one more run stands by until it ends. Ticks that are caught up (`misfire: 'all'`) queue behind it, and no overlap skips them.
 */
export class TimedTask extends Task implements TickerListener {
  declare readonly options: TimedOptions
  readonly #handler: TaskHandler
  protected ticker: Ticker | undefined
  #pending: Wanted | undefined
  #backlog: Date[] | undefined
  /** How many ticks have been skipped behind the run that is active. */
  #skips = 0

  constructor (name: string, owner: FastifyInstance, options: TimedOptions, handler: TaskHandler, surroundings: Surroundings) {
    super(name, owner, options, surroundings)
    this.#handler = handler
  }

  get kind (): 'timed' { return 'timed' }

  override get nextRunAt (): Date | undefined { return this.state === 'paused' ? undefined : this.ticker?.nextAt }

  override nextRuns (count: number): Date[] {
    const checked = super.nextRuns(count)
    return this.ticker === undefined || this.state === 'paused' ? checked : this.ticker.next(count)
  }

  override trigger (): RunHandle {
    this.refuse('triggered')
    return this.handle((id, settle) => {
      this.want({ dueAt: new Date(this.surroundings.clock.wall()), missed: 0, handle: { id, settle } }, true)
    })
  }

  override pause (): Promise<void> {
    const { starting } = this
    return this.ask('pause', async () => {
      if (this.surroundings.closing) return
      if (!this.enterPaused(starting)) return
      this.tickOff()
      this.#drop()
    })
  }

  override resume (): Promise<void> {
    return this.ask('resume', async () => {
      if (this.state !== 'paused' || this.surroundings.closing) return
      this.enter(this.active ? 'running' : 'idle')
      if (this.ticker !== undefined) this.tickOn(this.ticker, true)
      else if (this.resumable) await this.begin()
      this.resumable = false
    })
  }

  override async cancel (runId: string): Promise<void> {
    const { handle } = this.#pending ?? {}
    if (handle === undefined || handle.id !== runId) await super.cancel(runId)
    else this.#dropPending(new errorCodes.FST_BG_CANCELLED(this.name, 'the run was cancelled'))
  }

  override shutDown (reason: Reason, grace: number): void {
    this.tickOff()
    this.ticker = undefined
    this.#drop(reason)
    super.shutDown(reason, grace)
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
      this.#backlog = [...this.#backlog ?? [], ...dueAts].slice(-RUN)
      if (!this.active) this.#runNext()
    }
  }

  excluded (dueAt: Date): void {
    this.runs.record(uuid(), skipped, this.surroundings.clock.wall(), dueAt)
    report.tickExcluded(this.log, this.name, dueAt)
  }

  excludeFailed (dueAt: Date, error: unknown): void {
    this.run({ dueAt, missed: 0 }, false, () => { throw error }, { timeout: undefined, retry: undefined })
  }

  protected override * conditions (): Iterable<Condition> {
    if (this.#skips >= IN_A_ROW) yield { status: 'failing', reason: `${this.#skips} ticks were skipped behind run ${this.runs.oldest?.attempt.id}` }
    const waiting = this.#backlog?.[0] ?? this.#pending?.dueAt
    if (waiting !== undefined && this.surroundings.clock.wall() - waiting.getTime() > OVERDUE) {
      yield { status: 'failing', reason: `the tick of ${waiting.toISOString()} has not run` }
    }
    yield * super.conditions()
  }

  /** `overlap` sees to runs that are active, such as a triggered one. */
  protected override get exclusive (): boolean { return false }

  protected get live (): boolean { return this.ticker !== undefined }

  protected async begin (): Promise<void> {
    const { scheduleClock: clock } = this.surroundings
    this.ticker = new Ticker(clock, this.options, this)
    // A run that was triggered before may be active.
    const state = this.active ? 'running' : 'idle'
    if (this.state !== state) this.enter(state)
    this.tickOn(this.ticker, false)
    if (this.options.exclude !== undefined && this.ticker.nextAt === undefined) report.allExcluded(this.log, this.name)
    if (this.options.immediate) this.want({ dueAt: new Date(clock.wall()), missed: 0 }, true)
  }

  /** Ticks from now on. */
  protected tickOn (ticker: Ticker, _resumed: boolean): void {
    ticker.start()
  }

  protected tickOff (): void {
    this.ticker?.stop()
  }

  protected async finish (): Promise<undefined> {}

  protected want (wanted: Wanted, later: boolean): void {
    const { overlap } = this.options
    if (!this.active || overlap === 'allow') this.run(wanted, later)
    else if (overlap === 'wait' && this.#pending === undefined) this.#pending = wanted
    else this.skipTick(wanted)
  }

  protected run ({ dueAt, missed, handle }: Wanted, later: boolean, handler = this.#handler, { timeout, retry }: Pick<TimedOptions, 'timeout' | 'retry'> = this.options): void {
    if (this.state === 'idle' || this.state === 'backoff') this.enter('running')
    this.runs.launch({
      handler,
      settled: (attempt, result) => {
        this.#settled(attempt, result)
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

  #settled (attempt: Attempt, result: RunResult): void {
    if (result.outcome === 'failed') this.surroundings.giveUp(this, attempt, result)
    else this.#lineOf(attempt, result)(this.log, this.name, attempt, result)
    if (this.active) return
    this.#skips = 0
    if (this.state === 'running' || this.state === 'backoff') this.enter('idle')
    this.#runNext()
  }

  #runNext (): void {
    const dueAt = this.#backlog?.shift()
    const wanted = dueAt === undefined ? this.#pending : { dueAt, missed: 0 }
    if (wanted === this.#pending) this.#pending = undefined
    if (wanted !== undefined) this.run(wanted, false)
  }

  protected skipTick ({ dueAt, handle }: Wanted): void {
    this.runs.record(handle?.id ?? uuid(), skipped, this.surroundings.clock.wall(), dueAt)
    if (this.active) this.countSkip(dueAt)
    else report.tickSkipped(this.log, false, this.name, dueAt, undefined, undefined)
    handle?.settle(skipped)
  }

  /** A tick is skipped behind the run that is active. */
  protected countSkip (dueAt: Date): void {
    this.#skips++
    // The third, the sixth, the twelfth: a run that hangs is said, and does not fill the log.
    const loud = this.#skips % 3 === 0 && Number.isInteger(Math.log2(this.#skips / 3))
    report.tickSkipped(this.log, loud, this.name, dueAt, this.#skips, this.runs.oldest?.attempt.id)
  }

  /** Forgets what stands by: without a reason, only what ticks have asked for. */
  #drop (reason?: Reason): void {
    this.#backlog = undefined
    this.#dropPending(reason)
  }

  #dropPending (reason: Reason | undefined): void {
    if (this.#pending === undefined) return
    const { dueAt, handle } = this.#pending
    if (handle !== undefined) {
      if (reason === undefined) return
      const result: RunResult = { ...skipped, outcome: 'cancelled', error: reason }
      this.runs.record(handle.id, result, this.surroundings.clock.wall(), dueAt)
      handle.settle(result)
    }
    this.#pending = undefined
  }

  #lineOf (attempt: Attempt, { outcome }: RunResult): RunReport {
    if (outcome === 'succeeded') return report.runSucceeded
    return attempt.begun && this.surroundings.closing ? report.runCutShort : report.runCancelled
  }
}
