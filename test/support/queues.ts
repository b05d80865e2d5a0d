import type FakeTimers from '@sinonjs/fake-timers'
import type { FastifyInstance } from 'fastify'
import type { BackgroundQueue, ListedState, QueuedRun, Run } from '../../lib/index.ts'
import { turns } from './fakes.ts'
import { deferred } from './helper.ts'

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

/** Looks until it is so: for what a store keeps some time after it was told. The timeout of the test is the limit. */
export async function until (isSo: () => Promise<boolean>): Promise<void> {
  while (!await isSo()) await new Promise(resolve => { setTimeout(resolve, 5) })
}

/** Lets time pass on a fake clock, and the queues work after each timer. */
export async function pass (clock: FakeTimers.Clock, ms: number): Promise<void> {
  await turns()
  const end = clock.now + ms
  setTimeout(() => {}, ms)
  while (clock.now < end) {
    clock.next()
    await turns()
  }
  // What else is due at the end.
  clock.tick(0)
  await turns()
}
