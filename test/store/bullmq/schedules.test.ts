// Schedules over Redis, run by processes that are killed, and by an application of this one. The program is fixtures/schedules.ts.
import { randomUUID } from 'node:crypto'
import { Redis as Client } from 'ioredis'
import t from 'tap'
import { built, Child, noSignals } from '../../support/child.ts'
import { needsRedis, Redis } from '../../support/redis.ts'
import { share, until } from '../../support/shared.ts'

const { skip } = needsRedis(true)
const program = built('schedules')
const COUNT = 1_000
const EVERY = 5_000
/** With two processes, one runs about half of the schedules each time: two rounds before each kill, a minute in all. */
const [KILLS, BEFORE_KILL] = [6, 1_000]

t.test('over a Redis of our own', { skip: skip ?? noSignals }, async t => {
  t.test('two processes run a thousand schedules for a minute, and are killed and replaced: each tick is enqueued once', async t => {
    const { url } = await Redis.start(t, ['--appendonly', 'yes', '--appendfsync', 'everysec'])
    const prefix = randomUUID()
    const { queue } = await share(t, { connection: url, prefix }, { autostart: false }, { keep: { succeeded: { count: 1_000_000 } } })
    const children = [spawn(), spawn()]
    await Promise.all(children.map(async child => await child.address()))
    for (let n = 0; n < COUNT; n += 100) {
      // A tick that is late is a run of its own, too.
      await Promise.all(Array.from({ length: 100 }, async (_, i) => await queue.schedule(`tenant:${n + i}`, { every: EVERY, payload: { n: n + i, do: 'work' }, overlap: 'allow', misfire: 'all' })))
    }
    for (let i = 0; i < KILLS; i++) {
      await children.at(-1)?.count('ran', BEFORE_KILL)
      children[i]?.signal('SIGKILL')
      await children[i]?.exit
      children.push(spawn())
    }
    await children.at(-1)?.count('ran', BEFORE_KILL)
    for (let n = 0; n < COUNT; n += 100) await Promise.all(Array.from({ length: 100 }, async (_, i) => await queue.unschedule(`tenant:${n + i}`)))
    await until(async () => {
      const { waiting, active, delayed } = await queue.counts()
      return waiting + active + delayed === 0
    })
    // What Redis has: a process that was killed may have written the end of a run there, and not its line.
    const dues = new Map<string, number[]>()
    for (let cursor: string | undefined; ;) {
      const page = await queue.list({ state: 'succeeded', limit: 1_000, ...cursor !== undefined && { cursor } })
      for (const { schedule = '', dueAt } of page.runs) dues.set(schedule, [...dues.get(schedule) ?? [], Number(dueAt)])
      cursor = page.cursor
      if (cursor === undefined) break
    }
    t.equal(dues.size, COUNT)
    const wrong = [...dues].filter(([, list]) => list.sort((a, b) => a - b).some((due, i) => i > 0 && due - (list[i - 1] as number) !== EVERY))
    t.same(wrong.slice(0, 3), [], 'no tick is left out, and none is there twice')
    const lengths = [...dues.values()].map(({ length }) => length)
    t.ok(Math.min(...lengths) >= KILLS, `${Math.min(...lengths)} to ${Math.max(...lengths)} ticks each`)

    function spawn (): Child { return new Child(t, program, [`--url=${url}`, `--prefix=${prefix}`]) }
  })

  t.test('schedules by the thousand cost no requests while nothing is due', async t => {
    const { url } = await Redis.start(t, ['--appendonly', 'yes', '--appendfsync', 'everysec'])
    const client = new Client(url)
    t.teardown(() => { client.disconnect() })
    const { queue } = await share(t, { connection: url, prefix: 'p' })
    for (let n = 0; n < 2_000; n += 100) await Promise.all(Array.from({ length: 100 }, async (_, i) => await queue.schedule(`tenant:${n + i}`, { every: '7d', payload: { n, do: 'work' } })))
    const count = async (): Promise<number> => Number(/cmdstat_fcall:calls=(\d+)|cmdstat_evalsha:calls=(\d+)/.exec(await client.info('commandstats'))?.slice(1).find(one => one !== undefined))
    await new Promise(resolve => { setTimeout(resolve, 1_500) })
    const before = await count()
    await new Promise(resolve => { setTimeout(resolve, 5_000) })
    // The worker of BullMQ asks now and then, too.
    t.ok(await count() - before <= 5, `${await count() - before} scripts in five seconds`)
  })

  t.test('what cannot be read is said once, and the other schedules go on', async t => {
    const { url } = await Redis.start(t)
    const client = new Client(url)
    t.teardown(() => { client.disconnect() })
    const { queue, lines } = await share(t, { connection: url, prefix: 'p' })
    await queue.schedule('newer', { every: 200, payload: { n: 1, do: 'work' } })
    await client.hset('p:work:schedules:definitions', 'newer', JSON.stringify({ v: 2 }))
    await queue.schedule('no JSON', { every: 200, payload: { n: 1, do: 'work' } })
    await client.hset('p:work:schedules:definitions', 'no JSON', '{')
    await queue.schedule('lost', { every: 200, payload: { n: 1, do: 'work' } })
    await client.hdel('p:work:schedules:definitions', 'lost')
    await queue.schedule('fine', { every: 200, payload: { n: 1, do: 'work' } })
    await until(async () => (await queue.counts()).succeeded >= 3)
    t.match((await queue.list({ state: 'succeeded' })).runs.map(({ schedule }) => schedule), ['fine', 'fine', 'fine'])
    t.same(lines.filter(({ msg }) => /stored schedule/.test(msg)).map(({ schedule }) => schedule).sort(), ['newer', 'no JSON'])
    t.match((await queue.schedules()).schedules.map(({ key }) => key), ['fine', 'lost', 'newer', 'no JSON'])
    t.equal(await queue.unschedule('newer'), true)
  })

  t.test('Redis restarts: schedules are there again, and tick', async t => {
    const redis = await Redis.start(t)
    const { queue } = await share(t, { connection: redis.url, prefix: 'p' })
    await queue.schedule('k', { every: 200, payload: { n: 1, do: 'work' } })
    await until(async () => (await queue.counts()).succeeded >= 1)
    await redis.kill()
    await redis.start()
    let before = 0
    await until(async () => await queue.counts().then(({ succeeded }) => { before = succeeded; return true }, () => false))
    await until(async () => await queue.counts().then(({ succeeded }) => succeeded > before + 1, () => false))
    await queue.unschedule('k')
  })
})
