// Who waits for the end of a run over Redis hears it, although processes and Redis itself come and go. The program is fixtures/durable.ts.
import { randomUUID } from 'node:crypto'
import { Redis as Client } from 'ioredis'
import t, { type Test } from 'tap'
import { rejection } from '../../support/helper.ts'
import { built, Child, noSignals } from '../../support/child.ts'
import { needsRedis, Redis } from '../../support/redis.ts'
import { share, until } from '../../support/shared.ts'

const { skip } = needsRedis(true)
const program = built('durable')

/** How many commands Redis has taken. */
async function commands (client: Client): Promise<number> {
  return Number(/total_commands_processed:(\d+)/.exec(await client.info('stats'))?.[1])
}

t.test('over a Redis of our own', { skip: skip ?? noSignals }, async t => {
  t.test('the process that runs it is killed: the run ends elsewhere, and who waits is told', async t => {
    const { url } = await Redis.start(t)
    const prefix = randomUUID()
    const { queue } = await share(t, { connection: url, prefix, lease: '1s' }, { autostart: false })
    const { id } = await queue.enqueue({ n: 1, do: 'hold' })
    const waits = queue.finished(id)
    const first = spawn(t, url, prefix, '--lease=1s')
    await first.line('begins')
    first.signal('SIGKILL')
    await first.exit
    const second = spawn(t, url, prefix, '--lease=1s')
    await second.line('begins')
    second.signal('SIGUSR2')
    t.match(await waits, { outcome: 'succeeded' })
  })

  t.test('a payload that kills every process: who waits is told that the run has failed', async t => {
    const { url } = await Redis.start(t)
    const prefix = randomUUID()
    const { queue } = await share(t, { connection: url, prefix, lease: '1s' }, { autostart: false })
    const { id } = await queue.enqueue({ n: 1, do: 'die' })
    const waits = queue.finished(id)
    for (let i = 0; i < 2; i++) spawn(t, url, prefix, '--lease=1s', '--max-crashes=1')
    t.match(await waits, { outcome: 'failed', error: { message: /^the process that ran it has died/ } })
  })

  t.test('Redis restarts while some wait: a run that ends after that is told, and one that ended meanwhile', async t => {
    const redis = await Redis.start(t)
    const prefix = randomUUID()
    const { queue } = await share(t, { connection: redis.url, prefix }, { autostart: false })
    const worker = await share(t, { connection: redis.url, prefix }, {}, { keep: { succeeded: { count: 1 } } }, async ({ payload }) => {
      if (payload.n === 9) throw new RangeError('no')
    })
    await worker.queue.pause()
    const { id } = await queue.enqueue({ n: 1, do: 'work' })
    const failing = await queue.enqueue({ n: 9, do: 'work' })
    const delayed = await queue.enqueue({ n: 2, do: 'work' }, { delay: '1h' })
    const waits = [queue.finished(id), queue.finished(failing.id)]
    const gone = rejection(queue.finished(delayed.id))
    await until(async () => (await queue.counts()).waiting === 2)
    await redis.kill()
    await redis.start()
    // Somebody else than the listener does all at once, as soon as it can.
    const direct = new Client(redis.url)
    t.teardown(() => { direct.disconnect() })
    await until(async () => await worker.queue.remove(delayed.id).then(() => true, () => false))
    await worker.queue.resume()
    t.match(await Promise.all(waits), [{ outcome: 'succeeded' }, { outcome: 'failed', error: { name: 'RangeError', message: 'no' } }])
    t.match(await gone, { code: 'FST_BG_NOT_FOUND' })
  })

  t.test('Redis loses everything: who waits is told that the run is gone', async t => {
    const redis = await Redis.start(t, [])
    const { queue } = await share(t, { connection: redis.url, prefix: 'p' }, { autostart: false })
    const { id } = await queue.enqueue({ n: 1, do: 'work' })
    const gone = rejection(queue.finished(id))
    await until(async () => (await queue.get(id)) !== undefined)
    await redis.kill()
    await redis.start()
    t.match(await gone, { code: 'FST_BG_NOT_FOUND' })
  })

  t.test('a wait that begins while Redis is away is refused within 5 s', async t => {
    const redis = await Redis.start(t)
    const { queue } = await share(t, { connection: redis.url, prefix: 'p' }, { autostart: false })
    const { id } = await queue.enqueue({ n: 1, do: 'work' })
    await redis.kill()
    const began = Date.now()
    t.match(await rejection(queue.finished(id)), { code: 'FST_BG_STORE_UNAVAILABLE', statusCode: 503 })
    t.ok(Date.now() - began < 5_000)
    await redis.start()
  })

  t.test('a thousand that wait cost no more requests than one', async t => {
    const redis = await Redis.start(t)
    const client = new Client(redis.url)
    t.teardown(() => { client.disconnect() })
    const { queue } = await share(t, { connection: redis.url, prefix: 'p' }, { autostart: false })
    const items = Array.from({ length: 1_000 }, (_, n) => n)
    const ids = await Promise.all(items.map(async n => (await queue.enqueue({ n, do: 'work' })).id))
    const waits = ids.map(async id => await rejection(queue.finished(id)))
    // Until the looks at the beginning are over.
    await until(async () => {
      const before = await commands(client)
      const began = performance.now()
      await new Promise(resolve => { setTimeout(resolve, 3_000) })
      return (await commands(client) - before) / (performance.now() - began) * 1_000 < 10
    })
    t.pass('less than ten commands a second')
    await queue.clear('waiting')
    t.ok((await Promise.all(waits)).every(({ code }) => code === 'FST_BG_NOT_FOUND'))
  })

  function spawn (t: Test, url: string, prefix: string, ...args: string[]): Child {
    return new Child(t, program, [`--url=${url}`, `--prefix=${prefix}`, ...args])
  }
})
