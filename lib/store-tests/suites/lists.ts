// What can be seen of the runs: counts, pages, progress.
import type { ListedState, QueuedRun } from '../../index.ts'
import type { Suite } from '../suite.ts'
import { held, list, nextMillisecond, until, rejection, wholes } from '../support.ts'

/** Longer than a test takes. */
const LONG = '1h'
const FAST = { delay: 1, jitter: false }

export function lists ({ holds }: Suite): void {
  holds('runs are counted by their state', async (t, name, open) => {
    const { app } = await open()
    const hand = held()
    const queue = app.addBackgroundQueue(name, { keep: { succeeded: { count: 10 } } }, hand.handler)
    await app.ready()
    t.same(await queue.counts(), { waiting: 0, delayed: 0, active: 0, succeeded: 0, failed: 0 })
    for (const payload of ['succeeds', 'fails', 'runs', 'waits', 'waits too']) await queue.enqueue(payload)
    await queue.enqueue('delayed', { delay: LONG })
    ;(await hand.call(0)).end()
    ;(await hand.call(1)).fail(new Error('no'))
    await hand.call(2)
    t.same(await queue.counts(), { waiting: 2, delayed: 1, active: 1, succeeded: 1, failed: 1 })
    t.equal(queue.stats.active, 1)
    for (const [state, payloads] of Object.entries({ waiting: ['waits', 'waits too'], delayed: ['delayed'], active: ['runs'], succeeded: ['succeeds'], failed: ['fails'] })) {
      const runs = await list(queue, state as ListedState)
      t.same(runs.map(({ payload }) => payload), payloads)
      t.ok(runs.every(run => run.state === state))
    }
    const { stats } = queue
    hand.endAll()
    await until(async () => (await queue.counts()).waiting + (await queue.counts()).active === 0)
    t.match(stats, { succeeded: 1, failed: 1 })
    await queue.clear('delayed')
  })

  holds('runs are listed by the page', async (t, name, open) => {
    const { app } = await open()
    const queue = app.addBackgroundQueue(name, async () => {
      await nextMillisecond()
      throw new Error('no')
    })
    await app.ready()
    await queue.pause()
    for (let i = 0; i < 7; i++) await queue.enqueue(i)
    const pages = async (state: ListedState, limit: number): Promise<unknown[][]> => {
      const found: unknown[][] = []
      let cursor: string | undefined
      do {
        const page = await queue.list({ state, limit, cursor })
        found.push(page.runs.map(({ payload }) => payload))
        cursor = page.cursor
      } while (cursor !== undefined)
      return found
    }
    t.same(await pages('waiting', 3), [[0, 1, 2], [3, 4, 5], [6]])
    t.same(await pages('waiting', 7), [[0, 1, 2, 3, 4, 5, 6]], 'no empty page at the end')
    t.same(await pages('waiting', 1_000), [[0, 1, 2, 3, 4, 5, 6]])
    t.same(await pages('delayed', 3), [[]])
    await queue.resume()
    await queue.drain()
    t.same(await pages('failed', 5), [[6, 5, 4, 3, 2], [1, 0]], 'what has ended, the newest first')
  })

  holds('a run that is in a state from the first page to the last is listed once, whatever comes and goes meanwhile', async (t, name, open) => {
    const below = wholes(7)
    const { app } = await open()
    const states = ['waiting', 'delayed', 'failed', 'succeeded'] as const
    const keep = { succeeded: { count: 1_000 }, failed: { count: 1_000 } }
    const queue = app.addBackgroundQueue(name, { keep, concurrency: 20 }, ({ payload }) => { if (payload === 'failed') throw new Error('no') })
    await app.ready()
    for (const state of states) {
      const add = async (): Promise<string> => (await queue.enqueue(state, { ...state === 'delayed' && { delay: 3_600_000 + below(3) }, priority: below(3) })).id
      const fill = async (count: number): Promise<Set<string>> => {
        const ids = new Set<string>()
        for (let i = 0; i < count; i++) ids.add(await add())
        return ids
      }
      if (state === 'waiting') await queue.pause()
      else if (state !== 'delayed') await queue.resume()
      for (let round = 0; round < 6; round++) {
        const there = await fill(60)
        if (state === 'failed' || state === 'succeeded') await until(async () => (await queue.counts())[state] === 60)
        const seen: string[] = []
        const fresh: string[] = []
        const limit = 1 + below(20)
        // A whole page at times, and the page behind it.
        const sweeps = below(2) === 0
        let cursor: string | undefined
        do {
          const page = await queue.list({ state, limit, cursor })
          t.ok(page.runs.length <= limit)
          t.ok(page.runs.every(run => run.state === state))
          seen.push(...page.runs.map(({ id }) => id))
          cursor = page.cursor
          const removed = [...sweeps ? page.runs.map(({ id }) => id) : [], ...[...there].filter(() => below(20) === 0)]
          for (const id of removed) if (there.delete(id)) await queue.remove(id)
          // No more than these: a page of one run that brings one new run each time would never end.
          if (fresh.length < 60 && (state === 'waiting' || state === 'delayed')) for (let i = below(3); i > 0; i--) fresh.push(await add())
        } while (cursor !== undefined)
        t.equal(new Set(seen).size, seen.length, `${state}: none twice`)
        t.same([...there].filter(id => !seen.includes(id)), [], `${state}: none left out`)
        await queue.clear(state)
      }
    }
  })

  holds('paging goes on where it was when the runs around the position are gone, and where they have come back', async (t, name, open) => {
    const { app } = await open()
    const hand = held()
    const queue = app.addBackgroundQueue(name, { retry: { limit: 1, ...FAST } }, hand.handler)
    await app.ready()
    await queue.pause()
    const ids: string[] = []
    for (let i = 0; i < 60; i++) ids.push((await queue.enqueue(i)).id)
    const first = await queue.list({ state: 'waiting', limit: 30 })
    t.same(first.runs.map(({ id }) => id), ids.slice(0, 30))
    // Both sides of the position, farther than one would remember.
    for (const id of ids.slice(8, 52)) await queue.cancel(id)
    const second = await queue.list({ state: 'waiting', limit: 4, cursor: first.cursor })
    t.same(second.runs.map(({ id }) => id), ids.slice(52, 56))
    t.same((await queue.list({ state: 'waiting', limit: 4, cursor: first.cursor })).runs.map(({ id }) => id), ids.slice(52, 56), 'a cursor can be used again')
    // One runs, is interrupted, and goes back to the front.
    await queue.resume()
    await hand.call(0)
    await queue.pause()
    t.same((await queue.list({ state: 'waiting', limit: 9, cursor: second.cursor })).runs.map(({ id }) => id), ids.slice(56))
    await queue.stop()
    await until(async () => (await queue.counts()).active === 0)
    t.equal((await list(queue, 'waiting'))[0]?.id, ids[0])
    t.same((await queue.list({ state: 'waiting', limit: 9, cursor: second.cursor })).runs.map(({ id }) => id), ids.slice(56))
    await queue.clear('waiting')
    t.same(await queue.list({ state: 'waiting', limit: 9, cursor: second.cursor }), { runs: [], cursor: undefined })
    hand.endAll()
  })

  holds('a failed run that cannot be retried keeps its place in the list', async (t, name, open) => {
    const { app } = await open()
    const queue = app.addBackgroundQueue(name, ({ payload }) => { if (payload !== 'holds the key') throw new Error('no') })
    await app.ready()
    for (const key of ['a', 'b', 'c']) {
      await queue.enqueue(key, { key })
      await queue.drain()
    }
    await queue.pause()
    await queue.enqueue('holds the key', { key: 'a' })
    const before = await list(queue, 'failed')
    t.match(await rejection(queue.retry((before[2] as QueuedRun).id)), { code: 'FST_BG_INVALID_OPTION', message: /another with its key "a"/ })
    t.same(await list(queue, 'failed'), before)
    await queue.clear('waiting')
  })

  holds('a cursor that is none of the state is refused', async (t, name, open) => {
    const { app } = await open()
    const queue = app.addBackgroundQueue(name, { enabled: false }, () => {})
    await app.ready()
    for (let i = 0; i < 3; i++) await queue.enqueue(i, { priority: i })
    const { cursor = '' } = await queue.list({ state: 'waiting', limit: 1 })
    const { cursor: next = '' } = await queue.list({ state: 'waiting', limit: 1, cursor })
    const forged = ['null', '[]', '["waiting"]', '["waiting",null]', '["waiting",[]]', '["waiting",["x","y"]]', '["waiting",[1e999,"y"]]', '["waiting",["x",1,[]]]']
    for (const bad of ['x', '100', '-1', ...forged.map(text => Buffer.from(text).toString('base64url'))]) {
      t.match(await rejection(queue.list({ state: 'waiting', cursor: bad })), { code: 'FST_BG_INVALID_OPTION', message: /option "cursor" must be what the page before gave; received/ }, bad)
    }
    for (const state of ['delayed', 'active', 'succeeded', 'failed'] as const) {
      for (const other of [cursor, next]) t.match(await rejection(queue.list({ state, cursor: other })), { code: 'FST_BG_INVALID_OPTION' }, state)
    }
    await queue.clear('waiting')
  })

  holds('how far a run is, is kept with it', async (t, name, open) => {
    const { app } = await open()
    const hand = held()
    const queue = app.addBackgroundQueue(name, { keep: { succeeded: { count: 1 } } }, hand.handler)
    await app.ready()
    const { id } = await queue.enqueue(1)
    const { run, end } = await hand.call(0)
    t.equal((await list(queue, 'active'))[0]?.progress, undefined)
    run.progress(0)
    run.progress(0.5)
    await until(async () => (await list(queue, 'active'))[0]?.progress === 0.5)
    const { progress } = run
    const own = { done: 3, of: 4 }
    progress(own)
    own.done = 4
    await until(async () => typeof (await list(queue, 'active'))[0]?.progress === 'object')
    t.same((await list(queue, 'active'))[0]?.progress, { done: 3, of: 4 })
    for (const wrong of [-0.1, 1.1, NaN, 'half', null, undefined, true, { big: 1n }]) {
      t.throws(() => { run.progress(wrong as number) }, { code: 'FST_BG_INVALID_OPTION' })
    }
    end()
    await queue.drain()
    t.match(await list(queue, 'succeeded'), [{ id, progress: { done: 3, of: 4 } }])
    run.progress(1)
    t.match(await list(queue, 'succeeded'), [{ id }], 'what is said after the end is harmless')
  })

  holds('ended runs are kept as the queue says', async (t, name, open) => {
    const { app } = await open()
    const queue = app.addBackgroundQueue(name, { keep: { succeeded: { count: 2 }, failed: { count: 1 } } }, async ({ payload }) => {
      await nextMillisecond()
      if (String(payload).startsWith('f')) throw new Error('no')
    })
    const none = app.addBackgroundQueue(`${name}-none`, { keep: { succeeded: { count: 0 }, failed: { count: 0 } } }, ({ payload }) => {
      if (payload === 'f') throw new Error('no')
    })
    await app.ready()
    for (const payload of ['s1', 'f1', 's2', 's3', 'f2']) await queue.enqueue(payload)
    for (const payload of ['s', 'f']) await none.enqueue(payload)
    await app.backgroundTasks.drain()
    t.same(await queue.counts(), { waiting: 0, delayed: 0, active: 0, succeeded: 2, failed: 1 })
    t.same((await list(queue, 'succeeded')).map(({ payload }) => payload), ['s3', 's2'])
    t.same((await list(queue, 'failed')).map(({ payload }) => payload), ['f2'])
    t.same(await none.counts(), { waiting: 0, delayed: 0, active: 0, succeeded: 0, failed: 0 })
    t.match(none.stats, { succeeded: 1, failed: 1 })
  })

  holds('ended runs are kept by their age alone', async (t, name, open) => {
    const { app } = await open()
    const queue = app.addBackgroundQueue(name, { keep: { succeeded: { age: LONG }, failed: { age: LONG } } }, async ({ payload }) => {
      await nextMillisecond()
      if (String(payload).startsWith('f')) throw new Error('no')
    })
    await app.ready()
    for (const payload of ['s1', 'f1', 's2', 's3', 'f2']) await queue.enqueue(payload)
    await queue.drain()
    t.same((await list(queue, 'succeeded')).map(({ payload }) => payload), ['s3', 's2', 's1'])
    t.same((await list(queue, 'failed')).map(({ payload }) => payload), ['f2', 'f1'])
  })
}
