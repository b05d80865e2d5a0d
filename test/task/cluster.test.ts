// Cluster tasks over a real Redis: each tick runs in one of the applications that share it. Three real processes, of which one is killed,
// are in cluster-processes.test.ts.
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { Queue } from 'bullmq'
import { Redis as IORedis } from 'ioredis'
import t, { type Test } from 'tap'
import type { BackgroundTask, BackgroundTasksOptions, CronTaskOptions, PeriodicTaskOptions, Run, Store, TaskHandler } from '../../lib/index.ts'
import { bullmq, type BullmqOptions } from '../../lib/store/bullmq/index.ts'
import { aborted, build, deferred, logged, rejection, type Line } from '../support/helper.ts'
import { needsRedis, Redis, redisUrl } from '../support/redis.ts'
import { until } from '../support/shared.ts'

type Options = PeriodicTaskOptions | CronTaskOptions

/** One run, as its handler has seen it. */
interface Seen { node: string, id: string, dueAt: number, missed: number, begin: number, end: number }

const SECOND = { every: '1s', cluster: true } as const

t.test('options that make no cluster task are refused', async t => {
  const { app } = await build(t, { stores: { other: bullmq({ connection: { lazyConnect: true }, prefix: 'refused' }) } })
  const declare = (options: Options) => () => app.addBackgroundTask('report', options, () => {})
  const code = 'FST_BG_INVALID_OPTION'
  t.throws(declare({ cron: '0 2 * * *', cluster: true }), { code, message: /must name its "timezone".*'UTC'/ })
  t.throws(declare({ ...SECOND, immediate: true }), { code, message: /"immediate" and "cluster" exclude each other/ })
  t.throws(declare({ ...SECOND, cluster: 'memory' }), { code, message: /"cluster" needs a store that processes share, such as bullmq\(\); the store "memory" is in the memory of this one/ })
  t.throws(declare({ ...SECOND, cluster: '' }), { code, message: /option "cluster" must be true, false, or the name of a store; received ''/ })
  t.throws(declare({ ...SECOND, cluster: 1 as never }), { code })
  t.throws(declare(SECOND), { code: 'FST_BG_UNKNOWN_STORE', message: /"report" has no store "default". Known stores: memory, other/ })
  t.throws(declare({ ...SECOND, cluster: 'redis' }), { code: 'FST_BG_UNKNOWN_STORE', message: /"redis"/ })
  t.throws(() => app.addBackgroundTask('a:b', { ...SECOND, cluster: 'other' }, () => {}), { code, message: /no name with a colon. Choose another, such as 'a-b'/ })
  t.equal(app.backgroundTasks.get('report'), undefined)
  t.equal(app.addBackgroundTask('report', { ...SECOND, cluster: false }, () => {}).kind, 'timed', 'with false it is a task like any other')
})

const { skip } = needsRedis()

t.test('a process that closes while Redis hangs enqueues no tick whose predecessors it has left out', skip === undefined ? {} : { skip }, async t => {
  const redis = await Redis.start(t)
  const client = new IORedis(redis.url)
  t.teardown(() => { client.disconnect() })
  const { app } = await build(t, { shutdownTimeout: '3s', stores: { default: bullmq({ connection: redis.url, prefix: 'p' }) } })
  const ran = deferred()
  app.addBackgroundTask('tick', { every: 200, cluster: true, overlap: 'allow', misfire: 'all' }, () => { ran.resolve() })
  const hold = deferred()
  const held = app.addBackgroundQueue('held', { grace: '3s' }, async () => { await hold.promise })
  await app.ready()
  await ran.promise
  await held.enqueue(1)
  await until(async () => (await held.counts()).active === 1)
  redis.freeze()
  // The first tick waits for its answer, and those behind it are late by more than a second, or less.
  await sleep(2_500)
  const closing = app.close()
  redis.thaw()
  // Redis answers in order: what was sent at the thaw has been answered by now, and what follows from it as well.
  for (let i = 0; i < 20; i++) await client.ping()
  await sleep(200)
  hold.resolve()
  await closing
  const due = Number(await client.hget('p:tick:shared', 'due'))
  t.ok(due > 0)
  const ids = (await client.keys('p:tick:tick-*')).map(key => Number(key.split('-').at(-1))).filter(at => at <= due).sort((a, b) => a - b)
  t.same(ids, Array.from({ length: ids.length }, (_, i) => (ids[0] as number) + i * 200), 'no tick before the last one is left out')
})

t.test('a task that was paused while it asked a store that hangs ticks again when it is resumed', skip === undefined ? {} : { skip }, async t => {
  const redis = await Redis.start(t)
  const { app } = await build(t, { shutdownTimeout: '3s', stores: { default: bullmq({ connection: redis.url, prefix: 'p' }) } })
  let runs = 0
  const task = app.addBackgroundTask('tick', { every: 200, cluster: true, overlap: 'allow' }, () => { runs++ })
  await app.ready()
  await until(async () => runs > 0)
  redis.freeze()
  // The tick that waits for its answer has failed, and the task asks for the last one.
  await until(async () => (await app.backgroundTasks.health()).status !== 'ok')
  await sleep(1_000)
  await task.pause()
  // It has given up asking.
  await sleep(6_000)
  redis.thaw()
  await until(async () => (await app.backgroundTasks.health()).status === 'ok')
  const before = runs
  await task.resume()
  await until(async () => runs > before + 3)
  t.ok(task.nextRunAt)
})

t.test('over Redis', skip === undefined ? {} : { skip }, async t => {
  t.jobs = 8 // they wait for seconds to pass
  const url = await redisUrl(t)
  const redis = new IORedis(url)
  t.teardown(() => { redis.disconnect() })

  t.test('each tick runs once, in the one application or the other, also by cron and with jitter', async t => {
    const prefix = randomUUID()
    const kinds: Record<string, Options> = {
      every: SECOND,
      cron: { cron: '* * * * * *', timezone: 'Asia/Seoul', cluster: true },
      jitter: { ...SECOND, jitter: 400 }
    }
    const seen: Record<string, Seen[]> = { every: [], cron: [], jitter: [] }
    const declare = (node: string) => (app: FastifyInstance): void => {
      for (const [name, options] of Object.entries(kinds)) app.addBackgroundTask(name, options, seer(node, seen[name] as Seen[]))
    }
    await join(t, { connection: url, prefix }, declare('one'))
    await join(t, { connection: url, prefix }, declare('two'))
    await until(async () => Object.values(seen).every(({ length }) => length >= 4))
    for (const [name, runs] of Object.entries(seen)) {
      const dueAts = runs.map(({ dueAt }) => dueAt)
      t.same(new Set(dueAts).size, dueAts.length, `${name}: each due time once`)
      t.ok(dueAts.every(dueAt => dueAt % 1_000 === 0), 'counted from the epoch')
      gapless(t, runs, 'and none is left out')
      t.ok(runs.every(({ id, dueAt }) => id === `${name}-${dueAt}`), 'the name and the time are its id')
    }
  })

  t.test('ticks that fell due while nobody was there are left out, run once for all, or one by one', async t => {
    const prefix = randomUUID()
    const names = ['skip', 'once', 'all'] as const
    const seen = { skip: [] as Seen[], once: [] as Seen[], all: [] as Seen[] }
    const declare = (app: FastifyInstance): void => {
      for (const misfire of names) app.addBackgroundTask(misfire, { ...SECOND, misfire }, seer('', seen[misfire]))
    }
    const before = await join(t, { connection: url, prefix }, declare)
    await until(async () => names.every(name => seen[name].length > 0 && seen[name].at(-1)?.dueAt === seen.skip.at(-1)?.dueAt))
    await before.app.close()
    const last = seen.skip.at(-1)?.dueAt as number
    for (const name of names) seen[name].splice(0)
    await sleep(3_300)
    const at = Date.now()
    await join(t, { connection: url, prefix }, declare)
    await until(async () => seen.skip.length > 1 && seen.once.length > 1 && covered(seen.all).length > 4)
    // One may have been enqueued by the application that went, and waits; what is late by less than a second is not missed.
    t.same(seen.skip.filter(({ dueAt }) => dueAt > last + 1_000 && dueAt < at - 1_000), [], 'skip: none that was missed')
    const one = seen.once.find(({ missed }) => missed > 0) as Seen
    t.ok(one.missed >= 1 && one.dueAt <= one.begin && one.dueAt > at - 2_000, 'once: the latest of them, which knows how many there were')
    gapless(t, seen.once)
    t.equal(Math.min(...covered(seen.once)), last + 1_000)
    t.same(covered(seen.all), grid(last + 1_000, covered(seen.all).length), 'all: one after another, the oldest first')
    t.ok(seen.all.filter(({ missed }) => missed === 0).length >= 3)
  })

  t.test('after an hour alone the latest hundred ticks run, the oldest first, although two applications catch up with them', async t => {
    const prefix = randomUUID()
    const seen: Seen[] = []
    const declare = (app: FastifyInstance): void => { app.addBackgroundTask('tick', { ...SECOND, misfire: 'all' as const }, seer('', seen)) }
    // What is left of the last tick that was enqueued.
    await redis.hset(`${prefix}:tick:shared`, 'due', Math.floor(Date.now() / 1_000 - 3_600) * 1_000)
    await Promise.all([join(t, { connection: url, prefix }, declare), join(t, { connection: url, prefix }, declare)])
    await until(async () => seen.length >= 100)
    const dueAts = seen.slice(0, 100).map(({ dueAt }) => dueAt)
    t.ok((dueAts[0] as number) > Date.now() - 130_000)
    t.same(dueAts, grid(dueAts[0] as number, 100))
    t.equal(new Set(seen.map(({ id }) => id)).size, seen.length)
  })

  t.test('overlap holds for all applications together', async t => {
    const prefix = randomUUID()
    const names = ['skip', 'wait', 'allow'] as const
    const seen = { skip: [] as Seen[], wait: [] as Seen[], allow: [] as Seen[] }
    const tasks: BackgroundTask[] = []
    const declare = (app: FastifyInstance): void => {
      for (const overlap of names) tasks.push(app.addBackgroundTask(overlap, { ...SECOND, overlap }, seer('', seen[overlap], 1_500)))
    }
    await join(t, { connection: url, prefix }, declare)
    await join(t, { connection: url, prefix }, declare)
    await until(async () => seen.skip.length >= 4 && seen.wait.length >= 4 && seen.allow.length >= 5)
    await Promise.all(tasks.map(async task => { await task.stop() }))
    const overlapping = (runs: Seen[]): Seen[] => runs.filter((run, i) => i > 0 && run.begin < (runs[i - 1] as Seen).end)
    t.same(overlapping(seen.skip), [])
    t.same(overlapping(seen.wait), [])
    t.ok(overlapping(seen.allow).length > 0)
    t.ok(tasks.filter(({ name }) => name === 'skip').reduce((sum, { stats }) => sum + stats.skipped, 0) >= 2, 'skip: what fires during a run never runs')
    t.ok(seen.wait.some(({ dueAt, begin }) => begin - dueAt > 200), 'wait: one stands by')
    t.ok(seen.wait.every(({ begin }, i) => i === 0 || begin - (seen.wait[i - 1] as Seen).end < 2_000), 'and begins as soon as the one before has ended')
    gapless(t, seen.allow, 'allow: each runs')
  })

  for (const overlap of ['skip', 'wait', 'allow'] as const) {
    t.test(`a tick that a shutdown interrupts runs elsewhere, overlap ${overlap}`, async t => {
      const prefix = randomUUID()
      const begun = deferred<Run>()
      const one = await join(t, { connection: url, prefix }, app => {
        app.addBackgroundTask('tick', { ...SECOND, overlap }, async run => {
          begun.resolve(run)
          await aborted(run.signal)
          throw run.signal.reason
        })
      })
      const { id, dueAt } = await begun.promise
      const seen: Seen[] = []
      await join(t, { connection: url, prefix }, app => { app.addBackgroundTask('tick', { ...SECOND, overlap }, seer('two', seen)) })
      await one.app.close()
      await until(async () => seen.some(run => run.id === id))
      t.match(seen.find(run => run.id === id), { dueAt: Number(dueAt), missed: 0 })
      t.same((await redis.zrange(`${prefix}:tick:failed`, 0, -1)), [])
    })
  }

  t.test('a tick whose handler ignores its signal is given back before the deadline', async t => {
    const prefix = randomUUID()
    const begun = deferred<Run>()
    const gate = deferred()
    const one = await join(t, { connection: url, prefix }, app => {
      app.addBackgroundTask('tick', SECOND, async run => {
        begun.resolve(run)
        await gate.promise
      })
    }, { shutdownTimeout: '1s' })
    const { id } = await begun.promise
    const seen: Seen[] = []
    await join(t, { connection: url, prefix }, app => { app.addBackgroundTask('tick', SECOND, seer('two', seen)) })
    await one.app.close()
    t.match(await logged(one.lines, 'shutdown deadline passed'), { tasks: ['tick'] })
    await until(async () => seen.some(run => run.id === id))
    gate.resolve()
  })

  t.test('what exclude leaves out is left out, and a tick on which it throws is one failed run', async t => {
    const prefix = randomUUID()
    const seen: Seen[] = []
    const tasks: BackgroundTask[] = []
    const exclude = (due: Date): boolean => {
      const second = due.getTime() / 1_000 % 3
      if (second === 1) throw new Error('no calendar')
      return second === 2
    }
    const declare = (app: FastifyInstance): void => { tasks.push(app.addBackgroundTask('tick', { ...SECOND, exclude }, seer('', seen))) }
    const nodes = [await join(t, { connection: url, prefix }, declare), await join(t, { connection: url, prefix }, declare)]
    await until(async () => seen.length >= 2 && await redis.zcard(`${prefix}:tick:failed`) >= 2)
    t.ok(seen.every(({ dueAt }) => dueAt / 1_000 % 3 === 0))
    const failures = nodes.flatMap(({ lines }) => lines.filter(({ msg }) => msg === 'run failed'))
    t.ok(failures.every(({ level, err }) => level === 'error' && err?.message === 'no calendar'))
    t.equal(new Set(failures.map(({ run }) => run)).size, failures.length, 'each in one application')
    t.ok(tasks.every(({ stats }) => stats.skipped > 0), 'each application sees for itself what is left out')
  })

  t.test('a paused application leaves its ticks to others, runs what is triggered, and goes on when resumed', async t => {
    const prefix = randomUUID()
    const seen: Seen[] = []
    const declare = (node: string) => (app: FastifyInstance): void => { app.addBackgroundTask('tick', SECOND, seer(node, seen)) }
    const one = await join(t, { connection: url, prefix }, declare('one'))
    const two = await join(t, { connection: url, prefix }, declare('two'))
    const [first, second] = [one, two].map(({ app }) => app.backgroundTasks.get('tick')) as [BackgroundTask, BackgroundTask]
    await until(async () => seen.length > 0)
    await first.pause()
    t.equal(first.state, 'paused')
    t.equal(first.nextRunAt, undefined)
    seen.splice(0)
    await until(async () => seen.length >= 2)
    t.ok(seen.every(({ node }) => node === 'two'))
    t.match(await first.trigger().finished, { outcome: 'succeeded' })
    t.equal(seen.filter(({ node }) => node === 'one').length, 1, 'here, and nowhere else')

    // With both of them paused, and one stopped: what falls due now is nobody's.
    await second.stop()
    t.equal(second.state, 'stopped')
    seen.splice(0)
    await sleep(2_500)
    t.same(seen, [])
    const at = Date.now()
    await first.resume()
    await until(async () => seen.length > 0)
    t.match(seen[0], { node: 'one' })
    t.ok((covered(seen)[0] as number) > at, 'what fell due during a pause is left out')
    await second.start()
    await first.stop()
    seen.splice(0)
    await until(async () => seen.length >= 2)
    t.ok(seen.every(({ node }) => node === 'two'))
    await second.remove()
    t.equal(two.app.backgroundTasks.get('tick'), undefined)
  })

  t.test('a run is cancelled from any application; what waits is, too', async t => {
    const prefix = randomUUID()
    const begun = deferred<Run>()
    const one = await join(t, { connection: url, prefix }, app => {
      app.addBackgroundTask('tick', { ...SECOND, overlap: 'wait' as const }, async run => {
        begun.resolve(run)
        await aborted(run.signal)
        throw run.signal.reason
      })
    })
    const two = await join(t, { connection: url, prefix }, app => { app.addBackgroundTask('tick', { ...SECOND, enabled: false }, () => {}) })
    const { id, signal } = await begun.promise
    const task = two.app.backgroundTasks.get('tick') as BackgroundTask
    await until(async () => await redis.llen(`${prefix}:tick:wait`) > 0)
    const [waiting] = await redis.lrange(`${prefix}:tick:wait`, -1, -1) as [string]
    await task.cancel(waiting)
    await task.cancel(id)
    t.equal((await aborted(signal)).code, 'FST_BG_CANCELLED')
    t.match(await logged(one.lines, 'run cancelled'), { run: id })
    t.match(await rejection(task.cancel('tick-1')), { code: 'FST_BG_NOT_FOUND' })
    const own = one.app.backgroundTasks.get('tick') as BackgroundTask
    await until(async () => own.stats.active > 0)
    const [execution] = await redis.lrange(`${prefix}:tick:active`, 0, 0) as [string]
    t.not(execution, waiting)
    await own.cancel(execution)
    t.equal(own.stats.cancelled, 2)
  })

  t.test('a tick under which its process dies too often fails, and the schedule goes on', async t => {
    const prefix = randomUUID()
    const store = { connection: url, prefix, lease: '1s', maxCrashes: 1 }
    const begun = deferred<Run>()
    const gate = deferred()
    const reasons: string[] = []
    await join(t, store, app => {
      app.addBackgroundTask('tick', SECOND, async run => {
        begun.resolve(run)
        reasons.push((await aborted(run.signal)).code)
        await gate.promise
      })
    })
    const { id, dueAt } = await begun.promise
    const seen: Seen[] = []
    const two = await join(t, store, app => { app.addBackgroundTask('tick', SECOND, seer('two', seen)) })
    // As it is for others when a process dies that has taken it: its lease runs out.
    await redis.set(`${prefix}:tick:${id}:lock`, 'another', 'PX', 1_000)
    t.match(await logged(two.lines, 'run failed'), { level: 'error', run: id, attempt: 1, err: { message: /^the process that ran it has died, or lost its lease, 1 time: it is not run again/ } })
    t.same(await redis.zrange(`${prefix}:tick:failed`, 0, -1), [id])
    t.match(two.app.backgroundTasks.get('tick')?.history.find(run => run.id === id), { outcome: 'failed', dueAt })
    await until(async () => seen.length > 0)
    t.not(seen[0]?.id, id)
    t.same(reasons, ['FST_BG_CANCELLED'], 'where it still ran, it has heard of that')
    gate.resolve()
  })

  t.test('what other programs pause in BullMQ waits, and the task stays what it is', async t => {
    const prefix = randomUUID()
    const raw = new Queue('tick', { connection: { url }, prefix })
    t.teardown(async () => { await raw.close() })
    await raw.pause()
    const seen: Seen[] = []
    const { app } = await join(t, { connection: url, prefix }, app => { app.addBackgroundTask('tick', { ...SECOND, overlap: 'allow' as const }, seer('', seen)) })
    await until(async () => (await raw.getJobCounts('wait'))['wait'] !== 0)
    t.same(seen, [])
    t.equal(app.backgroundTasks.get('tick')?.state, 'idle')
    await raw.resume()
    await until(async () => seen.length > 0)
  })

  t.test('applications of different versions: what one does not know stays', async t => {
    const prefix = randomUUID()
    const seen = { old: [] as Seen[], new: [] as Seen[] }
    const old = (app: FastifyInstance): void => { app.addBackgroundTask('old', SECOND, seer('', seen.old)) }
    const fresh = async (app: FastifyInstance): Promise<void> => {
      old(app)
      app.addBackgroundTask('new', { ...SECOND, misfire: 'all' as const }, seer('', seen.new))
      const queue = app.addBackgroundQueue('mails', ({ payload }) => { mails.push(payload) })
      if (mails.length === 0) {
        await queue.pause()
        await queue.enqueue('hello')
      } else {
        await queue.resume()
      }
    }
    const mails: unknown[] = []
    const one = await join(t, { connection: url, prefix }, fresh)
    await join(t, { connection: url, prefix }, old)
    await until(async () => seen.new.length > 0)
    await one.app.close()
    const last = seen.new.at(-1)?.dueAt as number
    seen.old.splice(0)
    seen.new.splice(0)
    await until(async () => seen.old.length >= 2)
    mails.push('the old version is alone')
    t.same(await redis.llen(`${prefix}:mails:wait`), 1, 'a run that it does not know stays')
    await join(t, { connection: url, prefix }, fresh)
    await until(async () => mails.length > 1 && seen.new.length >= 3)
    t.equal(mails[1], 'hello')
    t.equal(Math.min(...covered(seen.new)), last + 1_000)
    gapless(t, seen.new)
    gapless(t, seen.old)
  })

  t.test('Redis is away for some seconds: ticks go on, and what was missed is caught up', async t => {
    const own = await Redis.start(t)
    const names = ['skip', 'once', 'all'] as const
    const seen = { skip: [] as Seen[], once: [] as Seen[], all: [] as Seen[] }
    const declare = (app: FastifyInstance): void => {
      for (const misfire of names) app.addBackgroundTask(misfire, { ...SECOND, misfire }, seer('', seen[misfire]))
    }
    const nodes = [await join(t, { connection: own.url, prefix: 'p' }, declare), await join(t, { connection: own.url, prefix: 'p' }, declare)]
    await until(async () => names.every(name => seen[name].length > 0))
    await own.kill()
    const killedAt = Date.now()
    await sleep(3_500)
    t.equal((await nodes[0]?.app.backgroundTasks.health())?.status, 'degraded')
    const at = Date.now()
    await own.start()
    await until(async () => names.every(name => seen[name].some(({ dueAt }) => dueAt > at + 1_000)))
    t.equal((await nodes[0]?.app.backgroundTasks.health())?.status, 'ok')
    for (const name of names) t.same(new Set(seen[name].map(({ id }) => id)).size, seen[name].length, `${name}: none ran twice`)
    t.same(seen.skip.filter(({ dueAt }) => dueAt > killedAt && dueAt < at - 1_500), [], 'skip: what was missed is left out')
    t.ok(seen.once.some(({ missed }) => missed >= 1), 'once: a run for them all')
    gapless(t, seen.once)
    gapless(t, seen.all)
    t.ok(seen.all.some(({ dueAt, missed }) => missed === 0 && dueAt > killedAt && dueAt < at - 1_000), 'all: each has run')
  })

  t.test('Redis hangs for some seconds: ticks go on, and what was missed is caught up', async t => {
    const own = await Redis.start(t)
    const seen: Seen[] = []
    const { app } = await join(t, { connection: own.url, prefix: 'p', lease: '1m' }, app => { app.addBackgroundTask('tick', { ...SECOND, misfire: 'all' as const }, seer('', seen)) })
    await until(async () => seen.length > 0)
    own.freeze()
    await sleep(11_000)
    t.match(await app.backgroundTasks.health(), { status: 'degraded', tasks: [{ reason: 'the store cannot be reached: it does not answer' }] })
    const at = Date.now()
    own.thaw()
    await until(async () => seen.some(({ dueAt }) => dueAt > at + 1_000))
    t.match(await app.backgroundTasks.health(), { status: 'ok' })
    gapless(t, seen)
    t.ok(seen.filter(({ missed }) => missed === 0).length > 9)
  })

  t.test('after Redis was flushed, overlap holds for all applications from the next tick on', async t => {
    const own = await Redis.start(t, ['--appendonly', 'yes', '--appendfsync', 'no'])
    const client = new IORedis(own.url)
    t.teardown(() => { client.disconnect() })
    let active = 0
    let most = 0
    let runs = 0
    for (let i = 0; i < 2; i++) {
      await join(t, { connection: own.url, prefix: 'p' }, app => {
        app.addBackgroundTask('tick', SECOND, async () => {
          most = Math.max(most, ++active)
          runs++
          await sleep(1_500)
          active--
        })
      })
    }
    await until(async () => runs > 0)
    await client.flushall()
    await until(async () => active === 0)
    most = 0
    const before = runs
    await until(async () => runs >= before + 3)
    t.equal(most, 1)
  })

  t.test('a tick that is handed over when the task has just been paused goes back, and waits', async t => {
    const seen: Seen[] = []
    const handed = deferred()
    let hand = async (): Promise<void> => {}
    const { app } = await join(t, { connection: url, prefix: randomUUID() }, app => { app.addBackgroundTask('tick', SECOND, seer('', seen)) }, {}, async () => { await hand() })
    const task = app.backgroundTasks.get('tick') as BackgroundTask
    hand = async () => {
      hand = async () => {}
      await task.pause()
      handed.resolve()
    }
    await handed.promise
    await sleep(1_500)
    t.same(seen, [])
    await task.resume()
    await until(async () => seen.length > 1)
    t.ok((seen[0] as Seen).begin - (seen[0] as Seen).dueAt > 1_000, 'the one that had been handed over')
    t.equal(task.stats.failed, 0)
  })

  t.test('a tick that is handed over when Redis begins to hang runs all the same', async t => {
    const own = await Redis.start(t)
    const seen: Seen[] = []
    await join(t, { connection: own.url, prefix: 'p' }, app => { app.addBackgroundTask('tick', SECOND, seer('', seen)) }, {}, async () => { own.freeze() })
    await until(async () => seen.length > 0)
    own.thaw()
  })

  t.test('it starts without Redis, and ticks once that is there', async t => {
    const own = await Redis.start(t)
    await own.kill()
    const seen: Seen[] = []
    const { app } = await join(t, { connection: own.url, prefix: 'p' }, app => { app.addBackgroundTask('tick', SECOND, seer('', seen)) })
    t.match(await app.backgroundTasks.health(), { status: 'degraded', tasks: [{ name: 'tick', reason: /the store cannot be reached/ }] })
    const at = Date.now()
    await sleep(2_500)
    await own.start()
    await until(async () => seen.length >= 2)
    t.ok((seen[0] as Seen).missed >= 1, 'one run for what fell due meanwhile')
    gapless(t, seen)
    t.ok(Math.abs((covered(seen)[0] as number) - at) < 1_500)
    t.match(await app.backgroundTasks.health(), { status: 'ok' })
  })
})

// Alone, because it changes the clock of the whole process.
t.test('over Redis, a clock that differs from that of Redis is told, and the ticks go on', skip === undefined ? {} : { skip }, async t => {
  const url = await redisUrl(t)
  const { now } = Date
  t.teardown(() => { Date.now = now })
  Date.now = () => now() + 3_000
  const seen: Seen[] = []
  const { app } = await join(t, { connection: url, prefix: randomUUID() }, app => { app.addBackgroundTask('tick', SECOND, seer('', seen)) })
  await until(async () => seen.length >= 3)
  t.match(await app.backgroundTasks.health(), { status: 'degraded', tasks: [{ reason: /ahead of that of the store/ }] })
  gapless(t, seen)
})

/** An application in this process, with a store of its own on the Redis that all share. `handed` is called when the store hands over a run. */
async function join (t: Test, options: BullmqOptions, declare: (app: FastifyInstance) => void | Promise<void>, plugin: BackgroundTasksOptions = {}, handed?: () => Promise<void>): Promise<{ app: FastifyInstance, lines: Line[] }> {
  const real = bullmq(options)
  const watched: Store = {
    open: (options, worker) => real.open(options, {
      execute (run, settle) {
        void handed?.()
        worker.execute(run, settle)
      },
      abort: (id, why) => { worker.abort(id, why) },
      pauseChanged: paused => { worker.pauseChanged(paused) },
      crashed: (run, error) => { worker.crashed(run, error) }
    }),
    stop: async () => { await real.stop() }
  }
  const { app, lines } = await build(t, { stores: { default: handed === undefined ? real : watched }, shutdownTimeout: '3s', ...plugin })
  await declare(app)
  await app.ready()
  return { app, lines }
}

/** A handler that keeps what it has seen, and takes some time. */
function seer (node: string, seen: Seen[], ms = 0): TaskHandler<FastifyInstance> {
  return async ({ id, dueAt, missed }) => {
    const run: Seen = { node, id, dueAt: Number(dueAt), missed, begin: Date.now(), end: Infinity }
    seen.push(run)
    if (ms > 0) await sleep(ms)
    run.end = Date.now()
  }
}

/** The due times that runs stand for. */
function covered (runs: Seen[]): number[] {
  return runs.flatMap(({ dueAt, missed }) => grid(dueAt - missed * 1_000, missed + 1))
}

/** So many due times, a second apart. */
function grid (from: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => from + i * 1_000)
}

/** Each due time has run, or one that stands for it; an application that was late may count one that another has run. */
function gapless (t: Test, runs: Seen[], message = 'no tick is lost'): void {
  const dueAts = [...new Set(covered(runs))].sort((a, b) => a - b)
  t.same(dueAts, grid(dueAts[0] as number, dueAts.length), message)
}
