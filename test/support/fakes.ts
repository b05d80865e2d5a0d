import { mock } from 'node:test'
import FakeTimers from '@sinonjs/fake-timers'
import { deferred, type Line } from './helper.ts'
import type { Run, TaskHandler } from '../../lib/index.ts'

/** What these helpers need of a tap test. */
interface Test { teardown (callback: () => unknown): void }

export const SECOND = 1_000
export const MINUTE = 60_000
export const HOUR = 3_600_000
export const DAY = 86_400_000

/** When the fake clocks begin: midnight UTC, on a Monday. */
export const START = Date.UTC(2026, 0, 5)

/** Sinon's fake clocks for one test. */
export function fake (t: Test): FakeTimers.Clock {
  const clock = FakeTimers.install({ now: START, toFake: ['setTimeout', 'clearTimeout', 'Date', 'performance'] })
  t.teardown(() => { clock.uninstall() })
  return clock
}

/** Lets everything happen that takes no time: some turns of the event loop. */
export async function turns (count = 3): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise(resolve => { setImmediate(resolve) })
}

/** The two fake clocks that users have. Each gives a function that lets time pass, and then the tasks work. */
export const fakeClocks: Record<string, (t: Test) => (ms: number) => Promise<void>> = {
  sinon: t => {
    const clock = fake(t)
    return async ms => {
      clock.tick(ms)
      await turns()
    }
  },
  'node:test': t => {
    mock.timers.enable({ apis: ['setTimeout', 'Date'], now: START })
    t.teardown(() => { mock.timers.reset() })
    return async ms => {
      mock.timers.tick(ms)
      await turns()
    }
  }
}

/** `Math.random` gives these numbers in turn, for one test. */
export function random (t: Test, ...numbers: number[]): void {
  const real = Math.random
  let calls = 0
  Math.random = () => numbers[calls++ % numbers.length] as number
  t.teardown(() => { Math.random = real })
}

/** One call of a handler. Times count from START. */
interface Call {
  id: string
  /** `run.dueAt` */
  due: number
  missed: number
  /** When it was called. */
  at: number
  signal: AbortSignal
  /** Lets it return. */
  end (value?: unknown): void
  /** Lets it throw. */
  fail (error: unknown): void
}

/** A handler, and the calls it has had. Those that it holds end when told to, or throw the reason when their signal aborts. */
export interface Worker {
  handler: TaskHandler
  calls: Call[]
  hold: boolean
}

export function worker (hold = false): Worker {
  const one: Worker = {
    calls: [],
    hold,
    async handler (run: Run) {
      const gate = deferred<unknown>()
      const { id, missed, signal } = run
      one.calls.push({ id, due: Number(run.dueAt) - START, missed, at: Date.now() - START, signal, end: gate.resolve, fail: gate.reject })
      if (!one.hold) return undefined
      signal.addEventListener('abort', () => { gate.reject(signal.reason) })
      return await gate.promise
    }
  }
  return one
}

/** The due times of the calls, in units of `unit`. */
export function dues ({ calls }: Worker, unit: number): number[] {
  return calls.map(({ due }) => due / unit)
}

/** How long after START a date is, in units of `unit`. */
export function since (date: Date | undefined, unit: number): number | undefined {
  return date && (date.getTime() - START) / unit
}

/** The lines of a level whose message matches. */
export function linesOf (lines: Line[], level: Line['level'], msg: RegExp): Line[] {
  return lines.filter(line => line.level === level && msg.test(line.msg))
}

/** The whole numbers from `first` to `last`. */
export function range (first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i)
}
