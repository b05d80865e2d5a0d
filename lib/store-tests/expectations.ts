import assert from 'node:assert'

/** What the tests of the suite expect. Each method throws an AssertionError, which every test runner shows with what was found and what was wanted. */
export class Expectations {
  ok (value: unknown, message?: string): void {
    assert.ok(value, message)
  }

  notOk (value: unknown, message?: string): void {
    assert.ok(value === undefined || value === null || value === false || value === 0 || value === '', message)
  }

  equal (found: unknown, wanted: unknown, message?: string): void {
    assert.strictEqual(found, wanted, message)
  }

  not (found: unknown, unwanted: unknown, message?: string): void {
    assert.notStrictEqual(found, unwanted, message)
  }

  /** Deeply equal. */
  same (found: unknown, wanted: unknown, message?: string): void {
    assert.deepStrictEqual(found, wanted, message)
  }

  /** An object has at least the given properties, an array as many elements, a text fits a RegExp, and a value is of a constructor such as Date. */
  match (found: unknown, pattern: unknown, message?: string): void {
    if (fits(found, pattern)) return
    throw new assert.AssertionError({ ...message !== undefined && { message }, actual: found, expected: pattern, operator: 'match', stackStartFn: this.match })
  }

  throws (call: () => unknown, pattern: object): void {
    try {
      call()
    } catch (error) {
      this.match(error, pattern)
      return
    }
    throw new assert.AssertionError({ message: 'It was accepted, and not refused', expected: pattern, operator: 'throws', stackStartFn: this.throws })
  }
}

function fits (found: unknown, pattern: unknown): boolean {
  if (pattern instanceof RegExp) return typeof found === 'string' && pattern.test(found)
  if (typeof pattern === 'function') return isOf(found, pattern)
  if (typeof pattern !== 'object' || pattern === null || pattern instanceof Date) return same(found, pattern)
  if (typeof found !== 'object' || found === null) return false
  if (Array.isArray(pattern) && (!Array.isArray(found) || found.length !== pattern.length)) return false
  return Object.entries(pattern).every(([key, wanted]) => fits((found as Record<string, unknown>)[key], wanted))
}

function same (found: unknown, wanted: unknown): boolean {
  return wanted instanceof Date ? found instanceof Date && found.getTime() === wanted.getTime() : Object.is(found, wanted)
}

function isOf (found: unknown, constructor: Function): boolean {
  if (constructor === String) return typeof found === 'string'
  if (constructor === Number) return typeof found === 'number'
  return found instanceof constructor
}
