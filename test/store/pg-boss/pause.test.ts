// A process that pauses a queue while another one resumes it: what the database has last is what both do.
import t from 'tap'
import { pgBoss } from '../../../lib/store/pg-boss/index.ts'
import { freshSchema, needsPostgres, Postgres } from '../../support/postgres.ts'
import { share } from '../../support/shared.ts'

t.test('over PostgreSQL', needsPostgres(true), async t => {
  const postgres = await Postgres.start(t)

  t.test('whoever is last has his way', { timeout: 60_000 }, async t => {
    const schema = freshSchema()
    const store = (): ReturnType<typeof pgBoss> => pgBoss({ connectionString: postgres.url, schema })
    const { queue: works } = await share(t, store())
    const { queue: steers } = await share(t, store(), { autostart: false })
    let resumedLast = 0
    for (let n = 0; n < 50; n++) {
      await Promise.all([works.pause(), steers.resume()])
      const [row] = await postgres.query(`SELECT paused FROM "${schema}".fbt_queue WHERE queue = 'work'`)
      if (row?.['paused'] === true) await steers.resume()
      else resumedLast++
      const { id } = await steers.enqueue({ n, do: 'work' })
      t.match(await steers.finished(id), { outcome: 'succeeded' })
      t.equal(works.state, 'running')
    }
    t.comment(`resumed last ${resumedLast} times of 50`)
  })

  t.test('a delayed run that is enqueued while the queue is paused begins when it is due', { timeout: 60_000 }, async t => {
    const { queue } = await share(t, pgBoss({ connectionString: postgres.url, schema: freshSchema() }))
    // The first look ahead has found nothing.
    await queue.enqueue({ n: 1, do: 'work' })
    await queue.drain()
    await queue.pause()
    const { id } = await queue.enqueue({ n: 2, do: 'work' }, { delay: 2_000 })
    await queue.resume()
    const since = performance.now()
    t.match(await queue.finished(id), { outcome: 'succeeded' })
    t.ok(performance.now() - since < 15_000)
  })
})
