// Jobs that are added together, by either client, to a Redis that has lost its scripts.
import { Redis as Client } from 'ioredis'
import { createClient } from 'redis'
import t from 'tap'
import { scheduleScripts } from '../../../lib/store/bullmq/schedules/schedule-scripts.ts'
import { Proxy } from '../../support/proxy.ts'
import { needsRedis, Redis } from '../../support/redis.ts'
import { share, until } from '../../support/shared.ts'

t.test('over a Redis of our own', needsRedis(true), async t => {
  const { url, port } = await Redis.start(t)
  const direct = new Client(url)
  t.teardown(() => { direct.disconnect() })
  for (const [what, connection] of [['ioredis', url], ['redis', createClient({ url }) as never]] as const) {
    t.test(`a batch and the ticks of schedules go on when Redis has lost its scripts: ${what}`, async t => {
      const { queue } = await share(t, { connection, prefix: what }, {}, { keep: { succeeded: { count: 1_000 } } }, ({ payload }) => payload.n)
      const work = (n: number): { n: number, do: 'work' } => ({ n, do: 'work' })
      for (let round = 0; round < 3; round++) {
        await direct.script('FLUSH')
        const items = [{ payload: work(1) }, { payload: work(2), priority: 3 }, { payload: work(3), delay: 20 }, { payload: work(4), key: 'k' }, { payload: work(5), key: 'k' }]
        const all = await queue.enqueueMany(items)
        t.same(all.map(({ duplicate }) => duplicate), [false, false, false, false, true])
        t.same(await Promise.all(all.map(async ({ id }) => (await queue.finished(id)).value)), [1, 2, 3, 4, 4])
      }
      await queue.schedule('plain', { every: 100, payload: work(6) })
      await queue.schedule('prioritised', { every: 100, payload: work(7), priority: 2 })
      await direct.script('FLUSH')
      const schedules = async (): Promise<Array<string | undefined>> => (await queue.list({ state: 'succeeded', limit: 1_000 })).runs.map(({ schedule }) => schedule)
      await until(async () => (await schedules()).filter(one => one === 'plain').length > 2 && (await schedules()).filter(one => one === 'prioritised').length > 2)
      await queue.unschedule('plain')
      await queue.unschedule('prioritised')
    })

    t.test(`no tick is lost or doubled when Redis knows a part of the scripts, as after a restart: ${what}`, async t => {
      // Of ticks closer than this, those that are late by less than a second become one run.
      const EVERY = 1_000
      const { queue } = await share(t, { connection: what === 'ioredis' ? url : createClient({ url }) as never, prefix: `part-${what}` }, {}, { keep: { succeeded: { count: 1_000 } } }, ({ payload }) => payload.n)
      await queue.schedule('prioritised', { every: EVERY, payload: { n: 1, do: 'work' }, priority: 2, overlap: 'allow', misfire: 'all' })
      for (const part of [[scheduleScripts.fbtClaim.lua], [scheduleScripts.fbtUnclaim.lua], []]) {
        const { succeeded } = await queue.counts()
        await until(async () => {
          await direct.script('FLUSH')
          for (const lua of part) await direct.script('LOAD', lua)
          return (await queue.counts()).succeeded >= succeeded + 3
        })
      }
      await queue.unschedule('prioritised')
      await queue.drain()
      const dues = (await queue.list({ state: 'succeeded', limit: 1_000 })).runs.map(({ dueAt }) => Number(dueAt)).reverse()
      t.same(dues, dues.map((_, i) => (dues[0] as number) + i * EVERY))
      t.match(await queue.counts(), { failed: 0, waiting: 0 })
    })

    t.test(`a transaction of which the answer is lost, so that the client sends it again, happens once: ${what}`, async t => {
      const proxy = await Proxy.start(t, port)
      const prefix = `again-${what}`
      const connect = (url: string): never => (what === 'ioredis' ? url : createClient({ url })) as never
      const { queue } = await share(t, { connection: connect(proxy.url), prefix }, {}, { keep: { succeeded: { count: 1_000 } } }, ({ payload }) => payload.n)
      const idle = await share(t, { connection: connect(proxy.url), prefix: `${prefix}-many` }, { autostart: false })
      const work = (n: number): { n: number, do: 'work' } => ({ n, do: 'work' })
      await idle.queue.enqueue(work(0))
      proxy.stallAnswers()
      const many = idle.queue.enqueueMany([{ payload: work(1) }, { payload: work(2), priority: 3 }, { payload: work(3), delay: 60_000 }])
      await until(async () => await direct.exists(`${prefix}-many:work:delayed`) === 1)
      proxy.cut()
      // A client of redis tells its caller, who cannot know what Redis did.
      if (what === 'ioredis') t.same((await many).map(({ duplicate }) => duplicate), [false, false, false])
      else await t.rejects(many, { code: 'FST_BG_STORE_UNAVAILABLE' })
      await until(async () => await idle.queue.counts().then(() => true, () => false))
      t.match(await idle.queue.counts(), { waiting: 3, delayed: 1 })

      await queue.schedule('plain', { every: 1_000, payload: work(4), overlap: 'allow', misfire: 'all' })
      await queue.schedule('prioritised', { every: 1_000, payload: work(5), priority: 2, overlap: 'allow', misfire: 'all' })
      const states = async (): Promise<string> => JSON.stringify(await direct.hgetall(`${prefix}:work:schedules:states`))
      for (let round = 0; round < 3; round++) {
        // Its connection is back.
        await until(async () => await queue.counts().then(({ succeeded }) => succeeded > 2 * round, () => false))
        const before = await states()
        proxy.stallAnswers()
        await until(async () => await states() !== before)
        proxy.cut()
      }
      await until(async () => await queue.unschedule('plain').then(() => true, () => false))
      await until(async () => await queue.unschedule('prioritised').then(() => true, () => false))
      await queue.drain()
      t.match(await queue.counts(), { failed: 0, waiting: 0 })
      const { runs } = await queue.list({ state: 'succeeded', limit: 1_000 })
      for (const key of ['plain', 'prioritised']) {
        const dues = runs.filter(({ schedule }) => schedule === key).map(({ dueAt }) => Number(dueAt)).sort((a, b) => a - b)
        t.ok(dues.length >= 3, key)
        t.same(dues, dues.map((_, i) => (dues[0] as number) + i * 1_000))
      }
    })
  }
})
