// A settlement, or a renewal, that comes while another process claims the run: it changes nothing, of the run, its key, and those who wait for its end.
import pg from 'pg'
import t from 'tap'
import { pgBoss } from '../../../lib/store/pg-boss/index.ts'
import { jobStatements } from '../../../lib/store/pg-boss/sql/index.ts'
import { freshSchema, needsPostgres, Postgres } from '../../support/postgres.ts'
import { share, until } from '../../support/shared.ts'

t.test('over PostgreSQL', needsPostgres(true), async t => {
  const postgres = await Postgres.start(t)
  const [late, other] = [0, 1].map(() => new pg.Client({ connectionString: postgres.url })) as [pg.Client, pg.Client]
  await late.connect()
  await other.connect()
  t.teardown(async () => { await Promise.all([late.end(), other.end()]) })

  for (const [what, keyUntil, settlement] of [
    ['a success', 'finished', { outcome: 'succeeded', value: '1' }], ['a success that is not kept', 'finished', { outcome: 'succeeded', kept: -1 }], ['a failure', 'finished', { outcome: 'failed', error: '{}' }],
    ['a cancellation', 'finished', { outcome: 'cancelled' }], ['a retry', 'started', { outcome: 'retry', wait: 0 }], ['an interruption', 'started', { outcome: 'interrupted' }], ['a renewal', 'finished', undefined]
  ] as const) {
    t.test(`${what} that waits for the claim of another process`, async t => {
      const schema = freshSchema()
      const sql = jobStatements(schema, 'none')
      const { queue } = await share(t, pgBoss({ connectionString: postgres.url, schema }), { autostart: false })
      const { id } = await queue.enqueue({ n: 1, do: 'work' }, { key: 'key', keyUntil })
      await late.query(sql.claim.one, ['work'])
      await late.query(sql.wait, ['work', [id], 60_000])

      // The lease is lost, and the next process has the run, but has not committed yet.
      await other.query('BEGIN')
      await other.query(`UPDATE "${schema}".job SET retry_count = 1, heartbeat_on = clock_timestamp() WHERE id = $1`, [id])
      const before = await all(other, schema)
      const given = JSON.stringify([{ id, starts: 0, ...settlement }])
      const asked = settlement === undefined
        ? late.query(sql.renew, ['work', given])
        : late.query(sql.settle, ['work', given, 'kept' in settlement ? settlement.kept : 0, 0, false])
      await waitsForLock(asked)
      await other.query('COMMIT')
      const { rows } = await asked
      t.same(settlement === undefined ? rows : (rows as Array<{ ids: string[] }>)[0]?.ids, [], 'it is not his any more')
      t.same(await all(other, schema), before)
    })
  }

  async function waitsForLock (asked: Promise<unknown>): Promise<void> {
    let over = false
    void asked.finally(() => { over = true }).catch(() => {})
    await until(async () => over || (await postgres.query("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'")).length > 0)
    if (over) throw new Error('it did not wait')
  }

  async function all (client: pg.Client, schema: string): Promise<unknown[]> {
    const { rows } = await client.query(`SELECT j.id, j.state, j.retry_count, j.output, k.key, e.outcome FROM "${schema}".job j
      FULL JOIN "${schema}".fbt_key k ON k.run = j.id FULL JOIN "${schema}".fbt_end e ON e.run = j.id`)
    return rows
  }
})
