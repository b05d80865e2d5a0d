import type { FastifyBaseLogger } from 'fastify'
import { readableCopy, toError } from './errors.ts'
import { withoutOurFrames } from './readable.ts'

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

/** A crash under a run. */
interface Crash {
  /** Which crash under this run it is, from 1. */
  readonly crash: number
  readonly maxCrashes: number
  readonly reqId?: string
  readonly key?: string
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
  graceCut (log: FastifyBaseLogger, task: string, grace: number, cut: number): void {
    write(log, 'warn', { task, grace, cut }, `"grace" of ${seconds(grace)} s is cut to ${seconds(cut)} s, three quarters of "shutdownTimeout", so that its runs hear of a shutdown before the deadline: raise "shutdownTimeout", or lower "grace"`)
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
  onGiveUpFailed (log: FastifyBaseLogger, task: string, attempt: LoggedRun, err: unknown): void {
    write(log, 'error', { ...runOf(task, attempt), err }, 'onGiveUp failed')
  },
  stopTimeout (log: FastifyBaseLogger, task: string, attempt: LoggedRun | undefined, waited: string): void {
    write(log, 'error', attempt === undefined ? { task } : runOf(task, attempt), `still runs ${waited} after it was told to stop: stop() waits no longer`)
  },
  startFailed (log: FastifyBaseLogger, task: string, attempt: LoggedRun | undefined, duration: number, err: unknown): void {
    write(log, 'error', { ...attempt === undefined ? { task } : runOf(task, attempt), duration: Math.round(duration), err }, 'start failed')
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
  removed (log: FastifyBaseLogger, task: string, run: string): void {
    write(log, 'warn', { task, run }, 'the store has lost this active run: somebody has removed its keys, or Redis has evicted them')
  },
  lost (log: FastifyBaseLogger, task: string, run: string): void {
    write(log, 'warn', { task, run }, 'this active run belongs to this process no longer: another one has taken it over, or somebody has removed it')
  },
  storeFull (log: FastifyBaseLogger): void {
    write(log, 'error', {}, 'the store is full: it takes no new runs until it has room')
  },
  storeHasRoom (log: FastifyBaseLogger): void {
    write(log, 'info', {}, 'the store has room again')
  },
  storeError (log: FastifyBaseLogger, task: string, err: Error): void {
    write(log, 'warn', { task, err }, 'the store reports an error')
  },
  engineError (log: FastifyBaseLogger, engine: string, err: Error): void {
    write(log, 'warn', { err }, `${engine} reports a problem with its tables`)
  },
  unheard (log: FastifyBaseLogger): void {
    write(log, 'warn', {}, 'notifications of PostgreSQL do not arrive, as through PgBouncer in transaction mode: queues look every 2 s instead. Connect directly, or in session mode')
  },
  notPersisted (log: FastifyBaseLogger, snapshots: boolean): void {
    const what = snapshots ? 'Redis keeps snapshots only: a crash loses the runs of the last minutes' : 'Redis keeps nothing on disk: a restart loses all runs'
    write(log, 'warn', {}, `${what}. Set "appendonly yes"`)
  },
  embedded (log: FastifyBaseLogger, dataDir: string): void {
    write(log, 'warn', { dataDir }, 'the store is an embedded PostgreSQL: it is for this process only, and a power cut can lose its last runs')
  },
  valueLeftOut (log: FastifyBaseLogger, task: string, attempt: LoggedRun, why: string): void {
    write(log, 'warn', runOf(task, attempt), `what the handler returned is not kept: it ${why}. The run has succeeded; return plain data, or nothing. Further ones are not told`)
  },
  tickRefused (log: FastifyBaseLogger, task: string, tick: { dueAt: number, schedule: string } | undefined, err: unknown): void {
    write(log, 'error', { task, schedule: tick?.schedule, dueAt: tick && new Date(tick.dueAt), err }, 'the run of a tick could not be enqueued')
  },
  scheduleUnreadable (log: FastifyBaseLogger, task: string, schedule: string, err: unknown): void {
    write(log, 'error', { task, schedule, err }, 'a stored schedule cannot be read, and does not tick here: deploy its version, or schedule it anew')
  },
  closing (log: FastifyBaseLogger, tasks: string[], active: number, waiting: number): void {
    write(log, 'info', { tasks, active, waiting }, 'close waits for background tasks')
  },
  closed (log: FastifyBaseLogger, duration: number): void {
    write(log, 'info', { duration: Math.round(duration) }, 'background tasks have stopped')
  },
  blocked (log: FastifyBaseLogger, tasks: string[], ms: number): void {
    const [task] = tasks
    const who = tasks.map(name => `"${name}"`).join(' or ')
    write(log, 'warn', { task, duration: Math.round(ms), ...tasks.length > 1 && { tasks } }, `${who} has blocked the event loop for ${seconds(ms)} s: no request, timer or lease got its turn. Compute in a thread, with worker()`)
  },
  blockedPastLease (log: FastifyBaseLogger, task: string, ms: number, lease: number): void {
    write(log, 'warn', { task, duration: Math.round(ms) }, `the event loop was blocked for ${seconds(ms)} s, longer than the lease of ${seconds(lease)} s: another process may run what runs here. Compute in a thread, with worker()`)
  },
  /** `crash`: how many processes have died under the run, and how many may, where the store knows. */
  takenOver (log: FastifyBaseLogger, task: string, run: string, crash?: Crash): void {
    const message = 'run taken over: its process has died, or has lost its lease'
    if (crash === undefined) write(log, 'warn', { task, run }, message)
    else write(log, 'warn', { task, run, ...crash }, `${message} (crash ${crash.crash} of ${crash.maxCrashes})`)
  },
  evicts (log: FastifyBaseLogger, policy: string): void {
    write(log, 'warn', { policy }, `Redis removes keys when it is full (maxmemory-policy ${policy}): runs can be lost. Set "maxmemory-policy noeviction"`)
  },
  clockDiffers (log: FastifyBaseLogger, ms: number): void {
    write(log, 'warn', { difference: Math.round(ms) }, `the clock of this process is ${Math.abs(ms / 1_000).toFixed(1)} s ${ms > 0 ? 'ahead of' : 'behind'} that of the store: delays and cluster ticks are off by that`)
  },
  acted (log: FastifyBaseLogger, action: { actor: string | undefined, action: string, task: string, run: string | undefined }): void {
    write(log, 'info', action, 'dashboard action')
  },
  actionRefused (log: FastifyBaseLogger, action: { actor: string | undefined, action: string, task: string, run: string | undefined }, err: unknown): void {
    write(log, 'info', { ...action, err }, 'dashboard action refused')
  },
  authorizeFailed (log: FastifyBaseLogger, err: unknown): void {
    write(log, 'info', { err }, 'the option "authorize" of the dashboard threw: the request is refused')
  },
  authorizeUnclear (log: FastifyBaseLogger, type: string): void {
    write(log, 'warn', { type }, 'the option "authorize" of the dashboard answered none of true, false, \'read\', \'full\' and { access, name }: the request is refused. Further ones are not told')
  },
  redactFailed (log: FastifyBaseLogger, task: string, err: unknown): void {
    write(log, 'warn', { task, err }, 'the option "redact" of the dashboard failed: the payload is not shown')
  },
  dashboardFailed (log: FastifyBaseLogger, err: unknown): void {
    write(log, 'error', { err }, 'the dashboard failed')
  },
  dashboardOpen (log: FastifyBaseLogger, prefix: string): void {
    write(log, 'warn', { prefix }, 'the dashboard is open to everybody: anybody who reaches this server can see payloads, and start and stop tasks. Pass "authorize"')
  },
  shutdownTimeout (log: FastifyBaseLogger, tasks: string[], err: Error): void {
    write(log, 'error', { tasks, err }, 'shutdown deadline passed')
  }
} as const

/** A duration in milliseconds as seconds, for a text. */
export function seconds (ms: number): string {
  return (ms / 1_000).toFixed(1)
}

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
  const fields: { err?: Error } = 'err' in line ? { ...line, err: withoutOurFrames(toError(line.err)) } : line
  try {
    log[level](fields, message)
  } catch {
    // pino's serialiser sets a mark on the error, and throws if the error is frozen: log a copy.
    try { log[level](fields.err === undefined ? fields : { ...fields, err: readableCopy(fields.err) }, message) } catch {}
  }
}
