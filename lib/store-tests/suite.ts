import Fastify, { type FastifyInstance } from 'fastify'
import { backgroundTasks, type BackgroundTasksOptions, type Store } from '../index.ts'
import { Expectations } from './expectations.ts'
import { capture, type Line } from './support.ts'

/** What a store can do beyond what all can. */
export interface StoreTestOptions {
  /** Its runs outlive the application, and two applications on it share their queues. */
  durable: boolean
  /** How long one test may take, in milliseconds; above that it fails, as a store that loses a run would hold it up for ever. Default `60000`. */
  timeout?: number | undefined
}

/** The `test` of a test runner: node:test, tap, Vitest, Jest and others have one. It registers a test, which fails if `run` rejects. */
export type TestFunction = (sentence: string, run: (...given: unknown[]) => Promise<void>) => unknown

/** What a store may use of the test that it is made for. */
export interface StoreTestContext {
  /** Calls `callback` when the test has ended, and its applications are closed; the last one first. */
  after (callback: () => unknown): void
  /** What the test runner has passed to the test, such as the `t` of node:test or of tap. */
  readonly runner: unknown
}

/**
 * Makes what one test needs, such as an empty database. What that returns is called for each application of the test: the stores that it makes share what
 * they keep, and nothing with those of another test.
 */
export type MakeStore = (context: StoreTestContext) => Promise<() => Store> | (() => Store)

/** An application of a test, and the lines that it logs. */
interface App { app: FastifyInstance, lines: Line[] }

/** What the parts of the suite are given. */
export interface Suite {
  readonly durable: boolean
  /** Says in a sentence what a store does, and shows it. */
  holds (sentence: string, show: (t: Expectations, name: string, open: (options?: BackgroundTasksOptions) => Promise<App>) => Promise<void>): void
}

/** The suite of a store, each sentence of which is a test of `test`. */
export function suiteOf (test: TestFunction, makeStore: MakeStore, { durable, timeout = 60_000 }: StoreTestOptions): Suite {
  let names = 0
  return {
    durable,
    holds (sentence, show) {
      test(sentence, async (...given) => {
        const name = `store-test-${++names}`
        const cleanups: Array<() => unknown> = []
        const after = (callback: () => unknown): void => { cleanups.push(callback) }
        const work = async (): Promise<void> => {
          const store = await makeStore({ after, runner: given[0] })
          await show(new Expectations(), name, async (options = {}) => {
            const lines: Line[] = []
            const app = Fastify({ logger: capture(lines) }) as FastifyInstance
            after(async () => { await app.close() })
            await app.register(backgroundTasks, { stores: { default: store() }, ...options })
            return { app, lines }
          })
        }
        try {
          await within(timeout, work(), 'The test')
        } finally {
          for (const cleanup of cleanups.reverse()) await within(timeout, cleanup(), 'What follows the test')
        }
      })
    }
  }
}

/** What `work` resolves to, or an error after `ms` milliseconds. */
async function within (ms: number, work: unknown, what: string): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => { reject(new Error(`${what} has not ended within ${ms / 1_000} s: the store has lost a run, does not tell that it has ended, or does not stop.`)) }, ms)
  })
  try {
    await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
