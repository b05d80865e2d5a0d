import type { FastifyInstance } from 'fastify'
import { errorCodes, type Reason } from '../../common/errors.ts'
import { type Condition, IN_A_ROW, OVERDUE } from '../../common/health.ts'
import { report, type RunReport } from '../../common/log.ts'
import { type Attempt, type RunHandle, type RunResult, skipped, type TaskHandler, uuid } from '../../run/index.ts'
import { Aligned, ByCron, type Clock, Every } from '../../time/index.ts'
import type { TaskTiming } from '../handle.ts'
import type { TaskHost } from '../host.ts'
import type { TaskState } from '../states.ts'
import { settingsOf } from '../options.ts'
import { Task } from '../task.ts'
import type { TimedOptions } from './options.ts'
import { type AwaitedRequest, type RunRequest, TickBacklog } from './overlap.ts'
import type { TickState, TickTarget } from './tick-target.ts'

/**
 * A task that runs when its schedule says so.
 *
 * A tick becomes a run. If a run is active, `overlap` decides; a tick never touches an active run. With `'wait'`, one request waits until it ends.
 * Missed ticks that `misfire: 'all'` runs one by one wait behind it, and `overlap` does not skip them.
 *
 * An application may have ten thousand timed tasks, few of them active at a time. So a task creates what only an active one needs when it needs it.
 */
export class TimedTask extends Task implements TickTarget {
  declare readonly options: TimedOptions
  readonly #handler: TaskHandler
  /** Monotonic time from which a period counts; undefined while the task is not started. */
  #origin: number | undefined
  #backlog: TickBacklog | undefined
  // Only the clock and the ticker write these.
  place = 0
  tickState: TickState | undefined

  constructor (name: string, owner: FastifyInstance, options: TimedOptions, handler: TaskHandler, host: TaskHost) {
    super(name, owner, options, host)
    this.#handler = handler
  }

  get kind (): 'timed' { return 'timed' }

  /** When the application closes, a task between two runs is `stopped` at once, although nobody tells it. */
  override get state (): TaskState {
    const state = super.state
    return this.host.phase === 'closing' && (state === 'idle' || state === 'paused') && this.dormant ? 'stopped' : state
  }

  override get dormant (): boolean { return !this.active }

  override get overdue (): number | undefined {
    const dueAt = this.#backlog?.dueAt
    return dueAt && this.#latenessOf(dueAt)
  }

  get scheduleClock (): Clock { return this.host.scheduleClock }

  get origin (): number { return this.#origin ?? NaN }

  override get nextRunAt (): Date | undefined { return this.options.ticker.nextAt(this) }

  override get timing (): TaskTiming {
    const { schedule } = this.options.ticker.options
    const { text: cron, timezone }: { text?: string, timezone?: string } = schedule instanceof ByCron ? schedule.pattern : {}
    return { every: schedule instanceof Every || schedule instanceof Aligned ? schedule.period : undefined, cron, timezone }
  }

  override get settings (): Record<string, unknown> {
    const { ticker, ...options } = this.options
    const { schedule, ...ofTicker } = ticker.options
    return settingsOf({ ...this.timing, ...options, ...ofTicker })
  }

  override nextRuns (count: number): Date[] {
    super.nextRuns(count)
    return this.options.ticker.next(this, count)
  }

  override trigger (): RunHandle {
    this.refuse('triggered')
    return this.handle((id, settle) => {
      this.request({ dueAt: new Date(this.host.clock.wall()), missed: 0, triggered: true, handle: { id, settle } }, true)
    })
  }

  override pause (): Promise<void> {
    const { starting } = this
    return this.perform('pause', async () => {
      if (this.host.closing) return
      if (!this.enterPaused(starting)) return
      this.tickOff()
      this.#backlog?.dropTicks()
    })
  }

  override resume (): Promise<void> {
    return this.perform('resume', async () => {
      if (this.state !== 'paused' || this.host.closing) return
      this.enter(this.active ? 'running' : 'idle')
      if (this.live) this.tickOn(true)
      else if (this.resumable) await this.begin()
      this.resumable = false
    })
  }

  override async cancel (runId: string): Promise<void> {
    const waiting = this.#backlog?.cancel(runId)
    if (waiting === undefined) await super.cancel(runId)
    else this.cancelRequest(waiting, new errorCodes.FST_BG_CANCELLED(this.name, 'the run was cancelled'))
  }

  override shutDown (reason: Reason, grace: number): void {
    this.tickOff()
    this.#origin = undefined
    this.tickState = undefined
    this.#backlog?.dropTicks()
    const waiting = this.#backlog?.cancel()
    if (waiting !== undefined) this.cancelRequest(waiting, reason)
    super.shutDown(reason, grace)
  }

  ring (now: number, due: number): void {
    this.options.ticker.ring(this, now, due)
  }

  setBack (): void {
    this.options.ticker.setBack(this)
  }

  tick (dueAt: Date, missed: number): void {
    this.request({ dueAt, missed }, false)
  }

  catchUp (dueAts: Date[]): void {
    if (this.options.overlap === 'allow') {
      for (const dueAt of dueAts) {
        // The run before may have stopped or paused the task in its first line.
        if (this.live && this.state !== 'paused') this.run({ dueAt, missed: 0 }, false)
      }
    } else {
      this.backlog.catchUp(dueAts)
      if (!this.active) this.runNext()
    }
  }

  excluded (dueAt: Date): void {
    this.runs.record(uuid(), skipped, this.host.clock.wall(), dueAt)
    report.tickExcluded(this.log, this.name, dueAt)
  }

  excludeFailed (dueAt: Date, error: unknown): void {
    this.run({ dueAt, missed: 0 }, false, () => { throw error }, { timeout: undefined, retry: undefined })
  }

  override runEnded (): void {
    if (this.dormant) this.host.closeable.delete(this)
    super.runEnded()
  }

  protected override * conditions (): Iterable<Condition> {
    const { skips = 0, dueAt: waiting }: Partial<TickBacklog> = this.#backlog ?? {}
    if (skips >= IN_A_ROW) yield { status: 'failing', reason: `${skips} ticks were skipped behind run ${this.runs.oldest?.attempt.id}` }
    if (waiting !== undefined && this.host.clock.wall() - waiting.getTime() > OVERDUE) {
      yield { status: 'failing', reason: `the tick of ${waiting.toISOString()} has not run` }
    }
    yield * super.conditions()
  }

  /** A life need not wait for active runs, such as a triggered one: `overlap` handles them. */
  protected override get exclusive (): boolean { return false }

  protected get live (): boolean { return this.#origin !== undefined }

  protected async begin (): Promise<void> {
    const { scheduleClock: clock, options: { immediate, ticker: { options: { exclude } } } } = this
    this.#origin = clock.now()
    // A run that was triggered before the start may be active.
    const state = this.active ? 'running' : 'idle'
    if (this.state !== state) this.enter(state)
    this.tickOn(false)
    if (exclude !== undefined && this.nextRunAt === undefined) report.allExcluded(this.log, this.name)
    if (immediate) this.request({ dueAt: new Date(clock.wall()), missed: 0 }, true)
  }

  protected get backlog (): TickBacklog {
    this.#backlog ??= new TickBacklog()
    return this.#backlog
  }

  /** Starts the ticks. */
  protected tickOn (_resumed: boolean): void {
    this.options.ticker.start(this)
  }

  /** Starts the ticks as if the process had stood still since a time. */
  protected tickSince (since: number | undefined): void {
    this.options.ticker.start(this, since)
  }

  protected tickOff (): void {
    this.options.ticker.stop(this)
  }

  protected async finish (): Promise<undefined> {}

  protected request (request: RunRequest, later: boolean): void {
    const { overlap } = this.options
    if (!this.active || overlap === 'allow') this.run(request, later)
    else if (overlap !== 'wait' || !this.backlog.takes(request)) this.skipTick(request)
  }

  protected run ({ dueAt, missed, triggered = false, handle }: RunRequest, later: boolean, handler = this.#handler, { timeout, retry }: Pick<TimedOptions, 'timeout' | 'retry'> = this.options): void {
    if (this.state === 'idle' || this.state === 'backoff') this.enter('running')
    this.host.closeable.add(this)
    this.runs.start({
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
      started: attempt => {
        if (attempt.number > 1) return
        if (!triggered) this.host.observer?.tickBegan(this, this.#latenessOf(dueAt))
        report.tick(this.log, this.name, attempt, dueAt)
      },
      retrying: (attempt, result, delay) => {
        report.retried(this.log, this.name, attempt, result, delay)
        if (this.state === 'running' && this.runs.size === 1) this.enter('backoff')
      },
      resumed: () => { if (this.state === 'backoff') this.enter('running') }
    })
  }

  /** How long ago a tick could have begun at the latest: its jitter is no delay. */
  #latenessOf (dueAt: Date): number {
    return Math.max(0, this.host.clock.wall() - dueAt.getTime() - this.options.ticker.options.jitter)
  }

  protected settled (attempt: Attempt, result: RunResult): void {
    if (result.outcome === 'failed') this.host.giveUp(this, attempt, result)
    else this.reportOf(attempt, result)(this.log, this.name, attempt, result)
    if (this.active) return
    if (this.#backlog !== undefined) this.#backlog.skips = 0
    if (this.state === 'running' || this.state === 'backoff') this.enter('idle')
    this.runNext()
  }

  protected runNext (): void {
    const next = this.#backlog?.next()
    if (next !== undefined) this.run(next, false)
    else this.#backlog = undefined
  }

  protected skipTick ({ dueAt, triggered = false, handle }: RunRequest): void {
    this.runs.record(handle?.id ?? uuid(), skipped, this.host.clock.wall(), dueAt)
    if (this.active && !triggered) this.countSkip(dueAt)
    else report.tickSkipped(this.log, false, this.name, dueAt, undefined, undefined)
    handle?.settle({ ...skipped })
  }

  /** Counts a tick that is skipped behind the active run. */
  protected countSkip (dueAt: Date): void {
    const skips = ++this.backlog.skips
    // At warn for the third, the sixth, the twelfth and so on, so that a hanging run does not fill the log.
    const loud = skips % 3 === 0 && Number.isInteger(Math.log2(skips / 3))
    report.tickSkipped(this.log, loud, this.name, dueAt, skips, this.runs.oldest?.attempt.id)
  }

  /** Cancels a requested run that has not begun. */
  protected cancelRequest ({ dueAt, handle }: AwaitedRequest, reason: Reason): void {
    const result: RunResult = { ...skipped, outcome: 'cancelled', error: reason }
    this.runs.record(handle.id, result, this.host.clock.wall(), dueAt)
    handle.settle(result)
  }

  protected reportOf (attempt: Attempt, { outcome }: RunResult): RunReport {
    if (outcome === 'succeeded') return report.runSucceeded
    return attempt.begun && this.host.closing ? report.runCutShort : report.runCancelled
  }
}
