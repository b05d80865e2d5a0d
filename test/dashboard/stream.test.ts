// The live stream: what viewers get, how many there may be, and that none holds anything up.
import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { Viewers } from '../../lib/dashboard/stream.ts'
import { Clock } from '../../lib/time/index.ts'
import { withDashboard } from '../support/dashboard.ts'
import { deferred } from '../support/helper.ts'

interface Viewer { response: IncomingMessage, messages: any[], message (wanted: (message: any) => boolean): Promise<any> }

async function view (address: string): Promise<Viewer> {
  const [response] = await once(get(`${address}/tasks/api/events`), 'response') as [IncomingMessage]
  response.on('error', () => {})
  response.setEncoding('utf8')
  const messages: any[] = []
  const waiting = new Set<() => void>()
  let text = ''
  response.on('data', (chunk: string) => {
    text += chunk
    const parts = text.split('\n\n')
    text = parts.pop() ?? ''
    messages.push(...parts.filter(part => part.startsWith('data: ')).map(part => JSON.parse(part.slice(6)) as unknown))
    for (const look of waiting) look()
  })
  const message = async (wanted: (message: any) => boolean): Promise<any> => await new Promise(resolve => {
    const look = (): void => {
      const found = messages.find(wanted)
      if (found === undefined) return
      waiting.delete(look)
      resolve(found)
    }
    waiting.add(look)
    look()
  })
  return { response, messages, message }
}

async function listening (t: Parameters<typeof withDashboard>[0]): Promise<{ app: FastifyInstance, address: string }> {
  const { app } = await withDashboard(t)
  app.addBackgroundTask('a', { every: '1h' }, async () => { throw new Error('no') })
  return { app, address: await app.listen({ port: 0 }) }
}

t.test('a viewer hears of what changes, at most once a second', async t => {
  const { app, address } = await listening(t)
  const { response, messages, message } = await view(address)
  t.match(response.headers, { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-content-type-options': 'nosniff', connection: 'close' })
  t.match(await message(() => true), { health: { status: 'ok' }, process: { pid: process.pid } })
  app.backgroundTasks.get('a')?.trigger()
  t.match(await message(({ health }) => health.status === 'degraded'), { failures: [{ task: 'a', error: { message: 'no' } }] })
  const began = messages.length
  const at = performance.now()
  await message(() => messages.length >= began + 2)
  // Two messages more take more than a second, whenever the first of them comes.
  t.ok(performance.now() - at > 900)
  response.destroy()
})

t.test('there are twenty viewers at most: the next is told to poll, until one leaves', async t => {
  const { address } = await listening(t)
  const viewers = await Promise.all(Array.from({ length: 20 }, async () => await view(address)))
  await Promise.all(viewers.map(async ({ message }) => await message(() => true)))
  const refused = await fetch(`${address}/tasks/api/events`)
  t.equal(refused.status, 503)
  t.equal(refused.headers.get('retry-after'), '5')
  t.match(await refused.json(), { poll: true, message: '20 viewers watch already: poll api/overview instead.' })
  t.equal((await fetch(`${address}/tasks/api/overview`)).status, 200)
  viewers[0]?.response.destroy()
  for (let status = 503; status !== 200;) {
    const { response } = await view(address)
    status = response.statusCode ?? 0
    response.destroy()
  }
})

t.test('close ends five streams within a second', async t => {
  const { app, address } = await listening(t)
  const viewers = await Promise.all(Array.from({ length: 5 }, async () => await view(address)))
  await Promise.all(viewers.map(async ({ message }) => await message(() => true)))
  const ends = viewers.map(async ({ response }) => { await once(response, 'end') })
  const began = performance.now()
  await app.close()
  const took = performance.now() - began
  t.ok(took < 1_000, `${took} ms`)
  await Promise.all(ends)
})

t.test('close is not held up by a viewer that does not read', async t => {
  const { app, address } = await listening(t)
  const { port } = new URL(address)
  const socket = connect(Number(port), '127.0.0.1')
  socket.on('error', () => {})
  t.teardown(() => { socket.destroy() })
  await once(socket, 'connect')
  socket.pause()
  socket.write('GET /tasks/api/events HTTP/1.1\r\nhost: a\r\n\r\n')
  const other = await view(address)
  await other.message(() => true)
  const began = performance.now()
  await app.close()
  t.ok(performance.now() - began < 3_000)
})

t.test('a viewer that does not read is cut off after 1 MB', async t => {
  const viewers = new Viewers(new Clock(), async () => 'x'.repeat(600_000))
  const reads = viewers.add() as Readable
  let got = 0
  reads.on('data', (chunk: Buffer) => { got += chunk.length })
  const stalls = viewers.add() as Readable
  await once(stalls, 'close')
  t.ok(stalls.readableLength >= 0 && stalls.destroyed)
  t.ok(got > 600_000, 'who reads goes on')
  t.equal(viewers.size, 1)
  await viewers.end()
  t.equal(viewers.size, 0)
  t.equal(viewers.add(), undefined, 'nobody comes in after the end')
})

t.test('a message that cannot be made is left out, and the stream goes on', async t => {
  let calls = 0
  const viewers = new Viewers(new Clock(), async () => {
    if (++calls === 1) throw new Error('no')
    return calls
  })
  const stream = viewers.add() as Readable
  stream.setEncoding('utf8')
  const message = deferred<string>()
  stream.on('data', (text: string) => { if (text.startsWith('data')) message.resolve(text) })
  t.equal(await message.promise, 'data: 2\n\n')
  await viewers.end()
})

t.test('inject works, and gives the beginning of the stream', async t => {
  const { app } = await withDashboard(t)
  const response = await app.inject({ url: '/tasks/api/events', payloadAsStream: true })
  const [first] = await once(response.stream(), 'data') as [Buffer]
  t.equal(first.toString(), ': live\n\n')
  response.stream().destroy()
})
