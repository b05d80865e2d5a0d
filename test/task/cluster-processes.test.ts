// A cluster task in three processes, of which one is killed. The program is fixtures/durable.ts.
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import t from 'tap'
import { built, Child, noSignals } from '../support/child.ts'
import { needsRedis, redisUrl } from '../support/redis.ts'

const { skip } = needsRedis()
const program = built('durable')

t.test('three processes with a task of one second, for thirty, of which one is killed: every tick is enqueued exactly once, and only what that one had in hand may run twice', { skip: skip ?? noSignals }, async t => {
  const url = await redisUrl(t)
  const prefix = randomUUID()
  // A lease of 1 s, so that what a killed process had in hand is soon run elsewhere.
  const children = Array.from({ length: 3 }, () => new Child(t, program, [`--url=${url}`, `--prefix=${prefix}`, '--lease=1s', '--every=1s']))
  await Promise.all(children.map(async child => await child.address()))
  const from = Date.now()
  await sleep(10_000)
  // Whichever begins next is killed in the middle of it.
  const now = Date.now()
  const victim = await Promise.race(children.map(async child => {
    await child.line(({ msg, time }) => msg === 'begins' && Number(time) > now)
    return child
  }))
  victim.signal('SIGKILL')
  await victim.exit
  await sleep(20_000 - (Date.now() - now))
  const rest = children.filter(child => child !== victim)
  for (const child of rest) child.signal('SIGTERM')
  for (const child of rest) t.same(await child.exit, { code: 0, signal: null })

  const dueAtsOf = (msg: string, among = children): string[] => among.flatMap(({ lines }) => lines.filter(line => line.msg === msg).map(({ dueAt }) => String(dueAt))).sort()
  const inHand = dueAtsOf('begins', [victim]).filter(dueAt => !dueAtsOf('ends', [victim]).includes(dueAt))
  t.equal(inHand.length, 1)
  const begun = dueAtsOf('begins')
  const first = Date.parse(begun[0] as string)
  const count = new Set(begun).size
  const grid = Array.from({ length: count }, (_, i) => new Date(first + i * 1_000).toISOString())
  t.ok(count >= 29 && first <= from + 1_000, `${count} ticks`)
  t.same(begun, [...grid, ...inHand].sort(), 'each has run once, and what was in hand a second time')
  t.same(dueAtsOf('ends'), grid, 'each has ended once')
  for (const child of children) t.ok(dueAtsOf('begins', [child]).length > 0, 'each process has run some')
  t.same(children.flatMap(({ lines }) => lines.filter(({ level, missed }) => level >= 40 || Number(missed) > 0)).map(({ msg }) => msg).filter(msg => !/^Redis keeps/.test(msg)), [
    'run taken over: its process has died, or has lost its lease (crash 1 of 5)'
  ], 'of what was in hand')

  const redis = new Redis(url)
  t.teardown(() => { redis.disconnect() })
  const events = (await redis.xrange(`${prefix}:tick:events`, '-', '+')).map(([, fields]) => Object.fromEntries(fields.flatMap((field, i) => i % 2 === 0 ? [[field, fields[i + 1]]] : [])) as Record<string, string>)
  const added = events.filter(({ event }) => event === 'added').map(({ jobId }) => jobId)
  t.equal(new Set(added).size, added.length, 'enqueued exactly once')
  t.same(added.slice(0, count), grid.map(dueAt => `tick-${Date.parse(dueAt)}`), 'in their order; and one may wait that was due when all of them went')
  t.ok(events.some(({ event }) => event === 'duplicated'), 'although each process has tried to')
  t.same(await redis.zcard(`${prefix}:tick:failed`), 0)
})
