// Restart and retry as arithmetic, with injected time; and what their options refuse.
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { backoff } from '../../lib/time/backoff.ts'
import { handlerChecks } from '../../lib/task/options.ts'
import { restart, defaultRestart as restarts } from '../../lib/task/service/restart.ts'
import { retry } from '../../lib/run/retry.ts'
import { Restarts, type RestartOptions } from '../../lib/task/service/restart.ts'
import { SECOND, MINUTE, HOUR, random, range } from '../support/fakes.ts'
import { build, rejection } from '../support/helper.ts'

const even = { delay: SECOND, factor: 2, maxDelay: 30 * SECOND, jitter: false }

/** Restarts without jitter, unless told. */
const counter = (options: Partial<RestartOptions> = {}): Restarts => new Restarts({ ...restarts, jitter: false, ...options })

/** One life after another, each as long as told, and each a failure. What was waited before the next; undefined where there was none. */
function waits (counter: Restarts, lives: number[], at = 0): Array<number | undefined> {
  return lives.map(lasted => {
    at += lasted
    counter.ended(lasted, true)
    const wait = counter.next(at)
    at += wait ?? 0
    return wait
  })
}

t.test('the wait is delay × factor^n, where n is 0 for the first, and never above maxDelay', async t => {
  t.same(range(0, 7).map(n => backoff(n, even)), [1, 2, 4, 8, 16, 30, 30, 30].map(s => s * SECOND))
  t.same(range(0, 3).map(n => backoff(n, { ...even, delay: 500, factor: 1.5, maxDelay: 1_200 })), [500, 750, 1_125, 1_200])
  t.same(range(0, 3).map(n => backoff(n, { ...even, factor: 1 })), [SECOND, SECOND, SECOND, SECOND])
  t.equal(backoff(0, { ...even, delay: HOUR, maxDelay: HOUR }), HOUR)
})

t.test('after thousands of failures the wait is still maxDelay', async t => {
  for (const n of [1_023, 1_024, 5_000, Number.MAX_SAFE_INTEGER]) t.equal(backoff(n, even), 30 * SECOND, String(n))
})

t.test('jitter is a factor from 0.5 to 1, taken after the cap', async t => {
  const jittered = { ...even, jitter: true }
  t.equal(backoff(0, jittered, () => 0), 500)
  t.equal(backoff(0, jittered, () => 0.5), 750)
  t.equal(backoff(0, jittered, () => 0.999), 999.5)
  t.equal(backoff(20, jittered, () => 0), 15 * SECOND)
  t.equal(backoff(20, jittered, () => 0.5), 22.5 * SECOND)
  t.equal(backoff(3, even, () => 0), 8 * SECOND, 'none without jitter')
})

t.test('jitter is taken from Math.random at each wait', async t => {
  random(t, 0, 0.5)
  t.same([backoff(0, { ...even, jitter: true }), backoff(0, { ...even, jitter: true })], [500, 750])
})

t.test('a service restarts for ever by default, 1 s × 2^n up to 30 s, half to whole of it', async t => {
  t.same(restarts, { when: 'on-failure', limit: Infinity, within: MINUTE, delay: SECOND, factor: 2, maxDelay: 30 * SECOND, jitter: true })
  t.same(waits(counter(), range(1, 9).map(() => 0)), [1, 2, 4, 8, 16, 30, 30, 30, 30].map(s => s * SECOND))
  const many = waits(counter(), range(1, 2_000).map(() => 0))
  t.same(many.slice(-3), [30 * SECOND, 30 * SECOND, 30 * SECOND])
})

t.test('a database that is away for a minute costs a service seven restarts, and it comes back within half a minute', async t => {
  let at = 0
  let count = 0
  const one = counter()
  while (at < MINUTE) {
    one.ended(0, true)
    at += one.next(at) as number
    count++
  }
  t.ok(count <= 7, `${count} restarts`)
  t.ok(at - MINUTE < 30 * SECOND, `back ${at - MINUTE} ms late`)
})

t.test('the waits begin anew once a life has lasted `within`, and not a millisecond sooner', async t => {
  t.same(waits(counter(), [0, 0, 0, MINUTE - 1, MINUTE, 0, 0]), [1, 2, 4, 8, 1, 2, 4].map(s => s * SECOND))
  t.same(waits(counter({ within: 5 * SECOND }), [0, 0, 5 * SECOND, 0]), [1, 2, 1, 2].map(s => s * SECOND))
})

t.test('the failures in a row count lives that failed, begin anew after one that lasted, and end with one that did not fail', async t => {
  const one = counter({ when: 'always' })
  const counts = [[0, true], [0, true], [MINUTE, true], [0, true], [0, false], [0, true]] as const
  t.same(counts.map(([lasted, failed]) => {
    one.ended(lasted, failed)
    return one.failures
  }), [1, 2, 1, 2, 0, 1])
})

t.test('a restart beyond `limit` within the window is not granted', async t => {
  const quick = { delay: 0, limit: 3, within: 10 * SECOND }
  t.same(waits(counter(quick), [0, 0, 0, 0]), [0, 0, 0, undefined])
  t.same(waits(counter(quick), [0, 3 * SECOND, 3 * SECOND, 3 * SECOND]), [0, 0, 0, undefined], 'the fourth 9 s after the first')
  t.same(waits(counter({ ...quick, limit: 1 }), [0, 0]), [0, undefined])
  t.same(waits(counter({ ...quick, limit: 0 }), [0]), [undefined], 'none at all')
})

t.test('the window slides: restarts that are older than `within` do not count', async t => {
  const quick = { delay: 0, limit: 3, within: 10 * SECOND }
  t.same(waits(counter(quick), range(1, 12).map(() => 4 * SECOND)), range(1, 12).map(() => 0), 'three in 10 s, for ever')
  t.same(waits(counter(quick), [0, 0, 0, 9_999]), [0, 0, 0, undefined])
  t.same(waits(counter(quick), [0, 0, 0, 10_000, 0, 0, 0]), [0, 0, 0, 0, 0, 0, undefined])
})

t.test('a restart of any cause counts: also after a life that did not fail', async t => {
  const one = counter({ when: 'always', limit: 2 })
  const next = range(1, 3).map(() => {
    one.ended(0, false)
    return one.next(0)
  })
  t.same(next, [SECOND, 2 * SECOND, undefined])
})

t.test('a start by hand forgets the restarts of the window, the waits and the failures', async t => {
  const one = counter({ limit: 2 })
  t.same(waits(one, [0, 0, 0]), [SECOND, 2 * SECOND, undefined])
  t.equal(one.failures, 3)
  one.reset()
  t.equal(one.failures, 0)
  t.same(waits(one, [0, 0, 0]), [SECOND, 2 * SECOND, undefined])
})

t.test('with `never` there is no restart', async t => {
  t.same(waits(counter({ when: 'never' }), [0]), [undefined])
})

t.test('a text stands for the policy with the defaults, and an object fills in what it leaves out', async t => {
  for (const when of ['never', 'on-failure', 'always'] as const) t.same(restart(when), { ...restarts, when })
  t.same(restart({}), restarts)
  t.same(restart({ limit: undefined, delay: undefined }), restarts)
  t.same(restart({ when: 'always', limit: 5, within: '1h', delay: '1m', factor: 1.5, maxDelay: '5m', jitter: false }),
    { when: 'always', limit: 5, within: HOUR, delay: MINUTE, factor: 1.5, maxDelay: 5 * MINUTE, jitter: false })
  t.same(restart({ limit: 0 }), { ...restarts, limit: 0 })
  t.same(restart({ limit: Infinity, factor: 1, delay: 0 }), { ...restarts, factor: 1, delay: 0 })
})

t.test('retry is a number of further attempts, or an object with a limit', async t => {
  const defaults = { delay: SECOND, factor: 2, maxDelay: MINUTE, jitter: true }
  t.same(retry(3), { ...defaults, limit: 3 })
  t.same(retry(Infinity), { ...defaults, limit: Infinity })
  t.equal(retry(0), undefined, 'none')
  t.same(retry({ limit: 3 }), { ...defaults, limit: 3 })
  t.same(retry({ limit: 1, delay: '10ms', factor: 3, maxDelay: '1h', jitter: false }), { limit: 1, delay: 10, factor: 3, maxDelay: HOUR, jitter: false })
})

t.test('a delay above the default maximum raises it; a maximum equal to the delay is fine', async t => {
  t.same(restart({ delay: '2m' }), { ...restarts, delay: 2 * MINUTE, maxDelay: 2 * MINUTE })
  t.match(retry({ limit: 1, delay: '1h' }), { delay: HOUR, maxDelay: HOUR })
  t.match(restart({ delay: '2m', maxDelay: '2m' }), { delay: 2 * MINUTE, maxDelay: 2 * MINUTE })
})

t.test('onGiveUp is one of two words, or a function', async t => {
  const own = (): void => {}
  t.same(['log', 'close', own].map(handlerChecks.onGiveUp), ['log', 'close', own])
})

t.test('a mistake in a policy is refused at the declaration, with the task, what was received and what to do', async t => {
  const { app } = await build(t)
  const words = "'never', 'on-failure', 'always'"
  const service: Array<[options: object, message: RegExp]> = [
    [{ restart: true }, new RegExp(`option "restart" must be ${words}, or an object with when, limit.*; received true`)],
    [{ restart: 3 }, /option "restart" must be .*; received 3\./],
    [{ restart: null }, /option "restart" must be .*; received null\./],
    [{ restart: ['always'] }, /option "restart" must be .*; received \[/],
    [{ restart: () => {} }, /option "restart" must be .*; received \[Function/],
    [{ restart: 'allways' }, new RegExp(`option "restart" must be one of ${words}; received 'allways'`)],
    [{ restart: '' }, /option "restart" must be one of .*; received ''/],
    [{ restart: { when: 'sometimes' } }, new RegExp(`restart: option "when" must be one of ${words}; received 'sometimes'`)],
    [{ restart: { when: true } }, /restart: option "when" must be .*; received true/],
    [{ restart: { limit: -1 } }, /restart: option "limit" must be a whole number from 0, or Infinity; received -1\./],
    [{ restart: { limit: NaN } }, /"limit" must be .*; received NaN/],
    [{ restart: { limit: 1.5 } }, /"limit" must be .*; received 1\.5/],
    [{ restart: { limit: -Infinity } }, /"limit" must be .*; received -Infinity/],
    [{ restart: { limit: '3' } }, /"limit" must be .*; received '3'/],
    [{ restart: { limit: null } }, /"limit" must be .*; received null/],
    [{ restart: { within: -1 } }, /restart: option "within" must be a duration: .*'1h30m'.*; received -1/],
    [{ restart: { within: 'a minute' } }, /"within" must be .*; received 'a minute'/],
    [{ restart: { delay: '-1s' } }, /restart: option "delay" must be a duration.*; received '-1s'/],
    [{ restart: { delay: NaN } }, /"delay" must be .*; received NaN/],
    [{ restart: { maxDelay: Infinity } }, /"maxDelay" must be .*; received Infinity/],
    [{ restart: { factor: 0.5 } }, /restart: option "factor" must be a number from 1; received 0\.5/],
    [{ restart: { factor: 0 } }, /"factor" must be .*; received 0\./],
    [{ restart: { factor: -2 } }, /"factor" must be .*; received -2/],
    [{ restart: { factor: NaN } }, /"factor" must be .*; received NaN/],
    [{ restart: { factor: Infinity } }, /"factor" must be .*; received Infinity/],
    [{ restart: { factor: '2' } }, /"factor" must be .*; received '2'/],
    [{ restart: { jitter: 0.5 } }, /restart: option "jitter" must be true or false; received 0\.5/],
    [{ restart: { delay: '10s', maxDelay: '5s' } }, /option "restart" must be an object whose maxDelay is not below its delay \(10000 ms\); received { maxDelay: 5000 }/],
    [{ restart: { dealy: '1s' } }, /restart: unknown option "dealy"\. Did you mean "delay"\? It takes when, limit, within, delay, factor, maxDelay, jitter\./],
    [{ restart: { max: 3 } }, /restart: unknown option "max"\. Did you mean "limit"\? It takes/],
    [{ restart: { toString: 3 } }, /restart: unknown option "toString"/],
    [{ retry: 3 }, /option "retry" belongs to a timed task or a queue; a service has "restart"\./],
    [{ timeout: 0 }, /option "timeout" must be a duration: .*, above 0; received 0\./],
    [{ timeout: '0s' }, /option "timeout" must be .*, above 0; received '0s'/],
    [{ timeout: -1 }, /option "timeout" must be .*; received -1/],
    [{ timeout: NaN }, /option "timeout" must be .*; received NaN/],
    [{ timeout: Infinity }, /option "timeout" must be .*; received Infinity/],
    [{ onGiveUp: 'die' }, /option "onGiveUp" must be 'log', 'close', or a function; received 'die'\./],
    [{ onGiveUp: null }, /option "onGiveUp" must be .*; received null/],
    [{ onGiveUp: true }, /option "onGiveUp" must be .*; received true/],
    [{ onGiveup: 'log' }, /unknown option "onGiveup"\. Did you mean "onGiveUp"\?/],
    [{ restarts: 'always' }, /unknown option "restarts"\. Did you mean "restart"\?/]
  ]
  const timed: typeof service = [
    [{ retry: -1 }, /option "retry" must be a whole number from 0, or Infinity; received -1\./],
    [{ retry: NaN }, /option "retry" must be .*; received NaN/],
    [{ retry: 2.5 }, /option "retry" must be .*; received 2\.5/],
    [{ retry: '3' }, /option "retry" must be a number of further attempts, or an object with limit, delay, factor, maxDelay, jitter; received '3'\./],
    [{ retry: true }, /option "retry" must be .*; received true/],
    [{ retry: null }, /option "retry" must be .*; received null/],
    [{ retry: [3] }, /option "retry" must be .*; received \[/],
    [{ retry: {} }, /option "retry" must be an object with a limit, the number of further attempts; received {}/],
    [{ retry: { delay: '1s' } }, /option "retry" must be an object with a limit/],
    [{ retry: { limit: -1 } }, /retry: option "limit" must be a whole number from 0, or Infinity; received -1/],
    [{ retry: { limit: '3' } }, /retry: option "limit" must be .*; received '3'/],
    [{ retry: { limit: 3, delay: '2s', maxDelay: '1s' } }, /option "retry" must be an object whose maxDelay is not below its delay \(2000 ms\); received { maxDelay: 1000 }/],
    [{ retry: { limit: 3, factor: 0.9 } }, /retry: option "factor" must be a number from 1; received 0\.9/],
    [{ retry: { limit: 3, jitter: 'yes' } }, /retry: option "jitter" must be true or false; received 'yes'/],
    [{ retry: { limits: 3 } }, /retry: unknown option "limits"\. Did you mean "limit"\? It takes limit, delay, factor, maxDelay, jitter\./],
    [{ retry: { limit: 3, maxdelay: '1m' } }, /retry: unknown option "maxdelay"\. Did you mean "maxDelay"\?/],
    [{ retry: { limit: 3, within: '1m' } }, /retry: unknown option "within"/],
    [{ restart: 'always' }, /option "restart" belongs to a service; a timed task and a queue have "retry"\./],
    [{ timeout: 0 }, /option "timeout" must be .*, above 0; received 0\./],
    [{ onGiveUp: 'die' }, /option "onGiveUp" must be .*; received 'die'/]
  ]
  const hosted: typeof service = [
    [{ timeout: '1s' }, /option "timeout" belongs to a task with a handler/],
    [{ onGiveUp: 'log' }, /option "onGiveUp" belongs to a task with a handler/],
    [{ restart: 'always' }, /option "restart" belongs to a service/],
    [{ retry: 3 }, /option "retry" belongs to a timed task/]
  ]
  const declare = app.addBackgroundTask as (this: FastifyInstance, ...given: unknown[]) => unknown
  const handler = async (): Promise<void> => { t.fail('it runs') }
  const calls = [
    ...service.map(([options, message]) => ({ given: [options, handler], message })),
    ...timed.map(([options, message]) => ({ given: [{ every: '1s', ...options }, handler], message })),
    ...hosted.map(([options, message]) => ({ given: [{ start: handler, ...options }], message }))
  ]
  for (const { given, message } of calls) {
    const error = await rejection(async () => { declare.call(app, 'orders', ...given) })
    t.equal(error.code, 'FST_BG_INVALID_OPTION', String(message))
    t.match(error.message, /^Background task "orders": /)
    t.match(error.message, message)
  }
  t.same([...app.backgroundTasks], [], 'nothing is half-declared')
})

t.test('the objects given as policies are neither kept nor changed', async t => {
  const { app } = await build(t)
  const policies = { restart: Object.freeze({ delay: '5m' }), retry: Object.freeze({ limit: 2, delay: '5m' }) }
  app.addBackgroundTask('service', Object.freeze({ restart: policies.restart }), async () => {})
  app.addBackgroundTask('timed', Object.freeze({ every: '1h', retry: policies.retry }), async () => {})
  t.same(policies, { restart: { delay: '5m' }, retry: { limit: 2, delay: '5m' } })
})

t.test('a delay of 0 stays 0, however often it failed', async t => {
  for (const n of [0, 1_023, 1_024, 5_000]) t.equal(backoff(n, { ...even, delay: 0 }), 0)
})

t.test('where only one of delay and maxDelay is given, it rules', async t => {
  t.match(restart({ delay: '1h', maxDelay: undefined }), { delay: 3_600_000, maxDelay: 3_600_000 })
  t.match(restart({ maxDelay: '500ms' }), { delay: 500, maxDelay: 500 })
  t.match(retry({ limit: 1, delay: '2m' }), { delay: 120_000, maxDelay: 120_000 })
})
