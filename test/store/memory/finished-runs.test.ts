// The ended runs that a queue in memory keeps: whatever happens to them, they are those of a plain list.
import t from 'tap'
import { FinishedRuns } from '../../../lib/store/memory/finished-runs.ts'
import { wholes } from '../../support/random.ts'

interface Finished { id: string, finishedAt: number }

const AGE = 5_000

for (const [seed, count] of [[1, 7], [2, 100], [3, 3_000], [4, Infinity]] as const) {
  t.test(`any sequence of additions, lookups and removals, with at most ${count}`, async t => {
    const whole = wholes(seed)
    let now = 0
    let added = 0
    const finished = new FinishedRuns<Finished>({ count, age: AGE }, () => now)
    let expected: Finished[] = []
    const seen = { lookups: 0, misses: 0, taken: 0, cleared: 0, most: 0 }
    for (let step = 0; step < 20_000; step++) {
      now += whole(3)
      expected = expected.filter(({ finishedAt }) => finishedAt > now - AGE)
      const op = whole(100)
      // The oldest, the newest, one in between; or one that is not there any more, or never was.
      const place = [0, expected.length - 1, whole(expected.length + 1), -1][whole(4)] as number
      const id = expected[place]?.id ?? `${whole(added + 10)}`
      const at = expected.findIndex(one => one.id === id)
      if (op < 70) {
        const run = { id: `${added++}`, finishedAt: NaN }
        finished.add(run, now)
        expected.push({ id: run.id, finishedAt: now })
        if (expected.length > count) expected.shift()
      } else if (op < 90) {
        if (JSON.stringify(finished.find(id)) !== JSON.stringify(expected[at])) t.fail(`step ${step}: find(${id})`)
        seen[at === -1 ? 'misses' : 'lookups']++
      } else if (op === 99 && whole(40) === 0) {
        if (finished.clear() !== expected.length) t.fail(`step ${step}: clear()`)
        expected = []
        seen.cleared++
      } else {
        if (JSON.stringify(finished.take(id)) !== JSON.stringify(expected[at])) t.fail(`step ${step}: take(${id})`)
        if (at !== -1) expected.splice(at, 1)
        seen.taken++
      }
      if (finished.size !== expected.length) t.fail(`step ${step}: size ${finished.size}`)
      seen.most = Math.max(seen.most, expected.length)
      if (step % 1_000 === 0) t.same(finished.list(), [...expected].reverse(), 'the newest first')
    }
    t.ok(seen.lookups > 500 && seen.misses > 500 && seen.taken > 500 && seen.cleared > 0, `all of it came up: ${JSON.stringify(seen)}`)
    if (count > 1_000) t.ok(seen.most > 1_500, 'enough for an index')
  })
}

t.test('a hundred thousand kept runs are looked up, and retried one by one, without looking through all of them', async t => {
  let reads = 0
  class Counted implements Finished {
    readonly #id: string
    finishedAt = 0
    constructor (id: string) { this.#id = id }
    get id (): string {
      reads++
      return this.#id
    }
  }
  const count = 100_000
  const finished = new FinishedRuns<Counted>({ count, age: undefined }, () => 0)
  for (let i = 0; i < count; i++) finished.add(new Counted(`${i}`), 0)
  t.equal(Array.from({ length: 1_000 }, (_, i) => finished.find(`${i * 97}`)).filter(found => found !== undefined).length, 1_000)
  const looked = reads
  for (let i = 0; i < 3 * count; i++) finished.add(new Counted(`later ${i}`), 0)
  t.ok(reads - looked < count * 2.5, `${reads - looked} reads: as nobody looks runs up any more, there is no index any more`)
  reads = 0
  for (const { id } of finished.list().reverse()) finished.take(id)
  t.equal(finished.size, 0)
  t.ok(reads < count * 10, `${reads} reads`)
})
