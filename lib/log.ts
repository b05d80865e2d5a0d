import type { FastifyBaseLogger } from 'fastify'
import { readableCopy, toError } from './errors.ts'

// The wording of every log line. A line is one object and one short message; an error always has the key `err`.

type Level = 'debug' | 'info' | 'warn' | 'error' | 'fatal'

/** The run that a line is about: an attempt. */
interface LoggedRun {
  readonly id: string
  readonly number: number
  readonly reqId?: string | undefined
  readonly key?: string | undefined
}

/** How that run, or its attempt, ended. */
interface LoggedResult {
  readonly outcome: string
  readonly error: unknown
  /** In milliseconds. */
  readonly duration: number
}

/** Writes the line of one run. */
export type RunReport = (log: FastifyBaseLogger, task: string, attempt: LoggedRun, result: LoggedResult) => void

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

  serviceStarted (log: FastifyBaseLogger, task: string, attempt: LoggedRun): void {
    if (enabled(log, 'debug')) write(log, 'debug', runOf(task, attempt), 'service started')
  },
  tick (log: FastifyBaseLogger, task: string, attempt: LoggedRun, dueAt: Date): void {
    if (enabled(log, 'debug')) write(log, 'debug', { ...runOf(task, attempt), dueAt }, 'run started')
  },
  queuedRun (log: FastifyBaseLogger, task: string, attempt: LoggedRun): void {
    if (enabled(log, 'debug')) write(log, 'debug', runOf(task, attempt), 'run started')
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
  /** At error for the first failure in a row, the second, the fourth and so on; at warn for the others. */
  serviceFails (log: FastifyBaseLogger, task: string, attempt: LoggedRun, result: LoggedResult, failures: number, delay: number): void {
    const level = Number.isInteger(Math.log2(failures)) ? 'error' : 'warn'
    write(log, level, { ...lineOf(task, attempt, result), err: result.error, failures, delay: Math.round(delay) }, 'service failed, and is restarted')
  },
  retried (log: FastifyBaseLogger, task: string, attempt: LoggedRun, result: LoggedResult, delay: number): void {
    write(log, 'warn', { ...lineOf(task, attempt, result), err: result.error, delay: Math.round(delay) }, 'attempt failed, and is retried')
  },
  gaveUp (log: FastifyBaseLogger, close: boolean, what: 'run' | 'service', task: string, attempt: LoggedRun, result: LoggedResult): void {
    const line = { ...lineOf(task, attempt, result), err: result.error }
    write(log, close ? 'fatal' : 'error', line, `${what} failed${close ? ': the application closes' : ''}`)
  },
  onGiveUpFailed (log: FastifyBaseLogger, task: string, err: unknown): void {
    write(log, 'error', { task, err }, 'onGiveUp failed')
  },
  stopTimeout (log: FastifyBaseLogger, task: string, attempt: LoggedRun | undefined, waited: string): void {
    write(log, 'error', { task, run: attempt?.id, attempt: attempt?.number }, `still runs ${waited} after it was told to stop: stop() waits no longer`)
  },
  startFailed (log: FastifyBaseLogger, task: string, attempt: LoggedRun | undefined, duration: number, err: unknown): void {
    write(log, 'error', { task, run: attempt?.id, attempt: attempt?.number, duration: Math.round(duration), err }, 'start failed')
  },
  stoppedLate (log: FastifyBaseLogger, task: string, last: { id: string, duration: number } | undefined): void {
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
  closing (log: FastifyBaseLogger, tasks: string[]): void {
    write(log, 'info', { tasks }, 'close waits for background tasks')
  },
  closed (log: FastifyBaseLogger, duration: number): void {
    write(log, 'info', { duration: Math.round(duration) }, 'background tasks have stopped')
  },
  blocked (log: FastifyBaseLogger, task: string, ms: number, lease: number): void {
    const seconds = (duration: number): string => (duration / 1_000).toFixed(1)
    write(log, 'warn', { task, duration: Math.round(ms) }, `the event loop was blocked for ${seconds(ms)} s, longer than the lease of ${seconds(lease)} s: another process may run what runs here. Do long computations in a worker thread`)
  },
  takenOver (log: FastifyBaseLogger, task: string, run: string): void {
    write(log, 'warn', { task, run }, 'run taken over: its process has died, or has lost its lease')
  },
  evicts (log: FastifyBaseLogger, policy: string): void {
    write(log, 'warn', { policy }, `Redis removes keys when it is full (maxmemory-policy ${policy}): runs can be lost. Set "maxmemory-policy noeviction"`)
  },
  clockDiffers (log: FastifyBaseLogger, ms: number): void {
    write(log, 'warn', { difference: Math.round(ms) }, `the clock of this process is ${Math.abs(ms / 1_000).toFixed(1)} s ${ms > 0 ? 'ahead of' : 'behind'} that of the store: delays and cluster ticks are off by that`)
  },
  shutdownTimeout (log: FastifyBaseLogger, tasks: string[], err: Error): void {
    write(log, 'error', { tasks, err }, 'shutdown deadline passed')
  }
} as const

function ofRun (level: Level, message: string): RunReport {
  return (log, task, attempt, result) => {
    if (!enabled(log, level)) return
    const line = lineOf(task, attempt, result)
    write(log, level, result.outcome === 'succeeded' ? line : { ...line, err: result.error }, message)
  }
}

function lineOf (task: string, attempt: LoggedRun, { duration }: LoggedResult): object {
  return { ...runOf(task, attempt), duration: Math.round(duration) }
}

/** The run that a line is about. `reqId` and `key` are there only where the run has them. */
function runOf (task: string, { id, number, reqId, key }: LoggedRun): object {
  return { task, run: id, attempt: number, ...reqId !== undefined && { reqId }, ...key !== undefined && { key } }
}

/** The method with which `logger: false` logs, once seen: reading the name of a function at each line costs a twentieth of a short run. */
let noop: unknown

/** Whether the logger writes lines of a level. A logger without `isLevelEnabled` writes nothing with its `silent` method, or one named `noop`. */
function enabled (log: FastifyBaseLogger & { isLevelEnabled?: (level: Level) => boolean }, level: Level): boolean {
  try {
    const method: { name: string } = log[level]
    if (log.isLevelEnabled !== undefined) return log.isLevelEnabled(level)
    if (method === noop || method === log.silent) return false
    if (method.name === 'noop') noop = method
    return method !== noop
  } catch {
    // A logger of the user's throws: write() catches what it throws for the line.
    return true
  }
}

/** Writes a line, and never throws: a log line must not fail the run that it describes. */
function write (log: FastifyBaseLogger, level: Level, line: object, message: string): void {
  const fields: { err?: Error } = 'err' in line ? { ...line, err: toError(line.err) } : line
  try {
    log[level](fields, message)
  } catch {
    // pino's serialiser sets a mark on the error, and throws if the error is frozen: log a copy.
    try { log[level](fields.err === undefined ? fields : { ...fields, err: readableCopy(fields.err) }, message) } catch {}
  }
}
