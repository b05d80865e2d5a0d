// The store on the embedded PostgreSQL does what every store does. All tests share one database: an engine takes a second and some hundred MB to start.
import t from 'tap'
import { pgBoss } from '../../../lib/store/pg-boss/index.ts'
import { noEmbedded } from '../../support/embedded.ts'
import { build } from '../../support/helper.ts'
import { until } from '../../support/queues.ts'
import { conformance } from '../conformance.ts'

t.test('a store on an embedded PostgreSQL', { skip: noEmbedded }, async t => {
  const store = pgBoss({ dataDir: 'memory://' })
  // The database lives as long as one queue is open.
  const { app } = await build(t, { stores: { default: store } })
  const queue = app.addBackgroundQueue('open', () => {})
  await app.ready()
  await until(async () => await queue.counts().then(() => true, () => false))
  conformance(t, () => () => store, { durable: true })
})
