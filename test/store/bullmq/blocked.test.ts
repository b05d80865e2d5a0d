// An event loop that is blocked for longer than the lease: a process that computes is not dead.
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import t from 'tap'
import { logged } from '../../support/helper.ts'
import { Proxy } from '../../support/proxy.ts'
import { held } from '../../support/queues.ts'
import { needsRedis, redisUrl } from '../../support/redis.ts'
import { events, share, until } from '../../support/shared.ts'

const LEASE = 1_000

function block (ms: number): void {
  const until = performance.now() + ms
  while (performance.now() < until);
}

t.test('over Redis', needsRedis(), async t => {
  const url = await redisUrl(t)
  const redis = new Redis(url)
  t.teardown(() => { redis.disconnect() })
  const storeOf = (): { connection: string, prefix: string, lease: number } => ({ connection: url, prefix: randomUUID(), lease: LEASE })

  t.test('a run that blocks the loop and then awaits goes on and succeeds once; the log and health name the task', async t => {
    const store = storeOf()
    const attempts: number[] = []
    const { app, queue, lines } = await share(t, store, {}, { retry: 2 }, async ({ attempt, signal }) => {
      attempts.push(attempt)
      block(2.5 * LEASE)
      // Until health has been looked at.
      await sleep(LEASE, undefined, { signal })
    })
    await queue.enqueue({ n: 1, do: 'work' })
    t.match(await logged(lines, `the event loop was blocked for ${await blockedSeconds(lines)} s, longer than the lease of 1.0 s: another process may run what runs here. Compute in a thread, with worker()`), { level: 'warn', task: 'work', duration: Number })
    t.match(await app.backgroundTasks.health(), { status: 'failing', tasks: [{ name: 'work', reason: /past its lease: the event loop was blocked for \d\.\d s/ }] })
    await queue.drain()
    t.same(attempts, [1])
    t.match(await queue.counts(), { succeeded: 1, failed: 0, active: 0 })
    t.match(await app.backgroundTasks.health(), { status: 'degraded', tasks: [{ reason: /^the event loop was blocked for \d\.\d s while it ran/ }] }, 'a success clears it, but for the block, which counts for a minute')
    t.equal(lines.filter(({ msg }) => /event loop/.test(msg)).length, 1, 'one line about it')
    t.same(await events(redis, store.prefix, 'stalled', 'failed'), [])
  })

  for (const way of ['a job whose lease is lost on its way here', 'a job whose lease is lost while its renewal is on its way here']) {
    t.test(`${way} is not begun`, async t => {
      const store = storeOf()
      const proxy = await Proxy.start(t, Number(new URL(url).port))
      const began: number[][] = [[], []]
      const [one, two] = [held(), held()]
      const slow = await share(t, { ...store, connection: proxy.url }, {}, {}, async run => {
        began[0]?.push(run.payload.n)
        await one.handler.call(slow.app, run)
      })
      await slow.queue.enqueue({ n: 1, do: 'work' })
      const { id } = await slow.queue.enqueue({ n: 2, do: 'work' })
      const active = await one.call(0)
      // BullMQ fetches the next job with the end of the one before.
      proxy.stallAnswers()
      active.end()
      await until(async () => await redis.exists(`${store.prefix}:work:${id}:lock`) === 1)
      if (way.includes('renewal')) {
        const left = async (): Promise<number> => await redis.pttl(`${store.prefix}:work:${id}:lock`)
        await until(async () => await left() < LEASE * 0.7)
        proxy.passAnswers()
        await until(async () => await left() > LEASE * 0.8)
      }
      const other = await share(t, store, {}, {}, async run => {
        began[1]?.push(run.payload.n)
        await two.handler.call(other.app, run)
      })
      const taken = await two.call(0)
      t.equal(taken.run.id, id, 'another process has taken it over')
      await other.queue.enqueue({ n: 3, do: 'work' })
      proxy.resume()
      await one.call(1)
      t.same(began, [[1, 3], [2]])
      t.notOk(taken.run.signal.aborted)
      one.endAll()
      two.endAll()
      await other.queue.drain()
      t.match(await other.queue.counts(), { succeeded: 3, failed: 0 })
    })
  }

  t.test('a handler that computes and never awaits is recorded', async t => {
    const store = storeOf()
    let calls = 0
    const { queue } = await share(t, store, {}, {}, () => {
      calls++
      block(2.5 * LEASE)
    })
    await queue.enqueue({ n: 1, do: 'work' })
    await queue.drain()
    t.equal(calls, 1)
    t.match(await queue.counts(), { succeeded: 1, failed: 0, active: 0 })
    t.same(await events(redis, store.prefix, 'stalled', 'failed'), [])
  })

  t.test('runs of other queues, and of other applications, in the process go on as well', async t => {
    const store = storeOf()
    const other = storeOf()
    const [one, two] = [
      await share(t, store, {}, {}, async ({ signal }) => { await sleep(4 * LEASE, undefined, { signal }) }),
      await share(t, other, {}, {}, async ({ signal }) => { await sleep(4 * LEASE, undefined, { signal }) })
    ]
    await one.queue.enqueue({ n: 1, do: 'work' })
    await two.queue.enqueue({ n: 1, do: 'work' })
    await Promise.all([one.begun, two.begun])
    // It looks for the dead of the first queue.
    const idle = await share(t, store, {}, {}, async () => { t.fail('it takes a run of a process that lives') })
    await until(async () => (await idle.app.backgroundTasks.health()).status === 'ok')
    // Its next check would call dead what has not been renewed since this one.
    await until(async () => await redis.exists(`${store.prefix}:work:stalled`) === 1)
    block(2.5 * LEASE)
    await Promise.all([one.queue.drain(), two.queue.drain()])
    for (const { queue } of [one, two]) t.match(await queue.counts(), { succeeded: 1, failed: 0, active: 0 })
    for (const { prefix } of [store, other]) t.same(await events(redis, prefix, 'stalled', 'failed'), [])
  })

  t.test('a run that is cancelled while the loop is blocked ends when it is free', async t => {
    const store = storeOf()
    const { queue } = await share(t, store, {}, {}, async ({ signal }) => {
      void queue.cancel(id)
      block(2.5 * LEASE)
      await sleep(60_000, undefined, { signal })
    })
    const waiting = await share(t, store, { autostart: false })
    const { id } = await waiting.queue.enqueue({ n: 1, do: 'work' })
    await until(async () => {
      const { active, waiting: left } = await waiting.queue.counts()
      return active + left === 0
    })
    t.match(await waiting.queue.counts(), { succeeded: 0, failed: 0, active: 0, waiting: 0 })
  })

  t.test('one that fails each time is retried, and fails for good', async t => {
    const store = storeOf()
    const attempts: number[] = []
    const { queue } = await share(t, store, {}, { retry: { limit: 1, delay: 10 } }, async ({ attempt }) => {
      attempts.push(attempt)
      block(1.5 * LEASE)
      throw new Error('no')
    })
    await queue.enqueue({ n: 1, do: 'work' })
    await queue.drain()
    t.same(attempts, [1, 2])
    t.match(await queue.counts(), { failed: 1, active: 0 })
  })
})

/** The seconds in the warning, as soon as it has been written. */
async function blockedSeconds (lines: Array<{ msg: string }>): Promise<string> {
  const seconds = (): string | undefined => lines.map(({ msg }) => /^the event loop was blocked for (\d+\.\d) s/.exec(msg)?.[1]).find(found => found !== undefined)
  await until(async () => seconds() !== undefined)
  return seconds() as string
}
