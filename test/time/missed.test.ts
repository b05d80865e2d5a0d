// Which ticks of a schedule fire when its alarm rings.
import t from 'tap'
import { ByCron, Every, parseCron, passedTicks, type Misfire, type Schedule } from '../../lib/time/index.ts'

interface Result { fired: Array<{ due: number, missed: number }>, next: number }

async function passed (schedule: Schedule, misfire: Misfire, due: number, now: number, at = due): Promise<Result> {
  return await new Promise(resolve => { passedTicks(schedule, 0, misfire, { due, at, now }, (fired, next) => { resolve({ fired, next }) }) })
}

const every = new Every(1_000)

t.test('a tick on time fires, whatever misfire says', async t => {
  for (const misfire of ['skip', 'once', 'all'] as const) {
    t.same(await passed(every, misfire, 5_000, 5_000), { fired: [{ due: 5_000, missed: 0 }], next: 6_000 })
    t.same(await passed(every, misfire, 5_000, 5_999), { fired: [{ due: 5_000, missed: 0 }], next: 6_000 })
  }
})

t.test('several that are late by less than a second are one run', async t => {
  for (const misfire of ['skip', 'once', 'all'] as const) t.same(await passed(new Every(300), misfire, 3_000, 3_900), { fired: [{ due: 3_900, missed: 3 }], next: 4_200 })
})

t.test('misfire decides about missed ones', async t => {
  t.same(await passed(every, 'once', 5_000, 9_500), { fired: [{ due: 9_000, missed: 4 }], next: 10_000 })
  t.same(await passed(every, 'all', 5_000, 7_500), { fired: [{ due: 5_000, missed: 0 }, { due: 6_000, missed: 0 }, { due: 7_000, missed: 0 }], next: 8_000 })
  t.same(await passed(every, 'skip', 5_000, 9_500), { fired: [{ due: 9_000, missed: 0 }], next: 10_000 }, 'the last one is on time')
  t.same(await passed(new Every(10_000), 'skip', 10_000, 15_000), { fired: [], next: 20_000 })
  t.same(await passed(new Every(10_000), 'once', 10_000, 15_000), { fired: [{ due: 10_000, missed: 0 }], next: 20_000 })
  const many = await passed(every, 'all', 1_000, 1_000_500)
  t.equal(many.fired.length, 100)
  t.same([many.fired[0]?.due, many.fired.at(-1)?.due], [901_000, 1_000_000], 'the latest hundred')
  t.match(await passed(every, 'once', 1_000, 9_999_500), { fired: [{ due: 9_999_000, missed: 1_000 }] }, 'a thousand are counted')
})

t.test('jitter is no lateness', async t => {
  t.same(await passed(new Every(60_000), 'skip', 60_000, 85_500, 85_000), { fired: [{ due: 60_000, missed: 0 }], next: 120_000 })
})

t.test('by the wall time of a zone, through a change of the clocks', async t => {
  const schedule = new ByCron(parseCron('30 2 * * *', 'Europe/Berlin', 0))
  const due = Date.parse('2026-03-28T01:30:00Z')
  t.same(await passed(schedule, 'all', due, Date.parse('2026-03-30T12:00:00Z')), {
    // The time that the zone leaves out is the end of the gap.
    fired: ['2026-03-28T01:30:00Z', '2026-03-29T01:00:00Z', '2026-03-30T00:30:00Z'].map(text => ({ due: Date.parse(text), missed: 0 })),
    next: Date.parse('2026-03-31T00:30:00Z')
  })
})
