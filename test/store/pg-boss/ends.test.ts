// Who asks how a run ended while the answer to another one's question is on its way: that answer was true before.
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { pgBoss } from '../../../lib/store/pg-boss/index.ts'
import { jobStatements } from '../../../lib/store/pg-boss/sql/index.ts'
import { Gate } from '../../support/gate.ts'
import { deferred, rejection } from '../../support/helper.ts'
import { freshSchema, needsPostgres, Postgres } from '../../support/postgres.ts'
import { share, type Shared } from '../../support/shared.ts'

t.test('over PostgreSQL', needsPostgres(true), async t => {
  const postgres = await Postgres.start(t)

  t.test('a run that is retried meanwhile ends anew', async t => {
    const again = deferred()
    const { queue, id, gate } = await failed(t, async () => { await again.promise })
    gate.close()
    const before = queue.finished(id)
    await gate.held()
    await queue.retry(id)
    const after = queue.finished(id)
    gate.open()
    t.match(await before, { outcome: 'failed' })
    again.resolve()
    t.match(await after, { outcome: 'succeeded' })
  })

  t.test('a run that is removed meanwhile is not found', async t => {
    const { queue, id, gate } = await failed(t)
    gate.close()
    const before = queue.finished(id)
    await gate.held()
    await queue.remove(id)
    const after = rejection(queue.finished(id))
    gate.open()
    t.match(await before, { outcome: 'failed' })
    t.match(await after, { code: 'FST_BG_NOT_FOUND' })
  })

  t.test('a run that was cleared before is not found, however long the answer takes', async t => {
    const since = performance.now()
    const { queue, id, gate } = await failed(t)
    await queue.clear('failed')
    gate.close()
    const lasted = performance.now() - since
    const after = rejection(queue.finished(id))
    await gate.held()
    await sleep(lasted)
    gate.open()
    t.match(await after, { code: 'FST_BG_NOT_FOUND' })
  })

  /** A run that has failed once while somebody waited, and a gate that holds the answers about ends. */
  async function failed (t: Test, then: () => unknown = () => {}): Promise<{ queue: Shared['queue'], id: string, gate: Gate }> {
    const schema = freshSchema()
    const gate = new Gate(jobStatements(schema, '').ends)
    const pool = gate.pool(t, postgres.url)
    let runs = 0
    const { queue } = await share(t, pgBoss({ pool, schema }), {}, {}, async () => {
      if (++runs === 1) throw new Error('no')
      await then()
    })
    const { id } = await queue.enqueue({ n: 1, do: 'work' })
    t.match(await queue.finished(id), { outcome: 'failed' })
    return { queue, id, gate }
  }
})
