// That the suite finds the faults of a store: a store that passes is broken in one place at a time.
import t from 'tap'
import type { NewRun, OpenOptions, Store, StoreQueue, StoreWorker } from '../../lib/index.ts'
import { MemoryStore } from '../../lib/store/memory/index.ts'
import { storeTests, type StoreTestOptions, type TestFunction } from '../../lib/store-tests/index.ts'
import { watchUnhandled } from '../support/helper.ts'

// What a test that fails was still waiting for is refused when its application closes, and nobody hears of that.
t.teardown(watchUnhandled(() => {}))

/** A way to break a store: what it changes of the queue, of what the store tells the queue, and of the options. */
interface Fault {
  queue? (queue: StoreQueue): Partial<StoreQueue>
  worker? (worker: StoreWorker): Partial<StoreWorker>
  options? (options: OpenOptions): Partial<OpenOptions>
  stop? (): Promise<void>
}

/** `object`, with other methods. */
function changed<T extends object> (object: T, changes: object): T {
  return new Proxy(object, {
    get (target, key) {
      const value: unknown = Object.hasOwn(changes, key) ? Reflect.get(changes, key) : Reflect.get(target, key)
      return typeof value === 'function' ? value.bind(target) : value
    }
  })
}

function broken ({ queue, worker, options, stop }: Fault): Store {
  const store = new MemoryStore()
  return {
    open (given, listener) {
      const opened = store.open({ ...given, ...options?.(given) }, worker === undefined ? listener : changed(listener, worker(listener)))
      return queue === undefined ? opened : changed(opened, queue(opened))
    },
    stop: stop ?? (async () => { await store.stop() })
  }
}

/** The sentences of the tests that fail on a store. */
async function failures (makeStore: () => Store, only: RegExp, options: Partial<StoreTestOptions> = {}): Promise<string[]> {
  const failed: string[] = []
  const tests: Array<() => Promise<void>> = []
  const test: TestFunction = (sentence, run) => {
    if (only.test(sentence)) tests.push(async () => { await run().catch(() => { failed.push(sentence) }) })
  }
  storeTests(test, () => makeStore, { durable: false, timeout: 2_000, ...options })
  t.ok(tests.length > 0, `there are tests of ${only}`)
  await Promise.all(tests.map(async run => { await run() }))
  return failed
}

const withOptions = (queue: StoreQueue, change: Partial<NewRun['options']>): Partial<StoreQueue> => ({
  enqueue: run => queue.enqueue({ ...run, options: { ...run.options, ...change } })
})

const faults: Array<[fault: string, found: RegExp, Fault]> = [
  ['loses what it is given', /a delayed run waits for its time/, { queue: () => ({ enqueue: ({ id }) => ({ id, duplicate: false }) }) }],
  ['gives every run another id', /the id of a run is a UUID/, { queue: queue => ({ enqueue: run => queue.enqueue({ ...run, id: `x${run.id}` }) }) }],
  ['knows no priority', /the lower priority number is first/, { queue: queue => withOptions(queue, { priority: 0 }) }],
  ['knows no delay', /a delayed run waits for its time/, { queue: queue => withOptions(queue, { delay: 0, runAt: undefined }) }],
  ['knows no keys', /with a key, one run waits or runs/, { queue: queue => withOptions(queue, { key: undefined }) }],
  ['frees a key too soon', /a delayed run keeps its key|with a key, one run waits or runs/, { queue: queue => withOptions(queue, { keyUntil: 'started' }) }],
  ['forgets the id of the request', /the id of a request is bound/, { queue: queue => withOptions(queue, { reqId: undefined }) }],
  ['never retries', /a failed run is tried again after its backoff/, {
    worker: worker => ({ execute: (run, settle) => { worker.execute(run, settlement => { settle(settlement.outcome === 'failed' ? { ...settlement, retryIn: undefined } : settlement) }) } })
  }],
  ['begins to count attempts anew', /a failed run is tried again after its backoff/, { worker: worker => ({ execute: (run, settle) => { worker.execute({ ...run, attempt: 1 }, settle) } }) }],
  ['gives every attempt the same payload', /each attempt is given a copy of its own/, {
    worker: worker => {
      const payloads = new Map<string, unknown>()
      return {
        execute: (run, settle) => {
          if (!payloads.has(run.id)) payloads.set(run.id, run.payload)
          worker.execute({ ...run, payload: payloads.get(run.id) }, settle)
        }
      }
    }
  }],
  ['runs a run twice', /the lower priority number is first/, { worker: worker => ({ execute: (run, settle) => { worker.execute(run, () => { worker.execute(run, settle) }) } }) }],
  ['runs more at a time than it may', /concurren|at a time/, { options: ({ concurrency }) => ({ concurrency: concurrency + 1 }) }],
  ['finds no run', /a run is found by its id/, { queue: () => ({ get: async () => undefined }) }],
  ['tells nobody how a run ends', /who waits for a run is told/, { queue: () => ({ onEnd: () => () => {} }) }],
  ['counts nothing', /runs are counted by their state/, { queue: () => ({ counts: async () => ({ waiting: 0, delayed: 0, active: 0, succeeded: 0, failed: 0 }) }) }],
  ['cancels nothing', /cancel/, { queue: () => ({ cancel: async () => 'waiting' }) }],
  ['pauses nothing', /pause/, { queue: () => ({ pause: async () => {} }) }],
  ['keeps no progress', /how far a run is/, { queue: () => ({ progress: () => {} }) }],
  ['does not end', /the id of a request is bound/, { stop: async () => { throw new Error('it does not') } }],
  ['refuses to schedule', /schedule/, { queue: queue => ({ schedules: changed(queue.schedules, { set: async () => undefined }) }) }]
]

t.test('a store that does all it must passes each of these tests', async t => {
  const all = new RegExp(faults.map(([, found]) => found.source).join('|'))
  t.same(await failures(() => broken({}), all, { timeout: 30_000 }), [])
})

for (const [fault, found, how] of faults) {
  t.test(`the suite finds a store that ${fault}`, async t => {
    const failed = await failures(() => broken(how), found)
    t.ok(failed.length > 0, failed.join(', '))
  })
}

t.test('a store that cannot be made fails every test with its own error', async t => {
  const errors: unknown[] = []
  const runs: Array<Promise<void>> = []
  storeTests((_sentence, run) => { runs.push(run().catch((error: unknown) => { errors.push(error) })) }, () => { throw new Error('no database') }, { durable: false })
  await Promise.all(runs)
  t.ok(runs.length > 60)
  t.same([...new Set(errors.map(error => (error as Error).message))], ['no database'])
})
