// What every store must do, as one suite for those who write a store. It goes through the public API, waits for what happens and never for time to pass, and
// takes nothing for visible before the queue has said so. The times in it are real: an engine has its own clock.
import { type MakeStore, type StoreTestOptions, suiteOf, type TestFunction } from './suite.ts'
import { attempts } from './suites/attempts.ts'
import { enqueue } from './suites/enqueue.ts'
import { finished } from './suites/finished.ts'
import { lifecycle } from './suites/lifecycle.ts'
import { lists } from './suites/lists.ts'
import { lookup } from './suites/lookup.ts'
import { many } from './suites/many.ts'
import { operations } from './suites/operations.ts'
import { order } from './suites/order.ts'
import { processes } from './suites/processes.ts'
import { schedules } from './suites/schedules.ts'

export type { MakeStore, StoreTestContext, StoreTestOptions, TestFunction } from './suite.ts'

/**
 * Registers the tests that every store passes, with the `test` of your test runner.
 *
 * @example
 * ```ts
 * import { test } from 'node:test'
 * import { storeTests } from 'fastify-background-tasks/store-tests'
 *
 * storeTests(test, ({ after }) => {
 *   const database = openDatabase()
 *   after(() => database.close())
 *   return () => myStore(database)
 * }, { durable: true })
 * ```
 */
export function storeTests (test: TestFunction, makeStore: MakeStore, options: StoreTestOptions): void {
  const suite = suiteOf(test, makeStore, options)
  for (const part of [lookup, finished, many, schedules, enqueue, order, attempts, lists, operations, lifecycle, processes]) part(suite)
}
