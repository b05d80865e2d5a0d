import { show } from '../common/check.ts'
import { errorCodes } from '../common/errors.ts'
import { type RunEnd, storedError, type StoreQueue } from '../store/index.ts'
import { type Clock, formatDuration } from '../time/index.ts'

/** Options of a wait, checked. */
interface WaitOptions { signal?: AbortSignal, timeout?: number }

/** A wait that has not ended. */
interface Wait {
  readonly id: string
  reject (error: unknown): void
}

/** Those who wait for the end of runs (`queue.finished`): a wait ends with the run, its limit, its signal, or the application. */
export class Waits {
  readonly #queue: string
  readonly #clock: Clock
  readonly #waits = new Set<Wait>()

  constructor (queue: string, clock: Clock) {
    this.#queue = queue
    this.#clock = clock
  }

  get size (): number { return this.#waits.size }

  /** Resolves when the run has ended. */
  add (store: StoreQueue, id: string, { signal, timeout }: WaitOptions): Promise<RunEnd> {
    if (signal?.aborted === true) return rejected(signal.reason)
    return new Promise<RunEnd>(resolve => {
      const ends: Array<() => void> = []
      const over = (): void => {
        this.#waits.delete(wait)
        for (const end of ends) end()
      }
      const wait: Wait = {
        id,
        reject: error => {
          // A store that is asked no more may still tell that it could not look.
          if (!this.#waits.has(wait)) return
          over()
          resolve(rejected(error))
        }
      }
      this.#waits.add(wait)
      if (signal !== undefined) {
        const aborted = (): void => { wait.reject(signal.reason) }
        signal.addEventListener('abort', aborted)
        ends.push(() => { signal.removeEventListener('abort', aborted) })
      }
      if (timeout !== undefined) {
        const timer = this.#clock.after(timeout, () => { wait.reject(this.#timedOut(id, timeout)) })
        ends.push(() => { timer.cancel() })
      }
      ends.push(store.onEnd(id, {
        ended: end => {
          over()
          resolve(end.outcome === 'cancelled' ? { ...end, error: this.#cancelled } : end)
        },
        gone: () => { wait.reject(this.notFound(id)) },
        failed: wait.reject
      }))
      // The store may have told at once.
      if (!this.#waits.has(wait)) over()
    })
  }

  /** Rejects all waits, or those for some runs. */
  end (error: Error, isOver: (id: string) => boolean = () => true): void {
    for (const wait of [...this.#waits]) {
      if (isOver(wait.id)) wait.reject(error)
    }
  }

  notFound (id: unknown): Error {
    return new errorCodes.FST_BG_NOT_FOUND(`Background queue "${this.#queue}" has no run ${show(id)}: it never had, somebody has removed it, or it has ended and is not kept.`)
  }

  get #cancelled (): RunEnd['error'] {
    return { ...storedError(new errorCodes.FST_BG_CANCELLED(this.#queue, 'the run was cancelled')), stack: undefined }
  }

  #timedOut (id: string, timeout: number): Error {
    const limit = formatDuration(timeout)
    return Object.assign(new errorCodes.FST_BG_TIMEOUT(this.#queue, limit), { message: `Run ${show(id)} of background queue "${this.#queue}" did not end within ${limit}. It goes on.` })
  }
}

async function rejected (error: unknown): Promise<never> {
  throw error
}
