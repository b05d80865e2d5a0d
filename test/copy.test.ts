// The copy of a payload is what JSON would make of it; random data, from a seed.
import { isDeepStrictEqual } from 'node:util'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import { random } from './cases.ts'
import { copyOf } from '../lib/copy.ts'

const VALUES: unknown[] = [
  0, 1, -1, -0, 1.5, NaN, Infinity, 2 ** 53, 1e300, 5e-324, true, false, null, undefined, '', 'text', 'ü\u0000\u2028\ud800', new Date(0), new Map(), /x/, () => {}, Symbol('s'),
  Object.create(null), new (class A { a = 1 })(), Object.assign([1], { extra: 1 }), [1, , 3], new String('s'), Object('x'), runInNewContext('({ a: [1] })'), { toJSON: () => 5 }, JSON.parse('{"__proto__":{"a":1}}') // eslint-disable-line no-sparse-arrays, no-new-wrappers
]
const KEYS = ['a', 'b', '7', '', '__proto__', 'constructor', 'toJSON', 'ü', 'length']

t.test('a copy is exactly what JSON would make of it, or left to JSON', t => {
  let copied = 0
  for (let seed = 1; seed <= 20_000; seed++) {
    const below = random(seed)
    const value = (depth: number): unknown => {
      const kind = below(depth > 3 ? 1 : 3)
      // Mostly plain, so that much of it is copied.
      if (kind === 0) return VALUES[below(5) > 0 ? [0, 1, 2, 4, 7, 8, 10, 11, 12, 14, 15, 16][below(12)] as number : below(VALUES.length)]
      if (kind === 1) return Array.from({ length: below(4) }, () => value(depth + 1))
      return Object.fromEntries(Array.from({ length: below(4) }, () => [KEYS[below(below(6) > 0 ? 4 : KEYS.length)], value(depth + 1)]))
    }
    const given = value(0)
    if (typeof given !== 'object' || given === null) continue
    const copy = copyOf(given)
    if (copy === undefined) continue
    copied++
    const json = JSON.stringify(given)
    if (JSON.stringify(copy) !== json || !isDeepStrictEqual(copy, JSON.parse(json))) return t.fail(`${seed}: ${json} became ${JSON.stringify(copy)}`)
    if (copyOf(given, json.length - 1) !== undefined && Buffer.byteLength(json) > json.length - 1) return t.fail(`${seed}: ${json} is larger than allowed`)
  }
  t.ok(copied > 3_000, `${copied} were copied`)
  t.end()
})

t.test('a copy is the caller\'s to change, at every depth', t => {
  const given = { a: [{ b: 1 }], c: { d: [2] } }
  const copy = copyOf(given) as typeof given
  ;(copy.a[0] as { b: number }).b = 9
  copy.c.d.push(9)
  t.same(given, { a: [{ b: 1 }], c: { d: [2] } })
  t.equal(Object.getPrototypeOf(copy), Object.prototype)
  t.end()
})

t.test('what every object inherits is not copied', t => {
  const all = Object.prototype as { inherited?: number }
  t.teardown(() => { delete all.inherited })
  all.inherited = 1
  const copy = copyOf({ own: 1 })
  delete all.inherited
  t.same(copy, { own: 1 })
  t.end()
})

t.test('what is large, deep or goes in circles is left to JSON', t => {
  t.equal(copyOf({ a: 'x'.repeat(100) }, 100), undefined)
  t.equal(copyOf(Array(100).fill(1), 100), undefined)
  t.equal(copyOf({ ['x'.repeat(100)]: 1 }, 100), undefined)
  const cycle: Record<string, unknown> = {}
  cycle.cycle = cycle
  t.equal(copyOf(cycle), undefined)
  const deep = JSON.parse(`${'['.repeat(30)}${']'.repeat(30)}`) as object
  t.equal(copyOf(deep), undefined)
  t.same(copyOf({ a: 'x' }, 100), { a: 'x' })
  t.end()
})
