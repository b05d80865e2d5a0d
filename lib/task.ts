import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import assert from 'node:assert'
import type { Attempt } from './attempt.ts'
import { invalid, show } from './check.ts'
import { Deadline } from './deadline.ts'
import { formatDuration } from './duration.ts'
import { errorCodes } from './errors.ts'
import { skipped, type Reason } from './execution.ts'
import type { BackgroundTask, RunRecord, TaskKind, TaskStats } from './handle.ts'
import { worst, type Condition } from './health.ts'
import type { SharedOptions } from './options.ts'
import { report } from './report.ts'
import type { RunHandle, RunResult } from './run.ts'
import { Runs, type Runner, type Surroundings } from './runs.ts'
import { transitions, type TaskState } from './states.ts'
import { uuid } from './uuid.ts'

type Ask = 'start' | 'stop' | 'pause' | 'resume'

/** What is being done, as somebody has asked for it. */
interface Asked {
  what: Ask
  done: Promise<void>
  overtake (): void
}

/** How a task goes down, and whether it comes up again. */
class Descent {
  /** Where it leads to. */
  to: 'stopped' | 'paused' = 'stopped'
  /** Whether to start on `resume`: it was up when it was paused, or was to be started since. */
  resumable = false
  ending: Promise<Error | undefined> | undefined
}

// What few tasks have, or only for a moment, stands beside them: ten thousand would each have room for it.
const asked = new WeakMap<Task, Asked>()
const descents = new WeakMap<Task, Descent>()
const removed = new WeakSet<Task>()
/** Of those that have a level of their own. */
const logs = new WeakMap<Task, FastifyBaseLogger>()

/**
 * What all kinds of task share: the state and the one way to change it, the order of what is asked, and the way down.
 *
 * A life begins with `start` and goes down in two steps. `shutDown` aborts what runs, at once or after a grace, and waits for
 * nothing: it is called in `preClose`. `end` waits for what runs, bounded by the deadline, then lets the kind do its last
 * work: it is called in the owner's `onClose`. There is one way down for a life; who comes second gets the same promise.
 *
 * What users ask for (start, stop, pause, resume) is done in the order of asking, each after the one before. A start that another
 * ask has overtaken does nothing; who asks for what is being done already gets the same promise.
 */
export abstract class Task implements BackgroundTask, Runner {
  abstract get kind (): TaskKind
  readonly name: string
  readonly owner: FastifyInstance
  readonly options: SharedOptions
  readonly surroundings: Surroundings
  #state: TaskState = 'idle'
  #runs: Runs | undefined

  constructor (name: string, owner: FastifyInstance, options: SharedOptions, surroundings: Surroundings) {
    this.name = name
    this.owner = owner
    this.options = options
    this.surroundings = surroundings
  }

  get state (): TaskState { return this.#state }

  get stats (): TaskStats {
    const { succeeded = 0, failed = 0, cancelled = 0, skipped = 0, size: active = 0 }: Partial<Runs> = this.#runs ?? {}
    return { succeeded, failed, cancelled, skipped, active }
  }

  get history (): RunRecord[] { return this.#runs?.history ?? [] }

  get lastRun (): RunRecord | undefined { return this.#runs?.newest }

  get nextRunAt (): Date | undefined { return undefined }

  nextRuns (count: number): Date[] {
    if (!Number.isInteger(count) || count < 0 || count > 1_000) {
      throw invalid(`Background task "${this.name}": nextRuns() takes a whole number from 0 to 1000; received ${show(count)}.`)
    }
    return []
  }

  /** Whether a run of it has not ended. */
  get active (): boolean { return this.#runs !== undefined && this.#runs.size > 0 }

  /** Resolves when the runs that are active now have ended. */
  async idle (): Promise<void> {
    await this.#runs?.idle()
  }

  /** Resolves when it has nothing to do, to whether it had to wait for that. A service never has. */
  async drained (): Promise<boolean> {
    if (!this.active || this.kind === 'service') return false
    await this.idle()
    return true
  }

  /** What can be done, and can fail, before it starts. */
  prepare (): void {}

  /** Whether nothing of it is left that must end. */
  get down (): boolean {
    return !this.active && !this.holding && this.state !== 'running' && this.state !== 'stopping'
  }

  /** Whether it is between two runs, and need not be told that the application closes. */
  get resting (): boolean { return false }

  /** Whether its way down is behind it. */
  get over (): boolean { return this.state === 'stopped' && this.down }

  /** Whether the app is to start it, or to wait for the start that its user has begun. */
  get startable (): boolean {
    const { what } = asked.get(this) ?? {}
    if (what !== undefined) return what === 'start'
    // A timed task may run before it is started, when it is triggered.
    return !this.live && !['stopping', 'stopped', 'completed', 'failed'].includes(this.state)
  }

  /** The owner's logger, at the level of this task. */
  get log (): FastifyBaseLogger {
    const { owner, options: { logLevel } } = this
    if (logLevel === undefined) return owner.log
    const log = logs.get(this) ?? owner.log.child({}, { level: logLevel })
    logs.set(this, log)
    return log
  }

  start (): Promise<void> {
    return this.startAs(undefined)
  }

  stop (): Promise<void> {
    const reason = new errorCodes.FST_BG_CANCELLED(this.name, 'the task was stopped')
    // At once, and again in its turn: what was asked before may have changed things since.
    this.shutDown(reason, 0)
    return this.patiently(this.ask('stop', async () => {
      this.shutDown(reason, 0)
      await this.goDown()
    }))
  }

  abstract pause (): Promise<void>

  abstract resume (): Promise<void>

  abstract trigger (): RunHandle

  async cancel (runId: string): Promise<void> {
    const ended = this.#runs?.cancelOne(runId, new errorCodes.FST_BG_CANCELLED(this.name, 'the run was cancelled'))
    if (ended === undefined) throw new errorCodes.FST_BG_NOT_FOUND(`Background task "${this.name}" has no active run ${show(runId)}.`)
    await ended
  }

  async remove (): Promise<void> {
    removed.add(this)
    try {
      await this.stop()
    } finally {
      this.surroundings.removed(this)
    }
  }

  /** How it is, at worst. */
  get condition (): Condition {
    return worst(this.conditions())
  }

  /** What is wrong with it. */
  protected * conditions (): Iterable<Condition> {
    if (this.state === 'failed') yield { status: 'failing', reason: 'failed for good' }
    const stuck = this.#runs?.stuck
    if (stuck !== undefined) yield { status: 'failing', reason: `run ${stuck.attempt.id} goes on past its timeout` }
    if (this.state === 'backoff') yield { status: 'degraded', reason: 'failed, and waits for the next attempt' }
    if (this.lastRun?.outcome === 'failed') yield { status: 'degraded', reason: 'the last run failed' }
  }

  /** Aborts what runs with `reason`, after `grace` milliseconds, on the way to `rest`; waits for nothing. */
  shutDown (reason: Reason, grace: number, rest: 'stopped' | 'paused' = 'stopped'): void {
    this.descent.to = rest
    if (this.active) {
      if (this.state === 'running' || this.state === 'backoff' || this.state === 'paused') this.enter('stopping')
      this.runs.cancel(reason, grace)
    } else if (this.state === 'running') {
      this.enter('stopping')
    } else if (this.state === 'backoff') {
      this.enter(rest)
    } else if (rest === 'stopped' && (this.state === 'idle' || this.state === 'paused')) {
      this.enter('stopped')
    }
  }

  /** Aborts whatever still runs, the last work too: the deadline has passed. */
  expire (reason: Reason): void {
    this.#runs?.expire(reason)
  }

  /** Waits for what runs, then does the last work. Resolves with the error of that, if there was one; never rejects. */
  end (): Promise<Error | undefined> {
    const { descent } = this
    descent.ending ??= (async () => {
      const { deadline } = this.surroundings
      await deadline.until(this.quiet())
      const error = await this.finish()
      descent.ending = undefined
      if (this.#state === 'stopping' && error !== undefined) this.enter('failed')
      // A run that was triggered since goes on beside the task that has stopped.
      if (this.#state === 'stopping' && !this.exclusive && !deadline.passed) this.enter(descent.to)
      this.runEnded()
      return error
    })()
    return descent.ending
  }

  /** What its life began with, if one has. */
  get first (): Attempt | undefined { return undefined }

  /** Whether it has begun to do anything. */
  get begun (): boolean { return this.live || this.#state !== 'idle' }

  protected get runs (): Runs {
    this.#runs ??= new Runs(this)
    return this.#runs
  }

  /** Whether a start was asked for, and is not done. */
  protected get starting (): boolean { return asked.get(this)?.what === 'start' }

  /** Whether to start on `resume`: it was up when it was paused, or was to be started since. */
  protected get resumable (): boolean { return descents.get(this)?.resumable ?? false }

  protected set resumable (resumable: boolean) {
    if (resumable !== this.resumable) this.descent.resumable = resumable
  }

  protected get ending (): Promise<unknown> | undefined { return descents.get(this)?.ending }

  protected get descent (): Descent {
    const descent = descents.get(this) ?? new Descent()
    descents.set(this, descent)
    return descent
  }

  protected get removed (): boolean { return removed.has(this) }

  /** Whether it holds something that only its last work lets go. */
  protected get holding (): boolean { return false }

  /** Whether a life waits for the runs of the one before. */
  protected get exclusive (): boolean { return true }

  /** Whether a life has begun, and has not been asked to end. */
  protected abstract get live (): boolean

  /** Begins a life; its first run has the given id. */
  protected abstract begin (id?: string): Promise<void>

  /** Resolves when nothing of a life runs any more. */
  protected async quiet (): Promise<void> {
    await this.idle()
  }

  /** The last work of a life: what runs has ended, or the deadline has passed. Resolves with its error; never rejects. */
  protected abstract finish (): Promise<Error | undefined>

  /** The one way to change the state. */
  protected enter (next: TaskState): void {
    const allowed: readonly TaskState[] = transitions[this.#state]
    assert(allowed.includes(next), 'a task takes a way that states.ts does not know')
    this.#state = next
  }

  /** Does `work` after what was asked before. Its arguments tell whether something else has been asked since, and when it is. */
  protected ask (what: Ask, work: (overtaken: () => boolean, overtaking: Promise<void>) => Promise<void>): Promise<void> {
    const before = asked.get(this)
    if (before?.what === what) return before.done
    before?.overtake()
    let overtake!: () => void
    const overtaking = new Promise<void>(resolve => { overtake = resolve })
    const now: Asked = { what, done: Promise.resolve(), overtake }
    asked.set(this, now)
    const overtaken = (): boolean => asked.get(this) !== now
    const done = before === undefined ? work(overtaken, overtaking) : before.done.catch(() => {}).then(async () => { await work(overtaken, overtaking) })
    now.done = done.finally(() => { if (!overtaken()) asked.delete(this) })
    return now.done
  }

  /** A handle for the run that `ask` asks for. */
  protected handle (ask: (id: string, settle: (result: RunResult) => void) => void): RunHandle {
    const id = uuid()
    return { id, finished: new Promise(resolve => { ask(id, resolve) }) }
  }

  /** A handle for a run that does not begin. */
  protected skip (): RunHandle {
    const id = uuid()
    this.runs.record(id, skipped, this.surroundings.clock.wall(), undefined)
    return { id, finished: Promise.resolve({ ...skipped }) }
  }

  /** Throws if it is too late for that. */
  protected refuse (what: string): void {
    this.refuseRemoved(what)
    if (this.surroundings.closing) throw new errorCodes.FST_BG_CLOSING(`Background task "${this.name}" cannot be ${what}`)
  }

  protected refuseRemoved (what: string): void {
    if (this.removed) throw new errorCodes.FST_BG_NOT_FOUND(`Background task "${this.name}" cannot be ${what}: it was removed. Declare it anew.`)
  }

  /** Goes to rest until `resume`, unless it is down. */
  protected enterPaused (starting: boolean): boolean {
    // The start that was asked for before has been overtaken: it is for resume to do.
    if (starting && this.#state === 'stopped') this.enter('idle')
    if (!['idle', 'running', 'backoff'].includes(this.#state)) return false
    this.resumable = starting && !this.live
    this.enter('paused')
    return true
  }

  /** Starts it; the first run of the life has the given id. */
  protected async startAs (id: string | undefined): Promise<void> {
    this.refuse('started')
    await this.ask('start', async (overtaken, overtaking) => {
      const { deadline } = this.surroundings
      // A life begins only after the one before it has ended, even where that ignores its signal. Neither what is asked meanwhile nor
      // the close waits for that.
      while (!this.live && (this.ending !== undefined || (this.exclusive && this.active)) && !overtaken() && !deadline.passed) {
        await deadline.until(Promise.race([Promise.all([this.ending, this.exclusive && this.idle()]), overtaking]))
      }
      this.refuse('started')
      if (this.live || overtaken()) return
      if (this.state === 'paused') this.resumable = true
      else await this.begin(id)
    })
  }

  /** Sees it to its end, and rejects with the error of its last work. */
  protected async goDown (): Promise<void> {
    const error = await this.end()
    if (error !== undefined) throw error
  }

  /** Waits for `work`, though not for ever: a handler that waits for its own task's stop waits for itself. */
  protected async patiently (work: Promise<void>): Promise<void> {
    const { clock, deadline, patience } = this.surroundings
    const limit = new Deadline(clock)
    limit.start(patience, () => { report.stopTimeout(this.log, this.name, this.runs.oldest?.attempt, formatDuration(patience)) })
    await limit.until(deadline.until(work))
    limit.clear()
    if (!limit.passed && !deadline.passed) await work
  }

  /** What is to do when a run, or the last work, has ended. */
  runEnded (): void {
    if (this.active || this.holding || this.#state !== 'stopping' || this.ending !== undefined) return
    this.enter(this.descent.to)
    if (this.surroundings.deadline.passed) report.stoppedLate(this.log, this.name, this.lastRun)
  }
}
