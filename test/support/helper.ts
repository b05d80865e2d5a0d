import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import backgroundTasks, { type BackgroundTasksOptions } from '../../lib/index.ts'

/** What the helper needs of a tap test. */
interface Test { teardown (callback: () => unknown): void }

/** One line of the log, parsed. */
export interface Line {
  level: 'debug' | 'info' | 'warn' | 'error' | 'fatal'
  msg: string
  task?: string
  tasks?: string[]
  run?: string
  attempt?: number
  duration?: number
  err?: { type: string, message: string, code?: string, stack: string }
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

/** A fresh app with the plugin, and the lines that it logs. The teardown closes it. */
export async function build (t: Test, options: BackgroundTasksOptions = {}, fastify: FastifyServerOptions = {}): Promise<{ app: FastifyInstance, lines: Line[] }> {
  const lines: Line[] = []
  const app = Fastify({ logger: capture(lines), ...fastify }) as FastifyInstance
  t.teardown(async () => { await app.close().catch(() => {}) })
  await app.register(backgroundTasks, options)
  return { app, lines }
}

/** A promise to be settled from outside. */
export interface Deferred<T> {
  promise: Promise<T>
  resolve (value: T): void
  reject (reason: unknown): void
}

export function deferred<T = void> (): Deferred<T> {
  let resolve!: (value: T) => void
  let reject!: (reason: unknown) => void
  const promise = new Promise<T>((_resolve, _reject) => {
    resolve = _resolve
    reject = _reject
  })
  return { promise, resolve, reject }
}

export { aborted, rejection } from '../../lib/store-tests/support.ts'

/** The first line with that message (of that task), as soon as it has been written. */
export async function logged (lines: Line[], msg: string, task?: string): Promise<Line> {
  const wanted = (line: Line): boolean => line.msg === msg && (task === undefined || line.task === task)
  const written = lines.find(wanted)
  if (written !== undefined) return written
  return await new Promise(resolve => {
    const { push } = lines
    lines.push = (...more) => {
      const line = more.find(wanted)
      if (line !== undefined) resolve(line)
      return push.apply(lines, more)
    }
  })
}

/** Resolves after everything that is under way without I/O or timers, so that what is unhandled has been noticed. */
export async function later (): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise(resolve => { setImmediate(resolve) })
}

/** Collects what nobody has handled, from here to the end of the test; tap itself would only fail somewhere else. */
export function unhandled (t: Test): unknown[] {
  const seen: unknown[] = []
  t.teardown(watchUnhandled(error => { seen.push(error) }))
  return seen
}

/** Tells of what nobody has handled, in place of whoever else listens; returns what ends that. */
export function watchUnhandled (note: (error: unknown) => void): () => void {
  const events = ['unhandledRejection', 'uncaughtException'] as const
  const before = events.map(event => process.listeners(event as 'uncaughtException'))
  for (const event of events) {
    process.removeAllListeners(event)
    process.on(event, note)
  }
  return () => {
    events.forEach((event, i) => {
      process.off(event, note)
      for (const listener of before[i] ?? []) process.on(event, listener)
    })
  }
}

/** What a call throws. */
export function refusal (call: () => unknown): { code: string, message: string } {
  try {
    call()
  } catch (error) {
    return error as { code: string, message: string }
  }
  throw new Error('it was accepted')
}

/** Options of a service whose failure is for good, and nothing but logged. */
export const mortal = { restart: 'never', onGiveUp: 'log' } as const
