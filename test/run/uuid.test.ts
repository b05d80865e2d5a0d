import t from 'tap'
import { uuid } from '../../lib/run/uuid.ts'

t.test('ids are UUIDs of version 4, no two the same, and every digit that is not fixed varies', async t => {
  const ids = Array.from({ length: 10_000 }, () => uuid())
  t.equal(new Set(ids).size, ids.length)
  t.same(ids.filter(id => !/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(id)), [])
  const digits = Array.from({ length: 36 }, (_, place) => new Set(ids.map(id => id[place])).size)
  t.same(digits, [...'88888888-8888-1888-4888-888888888888'].map(kind => kind === '8' ? 16 : kind === '4' ? 4 : 1))
})
