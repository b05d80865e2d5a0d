// Failed attempts, and how many runs are active at a time.
import { GiveUp, type QueuedRun } from '../../index.ts'
import type { Suite } from '../suite.ts'
import { list, nextMillisecond, until, aborted } from '../support.ts'

/** Longer than a test takes. */
const LONG = '1h'
const FAST = { delay: 1, jitter: false }

export function attempts ({ holds }: Suite): void {
  holds('a failed run is tried again after its backoff, until the limit, and then it is kept', async (t, name, open) => {
    const { app, lines } = await open()
    const attempts: Array<{ attempt: number, id: string, at: number }> = []
    const queue = app.addBackgroundQueue(name, { retry: { limit: 2, delay: 60, factor: 3, maxDelay: '1m', jitter: false } }, ({ attempt, id }) => {
      attempts.push({ attempt, id, at: Date.now() })
      throw Object.assign(new TypeError(`attempt ${attempt}`), { code: 'E_CODE' })
    })
    await app.ready()
    const { id } = await queue.enqueue({ a: 1 })
    await queue.drain()
    t.same(attempts.map(({ attempt, id }) => [attempt, id]), [[1, id], [2, id], [3, id]])
    const [first, second, third] = attempts.map(({ at }) => at) as [number, number, number]
    t.ok(second - first >= 58 && third - second >= 178, `the waits grow: ${second - first}, ${third - second}`)
    t.same(await queue.counts(), { waiting: 0, delayed: 0, active: 0, succeeded: 0, failed: 1 })
    const [run] = await list(queue, 'failed') as [QueuedRun]
    t.match(run, { id, state: 'failed', payload: { a: 1 }, attempt: 3, error: { name: 'TypeError', message: 'attempt 3', code: 'E_CODE', stack: /attempt 3\n\s+at / } })
    t.ok(run.enqueuedAt <= (run.startedAt as Date) && (run.startedAt as Date) <= (run.finishedAt as Date))
    t.match(lines.filter(({ msg }) => /failed/.test(msg)), [
      { level: 'warn', msg: 'attempt failed, and is retried', task: name, run: id, attempt: 1, delay: 60, err: { message: 'attempt 1' } },
      { level: 'warn', attempt: 2, delay: 180 },
      { level: 'error', msg: 'run failed', run: id, attempt: 3, err: { code: 'E_CODE' } }
    ])
    t.match(queue.stats, { succeeded: 0, failed: 1, cancelled: 0, active: 0 }, 'one run, whatever it took')
    t.match(queue.history, [{ id, outcome: 'failed', error: { message: 'attempt 3' } }])
  })

  holds('a run that backs off is delayed, with the error of its last attempt', async (t, name, open) => {
    const { app } = await open()
    const queue = app.addBackgroundQueue(name, { retry: { limit: 5, delay: LONG, maxDelay: LONG, jitter: false } }, () => { throw new Error('later') })
    await app.ready()
    const { id } = await queue.enqueue(1)
    await until(async () => (await queue.counts()).delayed === 1)
    const [run] = await list(queue, 'delayed') as [QueuedRun]
    t.match(run, { id, state: 'delayed', attempt: 2, error: { message: 'later' }, finishedAt: undefined })
    t.ok(Math.abs(Number(run.runAt) - Date.now() - 3_600_000) < 60_000)
    await queue.cancel(id)
  })

  holds('a run may bring a retry policy of its own, even none', async (t, name, open) => {
    const { app } = await open()
    const seen: string[] = []
    const queue = app.addBackgroundQueue(name, { retry: { limit: 1, ...FAST } }, ({ payload, attempt }) => {
      seen.push(`${String(payload)}${attempt}`)
      throw new Error('no')
    })
    await app.ready()
    await queue.enqueue('queue')
    await queue.enqueue('none', { retry: 0 })
    await queue.enqueue('more', { retry: { limit: 3, ...FAST } })
    await queue.drain()
    t.same(seen.sort(), ['more1', 'more2', 'more3', 'more4', 'none1', 'queue1', 'queue2'])
  })

  holds('a handler that gives up is not tried again', async (t, name, open) => {
    const { app } = await open()
    let calls = 0
    const queue = app.addBackgroundQueue(name, { retry: 5 }, () => {
      calls++
      throw new GiveUp('of no use')
    })
    await app.ready()
    await queue.enqueue(1)
    await queue.drain()
    t.equal(calls, 1)
    t.match(await list(queue, 'failed'), [{ attempt: 1, error: { name: 'GiveUp', message: 'of no use' } }])
  })

  holds('an attempt past its time is told to end, and has failed', async (t, name, open) => {
    const { app } = await open()
    const reasons: string[] = []
    const queue = app.addBackgroundQueue(name, { timeout: 30, retry: { limit: 1, ...FAST } }, async ({ signal }) => {
      const reason = await aborted(signal)
      reasons.push(reason.code)
      throw reason
    })
    await app.ready()
    await queue.enqueue(1)
    await queue.drain()
    t.same(reasons, ['FST_BG_TIMEOUT', 'FST_BG_TIMEOUT'])
    t.match(await list(queue, 'failed'), [{ attempt: 2, error: { code: 'FST_BG_TIMEOUT' } }])
  })

  holds('whatever is thrown is kept as an error', async (t, name, open) => {
    const { app } = await open()
    const frozen = Object.freeze(new RangeError('ice'))
    const thrown: unknown[] = ['a text', undefined, null, { code: 'E_PLAIN' }, Object.assign(new Error('x'), { code: 5 }), frozen, Object.assign(new Error(), { message: 7, name: { a: 1 } })]
    const queue = app.addBackgroundQueue(name, async ({ payload }) => {
      await nextMillisecond()
      throw thrown[payload as number]
    })
    await app.ready()
    for (const i of thrown.keys()) await queue.enqueue(i)
    await queue.drain()
    const errors = (await list(queue, 'failed')).reverse().map(({ error }) => error)
    t.match(errors, [
      { name: 'Error', message: /'a text'/, code: undefined, stack: /./ },
      { message: /undefined/ }, { message: /null/ }, { code: 'E_PLAIN' }, { message: 'x', code: undefined }, { name: 'RangeError', message: 'ice' }, { message: '7' }
    ])
    t.ok(errors.every(error => error !== undefined && Object.values(error).every(value => value === undefined || typeof value === 'string')), 'of texts')
  })

  holds('a payload that the schema refuses by now fails the attempt: its handler is not called, and the run is retried like any other', async (t, name, open) => {
    for (const late of [false, true]) {
      const { app, lines } = await open({ autostart: false })
      let refuses = false
      let calls = 0
      app.setValidatorCompiler(() => {
        const validate = (data: unknown) => refuses ? { error: new Error('it was renamed') } : { value: { made: data } }
        return (late ? async (data: unknown) => { if (refuses) throw new Error('it was renamed') } : validate) as never
      })
      const queue = app.addBackgroundQueue(`${name}-${String(late)}`, { schema: { payload: {} }, retry: { limit: 3, ...FAST } }, () => { calls++ })
      await app.ready()
      const { id } = await queue.enqueue(1)
      refuses = true
      await queue.start()
      await queue.drain()
      t.equal(calls, 0)
      t.match(await list(queue, 'failed'), [{ id, payload: 1, attempt: 4, error: { code: 'FST_BG_INVALID_PAYLOAD', message: /it was renamed/ } }])
      t.match(lines.filter(({ level }) => level === 'error'), [{ msg: 'run failed', run: id, err: { code: 'FST_BG_INVALID_PAYLOAD' } }])
      t.equal(lines.filter(({ level, err }) => level === 'warn' && (err as { code?: string } | undefined)?.code === 'FST_BG_INVALID_PAYLOAD').length, 3, 'and told at each')
      await app.close()
    }
  })

  // How many.

  holds('no more runs at a time than its concurrency', async (t, name, open) => {
    const { app } = await open()
    let active = 0
    let most = 0
    let calls = 0
    let begin = (): void => {}
    // The first runs last until there are three of them.
    const three = new Promise<void>(resolve => { begin = resolve })
    const queue = app.addBackgroundQueue(name, { concurrency: 3 }, async () => {
      calls++
      most = Math.max(most, ++active)
      if (active === 3) begin()
      await three
      await new Promise(resolve => { setTimeout(resolve, 2) })
      active--
    })
    await app.ready()
    for (let i = 0; i < 30; i++) await queue.enqueue(i)
    await queue.drain()
    t.equal(calls, 30)
    t.equal(most, 3)
    t.match(await queue.counts(), { waiting: 0, active: 0 })
    t.equal(queue.stats.succeeded, 30)
  })

  holds('no more attempts begin than its rate allows', async (t, name, open) => {
    const { app } = await open()
    const starts: number[] = []
    const queue = app.addBackgroundQueue(name, { concurrency: 10, rate: { limit: 2, per: 200 } }, () => { starts.push(Date.now()) })
    await app.ready()
    for (let i = 0; i < 6; i++) await queue.enqueue(i)
    await queue.drain()
    t.equal(starts.length, 6)
    const took = (starts[5] as number) - (starts[0] as number)
    t.ok(took >= 380, `the last two begin two periods after the first: ${took}`)
  })
}
