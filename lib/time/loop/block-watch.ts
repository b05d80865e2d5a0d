import type { FastifyBaseLogger } from 'fastify'
import { report } from '../../common/log.ts'
import { type Block, eventLoop, LOOK, type LoopWatcher } from './event-loop.ts'

/** A handler has blocked the event loop if it did so for longer than this, in milliseconds. */
export const BLOCKED = 1_000
/** How long health remembers it, in milliseconds. */
const REMEMBERED = 60_000

/** What the watch has to know of a task. */
interface WatchedTask { readonly log: FastifyBaseLogger }

/** What it has to know of an attempt. */
interface WatchedAttempt {
  /** Name of the task. */
  readonly task: string
  /** When its handler was called, on the monotonic timeline; 0 if it was not. */
  readonly startedAt: number
  /** Whether its handler runs in the event loop. */
  readonly isInLoop: boolean
}

/** An attempt, and the task that it belongs to. */
export interface Suspect {
  readonly task: WatchedTask
  readonly attempt: WatchedAttempt
  /** When the attempt ended, on the monotonic timeline; undefined while it is active. */
  readonly until?: number
}

/** What the watch uses of its application. */
export interface BlockHost {
  /** Milliseconds on the monotonic timeline. */
  now (): number
  /** The active attempts of all tasks. */
  suspects (): Suspect[]
}

/**
 * Finds out which handler has blocked the event loop.
 *
 * It looks only while runs are active. No run is measured by itself: to read the clock once more costs a twentieth of a short run. Whoever blocks the
 * loop is active all the while. If one of the attempts that were began right before, it was the last of these: nothing begins during a block. If none
 * did, a handler has blocked the loop after an `await`, and nobody can tell which: all of them are suspect, first the ones that have ended since.
 */
export class BlockWatch implements LoopWatcher {
  readonly #host: BlockHost
  #unwatch: (() => void) | undefined
  #active = 0
  /** Long attempts that have ended since the last look. */
  #ended: Suspect[] = []
  readonly #blocks = new WeakMap<object, { ms: number, at: number }>()

  constructor (host: BlockHost) {
    this.#host = host
  }

  /** A run begins. */
  begin (): void {
    this.#active++
    this.#unwatch ??= eventLoop.watch(this)
  }

  /** A run has ended. */
  end (): void {
    this.#active--
  }

  /** Looks no more, until a run begins: the application has closed. */
  stop (): void {
    this.#unwatch?.()
    this.#unwatch = undefined
  }

  /** An attempt has ended that took longer than `BLOCKED`. */
  longAttemptEnded (task: WatchedTask, attempt: WatchedAttempt): void {
    this.#ended.push({ task, attempt, until: this.#host.now() })
  }

  /** For how many milliseconds a task has blocked the loop, or may have, within the last minute; undefined if it has not. */
  blockOf (task: object): number | undefined {
    const block = this.#blocks.get(task)
    return block !== undefined && this.#host.now() - block.at < REMEMBERED ? block.ms : undefined
  }

  looked (block: Block | undefined): void {
    if (block !== undefined && block.ms + LOOK > BLOCKED) this.#report(block)
    this.#ended = []
    if (this.#active > 0) return
    this.stop()
  }

  #report (block: Block): void {
    const { suspects, ms } = this.#blame(block)
    if (suspects.length === 0 || ms <= BLOCKED) return
    for (const { task } of suspects) this.#blocks.set(task, { ms, at: this.#host.now() })
    const names = [...new Set(suspects.map(({ attempt }) => attempt.task))]
    // A store has said it already, with what that means for the lease.
    if (!names.some(name => block.reported.has(name))) report.blocked((suspects[0] as Suspect).task.log, names, ms)
  }

  /** Who may have blocked the loop, and for how long. */
  #blame (block: Block): { suspects: Suspect[], ms: number } {
    const timeOf = ({ attempt, until = block.until }: Suspect): number => Math.min(until, block.until) - Math.max(attempt.startedAt, block.after)
    const all = [...this.#ended, ...this.#host.suspects()]
      .filter(one => one.attempt.isInLoop && one.attempt.startedAt > 0 && timeOf(one) >= block.ms)
      .sort((one, other) => Number(other.until !== undefined) - Number(one.until !== undefined) || other.attempt.startedAt - one.attempt.startedAt)
    const [last] = all.filter(({ attempt }) => attempt.startedAt >= block.after).sort((one, other) => other.attempt.startedAt - one.attempt.startedAt)
    // In the middle of what the block may have taken.
    return last === undefined ? { suspects: all, ms: block.ms + LOOK / 2 } : { suspects: [last], ms: timeOf(last) }
  }
}
