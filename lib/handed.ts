import type { FastifyInstance } from 'fastify'
import type { Attempt } from './attempt.ts'
import { isGiveUp } from './errors.ts'
import type { Launch } from './launch.ts'
import { storedError } from './report.ts'
import type { Progress, QueueHandler, RunResult } from './run.ts'
import type { ClaimedRun, Settlement } from './store.ts'

/** What an attempt is told about, and asks, the queue it belongs to. */
export interface HandedOf {
  /** An attempt begins. */
  attemptStarted (attempt: Attempt): void
  progressed (id: string, value: Progress): void
  /** Whether that run was cancelled by itself, and not because the queue stops. */
  isCancelled (id: string): boolean
  /** An attempt has ended. */
  attemptEnded (attempt: Attempt, result: RunResult, settlement: Settlement): void
}

/** A run that the store has handed over for one attempt: in the end the store is told what becomes of it. An object with methods, as there are many. */
export class Handed implements Launch {
  payload: unknown
  readonly timeout: number | undefined
  handler: QueueHandler<never, FastifyInstance>
  /** What it waits for: a validator that takes its time. */
  readonly after: Promise<void> | undefined
  readonly #of: HandedOf
  readonly #run: ClaimedRun
  /** The wait for the next attempt, if there is to be one when this fails. */
  #retryIn: number | undefined
  readonly #settle: (settlement: Settlement) => void
  #settlement: Settlement | undefined

  constructor (of: HandedOf, run: ClaimedRun, payload: unknown, handler: QueueHandler<never, FastifyInstance>, timeout: number | undefined, retryIn: number | undefined, settle: (settlement: Settlement) => void) {
    this.#of = of
    this.#run = run
    this.payload = payload
    this.handler = handler
    this.timeout = timeout
    this.#retryIn = retryIn
    this.#settle = settle
    this.after = payload instanceof Promise ? payload.then(checked => { this.payload = checked }, error => { this.#refuse(error) }) : undefined
  }

  get id (): string { return this.#run.id }

  get number (): number { return this.#run.attempt }

  get reqId (): string | undefined { return this.#run.reqId }

  get startedAt (): number | undefined { return this.#run.startedAt }

  started (attempt: Attempt): void {
    this.#of.attemptStarted(attempt)
  }

  progressed (value: Progress): void {
    this.#of.progressed(this.id, value)
  }

  isFinal (result: RunResult): boolean {
    const settlement = this.#settlementOf(result)
    this.#settlement = settlement
    return isFinal(settlement)
  }

  settled (attempt: Attempt, result: RunResult): void {
    const settlement = this.#settlement as Settlement
    this.#of.attemptEnded(attempt, result, settlement)
    this.#settle(settlement)
  }

  /** The payload is not what its schema asks for, and will not be next time. */
  #refuse (error: unknown): void {
    this.#retryIn = undefined
    this.handler = () => { throw error }
  }

  #settlementOf ({ outcome, error }: RunResult): Settlement {
    if (outcome === 'succeeded') return succeeded
    // Interrupted is not failed: it goes back.
    if (outcome !== 'failed') return { outcome: this.#of.isCancelled(this.id) ? 'cancelled' : 'interrupted' }
    return { outcome, error: storedError(error), retryIn: isGiveUp(error) ? undefined : this.#retryIn }
  }
}

/** Whether that is how a run ends: it will not be run again. */
export function isFinal (settlement: Settlement): boolean {
  return settlement.outcome === 'failed' ? settlement.retryIn === undefined : settlement.outcome !== 'interrupted'
}

const succeeded: Settlement = { outcome: 'succeeded' }
