import t from 'tap'
import { History } from '../../../lib/run/past/history.ts'

const run = (id: number, outcome: 'succeeded' | 'skipped' = 'succeeded'): Parameters<History['add']>[0] =>
  ({ id: String(id), outcome, dueAt: undefined, startedAt: id, duration: 0, attempts: 1, error: undefined })

t.test('the last thirty runs are remembered, the newest first', async t => {
  const history = new History()
  t.same(history.records, [])
  t.equal(history.newest, undefined)
  for (let count = 1; count <= 100; count++) {
    history.add(run(count))
    const ids = Array.from({ length: Math.min(count, 30) }, (_, i) => String(count - i))
    if (count < 4 || (count > 28 && count < 34) || count > 58) t.same(history.records.map(({ id }) => id), ids)
  }
  t.same(history.records[0]?.startedAt, new Date(100))
})

t.test('the newest is one that was not skipped', async t => {
  const history = new History()
  history.add(run(1, 'skipped'))
  t.equal(history.newest, undefined)
  history.add(run(2))
  for (let id = 3; id < 31; id++) history.add(run(id, 'skipped'))
  t.equal(history.newest?.id, '2')
  for (let id = 31; id < 100; id++) history.add(run(id, 'skipped'))
  t.equal(history.newest?.id, '2', 'however many were skipped since')
})
