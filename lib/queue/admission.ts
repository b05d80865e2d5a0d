import { toError } from '../common/errors.ts'
import { activeTrace, type TraceCarrier, uuid } from '../run/index.ts'
import { decode, type Enqueued, type NewRun, type RunOptions, type Stored, type StoreQueue } from '../store/index.ts'
import type { Transaction } from './handle.ts'
import { enqueueOptions, manyItem, manyItems, manyOptions } from './options.ts'
import type { Payloads } from './payload.ts'

/** Makes runs of the payloads that a queue is given, and adds them to its store: checks the options, copies the payload, and validates the copy. */
export class Admission {
  readonly #name: string
  readonly #payloads: Payloads
  readonly #store: StoreQueue

  constructor (name: string, payloads: Payloads, store: StoreQueue) {
    this.#name = name
    this.#payloads = payloads
    this.#store = store
  }

  /** Throws or rejects for what cannot be added. Not async, which would cost a twentieth of a run. */
  enqueue (payload: unknown, given: unknown): Promise<Enqueued> | Enqueued {
    const { options: asked, tx } = enqueueOptions(this.#name, given, this.#store.transactional === true)
    const options = traced(asked, activeTrace())
    const stored = this.#payloads.encode(payload)
    // A copy is validated, as a validator may change it.
    const checked = this.#payloads.hasSchema ? this.#payloads.validate(decode(stored)) : undefined
    return checked instanceof Promise ? checked.then(() => this.#add(stored, options, tx)) : this.#add(stored, options, tx)
  }

  /** Adds all items, or none. `refuse` throws if the queue takes no more: it may have ended while a validator was asked. */
  async enqueueMany (given: unknown, options: unknown, refuse: () => void): Promise<Enqueued[]> {
    const items = manyItems(this.#name, given)
    const trace = activeTrace()
    const tx = manyOptions(this.#name, options, this.#store.transactional === true)
    // All at once: the caller may change its payloads while a validator is asked.
    const runs = items.map((item, index) => withIndex(index, () => this.#itemRun(item, index, trace)))
    if (this.#payloads.hasSchema) await this.#validateAll(runs)
    refuse()
    return await this.#store.enqueueMany(runs, tx)
  }

  #add (stored: Stored, options: RunOptions, tx: Transaction | undefined): Promise<Enqueued> | Enqueued {
    return this.#store.enqueue({ id: uuid(), payload: stored, options }, tx)
  }

  #itemRun (item: unknown, index: number, trace: TraceCarrier | undefined): NewRun {
    const { payload, options } = manyItem(this.#name, index, item)
    return { id: uuid(), payload: this.#payloads.encode(payload), options: traced(options, trace) }
  }

  async #validateAll (runs: NewRun[]): Promise<void> {
    const asked: Array<Promise<unknown>> = []
    for (const [index, { payload }] of runs.entries()) {
      const checked = withIndex(index, () => this.#payloads.validate(decode(payload)))
      if (checked instanceof Promise) asked.push(checked.catch(error => { throw Object.assign(toError(error), { index }) }))
    }
    await Promise.all(asked)
  }
}

/** The options with the trace context in which the run is enqueued, if there is one. */
function traced (options: RunOptions, trace: TraceCarrier | undefined): RunOptions {
  return trace === undefined ? options : { ...options, trace }
}

/** What `work` returns; the error that it throws has the index of the item. */
function withIndex<T> (index: number, work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw Object.assign(toError(error), { index })
  }
}
