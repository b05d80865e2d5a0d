import t from 'tap'
import { cloneOf, copyOf } from '../../lib/store/codec.ts'
import { wholes } from '../support/random.ts'

const plain = ['', 'a', '\u0000\ud800', 'ümläut 😀', 0, 1, -1.5e300, Number.MAX_VALUE, true, false, null]
/** What JSON changes, drops, refuses or asks. */
const odd = [
  undefined, NaN, -0, Infinity, 1n, Symbol('x'), () => {}, new Date(0), new Map(), /x/, Object('a'), Buffer.from('a'), Object.create(null), Object.create({ a: 1 }),
  new (class Named { a = 1 })(), new (class Own extends Array {})(), { toJSON: () => 1 }, JSON.parse('{"__proto__":{"a":1}}')
] as unknown[]

function make (number: (below: number) => number, depth: number, values: unknown[]): unknown {
  const kind = depth === 0 ? 0 : number(3)
  if (kind === 0) return values[number(values.length)]
  if (kind === 1) return Array.from({ length: number(4) }, () => make(number, depth - 1, values))
  const keys = ['a', 'b', '1', 'é"', 'toString', 'constructor', 'length']
  return Object.fromEntries(Array.from({ length: number(5) }, () => [keys[number(keys.length)], make(number, depth - 1, values)]))
}

t.test('a copy of plain data is what JSON makes of it, in the same order, and shares nothing with it', async t => {
  const number = wholes(7)
  let copies = 0
  for (let i = 0; i < 5_000; i++) {
    const value = [make(number, 4, plain)]
    const before = JSON.stringify(value)
    const copy = copyOf(value)
    if (copy === undefined || JSON.stringify(copy) !== before || !same(copy, JSON.parse(before))) t.fail(before)
    const clone = cloneOf(copy as object)
    if (!same(clone, copy)) t.fail(`cloned: ${before}`)
    shatter(clone)
    if (JSON.stringify(copy) !== before) t.fail(`shared by the clone: ${before}`)
    shatter(copy)
    if (JSON.stringify(value) !== before) t.fail(`shared: ${before}`)
    copies++
  }
  t.equal(copies, 5_000)
})

t.test('where JSON would change something, there is none, or it is the same', async t => {
  const number = wholes(11)
  const seen = { none: 0, copied: 0 }
  for (let i = 0; i < 5_000; i++) {
    const value = [make(number, 3, [...plain, ...odd])]
    const copy = copyOf(value)
    if (copy === undefined) {
      seen.none++
    } else {
      seen.copied++
      if (!same(copy, JSON.parse(JSON.stringify(value)))) t.fail(JSON.stringify(value))
    }
  }
  t.ok(seen.none > 500 && seen.copied > 500, '', seen)
  for (const value of odd) {
    t.equal(copyOf([value]), undefined, String(typeof value))
    t.equal(copyOf({ value }), undefined)
  }
  t.equal(copyOf(Object.assign([1], { toJSON: () => 1 })), undefined)
  // eslint-disable-next-line no-sparse-arrays
  t.equal(copyOf([1, , 2]), undefined)
})

t.test('the bytes of JSON are never more than allowed', async t => {
  const number = wholes(13)
  for (let i = 0; i < 2_000; i++) {
    const value = [make(number, 3, plain)]
    const bytes = Buffer.byteLength(JSON.stringify(value))
    if (copyOf(value, bytes - 1) !== undefined) t.fail(JSON.stringify(value))
  }
  t.equal(copyOf([], 1), undefined)
  t.same(copyOf([], 2), [])
  t.same(copyOf({ a: 'b' }, 2 ** 40), { a: 'b' })
})

t.test('circles and depths are left to JSON, without a stack that overflows', async t => {
  const circle: Record<string, unknown> = {}
  circle.circle = circle
  t.equal(copyOf(circle), undefined)
  let deep: unknown = 1
  for (let i = 0; i < 100_000; i++) deep = i % 2 === 0 ? [deep] : { deep }
  t.equal(copyOf(deep as object), undefined)
})

t.test('a property that every object inherits is not copied', async t => {
  // eslint-disable-next-line no-extend-native
  Object.defineProperty(Object.prototype, 'polluted', { value: {}, enumerable: true, configurable: true })
  t.teardown(() => { Reflect.deleteProperty(Object.prototype, 'polluted') })
  const copy = copyOf({ a: { b: 1 } }) as { a: object }
  t.strictSame([copy, copy.a].map(Object.keys), [['a'], ['b']])
  const clone = cloneOf(copy) as { a: object }
  t.strictSame([clone, clone.a].map(Object.keys), [['a'], ['b']])
})

function same (a: unknown, b: unknown): boolean {
  if (typeof a !== 'object' || a === null || typeof b !== 'object' || b === null) return Object.is(a, b)
  const [keys, others] = [Object.keys(a), Object.keys(b)]
  return Array.isArray(a) === Array.isArray(b) && Object.getPrototypeOf(a) === Object.getPrototypeOf(b) &&
    keys.length === others.length && keys.every((key, i) => key === others[i] && same(a[key as never], b[key as never]))
}

/** Takes everything out of it. */
function shatter (value: unknown): void {
  if (typeof value !== 'object' || value === null) return
  for (const key of Object.keys(value)) {
    shatter(value[key as never])
    Reflect.deleteProperty(value, key)
  }
}
