import { openSync, readFileSync, writeSync } from 'node:fs'

/** What happened, when, and in which process (`monkey` is the one that torments the others). */
export interface Entry {
  /** Milliseconds since the epoch, by a clock that nobody turns. */
  at: number
  process: string
  what: 'up' | 'accepted' | 'told' | 'refused' | 'begin' | 'hears' | 'end' | 'operate' | 'lag' | 'blocked' | 'hosted' | 'taken over' | 'unexpected' // by a worker
    | 'kill' | 'term' | 'exit' | 'disturb' | 'undisturb' // by the monkey
  queue?: string
  id?: string
  attempt?: number
  key?: string | undefined
  dueAt?: number
  missed?: number
  ok?: boolean
  code?: string
  ms?: number
  text?: string
}

/** A file that keeps what was written before a SIGKILL. Several processes append to one. */
export class Journal {
  readonly #file: number
  readonly #process: string

  constructor (path: string, process: string) {
    this.#file = openSync(path, 'a')
    this.#process = process
  }

  write (what: Entry['what'], entry: Omit<Entry, 'at' | 'process' | 'what'> = {}): void {
    writeSync(this.#file, `${JSON.stringify({ at: trueTime(), process: this.#process, what, ...entry })}\n`)
  }
}

export function readJournal (path: string): Entry[] {
  return readFileSync(path, 'utf8').split('\n').filter(line => line !== '').map(line => JSON.parse(line) as Entry).sort((a, b) => a.at - b.at)
}

/** Date is turned on purpose in the workers. */
function trueTime (): number {
  return performance.timeOrigin + performance.now()
}
