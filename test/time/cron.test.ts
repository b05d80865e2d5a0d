import { setImmediate as turn } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import FakeTimers from '@sinonjs/fake-timers'
import { Cron, CronPattern } from 'croner'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { parseCron } from '../../lib/time/cron.ts'
import type { BackgroundTask } from '../../lib/index.ts'
import { expression, nightly, pick } from '../support/cases.ts'
import { wholes } from '../support/random.ts'
import { Child } from '../support/child.ts'
import { build } from '../support/helper.ts'
import { offsetAt, Oracle } from './oracle.ts'

type Test = { teardown (callback: () => unknown): void }

const HOUR = 3_600_000
const DAY = 24 * HOUR

const zones = [
  'UTC', 'America/New_York', 'America/Los_Angeles', 'America/Sao_Paulo', 'Europe/London', 'Europe/Berlin', 'Africa/Johannesburg',
  'Asia/Kolkata', 'Asia/Seoul', 'Australia/Sydney', 'Pacific/Auckland'
]
const changing = ['America/New_York', 'America/Los_Angeles', 'America/Santiago', 'Europe/London', 'Europe/Berlin', 'Australia/Sydney', 'Australia/Lord_Howe', 'Pacific/Auckland']

const from = Date.UTC(2020, 0, 1)
const to = Date.UTC(2036, 0, 1)

interface Case { cron: string, timezone: string, instant: number }

/** Random expressions in common zones at random instants of sixteen years. */
function ordinary (count: number): Case[] {
  const number = wholes(1)
  return Array.from({ length: count }, () => {
    const milliseconds = number(2) === 0 ? 0 : number(1_000)
    return { cron: expression(number), timezone: pick(number, zones), instant: from + number((to - from) / 1_000) * 1_000 + milliseconds }
  })
}

/** Expressions for the small hours, at instants from a day before a change of the clocks until some hours after it. */
function nearChanges (count: number): Case[] {
  const number = wholes(2)
  const changes = new Map(changing.map(zone => [zone, changesOf(zone)]))
  return Array.from({ length: count }, () => {
    const timezone = pick(number, changing)
    const change = pick(number, changes.get(timezone) as number[])
    return { cron: nightly(number), timezone, instant: change - 30 * HOUR + number(36 * 3_600) * 1_000 }
  })
}

/** The ends of the UTC days on which the clocks change. */
function changesOf (zone: string): number[] {
  const found: number[] = []
  for (let day = from; day < to; day += DAY) if (offsetAt(zone, day) !== offsetAt(zone, day + DAY)) found.push(day + DAY)
  return found
}

const iso = (time: number | undefined): string => time === undefined ? 'never' : new Date(time).toISOString()
const told = ({ cron, timezone, instant }: Case): string => `${cron} in ${timezone} after ${iso(instant)}`

/** The pattern of a case; undefined if the library refuses it as one that never fires. */
function patternOf ({ cron, timezone, instant }: Case): ReturnType<typeof parseCron> | undefined {
  try {
    return parseCron(cron, timezone, instant)
  } catch (error) {
    if ((error as Error).message !== 'no date ever matches it') throw error
    return undefined
  }
}

/** An app in which a cron task can be asked when it would run, at any time. */
async function almanac (t: Test): Promise<{ app: FastifyInstance, ask: <T>(one: Case, question: (task: BackgroundTask) => T) => Promise<T> }> {
  const clock = FakeTimers.install({ now: from, toFake: ['setTimeout', 'clearTimeout', 'Date', 'performance'] })
  t.teardown(() => { clock.uninstall() })
  const { app } = await build(t, { autostart: false }, { logger: false })
  await app.ready()
  let count = 0
  return {
    app,
    async ask ({ cron, timezone, instant }, question) {
      clock.setSystemTime(instant)
      const task = app.addBackgroundTask(`task ${++count}`, { cron, timezone }, () => {})
      await task.start()
      const answer = question(task)
      await task.stop()
      return answer
    }
  }
}

// Started first, to be ready when their test comes: processes with a zone of their own, and with that of the machine.
const processes = ['America/New_York', undefined].map(TZ => {
  const cases = localCases(TZ ?? 'UTC')
  return { TZ, cases, child: new Child(t, './fixtures/zone.ts', [JSON.stringify(cases)], { TZ }) }
})

function localCases (zone: string): Array<[cron: string, instant: number]> {
  const instants = [...changesOf(zone).slice(-4), Date.UTC(2026, 6, 1)].flatMap(end => Array.from({ length: 9 }, (_, i) => end - (27 - 4 * i) * HOUR))
  return ['0 2 * * *', '30 2 * * *', '30 1 * * *', '0 0 * * *', '*/30 * * * *', '0 */2 * * *', '30 1,2 * * *', '0 9 * * MON']
    .flatMap(cron => instants.map(instant => [cron, instant] as [string, number]))
}

for (const [name, cases, fewest] of [
  ['5,000 random expressions in common zones', ordinary(5_000), 4_900],
  ['1,000 expressions near changes of the clocks', nearChanges(1_000), 1_000]
] as const) {
  t.test(`${name} fire when the rule says`, async t => {
    const disagreements: string[] = []
    let firing = 0
    for (const one of cases) {
      const oracle = new Oracle(one.cron, one.timezone)
      const pattern = patternOf(one)
      const next = pattern?.next(one.instant)
      if (next !== undefined) firing++
      const expected = oracle.next(one.instant)
      if (next !== expected) disagreements.push(`${told(one)}: next is ${iso(next)}, not ${iso(expected)}`)
      if (pattern === undefined || next === undefined) continue
      const previous = pattern.previous(one.instant)
      const before = oracle.previous(one.instant)
      if (previous !== before) disagreements.push(`${told(one)}: previous is ${iso(previous)}, not ${iso(before)}`)
    }
    t.same(disagreements, [])
    t.ok(firing >= fewest, `${firing} of them fire`)
  })

  t.test(`${name}: the tick before the next one is the one that the next one follows`, async t => {
    const disagreements: string[] = []
    for (const one of cases.slice(0, 500)) {
      const pattern = patternOf(one)
      const next = pattern?.next(one.instant)
      if (pattern === undefined || next === undefined) continue
      const previous = pattern.previous(next) as number
      if (previous > one.instant) disagreements.push(`${told(one)}: ${iso(previous)} lies between, before ${iso(next)}`)
      if (pattern.next(previous) !== next) disagreements.push(`${told(one)}: ${iso(previous)} is followed by ${iso(pattern.next(previous))}, not ${iso(next)}`)
      if (pattern.previous(next + 1) !== next) disagreements.push(`${told(one)}: the last tick by ${iso(next)} is ${iso(pattern.previous(next + 1))}`)
      if (pattern.next(previous - 1) !== previous) disagreements.push(`${told(one)}: ${iso(previous)} is no tick`)
    }
    t.same(disagreements, [])
  })
}

t.test('a task runs next when the rule says, and after that, and after that', async t => {
  const { ask } = await almanac(t)
  const disagreements: string[] = []
  for (const one of [...ordinary(5_000).filter((_, i) => i % 20 === 0), ...nearChanges(150)]) {
    const oracle = new Oracle(one.cron, one.timezone)
    if (oracle.next(one.instant) === undefined) {
      const refused = await ask(one, () => false).catch((error: { code?: string }) => error.code === 'FST_BG_INVALID_OPTION')
      if (!refused) disagreements.push(`${told(one)}: never fires, and is not refused`)
      continue
    }
    const [first, chain] = await ask(one, task => [task.nextRunAt?.getTime(), task.nextRuns(4).map(Number)] as const)
    const expected: Array<number | undefined> = [oracle.next(one.instant)]
    while (expected.length < 4) expected.push(oracle.next(expected.at(-1) as number))
    if (first !== expected[0] || String(chain) !== String(expected)) disagreements.push(`${told(one)}: ${chain.map(iso).join()}, not ${expected.map(iso).join()}`)
  }
  t.same(disagreements, [])
})

/**
 * A day on which the clocks change, and what fires in its hours around the change: wall times with what they are ahead of UTC, on
 * that date where none is given. `counts`: how often it fires from the first midnight to the next.
 */
interface Change {
  what: string
  zone: string
  date: string
  /** The hours of which `fires` tells all firings; `day` is the whole day. */
  hours: [from: string, to: string]
  day: [from: string, to: string]
  fires: Record<string, string[]>
  counts: Record<string, number>
}

const changes: Change[] = [
  {
    what: 'in New York the hour from 2 to 3 is left out',
    zone: 'America/New_York',
    date: '2026-03-08',
    hours: ['00:00-05:00', '05:00-04:00'],
    day: ['00:00-05:00', '2026-03-09T00:00-04:00'],
    fires: {
      '30 2 * * *': ['03:00-04:00'],
      '0 2 * * *': ['03:00-04:00'],
      '0 0 * * *': ['00:00-05:00'],
      '15 0 * * *': ['00:15-05:00'],
      '30 1 * * *': ['01:30-05:00'],
      '30 1,2 * * *': ['01:30-05:00', '03:00-04:00'],
      '0 1-3 * * *': ['01:00-05:00', '03:00-04:00'],
      '0,30 2 * * *': ['03:00-04:00'],
      '30 2-3 * * *': ['03:00-04:00', '03:30-04:00'],
      '30 15,45 2 * * *': ['03:00-04:00'],
      '30 0 3 * * *': ['03:00:30-04:00'],
      '30 0 2-3 * * *': ['03:00-04:00', '03:00:30-04:00'],
      '30 2 8 3 *': ['03:00-04:00'],
      '30 2 * * SUN': ['03:00-04:00'],
      '30 2 * * MON': [],
      '*/30 2 * * *': [],
      '*/20 30 2 * * *': [],
      '*/30 * * * *': ['00:00-05:00', '00:30-05:00', '01:00-05:00', '01:30-05:00', '03:00-04:00', '03:30-04:00', '04:00-04:00', '04:30-04:00'],
      '30 * * * *': ['00:30-05:00', '01:30-05:00', '03:30-04:00', '04:30-04:00'],
      '0 */2 * * *': ['00:00-05:00', '04:00-04:00'],
      '@hourly': ['00:00-05:00', '01:00-05:00', '03:00-04:00', '04:00-04:00'],
      '@daily': ['00:00-05:00']
    },
    counts: { '*/15 * * * *': 92, '*/30 * * * *': 46, '0 * * * *': 23, '30 * * * *': 23, '30 2 * * *': 1, '0 0-23 * * *': 23, '30 0-23 * * *': 24, '0 */2 * * *': 11 }
  },
  {
    what: 'in New York the hour from 1 to 2 comes twice',
    zone: 'America/New_York',
    date: '2026-11-01',
    hours: ['00:00-04:00', '05:00-05:00'],
    day: ['00:00-04:00', '2026-11-02T00:00-05:00'],
    fires: {
      '30 2 * * *': ['02:30-05:00'],
      '0 0 * * *': ['00:00-04:00'],
      '15 0 * * *': ['00:15-04:00'],
      '30 1 * * *': ['01:30-04:00'],
      '0 1 * * *': ['01:00-04:00'],
      '0 2 * * *': ['02:00-05:00'],
      '30 1,2 * * *': ['01:30-04:00', '02:30-05:00'],
      '0 1-3 * * *': ['01:00-04:00', '02:00-05:00', '03:00-05:00'],
      '15,45 30 1 * * *': ['01:30:15-04:00', '01:30:45-04:00'],
      '30 1 1 11 *': ['01:30-04:00'],
      '*/30 1 * * *': ['01:00-04:00', '01:30-04:00', '01:00-05:00', '01:30-05:00'],
      '0-30/30 1 * * *': ['01:00-04:00', '01:30-04:00', '01:00-05:00', '01:30-05:00'],
      '*/30 * * * *': ['00:00-04:00', '00:30-04:00', '01:00-04:00', '01:30-04:00', '01:00-05:00', '01:30-05:00', '02:00-05:00', '02:30-05:00', '03:00-05:00', '03:30-05:00', '04:00-05:00', '04:30-05:00'],
      '30 * * * *': ['00:30-04:00', '01:30-04:00', '01:30-05:00', '02:30-05:00', '03:30-05:00', '04:30-05:00'],
      '0 */2 * * *': ['00:00-04:00', '02:00-05:00', '04:00-05:00']
    },
    counts: { '*/15 * * * *': 100, '*/30 * * * *': 50, '0 * * * *': 25, '30 * * * *': 25, '30 1 * * *': 1, '30 2 * * *': 1, '0 0-23 * * *': 24, '0 */2 * * *': 12 }
  },
  {
    what: 'in Berlin the hour from 2 to 3 is left out',
    zone: 'Europe/Berlin',
    date: '2026-03-29',
    hours: ['00:00+01:00', '05:00+02:00'],
    day: ['00:00+01:00', '2026-03-30T00:00+02:00'],
    fires: {
      '30 2 * * *': ['03:00+02:00'],
      '0 0 * * *': ['00:00+01:00'],
      '15 0 * * *': ['00:15+01:00'],
      '30 1 * * *': ['01:30+01:00'],
      '30 1,2 * * *': ['01:30+01:00', '03:00+02:00'],
      '0 1-3 * * *': ['01:00+01:00', '03:00+02:00'],
      '*/30 * * * *': ['00:00+01:00', '00:30+01:00', '01:00+01:00', '01:30+01:00', '03:00+02:00', '03:30+02:00', '04:00+02:00', '04:30+02:00'],
      '30 * * * *': ['00:30+01:00', '01:30+01:00', '03:30+02:00', '04:30+02:00'],
      '0 */2 * * *': ['00:00+01:00', '04:00+02:00']
    },
    counts: { '*/15 * * * *': 92, '0 * * * *': 23, '30 2 * * *': 1, '* * * * *': 1_380 }
  },
  {
    what: 'in Berlin the hour from 2 to 3 comes twice',
    zone: 'Europe/Berlin',
    date: '2026-10-25',
    hours: ['00:00+02:00', '05:00+01:00'],
    day: ['00:00+02:00', '2026-10-26T00:00+01:00'],
    fires: {
      '30 2 * * *': ['02:30+02:00'],
      '0 0 * * *': ['00:00+02:00'],
      '15 0 * * *': ['00:15+02:00'],
      '30 1 * * *': ['01:30+02:00'],
      '30 1,2 * * *': ['01:30+02:00', '02:30+02:00'],
      '0 1-3 * * *': ['01:00+02:00', '02:00+02:00', '03:00+01:00'],
      '*/30 * * * *': ['00:00+02:00', '00:30+02:00', '01:00+02:00', '01:30+02:00', '02:00+02:00', '02:30+02:00', '02:00+01:00', '02:30+01:00', '03:00+01:00', '03:30+01:00', '04:00+01:00', '04:30+01:00'],
      '30 * * * *': ['00:30+02:00', '01:30+02:00', '02:30+02:00', '02:30+01:00', '03:30+01:00', '04:30+01:00'],
      '0 */2 * * *': ['00:00+02:00', '02:00+02:00', '02:00+01:00', '04:00+01:00']
    },
    counts: { '*/15 * * * *': 100, '0 * * * *': 25, '30 2 * * *': 1, '* * * * *': 1_500, '0 */2 * * *': 13 }
  },
  {
    what: 'on Lord Howe Island the half hour from 2 to 2:30 is left out',
    zone: 'Australia/Lord_Howe',
    date: '2026-10-04',
    hours: ['00:00+10:30', '05:00+11:00'],
    day: ['00:00+10:30', '2026-10-05T00:00+11:00'],
    fires: {
      '30 2 * * *': ['02:30+11:00'],
      '15 2 * * *': ['02:30+11:00'],
      '15,30 2 * * *': ['02:30+11:00'],
      '0,45 2 * * *': ['02:30+11:00', '02:45+11:00'],
      '0 0 * * *': ['00:00+10:30'],
      '15 0 * * *': ['00:15+10:30'],
      '30 1 * * *': ['01:30+10:30'],
      '30 1,2 * * *': ['01:30+10:30', '02:30+11:00'],
      '0 1-3 * * *': ['01:00+10:30', '02:30+11:00', '03:00+11:00'],
      '*/30 * * * *': ['00:00+10:30', '00:30+10:30', '01:00+10:30', '01:30+10:30', '02:30+11:00', '03:00+11:00', '03:30+11:00', '04:00+11:00', '04:30+11:00'],
      '30 * * * *': ['00:30+10:30', '01:30+10:30', '02:30+11:00', '03:30+11:00', '04:30+11:00'],
      '0 */2 * * *': ['00:00+10:30', '04:00+11:00']
    },
    counts: { '*/15 * * * *': 94, '*/30 * * * *': 47, '0 * * * *': 23, '30 * * * *': 24, '0 2 * * *': 1 }
  },
  {
    what: 'on Lord Howe Island the half hour from 1:30 to 2 comes twice',
    zone: 'Australia/Lord_Howe',
    date: '2026-04-05',
    hours: ['00:00+11:00', '05:00+10:30'],
    day: ['00:00+11:00', '2026-04-06T00:00+10:30'],
    fires: {
      '30 2 * * *': ['02:30+10:30'],
      '0 2 * * *': ['02:00+10:30'],
      '0 0 * * *': ['00:00+11:00'],
      '15 0 * * *': ['00:15+11:00'],
      '30 1 * * *': ['01:30+11:00'],
      '45 1 * * *': ['01:45+11:00'],
      '15,45 1 * * *': ['01:15+11:00', '01:45+11:00'],
      '30 1,2 * * *': ['01:30+11:00', '02:30+10:30'],
      '0 1-3 * * *': ['01:00+11:00', '02:00+10:30', '03:00+10:30'],
      '*/30 * * * *': ['00:00+11:00', '00:30+11:00', '01:00+11:00', '01:30+11:00', '01:30+10:30', '02:00+10:30', '02:30+10:30', '03:00+10:30', '03:30+10:30', '04:00+10:30', '04:30+10:30'],
      '30 * * * *': ['00:30+11:00', '01:30+11:00', '01:30+10:30', '02:30+10:30', '03:30+10:30', '04:30+10:30'],
      '0 */2 * * *': ['00:00+11:00', '02:00+10:30', '04:00+10:30']
    },
    counts: { '*/15 * * * *': 98, '*/30 * * * *': 49, '0 * * * *': 24, '30 * * * *': 25, '45 1 * * *': 1 }
  },
  {
    what: 'in Santiago the first hour of the day is left out',
    zone: 'America/Santiago',
    date: '2026-09-06',
    hours: ['2026-09-05T22:00-04:00', '05:00-03:00'],
    day: ['01:00-03:00', '2026-09-07T00:00-03:00'],
    fires: {
      '30 2 * * *': ['02:30-03:00'],
      '0 0 * * *': ['01:00-03:00'],
      '15 0 * * *': ['01:00-03:00'],
      '30 1 * * *': ['01:30-03:00'],
      '30 0,1 * * *': ['01:00-03:00', '01:30-03:00'],
      '0 0-2 * * *': ['01:00-03:00', '02:00-03:00'],
      '30 1,2 * * *': ['01:30-03:00', '02:30-03:00'],
      '0 1-3 * * *': ['01:00-03:00', '02:00-03:00', '03:00-03:00'],
      '59 23 * * *': ['2026-09-05T23:59-04:00'],
      '0 0 6 9 *': ['01:00-03:00'],
      '*/30 * * * *': ['2026-09-05T22:00-04:00', '2026-09-05T22:30-04:00', '2026-09-05T23:00-04:00', '2026-09-05T23:30-04:00', '01:00-03:00', '01:30-03:00', '02:00-03:00', '02:30-03:00', '03:00-03:00', '03:30-03:00', '04:00-03:00', '04:30-03:00'],
      '30 * * * *': ['2026-09-05T22:30-04:00', '2026-09-05T23:30-04:00', '01:30-03:00', '02:30-03:00', '03:30-03:00', '04:30-03:00'],
      '0 */2 * * *': ['2026-09-05T22:00-04:00', '02:00-03:00', '04:00-03:00'],
      '@daily': ['01:00-03:00'],
      '@weekly': ['01:00-03:00']
    },
    counts: { '*/15 * * * *': 92, '0 * * * *': 23, '0 0 * * *': 1, '15 0 * * *': 1, '0 */2 * * *': 11 }
  },
  {
    what: 'in Santiago the last hour of the day comes twice',
    zone: 'America/Santiago',
    date: '2026-04-05',
    hours: ['2026-04-04T22:00-03:00', '03:00-04:00'],
    day: ['2026-04-04T00:00-03:00', '00:00-04:00'],
    fires: {
      '30 2 * * *': ['02:30-04:00'],
      '0 0 * * *': ['00:00-04:00'],
      '15 0 * * *': ['00:15-04:00'],
      '30 1 * * *': ['01:30-04:00'],
      '30 1,2 * * *': ['01:30-04:00', '02:30-04:00'],
      '30 23 * * *': ['2026-04-04T23:30-03:00'],
      '0 22-23 * * *': ['2026-04-04T22:00-03:00', '2026-04-04T23:00-03:00'],
      '0 1-3 * * *': ['01:00-04:00', '02:00-04:00'],
      '*/30 * * * *': ['2026-04-04T22:00-03:00', '2026-04-04T22:30-03:00', '2026-04-04T23:00-03:00', '2026-04-04T23:30-03:00', '2026-04-04T23:00-04:00', '2026-04-04T23:30-04:00', '00:00-04:00', '00:30-04:00', '01:00-04:00', '01:30-04:00', '02:00-04:00', '02:30-04:00'],
      '30 * * * *': ['2026-04-04T22:30-03:00', '2026-04-04T23:30-03:00', '2026-04-04T23:30-04:00', '00:30-04:00', '01:30-04:00', '02:30-04:00'],
      '0 */2 * * *': ['2026-04-04T22:00-03:00', '00:00-04:00', '02:00-04:00']
    },
    counts: { '*/15 * * * *': 100, '0 * * * *': 25, '30 23 * * *': 1, '0 0 * * *': 1, '30 0-23 * * *': 24 }
  },
  {
    what: 'in Apia the hour from 3 to 4 is left out',
    zone: 'Pacific/Apia',
    date: '2012-09-30',
    hours: ['00:00+13:00', '06:00+14:00'],
    day: ['00:00+13:00', '2012-10-01T00:00+14:00'],
    fires: {
      '30 3 * * *': ['04:00+14:00'],
      '30 2,3 * * *': ['02:30+13:00', '04:00+14:00'],
      '0 2-4 * * *': ['02:00+13:00', '04:00+14:00'],
      '30 * * * *': ['00:30+13:00', '01:30+13:00', '02:30+13:00', '04:30+14:00', '05:30+14:00'],
      '0 */3 * * *': ['00:00+13:00']
    },
    counts: { '*/15 * * * *': 92, '0 * * * *': 23, '30 3 * * *': 1 }
  },
  {
    what: 'in Apia the hour from 3 to 4 comes twice',
    zone: 'Pacific/Apia',
    date: '2012-04-01',
    hours: ['00:00+14:00', '06:00+13:00'],
    day: ['00:00+14:00', '2012-04-02T00:00+13:00'],
    fires: {
      '30 3 * * *': ['03:30+14:00'],
      '30 2,3 * * *': ['02:30+14:00', '03:30+14:00'],
      '0 2-4 * * *': ['02:00+14:00', '03:00+14:00', '04:00+13:00'],
      '30 * * * *': ['00:30+14:00', '01:30+14:00', '02:30+14:00', '03:30+14:00', '03:30+13:00', '04:30+13:00', '05:30+13:00'],
      '0 */3 * * *': ['00:00+14:00', '03:00+14:00', '03:00+13:00']
    },
    counts: { '*/15 * * * *': 100, '0 * * * *': 25, '30 3 * * *': 1 }
  },
  {
    what: 'in Apia a whole day is left out',
    zone: 'Pacific/Apia',
    date: '2011-12-31',
    hours: ['2011-12-29T00:00-10:00', '2012-01-02T00:00+14:00'],
    day: ['2011-12-29T00:00-10:00', '2012-01-01T00:00+14:00'],
    fires: {
      '0 0 * * *': ['2011-12-29T00:00-10:00', '00:00+14:00', '2012-01-01T00:00+14:00'],
      '30 2 * * *': ['2011-12-29T02:30-10:00', '02:30+14:00', '2012-01-01T02:30+14:00'],
      '0 12 30 12 *': [],
      '0 0 30 * *': [],
      '0 12 * * FRI': [],
      '0 12 28-31 12 *': ['2011-12-29T12:00-10:00', '12:00+14:00'],
      '0 */12 * * *': ['2011-12-29T00:00-10:00', '2011-12-29T12:00-10:00', '00:00+14:00', '12:00+14:00', '2012-01-01T00:00+14:00', '2012-01-01T12:00+14:00'],
      '0 * 30 * *': []
    },
    counts: { '*/15 * * * *': 192, '0 * * * *': 48, '0 0 * * *': 2 }
  }
]

for (const { what, zone, date, hours, day, fires, counts } of changes) {
  const at = (text: string): number => Date.parse(text.includes('T') ? text : `${date}T${text}`)

  t.test(`where ${what}, tasks run at the pinned times`, async t => {
    const { ask } = await almanac(t)
    const [start, end] = [at(hours[0]), at(hours[1])]
    for (const [cron, expected] of Object.entries(fires)) {
      const runs = await ask({ cron, timezone: zone, instant: start - 1 }, task => task.nextRuns(expected.length + 1))
      const pinned = expected.map(text => iso(at(text)))
      t.same(runs.filter(run => Number(run) < end).map(run => run.toISOString()), pinned, cron)
      const back: number[] = []
      const pattern = parseCron(cron, zone, start)
      for (let previous = pattern.previous(end); previous !== undefined && previous >= start && back.length < 100; previous = pattern.previous(previous)) back.unshift(previous)
      t.same(back.map(iso), pinned, `${cron}, backwards`)
      t.same(new Oracle(cron, zone).between(start, end).map(iso), pinned, `${cron}, by the oracle`)
    }
  })

  t.test(`where ${what}, tasks run as often as that day is long`, async t => {
    const [start, end] = [at(day[0]), at(day[1])]
    for (const [cron, expected] of Object.entries(counts)) {
      const pattern = parseCron(cron, zone, start)
      let count = 0
      for (let next = pattern.next(start - 1); next !== undefined && next < end && count < 5_000; next = pattern.next(next)) count++
      t.equal(count, expected, cron)
      t.equal(new Oracle(cron, zone).between(start, end).length, expected, `${cron}, by the oracle`)
    }
  })
}

t.test('a day that a zone left out is skipped until it comes again', async t => {
  const { ask } = await almanac(t)
  const instant = Date.parse('2011-12-29T12:00-10:00')
  const next = (cron: string): Promise<string> => ask({ cron, timezone: 'Pacific/Apia', instant }, task => iso(task.nextRunAt?.getTime()))
  t.equal(await next('0 12 30 12 *'), iso(Date.parse('2012-12-30T12:00+14:00')))
  t.equal(await next('0 0 * * FRI'), iso(Date.parse('2012-01-06T00:00+14:00')))
})

t.test('the 29th of February, the last day, the nearest working day and the nth weekday are known', async t => {
  const { ask } = await almanac(t)
  const instant = Date.UTC(2026, 0, 31, 12)
  for (const [cron, expected] of [
    ['0 0 29 2 *', '2028-02-29'],
    ['0 0 L * *', '2026-02-28'],
    ['0 0 LW 5 *', '2026-05-29'],
    ['0 0 15W 2 *', '2026-02-16'],
    ['0 0 1W 8 *', '2026-08-03'],
    ['0 0 * * FRI#2', '2026-02-13'],
    ['0 0 * * 5L', '2026-02-27'],
    ['0 0 13 * +FRI', '2026-02-13'],
    ['0 0 31 * *', '2026-03-31'],
    ['@yearly', '2027-01-01'],
    ['@monthly', '2026-02-01'],
    ['  0  0\t1 3  * ', '2026-03-01']
  ] as const) t.equal(await ask({ cron, timezone: 'UTC', instant }, task => iso(task.nextRunAt?.getTime())), `${expected}T00:00:00.000Z`, cron)
})

t.test('a cron expression that cannot be read, or never fires, is refused where it is declared', async t => {
  const { app } = await build(t, { autostart: false })
  for (const [cron, received] of [
    ['', "received ''"],
    ['   ', "received '   '"],
    ['every day', "received 'every day'"],
    ['* * * *', "received '* * * *'"],
    ['0 0 0 1 1 * 2030', "received '0 0 0 1 1 * 2030'"],
    ['60 * * * *', "received '60 * * * *'"],
    ['60 * * * * *', "received '60 * * * * *'"],
    ['0 24 * * *', "received '0 24 * * *'"],
    ['0 0 0 * *', "received '0 0 0 * *'"],
    ['0 0 32 * *', "received '0 0 32 * *'"],
    ['0 0 * 13 *', "received '0 0 * 13 *'"],
    ['0 0 * * 8', "received '0 0 * * 8'"],
    ['0 0 * * MOON', "received '0 0 * * MOON'"],
    ['0 -1 * * *', "received '0 -1 * * *'"],
    ['*/0 * * * *', "received '*/0 * * * *'"],
    ['30-10 * * * *', "received '30-10 * * * *'"],
    ['1,,2 * * * *', "received '1,,2 * * * *'"],
    ['5/10 * * * *', "received '5/10 * * * *'"],
    ['1.5 * * * *', "received '1.5 * * * *'"],
    ['@fortnightly', "received '@fortnightly'"],
    ['@reboot', "received '@reboot'"],
    ['0 0 31 2 *', "received '0 0 31 2 *': no date ever matches it"],
    ['0 0 30 2 *', 'no date ever matches it'],
    ['0 0 31 4,6,9,11 *', 'no date ever matches it'],
    ['2030-01-01T00:00:00', "received '2030-01-01T00:00:00'"],
    ['2030-01-01 00:00', "received '2030-01-01 00:00'"],
    ['Tue Jan 1 2030 10:00', "received 'Tue Jan 1 2030 10:00'"],
    ['@2030-01-01 10:00', "received '@2030-01-01 10:00'"],
    [60_000, 'received 60000'],
    [null, 'received null'],
    [new Date(0), 'received 1970-01-01T00:00:00.000Z'],
    [['* * * * *'], "received [ '* * * * *' ]"]
  ] as const) {
    const options = { cron } as unknown as { cron: string }
    t.throws(() => { app.addBackgroundTask('bad', options, () => {}) }, { code: 'FST_BG_INVALID_OPTION', statusCode: 500 }, received)
    try {
      app.addBackgroundTask('bad', options, () => {})
    } catch (error) {
      const { message } = error as Error
      t.ok(message.includes('Background task "bad": option "cron" must be '), message)
      t.ok(message.includes(received), `says: ${received}`)
    }
  }
  t.equal(app.backgroundTasks.get('bad'), undefined, 'none is left behind')
})

t.test('a zone that is unknown is refused where it is declared', async t => {
  const { app } = await build(t, { autostart: false })
  for (const [timezone, received] of [['Mars/Olympus', "received 'Mars/Olympus'"], ['', "received ''"], ['Europe/Berlin ', "received 'Europe/Berlin '"], [60, 'received 60'], [null, 'received null']] as const) {
    try {
      app.addBackgroundTask('bad', { cron: '0 2 * * *', timezone } as unknown as { cron: string }, () => {})
      t.fail('not refused')
    } catch (error) {
      const { code, message } = error as Error & { code: string }
      t.equal(code, 'FST_BG_INVALID_OPTION')
      t.ok(message.includes('option "timezone" must be ') && message.includes(received), message)
    }
  }
  t.throws(() => { app.addBackgroundTask('bad', { every: '1m', timezone: 'UTC' } as unknown as { every: string }, () => {}) }, { code: 'FST_BG_INVALID_OPTION', message: /"timezone" goes with "cron"/ })
})

t.test('where both day fields are restricted, either matches, and one warning says so', async t => {
  const { app, lines } = await build(t, { autostart: false })
  const either = ['0 0 1 * MON', '0 0 1,15 * 1-5', '30 0 0 13 * FRI', '0 0 L * 0', '0 0 1-31/2 1 SUN#1']
  const both = ['0 0 * * *', '0 0 1 * *', '0 0 * * MON', '0 0 */2 * MON', '0 0 1 * */2', '0 0 ? * MON', '0 0 1 * ?', '0 0 13 * +FRI', '*/5 0 0 * * 1', '@weekly', '@monthly']
  for (const cron of [...either, ...both]) app.addBackgroundTask(cron, { cron }, () => {})
  await app.ready()
  const warnings = lines.filter(({ level }) => level === 'warn')
  t.same(warnings.map(({ task, cron }) => [task, cron]), either.map(cron => [cron, cron]))
  for (const { msg } of warnings) t.match(msg, /a day that matches either/)
})

t.test("a day field that starts with '*' restricts nothing, as in crontab: the other one decides with it", async t => {
  const { ask } = await almanac(t)
  const instant = Date.UTC(2026, 0, 1)
  const next = (cron: string): Promise<string[]> => ask({ cron, timezone: 'UTC', instant }, task => task.nextRuns(3).map(run => run.toISOString().slice(0, 10)))
  t.same(await next('0 0 */2 * MON'), ['2026-01-05', '2026-01-19', '2026-02-09'], 'Mondays that are odd days')
  t.same(await next('0 0 1-31/2 * MON'), ['2026-01-03', '2026-01-05', '2026-01-07'], 'Mondays, and odd days')
  t.same(await next('0 0 13 * */5'), ['2026-02-13', '2026-03-13', '2026-09-13'], 'the 13th, if a Friday or a Sunday')
})

t.test('ten thousand tasks with one expression parse it once and look up its next tick once', async t => {
  const counts = { parse: 0, nextRun: 0 }
  for (const [prototype, method] of [[CronPattern.prototype, 'parse'], [Cron.prototype, 'nextRun']] as unknown as Array<[Record<string, (...args: unknown[]) => unknown>, keyof typeof counts]>) {
    const original = prototype[method] as (...args: unknown[]) => unknown
    prototype[method] = function (...args) {
      counts[method]++
      return original.apply(this, args)
    }
    t.teardown(() => { prototype[method] = original })
  }
  const clock = FakeTimers.install({ now: Date.UTC(2026, 5, 1), toFake: ['setTimeout', 'clearTimeout', 'Date', 'performance'] })
  t.teardown(() => { clock.uninstall() })
  const { app } = await build(t, {}, { logger: false })
  const tasks = Array.from({ length: 10_000 }, (_, i) => app.addBackgroundTask(`task ${i}`, { cron: '7 4 * * *', timezone: 'Asia/Tokyo' }, () => {}))
  await app.ready()
  t.same(counts, { parse: 1, nextRun: 1 })
  t.ok(tasks.every(task => task.nextRunAt?.getTime() === Date.UTC(2026, 5, 1, 19, 7)))
})

t.test('an expression is shared by those who use it in the same zone, and forgotten when nobody does', async t => {
  const now = Date.UTC(2026, 0, 1)
  const local = Intl.DateTimeFormat().resolvedOptions().timeZone
  let pattern: ReturnType<typeof parseCron> | undefined = parseCron('11 4 * * *', 'Asia/Tokyo', now)
  t.equal(parseCron('11 4 * * *', 'Asia/Tokyo', now + DAY), pattern)
  t.not(parseCron('11 4 * * *', 'Europe/Rome', now), pattern)
  t.not(parseCron('12 4 * * *', 'Asia/Tokyo', now), pattern)
  t.not(parseCron('11 4 * * *', undefined, now), pattern)
  t.equal(parseCron('11 4 * * *', undefined, now).next(now), parseCron('11 4 * * *', local, now).next(now), 'no zone is that of the process')

  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const forgotten = new WeakRef(pattern)
  pattern = undefined
  while (forgotten.deref() !== undefined) {
    await turn()
    collect()
  }
  const again = parseCron('11 4 * * *', 'Asia/Tokyo', now)
  await turn() // what is told of the old one must not touch the new one
  t.equal(again.next(now), Date.UTC(2026, 0, 1, 19, 11))
  t.equal(parseCron('11 4 * * *', 'Asia/Tokyo', now), again)
})

t.test('asked about one time after another, forth and back, a shared expression is right', async t => {
  const pattern = parseCron('*/20 * * * *', 'Europe/Berlin', from)
  const number = wholes(3)
  for (let i = 0; i < 500; i++) {
    const instant = from + number(3 * 3_600) * 1_000
    const expected = (Math.floor(instant / 1_200_000) + 1) * 1_200_000
    if (pattern.next(instant) !== expected) t.fail(`${iso(instant)}: ${iso(pattern.next(instant))}`)
  }
  t.pass()
})

t.test('without a timezone, the wall clock is that of the process', async t => {
  for (const { TZ, cases, child } of processes) {
    const line = await child.line('zone')
    t.equal((await child.exit).code, 0)
    t.equal(line.zone, TZ ?? line.zone, `TZ=${TZ}`)
    t.same(line.next, cases.map(([cron, instant]) => new Oracle(cron, line.zone as string).next(instant)))
  }
})
