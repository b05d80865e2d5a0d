// A queue behind HTTP, under more load than it can take, in a process of its own: no payload is lost without a word, nor run twice.
import autocannon from 'autocannon'
import { once } from 'node:events'
import t, { type Test } from 'tap'
import { Child, noSignals, type LogLine } from '../support/child.ts'

const serve = (t: Test, env: NodeJS.ProcessEnv = {}): Child => new Child(t, 'fixtures/queue.ts', [], env)

/** Load from 40 clients, and how many answers there were with which status. Bounded, whatever befalls the server. */
function load (t: Test, url: string, bounds: { amount: number } | { duration: number }): { answers: Map<number, number>, instance: autocannon.Instance, done: Promise<autocannon.Result> } {
  const answers = new Map<number, number>()
  let instance!: autocannon.Instance
  const done = new Promise<autocannon.Result>(resolve => {
    instance = autocannon({ url, method: 'POST', connections: 40, timeout: 5, ...bounds }, (_error, result) => { resolve(result) })
  })
  instance.on('response', (_client, status) => { answers.set(status, (answers.get(status) ?? 0) + 1) })
  t.teardown(() => { (instance as unknown as { stop (): void }).stop() })
  return { answers, instance, done }
}

/** How many runs the log says were left. */
function leftOf (lines: LogLine[]): number {
  return lines.filter(({ task, count }) => task === 'work' && count !== undefined).reduce((sum, { count }) => sum + Number(count), 0)
}

/** What the process counted; each payload that it accepted has to be in it exactly once. */
async function account (t: Test, child: Child): Promise<{ accepted: number, refused: number, late: number, left: number }> {
  t.same(await child.exit, { code: 0, signal: null })
  const closed = await child.line('closed') as unknown as { accepted: number, refused: number, late: number, handled: number, doubled: number, stats: { succeeded: number, failed: number, cancelled: number } }
  const { accepted, refused, late, stats: { succeeded, failed, cancelled } } = closed
  const left = leftOf(child.lines)
  t.comment(JSON.stringify({ ...closed, left }))
  t.equal(accepted, succeeded + failed + left, 'accepted = succeeded + failed + reported left')
  t.equal(cancelled, left, 'the handle counts as many as the log')
  t.equal(closed.handled, succeeded + failed, 'each handled run is of a payload of its own')
  t.equal(closed.doubled, 0, 'none ran twice')
  t.equal(child.rest, '')
  return { accepted, refused, late, left }
}

t.test('each request that a full queue accepts is answered with 202, each that it refuses with 503, and nothing else', { skip: noSignals }, async t => {
  const child = serve(t)
  const { answers, done } = load(t, await child.address(), { amount: 4_000 })
  const { errors, timeouts } = await done
  t.same({ errors, timeouts }, { errors: 0, timeouts: 0 })
  child.signal('SIGTERM')
  const { accepted, refused, late, left } = await account(t, child)
  t.ok(accepted > 0 && refused > 0, 'there was more than it could take', { accepted, refused })
  t.same(Object.fromEntries(answers), { 202: accepted, 503: refused })
  t.equal(accepted + refused, 4_000)
  t.equal(late, 0)
  t.equal(left, 0)
})

for (const [what, env, left] of [
  ['what was accepted is finished within the grace', {}, false],
  ['what the grace is too short for is counted in the log', { WORK: '100', SHUTDOWN_TIMEOUT: '400ms' }, true]
] as const) {
  t.test(`SIGTERM in the middle of the load: ${what}, and the process exits with 0`, { skip: noSignals }, async t => {
    const child = serve(t, env)
    const { answers, instance, done } = load(t, await child.address(), { duration: 20 })
    while ((answers.get(202) ?? 0) < 300 || (answers.get(503) ?? 0) < 100) await once(instance, 'response')
    child.signal('SIGTERM')
    const counted = await account(t, child)
    ;(instance as unknown as { stop (): void }).stop()
    await done
    t.equal(counted.left > 0, left)
    t.ok(counted.accepted >= (answers.get(202) ?? 0), 'none was answered with 202 and not accepted')
    t.same([...answers.keys()].sort(), [202, 503])
  })
}
