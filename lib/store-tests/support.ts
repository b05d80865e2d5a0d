import type { FastifyInstance } from 'fastify'
import type { BackgroundQueue, ListedState, QueuedRun, Run } from '../index.ts'

// What the suites share. Nothing here waits for time: tests wait for what happens.

/** One line of the log, parsed. */
export interface Line {
  level: 'debug' | 'info' | 'warn' | 'error' | 'fatal'
  msg: string
  task?: string
  run?: string
  [key: string]: unknown
}

const levels: Record<number, Line['level']> = { 20: 'debug', 30: 'info', 40: 'warn', 50: 'error', 60: 'fatal' }

/** A logger option that keeps every line, from debug on. */
export function capture (lines: Line[]): { level: string, stream: { write (text: string): void } } {
  return {
    level: 'debug',
    stream: {
      write (text) {
        const line = JSON.parse(text) as Omit<Line, 'level'> & { level: number }
        lines.push({ ...line, level: levels[line.level] ?? 'debug' } as Line)
      }
    }
  }
}

/** The first line with that message, as soon as it has been written. */
export async function logged (lines: Line[], msg: string): Promise<Line> {
  const written = lines.find(line => line.msg === msg)
  if (written !== undefined) return written
  return await new Promise(resolve => {
    const { push } = lines
    lines.push = (...more) => {
      const line = more.find(line => line.msg === msg)
      if (line !== undefined) resolve(line)
      return push.apply(lines, more)
    }
  })
}

interface Deferred {
  promise: Promise<void>
  resolve (): void
  reject (reason: unknown): void
}

function deferred (): Deferred {
  let resolve!: () => void
  let reject!: (reason: unknown) => void
  const promise = new Promise<void>((_resolve, _reject) => {
    resolve = _resolve
    reject = _reject
  })
  return { promise, resolve, reject }
}

/** Resolves with the reason when the signal aborts. */
export async function aborted (signal: AbortSignal): Promise<Error & { code: string }> {
  if (!signal.aborted) await new Promise<void>(resolve => { signal.addEventListener('abort', () => { resolve() }, { once: true }) })
  return signal.reason as Error & { code: string }
}

/** What `work` rejects with. */
export async function rejection (work: PromiseLike<unknown> | (() => PromiseLike<unknown>)): Promise<Error & { code?: string }> {
  try {
    await (typeof work === 'function' ? work() : work)
  } catch (error) {
    return error as Error & { code?: string }
  }
  throw new Error('it did not reject')
}

/** Resolves after everything that is under way without I/O or timers. */
export async function later (): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise(resolve => { setImmediate(resolve) })
}

export type Handler = (this: FastifyInstance, run: Run) => unknown

/** One call of a handler that holds. */
export interface Call {
  run: Run
  self: unknown
  payload: unknown
  end (): void
  fail (error: unknown): void
}

/** A handler that holds every run until it is told, or until its signal aborts; `deaf`, not even then. */
export function held ({ deaf = false } = {}): { handler: Handler, calls: Call[], call (n: number): Promise<Call>, endAll (): void } {
  const calls: Call[] = []
  const waiting: Array<() => void> = []
  let over = false
  return {
    calls,
    async handler (run) {
      const gate = deferred()
      calls.push({ run, self: this, payload: run.payload, end: gate.resolve, fail: gate.reject })
      for (const tell of waiting.splice(0)) tell()
      if (over) return
      if (!deaf) run.signal.addEventListener('abort', () => { gate.reject(run.signal.reason) })
      await gate.promise
    },
    /** Resolves when it has been called so often. */
    async call (n) {
      while (calls.length <= n) await new Promise<void>(resolve => { waiting.push(resolve) })
      return calls[n] as Call
    },
    /** Ends all, and holds none any more. */
    endAll () {
      over = true
      for (const { end } of calls) end()
    }
  }
}

/** The runs in a state, up to the default limit. */
export async function list (queue: BackgroundQueue, state: ListedState): Promise<QueuedRun[]> {
  return (await queue.list({ state })).runs
}

/** Resolves in the next millisecond. A store lists runs that end in the same one in any order: a run that awaits this ends after the one before. */
export async function nextMillisecond (): Promise<void> {
  const now = Date.now()
  while (Date.now() === now) await new Promise(resolve => { setImmediate(resolve) })
}

/** How long a store may take for what it keeps some time after it was told, in milliseconds: a test that has failed must not look for ever. */
const PATIENCE = 30_000

/** Looks until it is so: for what a store keeps some time after it was told. */
export async function until (isSo: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + PATIENCE
  while (!await isSo()) {
    if (Date.now() > end) throw new Error(`what the test waits for has not come within ${PATIENCE / 1_000} s`)
    await new Promise(resolve => { setTimeout(resolve, 5) })
  }
}

/** Whole numbers in [0, below) that are always the same (mulberry32). */
export function wholes (seed: number): (below: number) => number {
  let state = seed * 0x9e3779b9 | 0
  return below => {
    state = state + 0x6d2b79f5 | 0
    let mixed = Math.imul(state ^ state >>> 15, 1 | state)
    mixed = mixed + Math.imul(mixed ^ mixed >>> 7, 61 | mixed) ^ mixed
    return Math.floor(((mixed ^ mixed >>> 14) >>> 0) / 2 ** 32 * below)
  }
}
