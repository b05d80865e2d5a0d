// Queues on BullMQ and a real Redis, in processes that are deployed anew, or lose their leases. The program is fixtures/durable.ts.
import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import type { Run } from '../../../lib/index.ts'
import { built, Child, noSignals } from '../../support/child.ts'
import { aborted, deferred, logged } from '../../support/helper.ts'
import { needsRedis, redisUrl } from '../../support/redis.ts'
import { events, share, until } from '../../support/shared.ts'

const { skip } = needsRedis()
const program = built('durable')

t.test('over Redis', { skip: skip ?? noSignals }, async t => {
  t.jobs = 3 // they mostly wait
  const url = await redisUrl(t)
  const redis = new Redis(url)
  t.teardown(() => { redis.disconnect() })

  for (const [what, work] of [['waits for its signal', 'hold'], ['ignores its signal', 'deaf']] as const) {
    t.test(`ten deploys during one long run that ${what}: it succeeds at the first attempt, and nobody sees a failure`, async t => {
      const prefix = randomUUID()
      const { queue } = await share(t, { connection: url, prefix }, { autostart: false })
      const { id } = await queue.enqueue({ n: 1, do: work })
      const children = [spawn(t, prefix, '--shutdown-timeout=1s')]
      for (let deploys = 0; deploys < 10; deploys++) {
        const child = children[deploys] as Child
        t.match(await child.line('begins'), { id, attempt: 1 })
        const next = spawn(t, prefix, '--shutdown-timeout=1s')
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
      t.same(await events(redis, prefix, 'failed', 'stalled'), [], 'BullMQ has seen no failure, and no orphan')
      const complaints = children.flatMap(({ lines }) => lines.filter(({ level, msg }) => level >= 50 && msg !== 'shutdown deadline passed'))
      t.same(complaints, [])
      for (const { rest } of children) t.notMatch(rest, /error|unhandled/i)
      last.signal('SIGTERM')
      t.same(await last.exit, { code: 0, signal: null })
    })
  }

  t.test('a run goes back without a failure although its lease has run out, as the event loop was blocked', async t => {
    const prefix = randomUUID()
    const blocked = deferred()
    const { app, lines, queue } = await share(t, { connection: url, prefix, lease: '1s' }, {}, { grace: 0 }, async ({ signal }) => {
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
    t.same(await events(redis, prefix, 'failed'), [])

    const second = await share(t, { connection: url, prefix, lease: '1s' })
    t.match(await second.begun, { id, attempt: 1 })
  })

  t.test('a run whose lease was lost hears of it, and is left alone when another process has it', async t => {
    const prefix = randomUUID()
    const reasons: unknown[] = []
    const gate = deferred()
    const one = await share(t, { connection: url, prefix, lease: '1s' }, {}, {}, async ({ signal }) => {
      reasons.push((await aborted(signal)).code)
      await gate.promise
    })
    const { id } = await one.queue.enqueue({ n: 1, do: 'hold' })
    await one.begun
    const two = await share(t, { connection: url, prefix, lease: '1s' }, {}, {}, async ({ signal }) => { await aborted(signal) })
    // As it is after a long silence of the first: somebody else has taken it. When that one dies, the second takes it over.
    await redis.set(`${prefix}:work:${id}:lock`, 'another', 'PX', 1_000)
    t.match(await two.begun, { id, attempt: 1 })
    await until(async () => reasons.length > 0)
    t.same(reasons, ['FST_BG_CANCELLED'])
    gate.resolve()
    await logged(one.lines, 'run succeeded')
    t.match(await two.queue.counts(), { active: 1, succeeded: 0, failed: 0 }, 'what the first says of it is not heard')
    await two.queue.cancel(id)
    t.same(await events(redis, prefix, 'failed'), [])
  })

  t.test('a run that comes back to the process where it still runs is not run beside itself', async t => {
    const prefix = randomUUID()
    const runs: Run[] = []
    const gate = deferred()
    const { queue, lines } = await share(t, { connection: url, prefix, lease: '1s' }, {}, { concurrency: 2 }, async run => {
      runs.push(run)
      await gate.promise
    })
    const { id } = await queue.enqueue({ n: 1, do: 'hold' })
    await until(async () => runs.length === 1)
    await redis.set(`${prefix}:work:${id}:lock`, 'another', 'PX', 1_000)
    t.equal((await aborted((runs[0] as Run).signal)).code, 'FST_BG_CANCELLED')
    await until(async () => (await events(redis, prefix, 'active')).length === 2)
    // For longer than a lease: the one that holds is renewed.
    await new Promise(resolve => { setTimeout(resolve, 2_500) })
    t.match(await queue.counts(), { active: 1, succeeded: 0, failed: 0 })
    gate.resolve()
    t.match(await logged(lines, 'run succeeded'), { run: id, attempt: 1 })
    await queue.drain()
    t.match(await queue.counts(), { active: 0, succeeded: 1, failed: 0 })
    t.equal(runs.length, 1)
    t.equal((await events(redis, prefix, 'stalled')).length, 1)
    t.same(await events(redis, prefix, 'failed'), [])
  })

  function spawn (t: Test, prefix: string, ...args: string[]): Child {
    return new Child(t, program, [`--url=${url}`, `--prefix=${prefix}`, ...args])
  }
})
