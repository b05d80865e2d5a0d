import type { FastifyInstance } from 'fastify'
import { isGiveUp } from '../common/errors.ts'
import type { Attempt, ExecutionSpec, Progress, QueueHandler, RunResult, TraceCarrier } from '../run/index.ts'
import { type ClaimedRun, type Settlement, storedError } from '../store/index.ts'

/** What a log line says of a run. */
export type LoggedRun = Pick<Attempt, 'id' | 'number' | 'reqId' | 'key'>

/** The queue, as an attempt sees it. */
export interface AttemptListener {
  /** Called when an attempt begins. */
  attemptStarted (attempt: Attempt): void
  progressed (id: string, value: Progress): void
  /** What the handler returned, as JSON; undefined if that is left out. */
  encodeValue (run: LoggedRun, value: unknown): string | undefined
  /** Whether somebody has cancelled this run by its id, rather than stopped the queue. */
  isCancelled (id: string): boolean
  /** Called when an attempt has ended. */
  attemptEnded (attempt: Attempt, result: RunResult, settlement: Settlement): void
}

/** One attempt of a run that the store has handed over. At the end it settles the run with the store. A class and not closures, as there are many. */
export class ClaimedAttempt implements ExecutionSpec {
  payload: unknown
  readonly timeout: number | undefined
  handler: QueueHandler<never, FastifyInstance>
  /** The promise of an async validator. */
  readonly after: Promise<void> | undefined
  readonly begunAt: number | undefined
  readonly #listener: AttemptListener
  readonly #run: ClaimedRun
  /** Milliseconds until the next attempt if this one fails; undefined if there is none. */
  readonly #retryIn: number | undefined
  readonly #settle: (settlement: Settlement) => void
  #settlement: Settlement | undefined

  constructor (listener: AttemptListener, run: ClaimedRun, payload: unknown, handler: QueueHandler<never, FastifyInstance>, timeout: number | undefined, retryIn: number | undefined, settle: (settlement: Settlement) => void, begunAt: number | undefined) {
    this.#listener = listener
    this.#run = run
    this.payload = payload
    this.handler = handler
    this.timeout = timeout
    this.begunAt = begunAt
    this.#retryIn = retryIn
    this.#settle = settle
    this.after = payload instanceof Promise ? payload.then(checked => { this.payload = checked }, error => { this.#refuse(error) }) : undefined
  }

  get id (): string { return this.#run.id }

  get number (): number { return this.#run.attempt }

  get reqId (): string | undefined { return this.#run.reqId }

  get key (): string | undefined { return this.#run.key }

  get trace (): TraceCarrier | undefined { return this.#run.trace }

  get enqueuedAt (): number | undefined { return this.#run.enqueuedAt }

  get dueAt (): Date | undefined {
    const { tick } = this.#run
    return tick && new Date(tick.dueAt)
  }

  get missed (): number | undefined { return this.#run.tick?.missed }

  get schedule (): string | undefined { return this.#run.tick?.schedule }

  get startedAt (): number | undefined { return this.#run.startedAt }

  started (attempt: Attempt): void {
    this.#listener.attemptStarted(attempt)
  }

  progressed (value: Progress): void {
    this.#listener.progressed(this.id, value)
  }

  isFinal (result: RunResult): boolean {
    const settlement = this.#settlementOf(result)
    this.#settlement = settlement
    return isFinal(settlement)
  }

  settled (attempt: Attempt, result: RunResult): void {
    const settlement = this.#settlement as Settlement
    this.#listener.attemptEnded(attempt, result, settlement)
    this.#settle(settlement)
  }

  /** Fails the attempt before the handler: the schema refuses the payload. */
  #refuse (error: unknown): void {
    this.handler = () => { throw error }
  }

  #settlementOf ({ outcome, error, value }: RunResult): Settlement {
    if (outcome === 'succeeded') return value === undefined ? succeeded : { outcome, value: () => this.#listener.encodeValue(this, value) }
    // Interrupted is not failed: the run goes back to the store.
    if (outcome !== 'failed') return { outcome: this.#listener.isCancelled(this.id) ? 'cancelled' : 'interrupted' }
    return { outcome, error: storedError(error), retryIn: isGiveUp(error) ? undefined : this.#retryIn }
  }
}

/** Whether the run has ended, and will not run again. */
export function isFinal (settlement: Settlement): boolean {
  return settlement.outcome === 'failed' ? settlement.retryIn === undefined : settlement.outcome !== 'interrupted'
}

const succeeded: Settlement = { outcome: 'succeeded' }
