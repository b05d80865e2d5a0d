// The suite of every store, as tests of tap.
import type { Test } from 'tap'
import type { Store } from '../../lib/index.ts'
import { storeTests, type StoreTestOptions } from '../../lib/store-tests/index.ts'
import { suiteOf } from '../../lib/store-tests/suite.ts'
import { traces } from './traces.ts'

/** Makes what one test needs; what that returns is called for each application of the test, and those share what they keep. */
export type MakeStore = (t: Test) => Promise<() => Store> | (() => Store)

/** Runs the suite over a store. */
export function conformance (t: Test, makeStore: MakeStore, options: StoreTestOptions): void {
  let running: Test
  const test = (sentence: string, run: (t: Test) => Promise<void>): void => {
    t.test(sentence, async t => {
      running = t
      await run(t)
    })
  }
  const make = ({ runner }: { runner: unknown }): ReturnType<MakeStore> => makeStore(runner as Test)
  storeTests(test, make, options)
  traces(suiteOf(test, make, options), callback => { running.teardown(callback) })
}
