import type { RunEnd } from './queued-run.ts'
import type { EndListener } from './store.ts'

type Some = (listener: EndListener) => boolean

/** Who waits for the end of a run, by its id. */
export class EndListeners {
  readonly #listeners = new Map<string, Set<EndListener>>()

  /** Whether somebody waits for the end of a run. */
  has (id: string): boolean { return this.#listeners.size > 0 && this.#listeners.has(id) }

  /** The ids of the runs for whose end somebody waits. */
  get ids (): string[] { return [...this.#listeners.keys()] }

  get size (): number { return this.#listeners.size }

  /** Adds a listener. Returns a function that removes it. */
  add (id: string, listener: EndListener): () => void {
    const listeners = this.#listeners.get(id) ?? new Set()
    this.#listeners.set(id, listeners)
    listeners.add(listener)
    return () => {
      listeners.delete(listener)
      if (listeners.size === 0 && this.#listeners.get(id) === listeners) this.#listeners.delete(id)
    }
  }

  /** The run has ended: tells those who wait, or only some of them. */
  end (id: string, end: RunEnd, some?: Some): void {
    let first = true
    for (const listener of this.#take(id, some)) {
      // A copy for each further one, as they may change the value.
      listener.ended(first ? end : { ...end, value: structuredClone(end.value) })
      first = false
    }
  }

  /** The run was removed: tells those who wait, or only some of them. */
  lose (id: string, some?: Some): void {
    for (const listener of this.#take(id, some)) listener.gone()
  }

  /** Nobody will tell how the run ends. */
  fail (id: string, error: Error): void {
    for (const listener of this.#take(id)) listener.failed(error)
  }

  /** Takes out those who are told. */
  #take (id: string, some: Some = () => true): EndListener[] {
    const listeners = this.#listeners.get(id)
    if (listeners === undefined) return []
    const taken = [...listeners].filter(some)
    for (const listener of taken) listeners.delete(listener)
    if (listeners.size === 0) this.#listeners.delete(id)
    return taken
  }
}
