import type { Condition } from '../../../common/health.ts'
import type { Clock, Timer } from '../../../time/index.ts'

/** How often to try whether a full Redis has room again, in milliseconds. */
const INTERVAL = 1_000

/** What an error says of a Redis that has reached its `maxmemory`, and may remove nothing (`noeviction`). */
export const FULL = 'Redis is full: it has reached its maxmemory, and takes no new runs until it has room (OOM)'

/** Whether Redis refused a command because it is full. */
export function isFull (error: Error): boolean {
  return /\bOOM command not allowed\b/.test(error.message)
}

/** Says whether Redis is full, from the first command that it refuses for that until it has room again. */
export class StoreMemory {
  readonly #clock: Clock
  /** A command that changes nothing, and that a full Redis refuses. */
  readonly #probe: () => Promise<unknown>
  /** Called when Redis has become full, and when it has room again. */
  readonly #changed: (full: boolean) => void
  #timer: Timer | undefined

  constructor (clock: Clock, probe: () => Promise<unknown>, changed: (full: boolean) => void) {
    this.#clock = clock
    this.#probe = probe
    this.#changed = changed
  }

  get condition (): Condition {
    return this.#timer === undefined ? { status: 'ok' } : { status: 'degraded', reason: FULL }
  }

  /** Redis has refused a command: it is full. */
  refused (): void {
    if (this.#timer !== undefined) return
    this.#changed(true)
    this.#again()
  }

  stop (): void {
    this.#timer?.cancel()
    this.#timer = undefined
  }

  #again (): void {
    const timer = this.#clock.after(INTERVAL, () => {
      // Any other error says nothing of the memory: RedisConnection deals with a Redis that is away, and a user may lack the right to write the key.
      void this.#probe().then(() => false, error => isFull(error as Error)).then(full => {
        if (this.#timer !== timer) return
        if (full) {
          this.#again()
        } else {
          this.stop()
          this.#changed(false)
        }
      })
    })
    this.#timer = timer
  }
}
