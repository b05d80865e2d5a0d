import { getEventListeners } from 'node:events'
import t from 'tap'
import { ticks } from '../../lib/index.ts'
import { build, deferred, rejection } from '../support/helper.ts'
import { DAY, fake, fakeClocks, HOUR, MINUTE, range, SECOND, START, turns } from '../support/fakes.ts'

/** A loop over ticks, which a body that returns false leaves by `break`. */
async function loop (iterator: AsyncIterable<void>, body: () => unknown): Promise<void> {
  for await (const tick of iterator) {
    if (tick !== undefined) throw new Error('a tick has no value')
    if (await body() === false) break
  }
}

/** Takes ticks until the end, and notes when each came, in units of `unit`. */
function consume (iterator: AsyncIterable<void>, unit: number): { came: number[], ended: Promise<void> } {
  const came: number[] = []
  return { came, ended: loop(iterator, () => { came.push((Date.now() - START) / unit) }) }
}

t.test('ticks come on a fixed grid from the moment of the call', async t => {
  const clock = fake(t)
  const { signal } = new AbortController()
  const iterator = ticks('1s', { signal })
  await clock.tickAsync(700)
  const { came } = consume(iterator, 1)
  await clock.tickAsync(299)
  t.same(came, [], 'none before the first period is over')
  await clock.tickAsync(1)
  t.same(came, [1_000])
  await clock.tickAsync(2_000)
  t.same(came, [1_000, 2_000, 3_000])
})

t.test('a period of more than 24.8 days is waited for', async t => {
  const clock = fake(t)
  const { came } = consume(ticks('30d'), DAY)
  await clock.tickAsync(30 * DAY - 1)
  t.same(came, [])
  await clock.tickAsync(1)
  await clock.tickAsync(30 * DAY)
  t.same(came, [30, 60])
})

t.test('a slow turn of the loop finds one tick waiting, and the grid where it was', async t => {
  const clock = fake(t)
  const came: number[] = []
  const turn = deferred()
  void loop(ticks(1_000), async () => {
    came.push(Date.now() - START)
    if (came.length === 1) await turn.promise
  })
  await clock.tickAsync(4_300)
  t.same(came, [1_000])
  turn.resolve()
  await turns()
  t.same(came, [1_000, 4_300], 'one for the three that were due')
  await clock.tickAsync(700)
  t.same(came, [1_000, 4_300, 5_000])
  await clock.tickAsync(1_000)
  t.same(came, [1_000, 4_300, 5_000, 6_000])
})

t.test('a wall clock that is set does not move them', async t => {
  const clock = fake(t)
  let came = 0
  void loop(ticks(MINUTE), () => { came++ })
  clock.setSystemTime(START + DAY)
  await clock.tickAsync(MINUTE - 1)
  t.equal(came, 0)
  await clock.tickAsync(1)
  t.equal(came, 1)
  clock.setSystemTime(START - DAY)
  await clock.tickAsync(MINUTE)
  t.equal(came, 2)
})

for (const [name, install] of Object.entries(fakeClocks)) {
  t.test(`the fake clock of ${name} drives many of them in a row`, async t => {
    const advance = install(t)
    for (const period of [50, SECOND, 45 * SECOND, HOUR]) {
      const stop = new AbortController()
      const { came, ended } = consume(ticks(period, { signal: stop.signal }), 1)
      const began = Date.now() - START
      for (let i = 0; i < 12; i++) await advance(period)
      t.same(came, range(1, 12).map(i => began + i * period), `each ${period} ms`)
      stop.abort()
      await ended
    }
  })
}

t.test('the iteration ends quietly when the signal aborts', async t => {
  const clock = fake(t)

  await t.test('had aborted before', async t => {
    const { came, ended } = consume(ticks(1_000, { signal: AbortSignal.abort(new Error('reason')) }), 1)
    await ended
    t.same(came, [])
    t.equal(clock.countTimers(), 0)
  })

  await t.test('while it waits', async t => {
    const stop = new AbortController()
    const { came, ended } = consume(ticks(1_000, { signal: stop.signal }), 1)
    await clock.tickAsync(1_500)
    stop.abort(new Error('reason'))
    await ended
    t.equal(came.length, 1)
    t.equal(clock.countTimers(), 0)
  })

  await t.test('while the body runs, even if a tick is waiting', async t => {
    const stop = new AbortController()
    let bodies = 0
    const ended = loop(ticks(1_000, { signal: stop.signal }), () => {
      bodies++
      clock.tick(5_000)
      stop.abort(new Error('reason'))
    })
    await clock.tickAsync(1_000)
    await ended
    t.equal(bodies, 1)
    t.equal(clock.countTimers(), 0)
  })

  await t.test('and stays ended', async t => {
    const stop = new AbortController()
    const iterator = ticks(1_000, { signal: stop.signal })
    stop.abort()
    t.same(await iterator.next(), { done: true, value: undefined })
    t.same(await iterator.next(), { done: true, value: undefined })
    t.equal(clock.countTimers(), 0)
  })
})

t.test('a service that loops over them ends with the application', async t => {
  const { app, lines } = await build(t)
  const bodies = deferred()
  let came = 0
  const task = app.addBackgroundTask('poll', async ({ signal }) => {
    await loop(ticks(5, { signal }), () => {
      if (++came === 3) bodies.resolve()
    })
  })
  await app.ready()
  await bodies.promise
  await app.close()
  t.equal(task.state, 'stopped')
  t.same(lines.filter(({ level }) => level === 'warn' || level === 'error'), [])
})

t.test('break, return and a throw in the body end them, with nothing left armed or listening', async t => {
  const clock = fake(t)
  const { signal } = new AbortController()
  for (const leave of ['break', 'throw']) {
    const iterator = ticks(1_000, { signal })
    const ended = loop(iterator, () => {
      if (leave === 'throw') throw new Error('of the body')
      return false
    }).catch((error: Error) => error.message)
    await clock.tickAsync(1_000)
    t.equal(await ended, leave === 'throw' ? 'of the body' : undefined)
    t.same(await iterator.next(), { done: true, value: undefined }, `over after ${leave}`)
    t.equal(clock.countTimers(), 0)
    t.equal(getEventListeners(signal, 'abort').length, 0)
  }

  const iterator = ticks(1_000, { signal })
  const waiting = iterator.next()
  t.same(await iterator.return?.(), { done: true, value: undefined })
  t.same(await waiting, { done: true, value: undefined }, 'return() ends the wait of another')
  t.equal(clock.countTimers(), 0)
  t.equal(getEventListeners(signal, 'abort').length, 0)
})

t.test('nothing is armed, and nobody listens to the signal, while nobody waits', async t => {
  const clock = fake(t)
  const { signal } = new AbortController()
  const iterator = ticks(1_000, { signal })
  t.equal(clock.countTimers(), 0, 'called')
  for (let i = 0; i < 50; i++) {
    const next = iterator.next()
    t.equal(clock.countTimers(), 1, 'waiting')
    t.equal(getEventListeners(signal, 'abort').length, 1)
    await clock.tickAsync(1_000)
    t.same(await next, { done: false, value: undefined })
    t.equal(clock.countTimers(), 0, 'its tick taken')
    t.equal(getEventListeners(signal, 'abort').length, 0)
  }
})

t.test('one consumer at a time: a second next() rejects, and the first is not disturbed', async t => {
  const clock = fake(t)
  const iterator = ticks(1_000)
  const first = iterator.next()
  const error = await rejection(iterator.next())
  t.equal(error.code, 'FST_BG_INVALID_OPTION')
  t.match(error.message, /ticks\(\): next\(\) was called while another next\(\) waits/)
  await clock.tickAsync(1_000)
  t.same(await first, { done: false, value: undefined })
  const third = iterator.next()
  await clock.tickAsync(1_000)
  t.same(await third, { done: false, value: undefined }, 'one after the other is fine')
})

t.test('two iterations have their own grids', async t => {
  const clock = fake(t)
  const one = consume(ticks(1_000), 1)
  await clock.tickAsync(400)
  const two = consume(ticks(1_000), 1)
  await clock.tickAsync(2_000)
  t.same(one.came, [1_000, 2_000])
  t.same(two.came, [1_400, 2_400])
})

t.test('a mistake in the arguments is thrown at the call', async t => {
  const cases: Array<[given: unknown[], message: RegExp]> = [
    [[0], /^ticks\(\): .*received 0/],
    [[-1], /received -1/],
    [[NaN], /received NaN/],
    [[Infinity], /received Infinity/],
    [['5 parsecs'], /received '5 parsecs'/],
    [['0s'], /received '0s'/],
    [[null], /received null/],
    [[], /^ticks\(\): the period must be a duration.*received undefined/],
    [['5s', null], /^ticks\(\): options must be an object; received null/],
    [['5s', { signal: new AbortController() }], /^ticks\(\): option "signal" must be an AbortSignal; received AbortController/],
    [['5s', { signal: null }], /"signal" must be an AbortSignal; received null/],
    [['5s', { singal: new AbortController().signal }], /^ticks\(\): unknown option "singal"\. Did you mean "signal"\?/]
  ]
  for (const [given, message] of cases) {
    try {
      (ticks as (...given: unknown[]) => unknown)(...given)
      t.fail(`${String(message)} was accepted`)
    } catch (error) {
      t.equal((error as { code: string }).code, 'FST_BG_INVALID_OPTION')
      t.match((error as Error).message, message)
    }
  }
  t.doesNotThrow(() => { ticks('5s', { signal: undefined }) })
})

t.test('on a real clock none comes before its time', async t => {
  const stop = new AbortController()
  const began = performance.now()
  const came: number[] = []
  await loop(ticks(20, { signal: stop.signal }), () => {
    came.push(performance.now() - began)
    if (came.length === 10) stop.abort()
  })
  t.equal(came.length, 10)
  // setTimeout may be early by a millisecond.
  t.same(came.filter((ms, i) => ms < (i + 1) * 20 - 2), [])
})
