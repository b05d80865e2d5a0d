// Queues in PostgreSQL, in processes that are killed. The program is fixtures/durable.ts.
import t, { type Test } from 'tap'
import { pgBoss } from '../../../lib/store/pg-boss/index.ts'
import { built, Child, noSignals, type LogLine } from '../../support/child.ts'
import { freshSchema, needsPostgres, postgresUrl } from '../../support/postgres.ts'
import { share, until } from '../../support/shared.ts'

const { skip } = needsPostgres()

t.test('over PostgreSQL', { skip: skip ?? noSignals }, async t => {
  const program = built('durable')
  const url = await postgresUrl(t)

  t.test('a process is killed in the middle of 1,000 runs: none is lost, and what it had in hand begins elsewhere within 15 s', async t => {
    const schema = freshSchema()
    const { queue } = await share(t, pgBoss({ connectionString: url, schema }), { autostart: false })
    await queue.enqueueMany(Array.from({ length: 1_000 }, (_, n) => ({ payload: { n, do: 'work', ms: 20 } })))
    const first = spawn(t, schema, '--concurrency=10', '--hang-after=400')
    await first.count('begins', 410)
    t.match(await queue.counts(), { active: 10, waiting: 590 })
    const killedAt = Date.now()
    first.signal('SIGKILL')
    await first.exit
    const finished = numbers(first, 'done')
    const orphans = numbers(first, 'begins').filter(n => !finished.includes(n))
    t.equal(finished.length, 400)
    t.equal(orphans.length, 10)

    const second = spawn(t, schema, '--concurrency=10')
    await second.count('done', 600)
    await until(async () => (await queue.counts()).active === 0)
    t.match(await queue.counts(), { waiting: 0, delayed: 0, active: 0, failed: 0 })
    t.same([...new Set([...finished, ...numbers(second, 'done')])].sort((a, b) => a - b), Array.from({ length: 1_000 }, (_, n) => n))
    const again = second.lines.filter(({ msg, n }) => msg === 'begins' && orphans.includes(n as number))
    t.equal(again.length, 10)
    for (const { time, attempt } of again) {
      t.ok(Number(time) - killedAt < 15_000, `an orphan begins ${Number(time) - killedAt} ms after the kill`)
      t.equal(attempt, 1, 'no attempt of it has ended')
    }
    t.equal(second.lines.filter(({ msg }) => msg === 'begins').length, 600, 'nothing else ran twice')
    t.equal(second.lines.filter(({ msg }) => /taken over/.test(msg)).length, 10)
    second.signal('SIGTERM')
    t.same(await second.exit, { code: 0, signal: null })
  })

  t.test('a payload that kills its process fails after the fifth, and the others go on', async t => {
    const schema = freshSchema()
    const { queue } = await share(t, pgBoss({ connectionString: url, schema }), { autostart: false })
    const poison = await queue.enqueue({ n: 0, do: 'die' }, { key: 'poison' })
    for (let n = 1; n <= 20; n++) await queue.enqueue({ n, do: 'work', ms: 1 })
    const waits = queue.finished(poison.id)
    const children = Array.from({ length: 6 }, () => spawn(t, schema, '--lease=1s'))
    const exits = Promise.all(children.map(async ({ exit }) => (await exit).signal))
    await until(async () => (await queue.counts()).failed === 1)
    await until(async () => (await queue.counts()).succeeded === 20)
    const begins = children.flatMap(({ lines }) => lines.filter(({ msg, id }) => msg === 'begins' && id === poison.id))
    t.equal(begins.length, 5)
    t.ok(begins.every(({ attempt }) => attempt === 1))

    const message = 'the process that ran it has died, or lost its lease, 5 times: it is not run again'
    t.match(await queue.list({ state: 'failed' }), { runs: [{ id: poison.id, state: 'failed', payload: { n: 0 }, attempt: 1, error: { name: 'Error', message } }] })
    t.match(await waits, { outcome: 'failed', error: { message } })
    t.equal((await queue.enqueue({ n: 30, do: 'work', ms: 1 }, { key: 'poison' })).duplicate, false, 'its key is free')
    const survivors = children.filter(({ lines }) => !lines.some(({ msg, id }) => msg === 'begins' && id === poison.id))
    t.equal(survivors.length, 1)
    t.match(await survivors[0]?.line('run failed'), { level: 50, task: 'work', run: poison.id, attempt: 1, err: { message: new RegExp(`^${message}`) } })
    await queue.enqueue({ n: 21, do: 'work', ms: 1 })
    await survivors[0]?.line(({ msg, n }) => msg === 'done' && n === 21)
    survivors[0]?.signal('SIGTERM')
    t.same((await exits).sort(), ['SIGKILL', 'SIGKILL', 'SIGKILL', 'SIGKILL', 'SIGKILL', null])
  })

  t.test('a run whose cancel its process did not live to hear of is gone', async t => {
    const schema = freshSchema()
    const { queue } = await share(t, pgBoss({ connectionString: url, schema, lease: '1s' }), { autostart: false })
    const { id } = await queue.enqueue({ n: 0, do: 'deaf' })
    const first = spawn(t, schema, '--lease=1s')
    await first.line('begins')
    const cancelled = queue.cancel(id)
    await first.line('hears')
    first.signal('SIGKILL')
    const second = spawn(t, schema, '--lease=1s')
    await cancelled
    t.equal(await queue.get(id), undefined)
    t.notOk(second.lines.some(({ msg }) => msg === 'begins'))
  })

  function spawn (t: Test, schema: string, ...args: string[]): Child {
    return new Child(t, program, [`--url=${url}`, `--prefix=${schema}`, ...args])
  }
})

function numbers ({ lines }: Child, msg: string): number[] {
  return lines.filter((line: LogLine) => line.msg === msg).map(({ n }) => n as number)
}
