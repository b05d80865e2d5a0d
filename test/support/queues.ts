import type FakeTimers from '@sinonjs/fake-timers'
import { turns } from './fakes.ts'

export { held, list, nextMillisecond } from '../../lib/store-tests/support.ts'

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
