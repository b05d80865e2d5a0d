// What is deleted of the runs that have ended, and what is kept: by number, by age, by both, and by neither.
import pg from 'pg'
import t from 'tap'
import { pgBoss } from '../../../lib/store/pg-boss/index.ts'
import { jobStatements } from '../../../lib/store/pg-boss/sql/index.ts'
import type { Work } from '../../fixtures/durable.ts'
import { freshSchema, needsPostgres, Postgres } from '../../support/postgres.ts'
import { list } from '../../support/queues.ts'
import { share } from '../../support/shared.ts'

const HOUR = 3_600_000

t.test('over PostgreSQL', needsPostgres(true), async t => {
  const postgres = await Postgres.start(t)
  const client = new pg.Client({ connectionString: postgres.url })
  await client.connect()
  t.teardown(async () => { await client.end() })

  // The statement that the sweep makes once a minute, with what it gives for a queue's `keep`.
  for (const [state, engineState] of [['succeeded', 'completed'], ['failed', 'failed']] as const) {
    for (const [what, count, age, kept] of [
      ['by age alone', null, HOUR, [5, 4, 3]], ['by number alone', 2, null, [5, 4]], ['by both, where the number is lower', 2, HOUR, [5, 4]], ['by both, where the age is', 4, HOUR, [5, 4, 3]],
      ['more than there are', 9, null, [5, 4, 3, 2, 1]], ['by neither', null, null, [5, 4, 3, 2, 1]]
    ] as const) {
      t.test(`${state} runs are kept ${what}`, async t => {
        const schema = freshSchema()
        const { queue } = await share(t, pgBoss({ connectionString: postgres.url, schema }), {}, { concurrency: 1 }, ({ payload }) => { if (payload.do === 'throw') throw new Error('told to fail') })
        for (let n = 1; n <= 5; n++) await queue.enqueue({ n, do: state === 'failed' ? 'throw' : 'work' })
        await queue.drain()
        await client.query(`UPDATE "${schema}".job SET completed_on = completed_on - interval '2 hours' WHERE data #>> '{}' ~ '"n":[12],'`)
        await client.query(jobStatements(schema, 'none').trim, ['work', engineState, count, age])
        t.same((await list(queue, state)).map(({ payload }) => (payload as Work).n), kept)
      })
    }
  }
})
