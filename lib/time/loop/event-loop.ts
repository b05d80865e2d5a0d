import { afterRealTime, realTime } from '../clock.ts'

/** How often it looks, in milliseconds. It knows the length of a block to within this. */
export const LOOK = 200

/** A time during which the event loop did not turn. */
export interface Block {
  /** Its length, or up to `LOOK` less than that; in milliseconds. */
  readonly ms: number
  /** When the loop was last seen to turn, on the monotonic timeline. */
  readonly after: number
  /** When it turned again. */
  readonly until: number
  /** Names of the tasks about which there is a log line for this block already. */
  readonly reported: Set<string>
}

/** Somebody who watches the loop. */
export interface LoopWatcher {
  /** The loop was blocked for longer than `LOOK`. */
  blocked? (block: Block): void
  /** Called after each look, when every watcher has been told of the block, if there was one. */
  looked? (block: Block | undefined): void
}

/**
 * The event loop of this thread: whether it turns. While somebody watches, one timer looks five times a second; it keeps no process alive.
 *
 * In real time, as a block is real: a fake clock that jumps by an hour has blocked nothing.
 */
class EventLoop {
  readonly #watchers = new Set<LoopWatcher>()
  #cancel: (() => void) | undefined
  #lookedAt = 0

  /** Tells a watcher of each block, until the returned function is called. */
  watch (watcher: LoopWatcher): () => void {
    this.#watchers.add(watcher)
    if (this.#cancel === undefined) this.#again(realTime())
    return () => {
      this.#watchers.delete(watcher)
      if (this.#watchers.size > 0) return
      this.#cancel?.()
      this.#cancel = undefined
    }
  }

  /** Looks now: for a timer that rings after a block, and must know of the block before it does anything. */
  look (): void {
    if (this.#cancel === undefined) return
    this.#cancel()
    const now = realTime()
    const block = { ms: now - this.#lookedAt - LOOK, after: this.#lookedAt, until: now, reported: new Set<string>() }
    this.#again(now)
    const watchers = [...this.#watchers]
    const isBlock = block.ms > LOOK
    if (isBlock) for (const watcher of watchers) watcher.blocked?.(block)
    for (const watcher of watchers) watcher.looked?.(isBlock ? block : undefined)
  }

  #again (now: number): void {
    this.#lookedAt = now
    this.#cancel = afterRealTime(LOOK, () => { this.look() })
  }
}

/** One for the whole process, whose applications share the loop. */
export const eventLoop: EventLoop = new EventLoop()
