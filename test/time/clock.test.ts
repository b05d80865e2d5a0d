import { mock } from 'node:test'
import FakeTimers from '@sinonjs/fake-timers'
import t from 'tap'
import { Clock, type Alarm } from '../../lib/time/clock.ts'
import { Deadline } from '../../lib/time/deadline.ts'
import { Heap, type HeapEntry } from '../../lib/time/heap.ts'
import { deferred } from '../support/helper.ts'

type Test = { teardown (callback: () => unknown): void }

const HOUR = 3_600_000

/** Sinon's fake clocks for one test. */
function fake (t: Test): FakeTimers.Clock {
  const clock = FakeTimers.install({ now: Date.UTC(2026, 0, 1), toFake: ['setTimeout', 'clearTimeout', 'Date', 'performance'] })
  t.teardown(() => { clock.uninstall() })
  return clock
}

function alarm (ring: (now: number) => void, setBack?: () => void): Alarm {
  return { place: 0, ring, ...(setBack !== undefined && { setBack }) }
}

t.test('a heap gives its entries in order, whatever was pushed and removed', async t => {
  let seed = 7
  const random = (below: number): number => {
    seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31
    return seed % below
  }
  const heap = new Heap<HeapEntry>()
  const entries: HeapEntry[] = Array.from({ length: 500 }, () => ({ place: random(10) }))
  const inside = new Map<HeapEntry, number>()
  const set = (entry: HeapEntry): void => {
    const due = random(200)
    inside.set(entry, due)
    heap.set(entry, due)
  }
  for (let step = 0; step < 5_000; step++) {
    const entry = entries[random(entries.length)] as HeapEntry
    if (inside.delete(entry)) heap.remove(entry)
    else set(entry)
    if (inside.size > 0 && random(3) === 0) set([...inside.keys()][random(inside.size)] as HeapEntry)
    if (heap.size !== inside.size || heap.topDue !== Math.min(...inside.values())) t.fail(`lost one at step ${step}`)
    if (entries.some(entry => heap.dueOf(entry) !== inside.get(entry))) t.fail(`took one for another at step ${step}`)
  }
  const outside = entries.find(entry => !inside.has(entry)) as HeapEntry
  heap.remove(outside)
  t.equal(heap.size, inside.size, 'to take out what is not in it changes nothing')
  t.same(new Set(heap.values()), new Set(inside.keys()))
  const dues: number[] = []
  for (let { top, topDue } = heap; top !== undefined; { top, topDue } = heap) {
    dues.push(topDue)
    heap.remove(top)
  }
  t.equal(heap.topDue, Infinity)
  t.same(dues, [...dues].sort((a, b) => a - b))
  t.equal(dues.length, inside.size)
})

t.test('a heap that was cleared has forgotten its entries, and takes them anew', async t => {
  const heap = new Heap<HeapEntry>()
  const [one, two] = [{ place: 0 }, { place: 0 }]
  heap.set(one, 2)
  heap.set(two, 1)
  heap.clear()
  t.same([heap.size, heap.top, heap.has(one), heap.dueOf(two)], [0, undefined, false, undefined])
  heap.set(one, 3)
  heap.remove(two)
  t.same([heap.size, heap.topDue, heap.has(two)], [1, 3, false])
})

t.test('a timer of any length comes when it is due, and not before', async t => {
  const fakes = fake(t)
  const clock = new Clock()
  for (const ms of [0, 1, 0.4, 2 ** 31 - 1, 2 ** 31, 2 ** 33 + 5]) {
    const began = clock.now()
    let came: number | undefined
    clock.after(ms, () => { came = clock.now() - began })
    await fakes.tickAsync(Math.max(0, Math.ceil(ms) - 1))
    if (ms > 1) t.equal(came, undefined, `${ms} is not due a millisecond early`)
    await fakes.tickAsync(2)
    t.ok(came !== undefined && came >= ms && came <= ms + 2, `${ms} came after ${came}`)
  }
  t.equal(fakes.countTimers(), 0)
})

t.test('ten thousand alarms arm one timer, and none when the last is cancelled', async t => {
  const fakes = fake(t)
  const clock = new Clock()
  const timers = Array.from({ length: 10_000 }, (_, i) => clock.after(10_000 - i, () => { t.fail('cancelled') }))
  const wall = alarm(() => { t.fail('cancelled') })
  clock.setWall(wall, clock.wall() + 5)
  clock.after(Infinity, () => { t.fail('never') }).cancel()
  t.equal(fakes.countTimers(), 1)
  for (const timer of timers) {
    timer.cancel()
    timer.cancel()
  }
  t.equal(fakes.countTimers(), 1, 'for the wall alarm')
  clock.cancel(wall)
  t.equal(fakes.countTimers(), 0)
  await fakes.tickAsync(20_000)
})

t.test('alarms that are due at once ring in the order of their times, and may set and cancel others', async t => {
  const fakes = fake(t)
  const clock = new Clock()
  const rung: string[] = []
  const cancelled = clock.after(30, () => { rung.push('cancelled') })
  clock.after(20, () => {
    rung.push('second')
    cancelled.cancel()
    clock.after(5, () => { rung.push('third') })
  })
  clock.after(10, () => { rung.push('first') })
  fakes.tick(9)
  t.same(rung, [])
  fakes.setSystemTime(0) // the wall clock does not matter to them
  await fakes.tickAsync(100)
  t.same(rung, ['first', 'second', 'third'])
})

t.test('setTimeout that fires early does not make an alarm early, nor the next one late', async t => {
  // A timer that fires 0.9 ms before its time, as libuv does in a third of all cases.
  const fakes = fake(t)
  const real = globalThis.setTimeout
  let early = 0.9
  globalThis.setTimeout = ((callback: () => void, ms: number) => real(callback, ms - early)) as unknown as typeof setTimeout
  t.teardown(() => { globalThis.setTimeout = real })
  const clock = new Clock()
  const rings: number[] = []
  const again = alarm(now => {
    rings.push(now)
    clock.set(again, now + 10)
  })
  const began = clock.now()
  clock.set(again, began + 10)
  for (let i = 0; i < 8; i++) await fakes.tickAsync(10)
  t.same(rings, [10, 20, 30, 40, 50, 60, 70, 80].map(ms => began + ms))
  early = 0
  clock.cancel(again)
})

for (const [name, periods, install] of [
  ['sinon', [10, 1_000, 45_000, HOUR], (t: Test) => {
    const fakes = fake(t)
    return (ms: number) => { fakes.tick(ms) }
  }],
  ['node:test', [10, 1_000, 45_000, HOUR], (t: Test) => {
    mock.timers.enable({ apis: ['setTimeout', 'Date'], now: Date.UTC(2026, 0, 1) })
    t.teardown(() => { mock.timers.reset() })
    return (ms: number) => { mock.timers.tick(ms) }
  }],
  // With nothing but `performance` to go by, which runs on: a period must be longer than what a busy machine takes for the test.
  ['node:test without Date', [1_000, 45_000, HOUR], (t: Test) => {
    mock.timers.enable({ apis: ['setTimeout'] })
    t.teardown(() => { mock.timers.reset() })
    return (ms: number) => { mock.timers.tick(ms) }
  }]
] as const) {
  t.test(`the fake clock of ${name} drives many alarms in a row`, async t => {
    const tick = install(t)
    const clock = new Clock()
    for (const period of periods) {
      const began = clock.now()
      const rings: number[] = []
      const again = alarm(now => {
        rings.push(Math.round((now - began) / period))
        clock.set(again, began + (rings.length + 1) * period)
      })
      clock.set(again, began + period)
      for (let i = 0; i < 20; i++) tick(period)
      t.same(rings, Array.from({ length: 20 }, (_, i) => i + 1), `each ${period} ms`)
      clock.cancel(again)
    }
  })
}

t.test('under the fake clock of node:test, time passes when it says so, however long the test takes', async t => {
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: Date.UTC(2026, 0, 1) })
  t.teardown(() => { mock.timers.reset() })
  const clock = new Clock()
  const rings: string[] = []
  for (const name of ['first', 'second']) {
    clock.set(alarm(() => { rings.push(name) }), clock.now() + 1_000)
    for (const began = performance.now(); performance.now() - began < 10;);
  }
  mock.timers.tick(999)
  t.same(rings, [])
  mock.timers.tick(1)
  t.same(rings, ['first', 'second'])
})

t.test('a wall alarm sees within 30 s that the wall clock was set forward', async t => {
  const fakes = fake(t)
  const clock = new Clock()
  let rung: number | undefined
  clock.setWall(alarm(now => { rung = now }), clock.wall() + 24 * HOUR)
  await fakes.tickAsync(1_000)
  fakes.setSystemTime(clock.wall() + 24 * HOUR)
  await fakes.tickAsync(28_000)
  t.equal(rung, undefined)
  await fakes.tickAsync(1_000)
  t.equal(rung, clock.wall())
  t.equal(fakes.countTimers(), 0)
})

t.test('a wall clock set back by up to an hour delays a wall alarm; by more, the alarm is told', async t => {
  const fakes = fake(t)
  const clock = new Clock()
  const start = clock.wall()
  const rung: number[] = []
  let setBack = 0
  const one = alarm(now => { rung.push(now - start) }, () => { setBack++ })
  clock.setWall(one, start + 60_000)
  await fakes.tickAsync(40_000)
  fakes.setSystemTime(clock.wall() - HOUR)
  await fakes.tickAsync(30_000)
  t.equal(setBack, 0)
  await fakes.tickAsync(HOUR)
  t.same([rung, setBack], [[60_000], 0])
  clock.setWall(one, clock.wall() + 60_000)
  await fakes.tickAsync(1_000)
  fakes.setSystemTime(clock.wall() - HOUR - 1)
  await fakes.tickAsync(30_000)
  t.equal(setBack, 1)
  await fakes.tickAsync(30_000)
  t.equal(setBack, 1, 'once')
  clock.setWall(alarm(() => {}), clock.wall() + 1_000)
  fakes.setSystemTime(clock.wall() - 2 * HOUR)
  await fakes.tickAsync(30_000)
  t.equal(setBack, 2, 'one that does not care is left alone')
})

t.test('what the wall clock shows at a time is told the same until the wall clock is set', async t => {
  const fakes = fake(t)
  const clock = new Clock()
  const due = clock.now() + 0.25
  const told = clock.wallOf(due)
  t.equal(told, Date.now())
  // As adjustments, and the rounding of the clocks, do.
  for (const wavers of [1, -2, 90]) {
    fakes.setSystemTime(told + wavers)
    t.equal(clock.wallOf(due), told)
  }
  fakes.setSystemTime(told + HOUR)
  t.equal(clock.wallOf(due), told + HOUR)
  t.equal(clock.wallOf(due + 1_000), told + HOUR + 1_000)
})

t.test('a deadline lets those go who wait for what has not ended', async t => {
  const fakes = fake(t)
  const deadline = new Deadline(new Clock())
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
  await fakes.tickAsync(500)
  await waits[0]
  t.same(ended, ['done', 'failing', 'never'])
  t.equal(deadline.passed, true)
  t.equal(passed, 1)
  await deadline.until(never.promise)
  t.pass('past the deadline nobody waits')
})

t.test('a deadline that is cleared never comes', async t => {
  const fakes = fake(t)
  const deadline = new Deadline(new Clock())
  deadline.start(500, () => { t.fail('cleared') })
  deadline.clear()
  await fakes.tickAsync(1_000)
  t.equal(deadline.passed, false)
  new Deadline(new Clock()).clear()
})
