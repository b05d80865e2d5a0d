import type { FastifyInstance } from 'fastify'
import { invalid, show } from '../check.ts'
import { errorCodes, type Reason } from '../errors.ts'
import type { Condition } from '../health.ts'
import { report } from '../log.ts'
import { type Attempt, type Progress, type QueueHandler, type RunHandle, type RunResult, uuid } from '../run/index.ts'
import { type ClaimedRun, type Counts, decode, type Enqueued, type ListedState, RELEASE, type RunOptions, type RunPage, type Settlement, type Store, type Stored, type StoreQueue, type StoreWorker } from '../store/index.ts'
import { Task, type TaskHost } from '../task/index.ts'
import { backoff, type Timer } from '../time/index.ts'
import { type AttemptListener, ClaimedAttempt, isFinal } from './claimed-attempt.ts'
import type { BackgroundQueue, EnqueueOptions, ListOptions } from './handle.ts'
import { type CheckedQueueOptions, clearedState, enqueueOptions, listOptions } from './options.ts'
import { Payloads } from './payload.ts'

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
  readonly #store: StoreQueue
  /** Whether it takes runs: from `start` until somebody tells it to stop. */
  #working = false
  /** Ids of active runs that somebody has cancelled, rather than stopped the queue. */
  readonly #cancelled = new Set<string>()
  /** Armed while the application closes and the queue goes on within its grace. */
  #grace: Timer | undefined
  /** Armed while the application closes, for a durable store. */
  #release: Timer | undefined
  #over = false

  constructor (name: string, owner: FastifyInstance, options: CheckedQueueOptions, handler: QueueHandler<never, FastifyInstance>, host: TaskHost, store: Store) {
    super(name, owner, options, host)
    this.#handler = handler
    this.#payloads = new Payloads(name, owner, options.schema, options.maxPayload)
    // For a queue that is declared late no onReady hook compiles the schema. Do it before opening the store: if it fails, nobody would close that.
    if (host.isBooted(owner)) this.prepare()
    this.#store = store.open({ name, clock: host.clock, log: owner.log, ...options.open }, this)
  }

  get kind (): 'queue' { return 'queue' }

  /** Compiles the schema. Throws `FST_BG_INVALID_OPTION`. */
  override prepare (): void {
    this.#payloads.compile()
  }

  /** Not async, which would cost a twentieth of a run: turns an exception of `#enqueue` into a rejection. */
  enqueue (payload: unknown, given?: EnqueueOptions): Promise<Enqueued> {
    try {
      return Promise.resolve(this.#enqueue(payload, given))
    } catch (error) {
      return rejected(error)
    }
  }

  async counts (): Promise<Counts> {
    return await this.#store.counts()
  }

  async list (given: ListOptions): Promise<RunPage> {
    const { state, limit, cursor } = listOptions(this.name, given)
    return await this.#store.list(state, cursor, limit)
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
    const cancelled = await this.#cancel(id)
    const removed = await this.#store.remove(id)
    this.#found(runId, 'known', cancelled || removed)
  }

  async clear (state: Exclude<ListedState, 'active'>): Promise<number> {
    const checked = clearedState(this.name, state)
    const count = await this.#store.clear(checked)
    if (checked === 'waiting' || checked === 'delayed') this.runs.cancelled += count
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
      this.enterPaused(starting)
    })
  }

  override resume (): Promise<void> {
    return this.perform('resume', async () => {
      if (this.host.closing) return
      await this.#store.resume()
      if (this.state !== 'paused') return
      this.enter(this.#working ? 'running' : 'idle')
      if (this.resumable) await this.begin()
      this.resumable = false
    })
  }

  override shutDown (reason: Reason, grace: number, rest?: 'stopped' | 'paused'): void {
    const closes = this.host.phase === 'closing'
    const goesOn = closes && this.#working && grace > 0 && !this.#store.durable
    this.#working = false
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

  override get isDown (): boolean { return !this.active }

  override get isOver (): boolean { return this.#over }

  /** Runs one attempt, for the store. */
  execute (run: ClaimedRun, settle: (settlement: Settlement) => void): void {
    if (run.damage !== undefined) {
      this.#refuse(run, new errorCodes.FST_BG_INVALID_PAYLOAD(this.name, run.damage.why), settle, !run.damage.final)
      return
    }
    let payload: unknown
    try {
      payload = this.options.schema === undefined ? run.payload : this.#payloads.validate(run.payload)
    } catch (error) {
      // A failed attempt like any: during a deploy, a process with the newer schema may make the next one.
      this.#refuse(run, error, settle, true)
      return
    }
    this.#attempt(run, payload, settle)
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
    if (found === 'waiting') this.runs.cancelled++
    return found !== undefined
  }

  #enqueue (payload: unknown, given: EnqueueOptions | undefined): Promise<Enqueued> | Enqueued {
    this.refuseRemoved('given a payload')
    if (this.#over) throw new errorCodes.FST_BG_CLOSING(`Background queue "${this.name}" accepts no more payloads`)
    const options = enqueueOptions(this.name, given)
    const stored = this.#payloads.encode(payload)
    return this.options.schema === undefined ? this.#add(stored, options) : this.#addChecked(stored, options)
  }

  #addChecked (stored: Stored, options: RunOptions): Promise<Enqueued> | Enqueued {
    // Validate a copy, as a validator may change it.
    const checked = this.#payloads.validate(decode(stored))
    return checked instanceof Promise ? checked.then(() => this.#add(stored, options)) : this.#add(stored, options)
  }

  #add (stored: Stored, options: RunOptions): Promise<Enqueued> | Enqueued {
    return this.#store.enqueue({ id: uuid(), payload: stored, options })
  }

  #attempt (run: ClaimedRun, payload: unknown, settle: (settlement: Settlement) => void, handler = this.#handler, retried = true): void {
    this.runs.start(new ClaimedAttempt(this, run, payload, handler, this.options.timeout, retried ? this.#retryIn(run) : undefined, settle))
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
    this.#store.halt()
    this.runs.cancel(reason, 0)
  }

  /** Accepts no more payloads, and reports the runs that are left, with the active ones if nobody waits for them any longer. */
  #close (): void {
    if (this.#over) return
    this.#over = true
    this.#grace?.cancel()
    this.#release?.cancel()
    this.#leave(this.#store.close() + (this.#store.durable ? 0 : this.runs.size))
  }

  #leave (count: number): void {
    if (count === 0) return
    this.runs.cancelled += count
    report.left(this.log, this.name, count)
  }

  #found (runId: unknown, what: string, found: boolean): void {
    if (!found) throw new errorCodes.FST_BG_NOT_FOUND(`Background queue "${this.name}" has no run ${show(runId)} that is ${what}.`)
  }
}

async function rejected (error: unknown): Promise<never> {
  throw error
}
