// Queues on BullMQ and a real Redis, in processes that are killed. The program is fixtures/durable.ts.
import { randomUUID } from 'node:crypto'
import t, { type Test } from 'tap'
import { built, Child, noSignals, type LogLine } from '../../support/child.ts'
import { needsRedis, redisUrl } from '../../support/redis.ts'
import { share, until } from '../../support/shared.ts'

const { skip } = needsRedis()
const program = built('durable')

t.test('over Redis', { skip: skip ?? noSignals }, async t => {
  t.jobs = 3 // they mostly wait
  const url = await redisUrl(t)

  t.test('a process is killed in the middle of 1,000 runs: none is lost, and what it had in hand begins elsewhere within 15 s', async t => {
    const prefix = randomUUID()
    const { queue } = await share(t, { connection: url, prefix }, { autostart: false })
    await Promise.all(Array.from({ length: 1_000 }, async (_, n) => { await queue.enqueue({ n, do: 'work', ms: 20 }) }))
    const first = spawn(t, prefix, '--concurrency=10', '--hang-after=400')
    await first.count('begins', 410)
    t.match(await queue.counts(), { active: 10, waiting: 590 })
    const killedAt = Date.now()
    first.signal('SIGKILL')
    await first.exit
    const finished = numbers(first, 'done')
    const orphans = numbers(first, 'begins').filter(n => !finished.includes(n))
    t.equal(finished.length, 400)
    t.equal(orphans.length, 10)

    const second = spawn(t, prefix, '--concurrency=10')
    await second.count('done', 600)
    await until(async () => (await queue.counts()).succeeded === 100)
    t.same(await queue.counts(), { waiting: 0, delayed: 0, active: 0, succeeded: 100, failed: 0 }, 'the last hundred are kept')
    t.same([...new Set([...finished, ...numbers(second, 'done')])].sort((a, b) => a - b), Array.from({ length: 1_000 }, (_, n) => n))
    const again = second.lines.filter(({ msg, n }) => msg === 'begins' && orphans.includes(n as number))
    t.equal(again.length, 10)
    for (const { time, attempt } of again) {
      t.ok(Number(time) - killedAt < 15_000, `an orphan begins ${Number(time) - killedAt} ms after the kill`)
      t.equal(attempt, 1, 'no attempt of it has ended')
    }
    t.equal(second.lines.filter(({ msg }) => msg === 'begins').length, 600, 'nothing else ran twice')
    second.signal('SIGTERM')
    t.same(await second.exit, { code: 0, signal: null })
  })

  t.test('a payload that kills its process fails after the fifth, and the others go on', async t => {
    const prefix = randomUUID()
    const { queue } = await share(t, { connection: url, prefix }, { autostart: false })
    const poison = await queue.enqueue({ n: 0, do: 'die' }, { key: 'poison', reqId: 'req-1' })
    for (let n = 1; n <= 20; n++) await queue.enqueue({ n, do: 'work', ms: 1 })
    const children = Array.from({ length: 6 }, () => spawn(t, prefix, '--lease=1s'))
    const exits = Promise.all(children.map(async ({ exit }) => (await exit).signal))
    await until(async () => (await queue.counts()).failed === 1)
    await until(async () => (await queue.counts()).succeeded === 20)
    const begins = children.flatMap(({ lines }) => lines.filter(({ msg, id }) => msg === 'begins' && id === poison.id))
    t.equal(begins.length, 5)
    t.ok(begins.every(({ attempt }) => attempt === 1))

    const message = 'the process that ran it has died, or lost its lease, 5 times: it is not run again'
    t.match(await queue.list({ state: 'failed' }), { runs: [{ id: poison.id, state: 'failed', payload: { n: 0 }, attempt: 1, error: { name: 'Error', message } }] })
    const survivors = children.filter(({ lines }) => !lines.some(({ msg, id }) => msg === 'begins' && id === poison.id))
    t.equal(survivors.length, 1)
    t.match(await survivors[0]?.line('run failed'), { level: 50, task: 'work', run: poison.id, attempt: 1, err: { message: new RegExp(`^${message}`) } })

    t.match(await survivors[0]?.line('run taken over: its process has died, or has lost its lease (crash 5 of 5)'), { level: 40, task: 'work', run: poison.id, crash: 5, maxCrashes: 5, key: 'poison', reqId: 'req-1' })
    const takeovers = children.flatMap(({ lines }) => lines.filter(({ msg, run }) => run === poison.id && msg.startsWith('run taken over')).map(({ crash }) => crash))
    t.same(takeovers, [...new Set(takeovers)], 'each crash is told once')

    // By hand it is given five more.
    await queue.enqueue({ n: 21, do: 'work', ms: 1 })
    await survivors[0]?.line(({ msg, n }) => msg === 'done' && n === 21)
    survivors[0]?.signal('SIGTERM')
    t.same((await exits).sort(), ['SIGKILL', 'SIGKILL', 'SIGKILL', 'SIGKILL', 'SIGKILL', null])
  })

  function spawn (t: Test, prefix: string, ...args: string[]): Child {
    return new Child(t, program, [`--url=${url}`, `--prefix=${prefix}`, ...args])
  }
})

function numbers ({ lines }: Child, msg: string): number[] {
  return lines.filter((line: LogLine) => line.msg === msg).map(({ n }) => n as number)
}
