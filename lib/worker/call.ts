import type { Reason } from '../common/errors.ts'
import { onAbortKey, type Run } from '../run/index.ts'
import type { Timer } from '../time/index.ts'
import type { FromThread, ThreadRun } from './messages.ts'
import type { Definition } from './options.ts'
import { decodeLogged } from './thrown.ts'
import type { WorkerThread } from './worker-thread.ts'

let count = 0

/** One call of a worker's module, as the server sees it: the run, and the promise of its value. */
export class Call {
  readonly number: number = ++count
  readonly run: Run
  readonly definition: Definition
  /** The thread that has it; undefined while it waits for one. */
  thread: WorkerThread | undefined
  /** Armed once the signal has aborted: then the thread ends. */
  killing: Timer | undefined
  reason: Reason | undefined
  /** How many messages have come from the thread. */
  heard = 0
  /** The value, if it came as a message. */
  value: unknown
  readonly #resolve: (value: unknown) => void
  readonly #reject: (error: unknown) => void
  #offAbort: (() => void) | undefined
  #over = false

  constructor (run: Run, definition: Definition, resolve: (value: unknown) => void, reject: (error: unknown) => void) {
    this.run = run
    this.definition = definition
    this.#resolve = resolve
    this.#reject = reject
  }

  /** Whether the run has ended, whatever the thread does. */
  get over (): boolean { return this.#over }

  /** What the thread gets. */
  get data (): ThreadRun {
    const { id, task, attempt, payload, dueAt, missed } = this.run
    const data: ThreadRun = [this.number, this.definition.name, id, task, attempt, levelOf(this.run)]
    if (missed > 0) data.push(payload, dueAt, missed)
    else if (dueAt !== undefined) data.push(payload, dueAt)
    else if (payload !== undefined) data.push(payload)
    return data
  }

  /** Calls back when the run is aborted, unless it has ended; at once if it is aborted already. */
  onAbort (callback: (reason: Reason) => void): void {
    this.#offAbort = onAbort(this.run, reason => { if (!this.#over) callback(reason) })
  }

  /** Hears a message of the thread. */
  hear (message: FromThread): void {
    this.heard++
    if (this.#over) return
    try {
      if ('log' in message) {
        const { log, bindings, args } = message
        const logger = bindings === undefined ? this.run.log : this.run.log.child(bindings)
        logger[log](...args.map(decodeLogged) as [object])
      } else if ('progress' in message) {
        this.run.progress(message.progress)
      } else {
        this.value = message.value
      }
    } catch {
      // A logger of the user's throws: a log line fails no run.
    }
  }

  resolve (value: unknown): void {
    this.#end()
    this.#resolve(value)
  }

  reject (error: unknown): void {
    this.#end()
    this.#reject(error)
  }

  #end (): void {
    this.#over = true
    this.killing?.cancel()
    this.#offAbort?.()
  }
}

/** Calls back when the run is aborted. The plugin's own runs tell it at less cost than a signal. */
function onAbort (run: Run, callback: (reason: Reason) => void): () => void {
  const own = (run as { [onAbortKey]?: (callback: (reason: Reason) => void) => () => void })[onAbortKey]
  if (own !== undefined) return own(callback)
  const { signal } = run
  const listener = (): void => { callback(signal.reason as Reason) }
  if (signal.aborted) listener()
  else signal.addEventListener('abort', listener)
  return () => { signal.removeEventListener('abort', listener) }
}

/** Level of the run's logger. One without a level gets every line, unless it writes none, as with `logger: false`. */
function levelOf ({ log }: Run): string {
  const { level = log.info.name === 'noop' ? 'silent' : 'trace' } = log as { level?: string }
  return level
}
