import FakeTimers from '@sinonjs/fake-timers'
import t from 'tap'
import { after, now } from '../lib/clock.ts'
import { Deadline } from '../lib/deadline.ts'
import { deferred } from './helper.ts'

/** Fake clocks for one test. */
function fake (t: { teardown (callback: () => unknown): void }): FakeTimers.Clock {
  const clock = FakeTimers.install({ toFake: ['setTimeout', 'clearTimeout', 'Date', 'performance'] })
  t.teardown(() => { clock.uninstall() })
  return clock
}

t.test('a timer of any length fires when it is due, and not before', async t => {
  const clock = fake(t)
  for (const ms of [0, 1, 0.4, 2 ** 31 - 1, 2 ** 31, 2 ** 33 + 5]) {
    const began = now()
    let fired: number | undefined
    after(ms, () => { fired = now() - began })
    await clock.tickAsync(Math.max(0, Math.ceil(ms) - 1))
    if (ms > 1) t.equal(fired, undefined, `${ms} is not due a millisecond early`)
    await clock.tickAsync(2)
    t.ok(fired !== undefined && fired >= ms && fired <= ms + 2, `${ms} fired after ${fired}`)
  }
})

t.test('a timer that is cancelled, or never due, holds nothing', async t => {
  const clock = fake(t)
  after(1_000, () => { t.fail('cancelled') }).cancel()
  after(Infinity, () => { t.fail('never') }).cancel()
  t.equal(clock.countTimers(), 0)
  await clock.tickAsync(10_000)
})

t.test('a deadline lets those go who wait for what has not ended', async t => {
  const clock = fake(t)
  const deadline = new Deadline()
  const never = deferred()
  let passed = 0
  deadline.start(500, () => { passed++ })
  const ended: string[] = []
  const done = deferred()
  const failing = deferred()
  const waits = [
    deadline.until(never.promise).then(() => { ended.push('never') }),
    deadline.until(done.promise).then(() => { ended.push('done') }),
    deadline.until(failing.promise).then(() => { ended.push('failing') })
  ]
  done.resolve()
  failing.reject(new Error('counts as ended'))
  await Promise.all(waits.slice(1))
  t.same(ended, ['done', 'failing'])
  t.equal(deadline.passed, false)
  await clock.tickAsync(500)
  await waits[0]
  t.same(ended, ['done', 'failing', 'never'])
  t.equal(deadline.passed, true)
  t.equal(passed, 1)
  await deadline.until(never.promise)
  t.pass('past the deadline nobody waits')
})

t.test('a deadline that is cleared never comes', async t => {
  const clock = fake(t)
  const deadline = new Deadline()
  deadline.start(500, () => { t.fail('cleared') })
  deadline.clear()
  await clock.tickAsync(1_000)
  t.equal(deadline.passed, false)
  new Deadline().clear()
})
