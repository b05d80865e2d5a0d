// Queues in PostgreSQL, in processes that are killed again and again. The program is fixtures/durable.ts.
import t, { type Test } from 'tap'
import { pgBoss } from '../../../lib/store/pg-boss/index.ts'
import { built, Child, noSignals } from '../../support/child.ts'
import { freshSchema, needsPostgres, postgresUrl } from '../../support/postgres.ts'
import { share } from '../../support/shared.ts'

const { skip } = needsPostgres()

t.test('over PostgreSQL', { skip: skip ?? noSignals }, async t => {
  const program = built('durable')
  const connectionString = await postgresUrl(t)

  t.test('twenty kills in a row, of processes that enqueue and run: whatever was accepted is done', async t => {
    const schema = freshSchema()
    // A lease of 1 s, so that it is quick; and processes are killed more often than a run may crash.
    const next = (): Child => spawn(t, schema, '--feed', '--concurrency=5', '--lease=1s', '--max-crashes=1000')
    // They make the tables together.
    const children = [next(), next()]
    for (let kills = 0; kills < 20; kills++) {
      // The next one is up before this one goes, and the one after that on its way.
      children.push(next())
      await children[kills]?.line('accepted')
      await children[kills + 1]?.line('begins')
      children[kills]?.signal('SIGKILL')
      await children[kills]?.exit
    }
    for (const child of children) child.signal('SIGKILL')
    await Promise.all(children.map(async ({ exit }) => { await exit }))
    const accepted = children.flatMap(({ lines }) => lines.filter(({ msg }) => msg === 'accepted').map(({ id }) => id))
    const begun = children.flatMap(({ lines }) => lines.filter(({ msg }) => msg === 'begins').map(({ id }) => id))
    const done = new Set(children.flatMap(({ lines }) => lines.filter(({ msg }) => msg === 'done').map(({ id }) => id)))
    const missing = accepted.filter(id => !done.has(id))
    t.ok(accepted.length > 100, `${accepted.length} were accepted, ${missing.length} of them had not run when the last process was killed`)
    t.same(children.flatMap(({ lines }) => lines.filter(({ level }) => level >= 50)), [])

    const { queue } = await share(t, pgBoss({ connectionString, schema, lease: '1s', maxCrashes: 1_000 }), {}, { concurrency: 50 }, async ({ id }) => {
      begun.push(id)
      done.add(id)
    })
    await queue.drain()
    t.same(accepted.filter(id => !done.has(id)), [])
    t.match(await queue.counts(), { waiting: 0, delayed: 0, active: 0, failed: 0 })
    t.comment(`${begun.length - new Set(begun).size} of ${accepted.length} ran more than once`)
  })

  function spawn (t: Test, schema: string, ...args: string[]): Child {
    return new Child(t, program, [`--url=${connectionString}`, `--prefix=${schema}`, ...args])
  }
})
