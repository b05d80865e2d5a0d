// That docs/errors.md lists every log line of lib/common/log.ts, with its level, and no other.
import { readFile } from 'node:fs/promises'
import type { FastifyBaseLogger } from 'fastify'
import t from 'tap'
import { report } from '../lib/common/log.ts'

type Report = typeof report
type Words = { [Name in keyof Report]: Report[Name] extends (log: FastifyBaseLogger, ...rest: infer Rest) => void ? Rest[] : never }

const run = { id: 'x', number: 1 }
const result = { outcome: 'failed', error: new Error('x'), duration: 1 }
const ofRun: Array<[string, typeof run, typeof result]> = [['a', run, result]]
const error = new Error('x')
const action = { actor: 'ada', action: 'stop', task: 'a', run: undefined }

/** What each line is given; more than once where its level or its message depends on that. The compiler says which one is missing. */
const words: Words = {
  serviceCompleted: ofRun,
  serviceRestarted: ofRun,
  serviceStopped: ofRun,
  started: ofRun,
  startCancelled: ofRun,
  startedLate: ofRun,
  stopped: ofRun,
  stopFailed: ofRun,
  runSucceeded: ofRun,
  runCancelled: ofRun,
  notRetried: ofRun,
  backgroundFailed: ofRun,
  backgroundSucceeded: ofRun,
  runCutShort: ofRun,
  serviceStarted: [['a', run]],
  tick: [['a', run, new Date(0)]],
  queuedRun: [['a', run]],
  left: [['a', 1], ['a', 2]],
  tickExcluded: [['a', new Date(0)]],
  tickSkipped: [[false, 'a', new Date(0), 1, 'x'], [true, 'a', new Date(0), 3, 'x']],
  graceCut: [['a', 9_000, 6_000]],
  allExcluded: [['a']],
  eitherDay: [['a', '0 0 1 * 1']],
  serviceFails: [['a', run, result, 1, 1], ['a', run, result, 3, 1]],
  retried: [['a', run, result, 1]],
  gaveUp: [[true, 'run', 'a', run, result], [false, 'service', 'a', run, result]],
  onGiveUpFailed: [['a', run, error]],
  stopTimeout: [['a', run, '8 s']],
  startFailed: [['a', run, 1, error]],
  stoppedLate: [['a', undefined]],
  storeLost: [[error]],
  storeBack: [[]],
  removed: [['a', 'x']],
  lost: [['a', 'x']],
  storeFull: [[]],
  storeHasRoom: [[]],
  storeError: [['a', error]],
  engineError: [['pg-boss', error]],
  unheard: [[]],
  notPersisted: [[true], [false]],
  embedded: [['.data']],
  valueLeftOut: [['a', run, 'is a stream']],
  tickRefused: [['a', undefined, error]],
  scheduleUnreadable: [['a', 'x', error]],
  closing: [['a'.split(''), 1, 1]],
  closed: [[1]],
  blocked: [[['a'], 1_000], [['a', 'b'], 1_000]],
  blockedPastLease: [['a', 11_000, 10_000]],
  takenOver: [['a', 'x'], ['a', 'x', { crash: 1, maxCrashes: 5 }]],
  evicts: [['allkeys-lru']],
  clockDiffers: [[2_000], [-2_000]],
  acted: [action].map(one => [one]),
  actionRefused: [[action, error]],
  authorizeFailed: [[error]],
  authorizeUnclear: [['number']],
  redactFailed: [['a', error]],
  dashboardFailed: [[error]],
  dashboardOpen: [['/tasks']],
  shutdownTimeout: [[['a'], error]]
}

/** What the calls of one line log. */
function logged (name: keyof Report): Array<{ level: string, message: string }> {
  const lines: Array<{ level: string, message: string }> = []
  const write = (level: string) => (_: object, message: string): void => { lines.push({ level, message }) }
  const log = Object.fromEntries(['debug', 'info', 'warn', 'error', 'fatal'].map(level => [level, write(level)]))
  for (const given of words[name]) (report[name] as (...given: unknown[]) => void)(log, ...given)
  return lines
}

const page = await readFile(new URL('../docs/errors.md', import.meta.url), 'utf8')
const rows = [...page.matchAll(/^\| ([a-z, ]+) \| `([^`]+)` \| .*\|$/gm)].map(([, levels = '', message = '']) => {
  const pattern = new RegExp(`^${message.split('…').map(text => text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('.*')}$`)
  return { levels: levels.split(', '), message, pattern }
})
/** The row of a message: the one with the most text of its own. */
const rowOf = (message: string): typeof rows[number] | undefined => rows.filter(({ pattern }) => pattern.test(message)).sort((a, b) => b.message.length - a.message.length)[0]

t.test('docs/errors.md lists every log line, at its level', async t => {
  for (const name of Object.keys(words) as Array<keyof Report>) {
    const lines = logged(name)
    t.equal(lines.length, words[name].length, name)
    for (const { level, message } of lines) {
      const row = rowOf(message)
      t.ok(row, `${name}: ${message}`)
      t.ok(row?.levels.includes(level), `${name}: ${level}`)
    }
  }
})

t.test('and no line, and no level, that the code does not write', async t => {
  const all = (Object.keys(words) as Array<keyof Report>).flatMap(logged)
  t.ok(rows.length > 50)
  for (const row of rows) {
    const levels = new Set(all.filter(({ message }) => rowOf(message) === row).map(({ level }) => level))
    t.same([...levels].sort(), [...row.levels].sort(), row.message)
  }
})
