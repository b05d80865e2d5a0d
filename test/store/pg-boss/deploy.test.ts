// Queues in PostgreSQL, in processes that are deployed anew, or lose their leases. The program is fixtures/durable.ts.
import t, { type Test } from 'tap'
import type { Run } from '../../../lib/index.ts'
import { pgBoss } from '../../../lib/store/pg-boss/index.ts'
import { built, Child, noSignals } from '../../support/child.ts'
import { aborted, deferred, logged } from '../../support/helper.ts'
import { freshSchema, needsPostgres, Postgres } from '../../support/postgres.ts'
import { share, until } from '../../support/shared.ts'

const { skip } = needsPostgres(true)

t.test('over PostgreSQL', { skip: skip ?? noSignals }, async t => {
  const program = built('durable')
  const postgres = await Postgres.start(t)
  const { url } = postgres
  const store = (schema: string, lease = '10s') => pgBoss({ connectionString: url, schema, lease })
  /** What its process would find after a long silence: somebody else has taken the run, and has claimed it, if `claimed`. */
  const take = async (schema: string, claimed: boolean): Promise<void> => {
    await postgres.query(claimed
      ? `UPDATE "${schema}".job SET retry_count = retry_count + 1, heartbeat_on = now() WHERE state = 'active'`
      : `UPDATE "${schema}".job SET state = 'retry', start_after = now() + interval '1 hour' WHERE state = 'active'`)
  }

  for (const [what, work] of [['waits for its signal', 'hold'], ['ignores its signal', 'deaf']] as const) {
    t.test(`ten deploys during one long run that ${what}: it succeeds at the first attempt, and nobody sees a failure`, async t => {
      const schema = freshSchema()
      const { queue } = await share(t, store(schema), { autostart: false })
      const { id } = await queue.enqueue({ n: 1, do: work })
      const children = [spawn(t, schema, '--shutdown-timeout=1s')]
      for (let deploys = 0; deploys < 10; deploys++) {
        const child = children[deploys] as Child
        t.match(await child.line('begins'), { id, attempt: 1 })
        const next = spawn(t, schema, '--shutdown-timeout=1s')
        children.push(next)
        await next.address()
        child.signal('SIGTERM')
        await next.line('begins')
        t.same(await child.exit, { code: 0, signal: null })
      }
      const last = children.at(-1) as Child
      t.match(await last.line('begins'), { id, attempt: 1 })
      last.signal('SIGUSR2')
      t.match(await last.line('run succeeded'), { run: id, attempt: 1 })
      await until(async () => (await queue.counts()).succeeded === 1)
      t.same(await queue.counts(), { waiting: 0, delayed: 0, active: 0, succeeded: 1, failed: 0 })
      t.match(await queue.list({ state: 'succeeded' }), { runs: [{ id, attempt: 1, error: undefined }] })
      const complaints = children.flatMap(({ lines }) => lines.filter(({ level, msg }) => (level >= 50 && msg !== 'shutdown deadline passed') || /taken over/.test(msg)))
      t.same(complaints, [])
      for (const { rest } of children) t.notMatch(rest, /error|unhandled/i)
      last.signal('SIGTERM')
      t.same(await last.exit, { code: 0, signal: null })
    })
  }

  t.test('a run goes back without a failure although its lease has run out, as the event loop was blocked', async t => {
    const schema = freshSchema()
    const blocked = deferred()
    const { app, lines, queue } = await share(t, store(schema, '1s'), {}, { grace: 0 }, async ({ signal }) => {
      // Nobody else is there to take it; what the process itself does next is to close.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2_500)
      blocked.resolve()
      await aborted(signal)
      throw signal.reason
    })
    const { id } = await queue.enqueue({ n: 1, do: 'hold' })
    await blocked.promise
    await app.close()
    t.same(lines.filter(({ level }) => level === 'error'), [])
    const second = await share(t, store(schema, '1s'))
    t.match(await second.begun, { id, attempt: 1 })
  })

  t.test('a run goes on after a block that was longer than its lease, and the log says so', async t => {
    const schema = freshSchema()
    const gate = deferred()
    const { lines, queue, begun } = await share(t, store(schema, '1s'), {}, {}, async () => {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2_500)
      await gate.promise
    })
    const { id } = await queue.enqueue({ n: 1, do: 'hold' })
    const { signal } = await begun
    await until(async () => lines.some(({ msg }) => msg.includes('longer than the lease')))
    await new Promise(resolve => { setTimeout(resolve, 1_500) })
    t.equal(signal.aborted, false)
    gate.resolve()
    await queue.drain()
    t.match(await queue.get(id), { state: 'succeeded', attempt: 1 })
    t.equal(queue.stats.succeeded, 1)
  })

  t.test('a run that was taken over, and that nobody has claimed, comes back to its process', async t => {
    const schema = freshSchema()
    const gate = deferred()
    const { queue, begun } = await share(t, store(schema, '2s'), {}, {}, async () => { await gate.promise })
    const { id } = await queue.enqueue({ n: 1, do: 'hold' })
    const { signal } = await begun
    await take(schema, false)
    await until(async () => (await queue.get(id))?.state === 'active')
    t.equal(signal.aborted, false)
    gate.resolve()
    await queue.drain()
    t.match(await queue.get(id), { state: 'succeeded', attempt: 1 })
  })

  t.test('a run whose lease was lost hears of it, and its end is not heard when another process has it', async t => {
    const schema = freshSchema()
    const reasons: unknown[] = []
    const gate = deferred()
    const one = await share(t, store(schema, '1s'), {}, {}, async ({ signal }) => {
      reasons.push((await aborted(signal)).code)
      await gate.promise
    })
    const { id } = await one.queue.enqueue({ n: 1, do: 'hold' })
    await one.begun
    const two = await share(t, store(schema, '1s'), {}, {}, async ({ signal }) => { await aborted(signal) })
    // When that one dies, the second takes it over.
    await take(schema, true)
    t.match(await two.begun, { id, attempt: 1 })
    await until(async () => reasons.length > 0)
    t.same(reasons, ['FST_BG_CANCELLED'])
    gate.resolve()
    await logged(one.lines, 'run succeeded')
    await new Promise(resolve => { setTimeout(resolve, 300) })
    t.match(await two.queue.counts(), { active: 1, succeeded: 0, failed: 0 })
    await two.queue.cancel(id)
    t.match(await two.queue.counts(), { active: 0 })
  })

  t.test('a run that comes back to the process where it still runs is not run beside itself', async t => {
    const schema = freshSchema()
    const runs: Run[] = []
    const gate = deferred()
    const { queue } = await share(t, store(schema, '1s'), {}, { concurrency: 2 }, async run => {
      runs.push(run)
      await gate.promise
    })
    const { id } = await queue.enqueue({ n: 1, do: 'hold' })
    await until(async () => runs.length === 1)
    await take(schema, true)
    t.equal((await aborted((runs[0] as Run).signal)).code, 'FST_BG_CANCELLED')
    const starts = async (): Promise<number> => Number((await postgres.query(`SELECT retry_count FROM "${schema}".job WHERE id = $1`, [id]))[0]?.['retry_count'])
    await until(async () => await starts() === 2)
    // For longer than a lease: the one that holds is renewed.
    await new Promise(resolve => { setTimeout(resolve, 2_500) })
    t.match(await queue.counts(), { active: 1, succeeded: 0, failed: 0 })
    t.equal(await starts(), 2)
    gate.resolve()
    await queue.drain()
    t.match(await queue.counts(), { active: 0, succeeded: 1, failed: 0 })
    t.equal(runs.length, 1)
  })

  function spawn (t: Test, schema: string, ...args: string[]): Child {
    return new Child(t, program, [`--url=${url}`, `--prefix=${schema}`, ...args])
  }
})
