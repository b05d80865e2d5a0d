// Real processes under real signals. The program is fixtures/server.ts; its shutdownTimeout is 1 s.
import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import t, { type Test } from 'tap'
import { Child, noSignals } from './support/child.ts'

t.jobs = 4 // they mostly wait

/** What a reader sees when all goes well, from the signal on. */
const graceful = ['closing', 'close waits for background tasks', 'consumer hears the signal', 'consumer ends', 'connection closing', 'connection closed', 'database closed', 'background tasks have stopped', 'closed']

const serve = (t: Test, ...args: string[]): Child => new Child(t, 'fixtures/server.ts', args)

/** Opens an event stream, and leaves it open. */
async function openEvents (t: Test, child: Child): Promise<IncomingMessage> {
  const request = get(`${await child.address()}/events`)
  t.teardown(() => { request.destroy() })
  const [response] = await once(request, 'response') as [IncomingMessage]
  response.on('error', () => {}) // it ends when the process does, or when the test destroys it
  await once(response, 'data')
  return response
}

/** How long its close took, in milliseconds. */
async function took (child: Child): Promise<number> {
  const [closing, closed] = await Promise.all([child.line('closing'), child.line('closed')])
  return Number(closed['time']) - Number(closing['time'])
}

/** The messages from 'closing' on. */
function afterSignal (child: Child): string[] {
  return child.messages.slice(child.messages.indexOf('closing'))
}

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  t.test(`${signal} through close-with-grace: tasks end before what they use, and the process exits with 0`, { skip: noSignals }, async t => {
    const child = serve(t)
    await child.address()
    await child.line('consumer runs')
    child.signal(signal)
    t.same(await child.exit, { code: 0, signal: null })
    t.equal((await child.line('closing')).signal, signal)
    t.equal((await child.line('consumer hears the signal')).reason, 'FST_BG_SHUTDOWN')
    t.same(afterSignal(child), graceful)
    t.notMatch(child.rest, /error|unhandled/i)
  })
}

t.test('SIGTERM that leads to close() and nothing else: nothing is left that keeps the process up', { skip: noSignals }, async t => {
  const child = serve(t, '--bare')
  await child.address()
  await child.line('consumer runs')
  child.signal('SIGTERM')
  t.same(await child.exit, { code: 0, signal: null })
  t.same(afterSignal(child), graceful)
  t.notMatch(child.rest, /error|unhandled/i)
})

t.test('a signal while a hosted service starts: what has started is stopped, and the process exits with 0', { skip: noSignals }, async t => {
  const child = serve(t, '--start=ends')
  await child.line('connection open')
  child.signal('SIGTERM')
  t.same(await child.exit, { code: 0, signal: null })
  t.same(child.messages.slice(-5), ['connection closing', 'connection closed', 'database closed', 'background tasks have stopped', 'closed'])
})

t.test('a signal while a hosted service starts that listens to its own: the start is cut short, and the process exits with 0 at once', { skip: noSignals }, async t => {
  const child = serve(t, '--start=listens')
  await child.line('connection open')
  child.signal('SIGTERM')
  t.same(await child.exit, { code: 0, signal: null })
  t.same(child.messages.slice(-3), ['database closed', 'background tasks have stopped', 'closed'])
  t.notOk(child.messages.includes('consumer runs'), 'nothing else starts')
  t.ok(await took(child) < 1_000, 'long before the deadline')
})

t.test('a signal while a hosted service starts that ignores its own: close ends at the deadline, and names it', { skip: noSignals }, async t => {
  const child = serve(t, '--start=deaf')
  await child.line('connection open')
  child.signal('SIGTERM')
  t.same(await child.exit, { code: 0, signal: null })
  t.match(child.lines.find(({ err }) => (err as { code?: string } | undefined)?.code === 'FST_BG_SHUTDOWN_TIMEOUT'), { level: 50, err: { message: /connection/ } })
  t.ok(await took(child) < 5_000, 'not when the boot times out')
})

t.test('a signal while somebody else\'s onReady hook is slow: what runs hears of it at once, and the process exits with 0', { skip: noSignals }, async t => {
  const child = serve(t, '--slow-hook')
  await child.line('hook waits')
  await child.line('consumer runs')
  child.signal('SIGTERM')
  t.same(await child.exit, { code: 0, signal: null })
  const { messages } = child
  t.ok(messages.indexOf('consumer ends') < messages.indexOf('hook ends'), 'before the boot has ended')
  t.same(messages.slice(-5), ['connection closing', 'connection closed', 'database closed', 'background tasks have stopped', 'closed'])
})

t.test('a task that ignores its signal is named at the deadline, and does not keep the process from exiting with 0', { skip: noSignals }, async t => {
  const child = serve(t, '--stubborn')
  await child.address()
  await child.line('consumer runs')
  child.signal('SIGTERM')
  t.same(await child.exit, { code: 0, signal: null })

  const late = await child.line('shutdown deadline passed')
  t.match(late, {
    level: 50,
    tasks: ['connection', 'stubborn'],
    err: { code: 'FST_BG_SHUTDOWN_TIMEOUT', message: '"stubborn" (still runs)' }
  })
  const messages = afterSignal(child)
  t.same(messages.slice(0, 6), ['closing', 'close waits for background tasks', 'consumer hears the signal', 'consumer ends', 'shutdown deadline passed', 'connection closing'])
  t.same(messages.filter(msg => ['connection closing', 'database closed', 'closed'].includes(msg)), ['connection closing', 'database closed', 'closed'])
})

t.test('tasks hear of the signal at once, while an event stream holds back everything that comes after', { skip: noSignals }, async t => {
  const child = serve(t)
  const events = await openEvents(t, child)
  await child.line('consumer runs')
  child.signal('SIGTERM')
  await child.line('consumer ends')
  t.same(afterSignal(child), ['closing', 'close waits for background tasks', 'consumer hears the signal', 'consumer ends'])
  events.destroy()
  t.same(await child.exit, { code: 0, signal: null })
  t.same(afterSignal(child), graceful)
})

t.test('an event stream that never ends: the deadline names what has not stopped before the process is killed', { skip: noSignals }, async t => {
  const child = serve(t, '--stubborn', '--delay=2500')
  await openEvents(t, child)
  await child.line('consumer runs')
  child.signal('SIGTERM')
  t.same(await child.exit, { code: 1, signal: null })

  t.match(await child.line('shutdown deadline passed'), {
    level: 50,
    tasks: ['connection', 'stubborn'],
    err: { code: 'FST_BG_SHUTDOWN_TIMEOUT', message: /"connection" \(waits for its stop.*"stubborn" \(still runs\)/ }
  })
  t.same(afterSignal(child), ['closing', 'close waits for background tasks', 'consumer hears the signal', 'consumer ends', 'shutdown deadline passed', 'killed by timeout (2500ms)'], 'no onClose hook ran')
})
