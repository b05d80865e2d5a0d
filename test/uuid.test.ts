import t from 'tap'
import { uuid } from '../lib/uuid.ts'

t.test('a UUID is one of version 4, and no other is like it', t => {
  const ids = Array.from({ length: 10_000 }, () => uuid())
  t.same(ids.filter(id => !/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(id)), [])
  t.equal(new Set(ids).size, ids.length)
  t.end()
})

t.test('each digit that is left to chance has each value, about as often as the others', t => {
  const count = 16_000
  const ids = Array.from({ length: count }, () => uuid().replaceAll('-', ''))
  for (let place = 0; place < 32; place++) {
    if (place === 12 || place === 16) continue
    const seen = new Map<string, number>()
    for (const id of ids) seen.set(id[place] as string, (seen.get(id[place] as string) ?? 0) + 1)
    // Six standard deviations and more.
    if (seen.size !== 16 || [...seen.values()].some(n => Math.abs(n - count / 16) > 220)) t.fail(`digit ${place}: ${JSON.stringify([...seen])}`)
  }
  t.end()
})
