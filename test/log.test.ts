import type { FastifyBaseLogger } from 'fastify'
import { runInNewContext } from 'node:vm'
import { pino } from 'pino'
import t from 'tap'
import type { Attempt } from '../lib/run/attempt.ts'
import { report } from '../lib/common/log.ts'
import { toError } from '../lib/common/errors.ts'
import { capture, type Line } from './support/helper.ts'

t.test('what was thrown is logged as an error, whatever it is', async t => {
  const foreign = runInNewContext('new TypeError("from another realm")') as Error
  for (const error of [new Error('plain'), new RangeError('range'), foreign]) t.equal(toError(error), error)
  for (const thrown of [undefined, null, 'text', 5, Symbol('s'), { code: 5 }, () => {}]) {
    const error = toError(thrown)
    t.ok(error instanceof Error)
    t.match(error.message, /^a value that is not an Error was thrown: /)
    t.equal(error.cause, thrown)
  }
})

t.test('a frozen error, on which the serialiser throws, is logged as a copy', async t => {
  const lines: Line[] = []
  const { level, stream } = capture(lines)
  const log = pino({ level }, stream)
  report.startFailed(log, 'a', undefined, 1.4, Object.freeze(new RangeError('ice')))
  t.match(lines, [{ level: 'error', task: 'a', duration: 1, err: { message: 'ice', stack: /RangeError: ice/ }, msg: 'start failed' }])
})

t.test('a logger that throws is none of the task\'s business', async t => {
  let calls = 0
  const fail = (): void => { calls++; throw new Error('disk full') }
  report.startFailed({ error: fail } as unknown as FastifyBaseLogger, 'a', undefined, 1, new Error('x'))
  report.stoppedLate({ warn: fail } as unknown as FastifyBaseLogger, 'a', undefined)
  t.equal(calls, 4, 'each line is tried once more with less in it')
})

t.test('a logger that throws when it is asked for its level is given the line', async t => {
  const lines: object[] = []
  const log = { isLevelEnabled () { throw new Error('not yet') }, info (line: object) { lines.push(line) } }
  report.runSucceeded(log as unknown as FastifyBaseLogger, 'a', { id: 'x', number: 1 } as Attempt, { outcome: 'succeeded', error: undefined, duration: 1 })
  t.same(lines, [{ task: 'a', run: 'x', attempt: 1, duration: 1 }])
})
