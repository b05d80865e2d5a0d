import type { FastifyBaseLogger } from 'fastify'
import { inspect } from 'node:util'
import type { Attempt } from './attempt.ts'
import type { RunRecord } from './handle.ts'
import type { StoredError } from './queue-handle.ts'
import type { RunResult } from './run.ts'

// The only file that words a log line. Each is one object and one short message; an error always stands under `err`.

type Level = 'debug' | 'info' | 'warn' | 'error' | 'fatal'

/** What there is to say of one run. */
export type RunReport = (log: FastifyBaseLogger, task: string, attempt: Attempt, result: RunResult) => void

export const report = {
  serviceCompleted: ofRun('info', 'service completed'),
  serviceRestarted: ofRun('info', 'service ended, and is restarted'),
  serviceStopped: ofRun('debug', 'service stopped'),
  started: ofRun('debug', 'hosted service started'),
  startCancelled: ofRun('debug', 'start cancelled'),
  startedLate: ofRun('warn', 'start ended after its time was up: the hosted service is stopped'),
  stopped: ofRun('debug', 'hosted service stopped'),
  stopFailed: ofRun('error', 'stop failed'),

  runSucceeded: ofRun('info', 'run succeeded'),
  runCancelled: ofRun('debug', 'run cancelled'),
  notRetried: ofRun('warn', 'attempt failed, and is not retried, as the application closes'),
  backgroundFailed: ofRun('error', 'background run failed'),
  backgroundSucceeded: ofRun('debug', 'background run succeeded'),
  runCutShort: ofRun('warn', 'run cut short by shutdown'),

  serviceStarted (log: FastifyBaseLogger, task: string, attempt: Attempt): void {
    if (enabled(log, 'debug')) write(log, 'debug', { task, run: attempt.id, attempt: attempt.number }, 'service started')
  },
  tick (log: FastifyBaseLogger, task: string, attempt: Attempt, dueAt: Date): void {
    if (enabled(log, 'debug')) write(log, 'debug', { task, run: attempt.id, attempt: attempt.number, dueAt }, 'run started')
  },
  queuedRun (log: FastifyBaseLogger, task: string, attempt: Attempt): void {
    if (enabled(log, 'debug')) write(log, 'debug', { task, run: attempt.id, attempt: attempt.number }, 'run started')
  },
  left (log: FastifyBaseLogger, task: string, count: number): void {
    write(log, 'warn', { task, count }, count === 1 ? '1 run is cancelled: the queue ends before it could run' : `${count} runs are cancelled: the queue ends before they could run`)
  },
  tickExcluded (log: FastifyBaseLogger, task: string, dueAt: Date): void {
    write(log, 'debug', { task, dueAt }, 'tick skipped: excluded')
  },
  tickSkipped (log: FastifyBaseLogger, loud: boolean, task: string, dueAt: Date, skipped: number | undefined, run: string | undefined): void {
    const message = loud ? `${skipped} ticks skipped behind a run that has not ended: does it hang?` : 'tick skipped: the run before it is active'
    write(log, loud ? 'warn' : 'debug', { task, run, dueAt, skipped }, message)
  },
  allExcluded (log: FastifyBaseLogger, task: string): void {
    write(log, 'warn', { task }, 'exclude leaves out every tick within reach: the next run is not known')
  },
  eitherDay (log: FastifyBaseLogger, task: string, cron: string): void {
    write(log, 'warn', { task, cron }, 'the cron expression restricts the day of the month and the day of the week: a day that matches either is taken')
  },
  /** The first failure in a row, the second, the fourth and so on at error, the others at warn. */
  serviceFails (log: FastifyBaseLogger, task: string, attempt: Attempt, result: RunResult, failures: number, delay: number): void {
    const level = Number.isInteger(Math.log2(failures)) ? 'error' : 'warn'
    write(log, level, { ...lineOf(task, attempt, result), err: result.error, failures, delay: Math.round(delay) }, 'service failed, and is restarted')
  },
  retried (log: FastifyBaseLogger, task: string, attempt: Attempt, result: RunResult, delay: number): void {
    write(log, 'warn', { ...lineOf(task, attempt, result), err: result.error, delay: Math.round(delay) }, 'attempt failed, and is retried')
  },
  gaveUp (log: FastifyBaseLogger, close: boolean, what: 'run' | 'service', task: string, attempt: Attempt, result: RunResult): void {
    const line = { ...lineOf(task, attempt, result), err: result.error }
    write(log, close ? 'fatal' : 'error', line, `${what} failed${close ? ': the application closes' : ''}`)
  },
  onGiveUpFailed (log: FastifyBaseLogger, task: string, err: unknown): void {
    write(log, 'error', { task, err }, 'onGiveUp failed')
  },
  stopTimeout (log: FastifyBaseLogger, task: string, attempt: Attempt | undefined, waited: string): void {
    write(log, 'error', { task, run: attempt?.id, attempt: attempt?.number }, `still runs ${waited} after it was told to stop: stop() waits no longer`)
  },
  startFailed (log: FastifyBaseLogger, task: string, attempt: Attempt | undefined, duration: number, err: unknown): void {
    write(log, 'error', { task, run: attempt?.id, attempt: attempt?.number, duration: Math.round(duration), err }, 'start failed')
  },
  stoppedLate (log: FastifyBaseLogger, task: string, last: RunRecord | undefined): void {
    write(log, 'warn', { task, run: last?.id, duration: last && Math.round(last.duration) }, 'stopped after the shutdown deadline')
  },
  storeLost (log: FastifyBaseLogger, err: Error | undefined): void {
    write(log, 'error', err === undefined ? {} : { err }, 'the store cannot be reached: it is tried again')
  },
  storeBack (log: FastifyBaseLogger): void {
    write(log, 'info', {}, 'the store can be reached again')
  },
  storeError (log: FastifyBaseLogger, task: string, err: Error): void {
    write(log, 'warn', { task, err }, 'the store reports an error')
  },
  notPersisted (log: FastifyBaseLogger, snapshots: boolean): void {
    const what = snapshots ? 'Redis keeps snapshots only: a crash loses the runs of the last minutes' : 'Redis keeps nothing on disk: a restart loses all runs'
    write(log, 'warn', {}, `${what}. Set "appendonly yes"`)
  },
  shutdownTimeout (log: FastifyBaseLogger, tasks: string[], err: Error): void {
    write(log, 'error', { tasks, err }, 'shutdown deadline passed')
  }
} as const

/** An Error for whatever was thrown, so that it is serialised whole; what was thrown is its `cause`. */
export function toError (thrown: unknown): Error {
  try {
    if (thrown instanceof Error || Object.prototype.toString.call(thrown) === '[object Error]') return thrown as Error
    return new Error(`a value that is not an Error was thrown: ${inspect(thrown, { depth: 1 })}`, { cause: thrown })
  } catch {
    return new Error('a value that is not an Error was thrown, and looking at it throws', { cause: thrown })
  }
}

/** What is kept of whatever was thrown. */
export function storedError (thrown: unknown): StoredError {
  const { name, message, stack } = copyOf(toError(thrown))
  return { name, message, code: codeOf(thrown), stack }
}

/** What whatever was thrown says. */
export function messageOf (thrown: unknown): string {
  return copyOf(toError(thrown)).message
}

function codeOf (thrown: unknown): string | undefined {
  try {
    const { code } = Object(thrown) as { code?: unknown }
    return typeof code === 'string' ? code : undefined
  } catch {
    return undefined
  }
}

function ofRun (level: Level, message: string): RunReport {
  return (log, task, attempt, result) => {
    if (!enabled(log, level)) return
    const line = lineOf(task, attempt, result)
    write(log, level, result.outcome === 'succeeded' ? line : { ...line, err: result.error }, message)
  }
}

function lineOf (task: string, attempt: Attempt, { duration }: RunResult): object {
  return { task, run: attempt.id, attempt: attempt.number, duration: Math.round(duration) }
}

/** What `logger: false` logs with, once it has been seen: to ask each time for the name of a function would take a twentieth of a run. */
let noop: unknown

/** Whether a line would be written. Where a logger cannot tell, one whose method is that of `silent`, or a `noop`, writes nothing. */
function enabled (log: FastifyBaseLogger & { isLevelEnabled?: (level: Level) => boolean }, level: Level): boolean {
  try {
    const method: { name: string } = log[level]
    if (log.isLevelEnabled !== undefined) return log.isLevelEnabled(level)
    if (method === noop || method === log.silent) return false
    if (method.name === 'noop') noop = method
    return method !== noop
  } catch {
    // A logger of the user's: then that fails where it is caught.
    return true
  }
}

/** Logs without ever throwing: a line must not become a failure of the run that it is about. */
function write (log: FastifyBaseLogger, level: Level, line: object, message: string): void {
  const fields: { err?: Error } = 'err' in line ? { ...line, err: toError(line.err) } : line
  try {
    log[level](fields, message)
  } catch {
    // pino's serialiser marks the error that it serialises, and throws on one that is frozen: log a copy.
    try { log[level](fields.err === undefined ? fields : { ...fields, err: copyOf(fields.err) }, message) } catch {}
  }
}

/** With what can be read of it: each may throw. */
function copyOf (error: Error): Error {
  const read = (key: 'message' | 'name' | 'stack'): string => {
    try { return String(error[key]) } catch { return `(its ${key} throws)` }
  }
  return Object.assign(new Error(read('message')), { name: read('name'), stack: read('stack') })
}
