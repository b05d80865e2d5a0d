// Schedules as data.
import type { BackgroundQueue, Run, ScheduleOptions } from '../../index.ts'
import type { Suite } from '../suite.ts'
import { held, list, until, rejection } from '../support.ts'

const HOUR = 3_600_000
const schema = { payload: { type: 'object', required: ['n'], properties: { n: { type: 'integer' } } } }

export function schedules ({ holds, durable }: Suite): void {
  holds('each tick of a schedule enqueues its payload, until the schedule is removed', async (t, name, open) => {
    const { app } = await open()
    const runs: Run[] = []
    const queue = app.addBackgroundQueue(name, { keep: { succeeded: { count: 100 } } }, async run => { runs.push(run) })
    await app.ready()
    const payload = { to: ['a'] }
    const { nextRunAt } = await queue.schedule('tenant:1', { every: 200, payload })
    payload.to.push('b')
    t.ok(nextRunAt !== undefined && nextRunAt.getTime() > Date.now() - 50 && nextRunAt.getTime() <= Date.now() + 200)
    await until(async () => runs.length >= 3)
    for (const [i, run] of runs.slice(0, 3).entries()) {
      t.match(run, { schedule: 'tenant:1', payload: { to: ['a'] }, dueAt: Date, missed: Number, attempt: 1, enqueuedAt: Date })
      if (i > 0) t.ok(((run.dueAt?.getTime() ?? 0) - (nextRunAt?.getTime() ?? 0)) % 200 === 0, 'on a grid')
    }
    t.equal(new Set(runs.map(({ dueAt }) => dueAt?.getTime())).size, runs.length)
    t.match(await queue.get(runs[0]?.id as string), { schedule: 'tenant:1', dueAt: runs[0]?.dueAt, state: /succeeded|active/ })
    const { schedules } = await queue.schedules()
    t.match(schedules, [{ key: 'tenant:1', every: 200, cron: undefined, timezone: undefined, payload: { to: ['a'] }, nextRunAt: Date, lastRunAt: Date }])
    t.equal(await queue.unschedule('tenant:1'), true)
    t.equal(await queue.unschedule('tenant:1'), false)
    t.same(await queue.schedules(), { schedules: [], cursor: undefined })
    await queue.drain()
    const count = runs.length
    await new Promise(resolve => { setTimeout(resolve, 450) })
    t.equal(runs.length, count)
  })

  holds('an equal schedule changes nothing, another one with the key replaces it', async (t, name, open) => {
    const { app } = await open()
    const seen: unknown[] = []
    const queue = app.addBackgroundQueue(name, async ({ payload }) => { seen.push(payload) })
    await app.ready()
    const options = { cron: '0 3 * * *', timezone: 'Asia/Seoul', payload: { a: 1, b: [2] }, jitter: '1m', retry: { limit: 3 }, priority: 5 }
    const first = await queue.schedule('k', options)
    t.equal(first.nextRunAt?.getTime(), new Date(first.nextRunAt ?? 0).setUTCHours(18, 0, 0, 0), 'in its zone')
    t.same(await queue.schedule('k', structuredClone(options)), first)
    t.match((await queue.schedules()).schedules, [{ key: 'k', cron: '0 3 * * *', timezone: 'Asia/Seoul', every: undefined, payload: { a: 1, b: [2] }, nextRunAt: first.nextRunAt, lastRunAt: undefined }])
    await queue.schedule('k', { every: 100, payload: 'other' })
    await until(async () => seen.length > 0)
    t.equal(seen[0], 'other')
    t.equal((await queue.schedules()).schedules.length, 1)
    await queue.unschedule('k')
  })

  holds('while a run of a schedule waits or runs, its ticks enqueue nothing, unless it allows that', async (t, name, open) => {
    const { app } = await open()
    const hand = held()
    const queue = app.addBackgroundQueue(name, { concurrency: 1 }, hand.handler)
    await app.ready()
    await queue.schedule('skips', { every: 100, payload: 'skips' })
    await hand.call(0)
    const { lastRunAt } = (await queue.schedules()).schedules[0] ?? {}
    await until(async () => ((await queue.schedules()).schedules[0]?.nextRunAt?.getTime() ?? 0) > (lastRunAt?.getTime() ?? Infinity) + 350)
    t.match(await queue.counts(), { waiting: 0, active: 1 })
    await queue.schedule('allows', { every: 100, payload: 'allows', overlap: 'allow' })
    await until(async () => (await queue.counts()).waiting >= 3)
    t.ok((await list(queue, 'waiting')).every(({ schedule }) => schedule === 'allows'))
    await queue.unschedule('allows')
    await queue.clear('waiting')
    ;(await hand.call(0)).end()
    t.match(await hand.call(1), { payload: 'skips' }, 'when it has ended, the next tick enqueues again')
    await queue.unschedule('skips')
    hand.endAll()
    await queue.drain()
  })

  holds('the runs of a schedule have its priority, and skip like any', async (t, name, open) => {
    const { app } = await open()
    const hand = held()
    const queue = app.addBackgroundQueue(name, hand.handler)
    await app.ready()
    await queue.schedule('k', { every: 100, payload: 'skips', priority: 7 })
    const { run } = await hand.call(0)
    t.match(await queue.get(run.id), { priority: 7, schedule: 'k' })
    await queue.schedule('allows', { every: 100, payload: 'allows', priority: 3, overlap: 'allow' })
    await until(async () => (await queue.counts()).waiting >= 3)
    t.ok((await list(queue, 'waiting')).every(({ priority, schedule }) => priority === 3 && schedule === 'allows'))
    for (const key of ['k', 'allows']) await queue.unschedule(key)
    await queue.clear('waiting')
    hand.endAll()
    await queue.drain()
  })

  holds('a schedule of a paused queue goes on, and one run of it waits', async (t, name, open) => {
    const { app } = await open()
    const seen: Array<number | undefined> = []
    const queue = app.addBackgroundQueue(name, async ({ dueAt }) => { seen.push(dueAt?.getTime()) })
    await app.ready()
    await queue.pause()
    await queue.schedule('k', { every: 100, payload: 1 })
    await until(async () => (await queue.counts()).waiting === 1)
    const due = (await queue.schedules()).schedules[0]?.nextRunAt?.getTime() ?? 0
    await until(async () => ((await queue.schedules()).schedules[0]?.nextRunAt?.getTime() ?? 0) > due + 200)
    t.match(await queue.counts(), { waiting: 1 })
    t.same(seen, [])
    await queue.resume()
    await until(async () => seen.length > 1)
    await queue.unschedule('k')
  })

  holds('a run of a schedule that fails is retried as the schedule says, and the schedule goes on', async (t, name, open) => {
    const { app } = await open()
    const runs: Run[] = []
    const queue = app.addBackgroundQueue(name, async run => {
      runs.push(run)
      throw new Error('no')
    })
    await app.ready()
    await queue.schedule('k', { every: 100, payload: 1, retry: { limit: 1, delay: 1, jitter: false } })
    await until(async () => (await queue.counts()).failed >= 2)
    await queue.unschedule('k')
    t.match(runs[1], { attempt: 2, schedule: 'k', dueAt: runs[0]?.dueAt })
  })

  holds('the payload of a schedule is checked like any', async (t, name, open) => {
    const { app } = await open()
    const queue = app.addBackgroundQueue(name, { schema, maxPayload: 100 }, async () => {}) as BackgroundQueue
    await app.ready()
    for (const payload of [undefined, { n: 'text' }, { n: 1, big: 10n }, { n: 1, long: 'x'.repeat(100) }]) {
      t.match(await rejection(queue.schedule('k', { every: '1h', payload })), { code: 'FST_BG_INVALID_PAYLOAD' })
    }
    t.same((await queue.schedules()).schedules, [])
  })

  holds('a bad schedule is refused', async (t, name, open) => {
    const { app } = await open()
    const queue = app.addBackgroundQueue(name, async () => {}) as BackgroundQueue
    await app.ready()
    const bad: unknown[] = [undefined, null, 5, [], {}, { every: 0 }, { every: -1 }, { every: 0.5 }, { every: '1 hour' }, { every: '1h', cron: '@daily', timezone: 'UTC' }, { every: '1h', timezone: 'UTC' },
      { cron: '0 0 31 2 *', timezone: 'UTC' }, { cron: 'never', timezone: 'UTC' }, { cron: '@daily', timezone: 'Nowhere' }, { every: '1h', misfire: 'twice' }, { every: '1h', overlap: 'wait' }, { every: '1h', jitter: -1 },
      { every: '1h', priority: -1 }, { every: '1h', retry: -1 }, { every: '1h', interval: 5 }, { every: '1h', immediate: true }, { every: '1h', exclude: () => true }]
    for (const options of bad) t.match(await rejection(queue.schedule('k', options as ScheduleOptions)), { code: 'FST_BG_INVALID_OPTION' }, JSON.stringify(options))
    if (durable) t.match(await rejection(queue.schedule('k', { cron: '@daily' })), { code: 'FST_BG_INVALID_OPTION', message: /timezone/ })
    else t.ok((await queue.schedule('zone', { cron: '@daily' })).nextRunAt)
    await queue.unschedule('zone')
    for (const key of ['', undefined, null, 5, {}]) {
      t.match(await rejection(queue.schedule(key as string, { every: '1h' })), { code: 'FST_BG_INVALID_OPTION' })
      t.match(await rejection(queue.unschedule(key as string)), { code: 'FST_BG_INVALID_OPTION' })
    }
    for (const options of [5, { limit: 0 }, { limit: 1_001 }, { prefix: 5 }, { cursor: 'nonsense' }, { cursor: '' }, { state: 'waiting' }]) {
      t.match(await rejection(queue.schedules(options as never)), { code: 'FST_BG_INVALID_OPTION' }, JSON.stringify(options))
    }
    t.same((await queue.schedules()).schedules, [])
  })

  holds('schedules are listed by the page and by the beginning of their keys, which are any text', async (t, name, open) => {
    const { app } = await open({ autostart: false })
    const queue = app.addBackgroundQueue(name, async () => {})
    const keys = ['a:1', 'a:2', 'a:\u0000', 'a:🦊', 'a:ÿ', 'a', 'b b', '*', '[', '(', '-', '+', `long ${'x'.repeat(10_000)}`, 'timestamp', '__proto__']
    for (const key of keys) await queue.schedule(key, { every: HOUR, payload: key })
    const sorted = [...keys].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
    t.same((await queue.schedules()).schedules.map(({ key }) => key), sorted)
    t.ok((await queue.schedules()).schedules.every(({ key, payload }) => key === payload))
    const paged: string[] = []
    for (let cursor: string | undefined, more = true; more; more = cursor !== undefined) {
      const page = await queue.schedules({ limit: 4, cursor })
      paged.push(...page.schedules.map(({ key }) => key))
      cursor = page.cursor
      t.ok(page.schedules.length <= 4)
    }
    t.same(paged, sorted)
    t.same((await queue.schedules({ prefix: 'a:' })).schedules.map(({ key }) => key), sorted.filter(key => key.startsWith('a:')))
    const { cursor } = await queue.schedules({ prefix: 'a:', limit: 2 })
    t.same((await queue.schedules({ prefix: 'a:', limit: 2, cursor })).schedules.map(({ key }) => key), sorted.filter(key => key.startsWith('a:')).slice(2, 4))
    t.same(await queue.schedules({ prefix: 'nobody' }), { schedules: [], cursor: undefined })
    t.equal(await queue.get('timestamp'), undefined)
    for (const key of keys) t.equal(await queue.unschedule(key), true)
  })

  holds('a queue that is stopped does not tick, and when it starts, misfire decides about what was due', async (t, name, open) => {
    const { app } = await open()
    const runs: Run[] = []
    const queue = app.addBackgroundQueue(name, { concurrency: 1, keep: { succeeded: { count: 1_000 } } }, async run => { runs.push(run) })
    await app.ready()
    await queue.stop()
    await queue.schedule('once', { every: 250, payload: 1 })
    await queue.schedule('all', { every: 250, payload: 1, misfire: 'all' })
    await queue.schedule('skip', { every: 250, payload: 1, misfire: 'skip' })
    await new Promise(resolve => { setTimeout(resolve, 2_600) })
    t.same(await queue.counts(), { waiting: 0, delayed: 0, active: 0, succeeded: 0, failed: 0 })
    const started = Date.now()
    await queue.start()
    await until(async () => runs.filter(({ schedule }) => schedule === 'all').length >= 10 && runs.some(({ schedule }) => schedule === 'skip') && runs.some(({ schedule }) => schedule === 'once'))
    for (const key of ['once', 'all', 'skip']) await queue.unschedule(key)
    const of = (key: string): Run[] => runs.filter(({ schedule }) => schedule === key)
    const [once] = of('once')
    t.ok((once?.missed ?? 0) >= 8 && (once?.missed ?? 0) <= 11, `one run for ${once?.missed} earlier ones`)
    t.ok((once?.dueAt?.getTime() ?? 0) > started - 300, 'due at the last of them')
    const dues = of('all').map(({ dueAt }) => dueAt?.getTime() ?? 0)
    t.ok((dues[0] as number) < started - 2_000)
    t.same(dues, dues[0] === undefined ? [] : dues.map((_, i) => (dues[0] as number) + i * 250), 'one run each, the oldest first')
    t.ok(of('all').every(({ missed }) => missed === 0))
    const [skip] = of('skip')
    t.ok((skip?.dueAt?.getTime() ?? 0) >= started - 1_010, 'none of those that were missed')
  })

  if (!durable) return

  holds('schedules outlive the application, and applications run them together, each tick once', async (t, name, open) => {
    const first = await open()
    const declared = first.app.addBackgroundQueue(name, async () => {})
    await first.app.ready()
    await declared.schedule('k', { every: 100, payload: { n: 1 }, overlap: 'allow' })
    // One that is enabled might enqueue a tick before the close.
    const elsewhere = first.app.addBackgroundQueue(`${name}-elsewhere`, { enabled: false }, async () => {})
    await elsewhere.schedule('left alone', { every: 100, payload: 1 })
    await first.app.close()
    const dues: number[] = []
    const apps = [await open(), await open(), await open()]
    const queues = apps.map(({ app }) => app.addBackgroundQueue(name, { concurrency: 5 }, async ({ dueAt }) => { dues.push(dueAt?.getTime() ?? 0) }))
    for (const { app } of apps) await app.ready()
    await until(async () => dues.length >= 15)
    t.equal(await queues[1]?.unschedule('k'), true)
    await queues[0]?.drain()
    t.equal(new Set(dues).size, dues.length, 'none twice')
    const sorted = [...dues].sort((a, b) => a - b)
    t.ok((sorted[1] as number) % 100 === 0, 'on a grid from the epoch')
    t.ok(sorted.slice(1).every((due, i) => due === (sorted[1] as number) + i * 100), 'none left out')
    const last = await open()
    const again = last.app.addBackgroundQueue(`${name}-elsewhere`, { enabled: false }, async () => {})
    await last.app.ready()
    t.match((await again.schedules()).schedules, [{ key: 'left alone', nextRunAt: Date }])
    t.same(await again.counts(), { waiting: 0, delayed: 0, active: 0, succeeded: 0, failed: 0 }, 'of a queue that nobody declares nothing is enqueued')
    await again.unschedule('left alone')
  })

  holds('a change in one application holds in all within two seconds', async (t, name, open) => {
    const [one, two] = [await open({ autostart: false }), await open()]
    const web = one.app.addBackgroundQueue(name, () => {})
    const seen: Array<[unknown, number]> = []
    two.app.addBackgroundQueue(name, async ({ payload }) => { seen.push([payload, Date.now()]) })
    await one.app.ready()
    await two.app.ready()
    await web.schedule('far', { every: '7d', payload: 'far' })
    await new Promise(resolve => { setTimeout(resolve, 100) })
    const at = Date.now()
    await web.schedule('near', { every: 100, payload: 'near' })
    await until(async () => seen.length > 0)
    t.ok((seen[0]?.[1] ?? Infinity) - at < 2_000, `after ${(seen[0]?.[1] ?? 0) - at} ms`)
    await web.schedule('near', { every: 100, payload: 'changed' })
    const changed = Date.now()
    await until(async () => seen.at(-1)?.[0] === 'changed')
    t.ok(Date.now() - changed < 2_000)
    await web.unschedule('near')
    const removed = Date.now()
    await new Promise(resolve => { setTimeout(resolve, 500) })
    t.ok((seen.at(-1)?.[1] ?? Infinity) < removed + 300)
    await web.unschedule('far')
  })

  holds('a payload that no longer fits the schema when its tick comes is a failed run, and the schedule goes on', async (t, name, open) => {
    const [one, two] = [await open({ autostart: false }), await open()]
    const old = one.app.addBackgroundQueue(name, async () => {})
    const queue = two.app.addBackgroundQueue(name, { schema }, async () => {})
    await one.app.ready()
    await old.schedule('k', { every: 100, payload: { n: 'of an older version' } })
    await two.app.ready()
    await until(async () => (await queue.counts()).failed >= 2)
    t.match(await list(queue, 'failed'), [{ schedule: 'k', error: { code: 'FST_BG_INVALID_PAYLOAD' } }, {}])
    await old.unschedule('k')
  })
}
