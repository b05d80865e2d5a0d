import type { FastifyInstance } from 'fastify'
import { invalid, show } from '../common/check.ts'
import { errorCodes, type Reason } from '../common/errors.ts'
import { type Condition, IN_A_ROW, LAST_RUNS } from '../common/health.ts'
import { report } from '../common/log.ts'
import { type Attempt, type Progress, type QueueHandler, type RunHandle, type RunResult } from '../run/index.ts'
import { calledBy } from '../common/readable.ts'
import { type ClaimedRun, type Counts, decode, type Enqueued, type ListedState, type QueuedRun, RELEASE, type RunEnd, type RunPage, type SchedulePage, type Settlement, type Store, type StoreQueue, type StoreWorker } from '../store/index.ts'
import { settingsOf, Task, type TaskHost } from '../task/index.ts'
import { backoff, type Timer } from '../time/index.ts'
import { Admission } from './admission.ts'
import { type AttemptListener, ClaimedAttempt, isFinal, type LoggedRun } from './claimed-attempt.ts'
import type { BackgroundQueue, EnqueueItem, EnqueueManyOptions, EnqueueOptions, FinishedOptions, ListOptions } from './handle.ts'
import { type CheckedQueueOptions, clearedState, finishedOptions, listOptions } from './options.ts'
import { Payloads } from './payload.ts'
import { type Scheduled, scheduleKey, type ScheduleOptions, scheduleOptions, type SchedulesOptions, schedulesOptions } from './schedule-options.ts'
import { Values } from './values.ts'
import { Waits } from './waits.ts'

/**
 * A task that runs the payloads which the application enqueues.
 *
 * Its runs wait in a store. The store hands them over, one attempt at a time, and the queue settles each attempt. The queue has no list of its
 * own: active runs are in `runs`, all others in the store.
 */
export class Queue extends Task implements BackgroundQueue<unknown>, StoreWorker, AttemptListener {
  declare readonly options: CheckedQueueOptions
  readonly #handler: QueueHandler<never, FastifyInstance>
  readonly #payloads: Payloads
  readonly #values: Values
  readonly #waits: Waits
  readonly #store: StoreQueue
  readonly #admission: Admission
  /** Whether it takes runs: from `start` until somebody tells it to stop. */
  #working = false
  /** Ids of active runs that somebody has cancelled, rather than stopped the queue. */
  readonly #cancelled = new Set<string>()
  /** Armed while the application closes and the queue goes on within its grace. */
  #grace: Timer | undefined
  /** Armed while the application closes and somebody waits for a run that is active here, on a durable store. */
  #waiting: Timer | undefined
  /** Armed while the application closes, for a durable store. */
  #release: Timer | undefined
  /** Whether it finishes waiting runs while the application closes. */
  #goesOn = false
  #over = false

  constructor (name: string, owner: FastifyInstance, options: CheckedQueueOptions, handler: QueueHandler<never, FastifyInstance>, host: TaskHost, store: Store) {
    super(name, owner, options, host)
    this.#handler = handler
    this.#payloads = new Payloads(name, owner, options.schema, options.maxPayload)
    this.#values = new Values((run, why) => { report.valueLeftOut(this.log, name, run, why) })
    this.#waits = new Waits(name, host.clock)
    // For a queue that is declared late no onReady hook compiles the schema. Do it before opening the store: if it fails, nobody would close that.
    if (host.isBooted(owner)) this.prepare()
    this.#store = store.open({ name, clock: host.clock, log: owner.log, ...options.open }, this)
    this.#admission = new Admission(name, this.#payloads, this.#store)
  }

  get kind (): 'queue' { return 'queue' }

  override get settings (): Record<string, unknown> {
    const { open, ...options } = this.options
    return settingsOf({ ...options, ...open })
  }

  /** Compiles the schema. Throws `FST_BG_INVALID_OPTION`. */
  override prepare (): void {
    this.#payloads.compile()
  }

  /** Not async, which would cost a twentieth of a run: turns an exception into a rejection. */
  enqueue (payload: unknown, given?: EnqueueOptions): Promise<Enqueued> {
    try {
      this.#refuseOver()
      return Promise.resolve(this.#admission.enqueue(payload, given))
    } catch (error) {
      return rejected(calledBy(error, this.enqueue))
    }
  }

  async enqueueMany (given: readonly EnqueueItem[], options?: EnqueueManyOptions): Promise<Enqueued[]> {
    this.#refuseOver()
    return await this.#admission.enqueueMany(given, options, () => { this.#refuseOver() })
  }

  async schedule (key: string, given: ScheduleOptions): Promise<Scheduled> {
    this.#refuseOver()
    scheduleKey('schedule', this.name, key)
    const { payload, ...options } = scheduleOptions(this.name, key, given, this.#store.durable, this.host.clock.wall())
    const stored = this.#payloads.encode(payload)
    if (this.#payloads.hasSchema) await this.#payloads.validate(decode(stored))
    return { nextRunAt: await this.#store.schedules.set(key, { ...options, payload: stored }) }
  }

  async unschedule (key: string): Promise<boolean> {
    return await this.#store.schedules.delete(scheduleKey('unschedule', this.name, key))
  }

  async schedules (given?: SchedulesOptions): Promise<SchedulePage> {
    const { limit, cursor, prefix } = schedulesOptions(this.name, given)
    return await this.#store.schedules.list(prefix, cursor, limit)
  }

  async counts (): Promise<Counts> {
    return await this.#store.counts()
  }

  async waitingSince (): Promise<Date | undefined> {
    const since = await this.#store.waitingSince()
    return since === undefined ? undefined : new Date(since)
  }

  async list (given: ListOptions): Promise<RunPage> {
    const { state, limit, cursor } = listOptions(this.name, given)
    return await this.#store.list(state, cursor, limit)
  }

  async get (runId: string): Promise<QueuedRun | undefined> {
    return typeof runId === 'string' ? await this.#store.get(runId) : undefined
  }

  async finished (runId: string, given?: FinishedOptions): Promise<RunEnd> {
    const options = finishedOptions(this.name, given)
    if (typeof runId !== 'string') throw this.#waits.notFound(runId)
    this.refuseRemoved('waited for')
    if (this.#over || (this.host.closing && !this.#canEnd(runId))) throw this.#closed
    return await this.#waits.add(this.#store, runId, options)
  }

  async retry (runId: string): Promise<void> {
    this.refuse('given a retry')
    this.#found(runId, 'failed', await this.#store.retry(runId))
  }

  async retryFailed (): Promise<number> {
    this.refuse('given a retry')
    return await this.#store.retryFailed()
  }

  override async cancel (runId: string): Promise<void> {
    this.#found(runId, 'waiting, delayed or active', await this.#cancel(runId))
  }

  override async remove (runId?: string): Promise<void> {
    if (arguments.length === 0) return await super.remove()
    const id = String(runId)
    let found = await this.#store.remove(id)
    if (found === 'waiting') this.runs.countCancelled(1)
    // One that is active is cancelled first; where its handler ends all the same, the store keeps it.
    if (found === undefined && await this.#cancel(id)) found = await this.#store.remove(id) ?? 'ended'
    this.#found(runId, 'known', found !== undefined)
  }

  async clear (state: Exclude<ListedState, 'active'>): Promise<number> {
    const checked = clearedState(this.name, state)
    const count = await this.#store.clear(checked)
    if (checked === 'waiting' || checked === 'delayed') this.runs.countCancelled(count)
    return count
  }

  async drain (): Promise<void> {
    await this.drained()
  }

  override async drained (): Promise<boolean> {
    return await this.#store.drained()
  }

  override trigger (): RunHandle {
    throw invalid(`Background queue "${this.name}" cannot be triggered: it runs payloads. Call enqueue(payload).`)
  }

  override pause (): Promise<void> {
    const { starting } = this
    return this.perform('pause', async () => {
      if (this.host.closing) return
      await this.#store.pause()
      // Another process may have resumed it meanwhile.
      if (this.#store.paused) this.enterPaused(starting)
    })
  }

  override resume (): Promise<void> {
    return this.perform('resume', async () => {
      if (this.host.closing) return
      await this.#store.resume()
      if (this.state !== 'paused') return
      if (!this.#store.paused) this.enter(this.#working ? 'running' : 'idle')
      if (this.resumable) await this.begin()
      this.resumable = false
    })
  }

  override shutDown (reason: Reason, grace: number, rest?: 'stopped' | 'paused'): void {
    const closes = this.host.phase === 'closing'
    const goesOn = closes && this.#working && grace > 0 && !this.#store.durable
    this.#working = false
    this.#goesOn = goesOn
    if (closes) this.#endWaits(grace)
    if (goesOn) this.#grace ??= this.host.clock.after(grace, () => { this.#halt(reason) })
    else this.#store.halt()
    if (closes) this.#leave(this.#store.shutDown())
    // Before the deadline, after which nobody waits for the store: a handler that ignores its signal must not keep its run from other processes.
    if (closes && this.#store.durable) this.#release ??= this.host.clock.after(this.host.shutdownTimeout * RELEASE, () => { this.#store.release() })
    super.shutDown(reason, grace, rest)
  }

  override expire (reason: Reason): void {
    this.#close()
    super.expire(reason)
    // No run is left whose end would change the state.
    if (!this.active && this.state === 'stopping') this.enter('stopped')
  }

  /** Whether its runs outlive the process, and other processes may share them. */
  get durable (): boolean { return this.#store.durable }

  override get isDown (): boolean { return !this.active }

  override get waitingRuns (): number { return this.#goesOn ? this.#store.backlog ?? 0 : 0 }

  override get isOver (): boolean { return this.#over }

  /** Runs one attempt, for the store. */
  execute (run: ClaimedRun, settle: (settlement: Settlement) => void, readAt?: number): void {
    if (run.damage !== undefined) {
      this.#refuse(run, new errorCodes.FST_BG_INVALID_PAYLOAD(this.name, run.damage.why), settle, !run.damage.final)
      return
    }
    let payload: unknown
    try {
      payload = this.#payloads.hasSchema ? this.#payloads.validate(run.payload) : run.payload
    } catch (error) {
      // A failed attempt like any: during a deploy, a process with the newer schema may make the next one.
      this.#refuse(run, error, settle, true)
      return
    }
    // A validator may take a while.
    this.#attempt(run, payload, settle, this.#handler, true, this.#payloads.hasSchema ? undefined : readAt)
  }

  abort (id: string, why: 'cancelled' | 'lost'): void {
    const what = why === 'cancelled' ? 'the run was cancelled' : 'its lease was lost, and it may run elsewhere'
    if (!this.runs.has(id)) return
    // A run whose lease is lost is not cancelled: it goes back, or runs elsewhere already.
    if (why === 'cancelled') this.#cancelled.add(id)
    void this.runs.cancelOne(id, new errorCodes.FST_BG_CANCELLED(this.name, what))
  }

  pauseChanged (paused: boolean): void {
    if (this.host.closing) return
    if (paused) this.enterPaused(this.starting)
    else if (this.state === 'paused') this.enter(this.#working ? 'running' : 'idle')
  }

  crashed (run: ClaimedRun, error: Error): void {
    this.#attempt(run, run.payload, () => {}, () => { throw error }, false)
  }

  attemptStarted (attempt: Attempt): void {
    report.queuedRun(this.log, this.name, attempt)
  }

  progressed (id: string, value: Progress): void {
    this.#store.progress(id, value)
  }

  encodeValue (run: LoggedRun, value: unknown): string | undefined {
    return this.#values.encode(run, value)
  }

  isCancelled (id: string): boolean {
    return this.#cancelled.has(id)
  }

  attemptEnded (attempt: Attempt, result: RunResult, settlement: Settlement): void {
    if (this.#cancelled.size > 0) this.#cancelled.delete(attempt.id)
    // #leave() has counted the run as cancelled, but it has ended after all.
    if (this.#over && !this.#store.durable && isFinal(settlement)) this.runs.cancelled--
    const { closing } = this.host
    if (settlement.outcome === 'succeeded') report.runSucceeded(this.log, this.name, attempt, result)
    else if (settlement.outcome !== 'failed') (closing && settlement.outcome === 'interrupted' ? report.runCutShort : report.runCancelled)(this.log, this.name, attempt, result)
    else if (settlement.retryIn !== undefined && closing && !this.#store.durable) report.notRetried(this.log, this.name, attempt, result)
    else if (settlement.retryIn !== undefined) report.retried(this.log, this.name, attempt, result, settlement.retryIn)
    else this.host.giveUp(this, attempt, result)
  }

  protected override * conditions (): Iterable<Condition> {
    yield this.#store.condition
    yield * super.conditions()
  }

  /** One failed run says little of a queue: its payload may be bad. */
  protected override get failures (): string | undefined {
    const ended = this.history.filter(({ outcome }) => outcome !== 'cancelled').slice(0, LAST_RUNS)
    const failed = ended.filter(({ outcome }) => outcome === 'failed').length
    return failed >= IN_A_ROW && failed > ended.length / 2 ? `${failed} of the last ${ended.length} runs failed` : undefined
  }

  /** A life need not wait for runs that a stop has interrupted. */
  protected override get exclusive (): boolean { return false }

  protected override get needsFinish (): boolean { return this.#grace !== undefined && !this.#over }

  protected get live (): boolean { return this.#working }

  protected async begin (): Promise<void> {
    this.#working = true
    this.resumable = false
    this.enter('running')
    this.#store.work()
    if (this.#store.paused) this.enter('paused')
  }

  /** Waits for the active runs and, within the grace, for the waiting ones. */
  protected override async allEnded (): Promise<void> {
    await this.#store.drained()
  }

  protected async finish (): Promise<undefined> {
    if (this.host.phase === 'closing' || this.removed) this.#close()
  }

  async #cancel (runId: string): Promise<boolean> {
    const found = await this.#store.cancel(runId)
    // The process that runs an active run counts it.
    if (found === 'waiting') this.runs.countCancelled(1)
    return found !== undefined
  }

  #refuseOver (): void {
    this.refuseRemoved('given a payload')
    if (this.#over) throw new errorCodes.FST_BG_CLOSING(`Background queue "${this.name}" accepts no more payloads`)
  }

  #attempt (run: ClaimedRun, payload: unknown, settle: (settlement: Settlement) => void, handler: QueueHandler<never, FastifyInstance>, retried: boolean, begunAt?: number): void {
    this.runs.start(new ClaimedAttempt(this, run, payload, handler, this.options.timeout, retried ? this.#retryIn(run) : undefined, settle, begunAt))
  }

  /** Makes an attempt that fails before the handler. */
  #refuse (run: ClaimedRun, error: unknown, settle: (settlement: Settlement) => void, retried: boolean): void {
    this.#attempt(run, run.payload, settle, () => { throw error }, retried)
  }

  #retryIn ({ attempt, retry }: ClaimedRun): number | undefined {
    const policy = retry ?? this.options.retry
    return policy === undefined || attempt > policy.limit ? undefined : backoff(attempt - 1, policy)
  }

  /** Takes no more runs, and aborts the active ones. */
  #halt (reason: Reason): void {
    this.#waits.end(this.#closed)
    this.#store.halt()
    this.runs.cancel(reason, 0)
  }

  /** Accepts no more payloads, and reports the runs that are left, with the active ones if nobody waits for them any longer. */
  #close (): void {
    if (this.#over) return
    this.#over = true
    this.#grace?.cancel()
    this.#waiting?.cancel()
    this.#waits.end(this.removed && !this.host.closing ? this.#waits.notFound('of a queue that was removed') : this.#closed)
    this.#release?.cancel()
    this.#leave(this.#store.close(), this.#store.durable ? 0 : this.runs.size)
  }

  /** The application closes: ends the waits for runs that cannot end here, so that no request which waits holds up the close. The others have the grace. */
  #endWaits (grace: number): void {
    if (this.#waits.size === 0) return
    this.#waits.end(this.#closed, id => grace <= 0 || !this.#canEnd(id))
    if (!this.#goesOn && this.#waits.size > 0) this.#waiting ??= this.host.clock.after(grace, () => { this.#waits.end(this.#closed) })
  }

  #canEnd (id: string): boolean { return this.#goesOn || this.runs.has(id) }

  get #closed (): Error { return new errorCodes.FST_BG_CLOSING(`The run of background queue "${this.name}" has not ended here`) }

  #leave (waiting: number, active = 0): void {
    if (waiting + active === 0) return
    this.runs.countCancelled(waiting)
    this.runs.cancelled += active
    report.left(this.log, this.name, waiting + active)
  }

  #found (runId: unknown, what: string, found: boolean): void {
    if (!found) throw new errorCodes.FST_BG_NOT_FOUND(`Background queue "${this.name}" has no run ${show(runId)} that is ${what}.`)
  }
}

async function rejected (error: unknown): Promise<never> {
  throw error
}
