// Random sequences of what can be asked of a task, and of what can happen to it. One that breaks a promise is cut down as far as
// it still does, and printed with its seed; to replay it: KIND=service SEED=7 npx tap --disable-coverage test/task/property.test.ts
import { setImmediate } from 'node:timers/promises'
import FakeTimers from '@sinonjs/fake-timers'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import backgroundTasks, { GiveUp, type BackgroundTask, type Run } from '../../lib/index.ts'
import type { TaskState } from '../../lib/task/states.ts'
import { START, turns } from '../support/fakes.ts'
import { deferred, watchUnhandled, type Deferred } from '../support/helper.ts'
import { generator } from '../support/random.ts'
import { seededRandom, sequence, watchTasks, type Seen, type Step } from '../support/sequences.ts'

const SEQUENCES = Number(process.env.SEQUENCES ?? 400)
const LENGTH = 25
const SHUTDOWN_TIMEOUT = 3_000
const START_TIMEOUT = 1_500

type Kind = 'service' | 'hosted' | 'skip' | 'wait' | 'allow'

/** What is asked of the task, from outside. */
const asks = ['start', 'stop', 'pause', 'resume', 'trigger', 'cancel', 'remove'] as const
/** What happens to it, or to its server. */
type Event = 'succeed' | 'fail' | 'give up' | 'pass' | 'block' | 'turn' | 'drain' | 'health' | 'close'
type Op = typeof asks[number] | Event

/** The ops, each as often as it is to come up. */
const lottery: readonly Op[] = [
  ...Array<readonly Op[]>(5).fill([...asks.slice(0, 6), 'succeed', 'fail', 'pass', 'pass', 'turn']).flat(),
  'block', 'give up', 'give up', 'drain', 'health', 'remove', 'close'
]

/** What a call of the handler does. What is held ends when a step says so, or when its signal aborts; what hangs, only when a step says so. */
const behaviours = [
  'returns', 'returns', 'throws', 'throws', 'throws at once', 'throws undefined', 'gives up',
  'holds', 'holds', 'holds', 'holds, and returns when aborted', 'hangs',
  'stops itself', 'stops itself meanwhile', 'pauses itself', 'cancels itself', 'removes itself', 'triggers itself', 'restarts itself meanwhile'
] as const

t.test('a service keeps its promises, whatever is asked and whatever happens', async t => { await holds(t, 'service') })
t.test('a hosted service does', async t => { await holds(t, 'hosted') })
t.test('a timed task that skips ticks does', async t => { await holds(t, 'skip') })
t.test('a timed task whose ticks wait does', async t => { await holds(t, 'wait') })
t.test('a timed task whose runs may overlap does', async t => { await holds(t, 'allow') })

async function holds (t: Test, kind: Kind): Promise<void> {
  const { KIND = kind, SEED } = process.env
  if (KIND !== kind) return
  const seen: Seen = { states: new Set(), outcomes: new Set(), runs: 0 }
  const seeds = SEED === undefined ? Array.from({ length: SEQUENCES }, (_, i) => i + 1) : [Number(SEED)]
  for (const seed of seeds) {
    const steps = sequence(seed, LENGTH, lottery)
    const broken = await play(kind, seed, steps, seen)
    if (broken.length === 0) continue
    const shortest = await shorten(kind, seed, steps)
    const story: string[] = []
    t.fail(`KIND=${kind} SEED=${seed}: ${(await play(kind, seed, shortest, seen, story)).join('; ')}`, { at: null, story, first: broken })
    return
  }
  t.pass(`${seeds.length} sequences, ${seen.runs} runs`)
  if (SEED !== undefined) return
  t.ok(seen.runs > seeds.length, 'there were runs', { runs: seen.runs })
  const states: TaskState[] = kind === 'service' || kind === 'hosted' ? ['idle', 'running', 'paused', 'stopping', 'stopped', 'failed'] : ['idle', 'running', 'backoff', 'paused', 'stopping', 'stopped']
  t.same(states.filter(state => !seen.states.has(state)), [], 'the states have come up')
  t.same(['succeeded', 'failed', 'cancelled', 'skipped'].filter(outcome => !seen.outcomes.has(outcome)), [], 'the outcomes have come up')
}

/** Leaves out every step without which something still breaks. */
async function shorten (kind: Kind, seed: number, steps: Array<Step<Op>>): Promise<Array<Step<Op>>> {
  let shortest = steps
  for (let size = 8; size >= 1; size = Math.floor(size / 2)) {
    for (let i = shortest.length - size; i >= 0; i--) {
      const fewer = shortest.toSpliced(i, size)
      if ((await play(kind, seed, fewer)).length > 0) shortest = fewer
    }
  }
  return shortest
}

/** Plays one sequence on a server of its own, to its close. Returns what has been broken. */
async function play (kind: Kind, seed: number, steps: Array<Step<Op>>, seen?: Seen, story: string[] = []): Promise<string[]> {
  const broken: string[] = []
  const clock = FakeTimers.install({ now: START, toFake: ['setTimeout', 'clearTimeout', 'Date', 'performance'] })
  const restore = [() => { clock.uninstall() }, watchUnhandled(error => { broken.push(`unhandled: ${String(error)}`) }), seededRandom(seed)]
  const watched = watchTasks(broken, seen)
  restore.push(watched.restore)
  const say = (what: string): void => { story.push(`${clock.now - START} ms, ${task?.state}: ${what}`) }
  // Of its own, so that a sequence with a step less goes on as before.
  const random = generator(seed)
  const pick = <T>(all: readonly T[], n = random()): T => all[Math.floor(n * all.length)] as T

  // What has been asked, and has to come to an end.
  const pending = new Map<object, string>()
  const track = (what: string, work: PromiseLike<unknown>): void => {
    const key = {}
    pending.set(key, what)
    work.then(() => { pending.delete(key) }, (error: unknown) => {
      pending.delete(key)
      // Where the loop was blocked, Fastify's own limit may come first.
      if (!mayReject(error) && !(what === 'ready' && blocked)) broken.push(`${what} rejected with ${String(error)}`)
    })
  }
  const call = (what: typeof asks[number], on: BackgroundTask, n: number): void => {
    try {
      if (what === 'trigger') {
        const { finished } = on.trigger()
        track('finished of a trigger', finished)
      } else if (what === 'cancel') {
        const id = pick([...held.map(({ id }) => id), 'unknown'], n)
        track('cancel', on.cancel(id))
      } else {
        track(what, on[what]())
      }
    } catch (error) {
      if (!mayReject(error)) broken.push(`${what} threw ${String(error)}`)
    }
  }

  // The handler.
  const held: Array<{ id: string, gate: Deferred<void> }> = []
  let active = 0
  let calls = 0
  const handler = async (run: Run): Promise<void> => {
    if (seen !== undefined) seen.runs++
    calls++
    if (++active > 1 && kind !== 'allow') broken.push('two runs are active')
    const behaviour = pick(behaviours)
    say(`handler called, which ${behaviour}`)
    const gate = deferred()
    gate.promise.catch(() => {})
    const own = { id: run.id, gate }
    held.push(own)
    try {
      switch (behaviour) {
        case 'returns': return
        case 'throws': throw new Error('of the handler')
        case 'throws at once': throw new Error('of the handler')
        // eslint-disable-next-line no-throw-literal
        case 'throws undefined': throw undefined
        case 'gives up': throw new GiveUp('of the handler')
        case 'holds':
          run.signal.addEventListener('abort', () => { gate.reject(run.signal.reason) })
          if (run.signal.aborted) throw run.signal.reason
          return await gate.promise
        case 'holds, and returns when aborted':
          run.signal.addEventListener('abort', () => { gate.resolve() })
          return run.signal.aborted ? undefined : await gate.promise
        case 'hangs': return await gate.promise
        case 'stops itself': return await task.stop()
        case 'stops itself meanwhile':
          call('stop', task, 0)
          return await gate.promise
        case 'pauses itself': return await task.pause()
        case 'cancels itself':
          track('cancel', task.cancel(run.id))
          return await gate.promise
        case 'removes itself': return await task.remove()
        case 'triggers itself':
          call('trigger', task, 0)
          return
        case 'restarts itself meanwhile':
          call('stop', task, 0)
          call('start', task, 0)
      }
    } finally {
      active--
      held.splice(held.indexOf(own), 1)
    }
  }

  const app = Fastify()
  let closed: 'no' | 'yes' | undefined
  let blocked = false
  const close = (): void => {
    if (closed !== undefined) return
    closed = 'no'
    app.close().then(() => { closed = 'yes' }, (error: unknown) => {
      closed = 'yes'
      if (!mayReject(error)) broken.push(`close rejected with ${String(error)}`)
    })
  }
  /** Lets time pass, and the tasks work. */
  const pass = async (ms: number): Promise<void> => {
    // The server closes in several turns.
    await turns(10)
    const end = clock.now + ms
    setTimeout(() => {}, ms)
    while (clock.now < end) {
      clock.next()
      await setImmediate()
      await setImmediate()
    }
  }
  const declare = (): BackgroundTask => {
    const common = { enabled: random() < 0.9, grace: pick([0, 0, 0, 500]) }
    const limits = { timeout: pick([undefined, 1_000, 20_000]), onGiveUp: 'log' } as const
    const backoff = { delay: 300, jitter: random() < 0.5, maxDelay: 1_500 }
    if (kind === 'hosted') {
      return random() < 0.1 ? app.addBackgroundTask('a', { ...common, stop: handler }) : app.addBackgroundTask('a', { ...common, startTimeout: START_TIMEOUT, start: handler, ...random() < 0.8 && { stop: handler } })
    }
    if (kind === 'service') {
      const restart = { ...backoff, when: pick(['never', 'on-failure', 'on-failure', 'always'] as const), limit: pick([2, Infinity]), within: 5_000 }
      return app.addBackgroundTask('a', { ...common, ...limits, restart }, handler)
    }
    return app.addBackgroundTask('a', {
      ...common,
      ...limits,
      retry: { ...backoff, limit: pick([0, 2]) },
      ...pick([{ every: 700 }, { every: 700 }, { cron: '* * * * * *' }]),
      overlap: kind,
      misfire: pick(['skip', 'once', 'all'] as const),
      immediate: random() < 0.3,
      jitter: pick([0, 0, 400]),
      exclude: () => {
        const n = random()
        if (n < 0.05) throw new Error('of exclude')
        return n < 0.1
      }
    }, handler)
  }

  await app.register(backgroundTasks, { autostart: random() < 0.8, shutdownTimeout: SHUTDOWN_TIMEOUT })
  const late = random() < 0.3
  if (late) await app.ready()
  const task = declare()
  if (!late) track('ready', app.ready())
  try {
    for (const { op, n } of steps) {
      say(`${op} ${n.toFixed(3)}`)
      switch (op) {
        case 'succeed':
          pick(held, n)?.gate.resolve()
          break
        case 'fail':
          pick(held, n)?.gate.reject(new Error('of the handler'))
          break
        case 'give up':
          pick(held, n)?.gate.reject(new GiveUp('of the handler'))
          break
        case 'pass':
          await pass(n < 0.1 ? 10_000 : Math.ceil(n * 1_500))
          break
        case 'block':
          blocked = true
          clock.tick(n * 8_000)
          break
        case 'turn':
          await setImmediate()
          break
        case 'drain':
          track('drain', app.backgroundTasks.drain())
          break
        case 'health':
          track('health', app.backgroundTasks.health())
          break
        case 'close':
          if (n < 0.4) close()
          break
        case 'start':
        case 'stop':
        case 'pause':
        case 'resume':
        case 'trigger':
        case 'cancel':
        case 'remove':
          call(op, task, n)
      }
      if (n * 1_000 % 2 < 1) await setImmediate()
      if (kind === 'service' && active > 0 && !['running', 'stopping'].includes(task.state)) broken.push(`the handler runs, and the state is ${task.state}`)
      if (task.stats.active < active) broken.push(`${active} handlers run, and ${task.stats.active} runs are active`)
      if (broken.length > 0) return broken
    }
    await setImmediate()

    // Whatever hangs, a stop resolves.
    say('end: stop')
    let stopped = false
    const resolved = (): void => { stopped = true }
    task.stop().then(resolved, resolved)
    await pass(2 * (SHUTDOWN_TIMEOUT + START_TIMEOUT))
    if (!stopped) broken.push('stop() did not resolve')
    say('end: close')
    close()
    await pass(SHUTDOWN_TIMEOUT + START_TIMEOUT)
    if (closed !== 'yes') broken.push('close() did not resolve')
    if (clock.countTimers() > 0) broken.push(`${clock.countTimers()} timers are armed after close`)

    say('end: what hangs ends')
    for (let i = 0; i < 10 && held.length > 0; i++) {
      for (const { gate } of [...held]) gate.resolve()
      await setImmediate()
    }
    await pass(SHUTDOWN_TIMEOUT + 1_000)
    if (active > 0) broken.push(`of ${calls} calls, ${active} have not ended`)
    if (clock.countTimers() > 0) broken.push(`${clock.countTimers()} timers are armed at the end`)
    if (pending.size > 0) broken.push(`never ended: ${[...pending.values()].join(', ')}`)
    const { active: runs, ...outcomes } = task.stats
    if (runs !== 0) broken.push(`${runs} runs are active at the end`)
    if (!['stopped', 'completed', 'failed'].includes(task.state)) broken.push(`the state is ${task.state} at the end`)
    const counted = Object.values(outcomes).reduce((a, b) => a + b)
    if (counted !== watched.recorded.length) broken.push(`${counted} runs were counted, and ${watched.recorded.length} recorded`)
    if (new Set(watched.recorded).size < watched.recorded.length) broken.push('a run has settled twice')
    say('over')
  } catch (error) {
    broken.push(`threw ${String((error as Error)?.stack)}`)
  } finally {
    for (const { gate } of held) gate.resolve()
    close()
    clock.tick(20_000)
    await setImmediate()
    for (const undo of restore) undo()
  }
  return broken
}

/** Whether it is what a promise of ours may reject with. */
function mayReject (error: unknown): boolean {
  if (error === undefined) return true
  const { code, message, cause } = error as Error & { code?: string }
  if (code !== undefined) return ['FST_BG_CLOSING', 'FST_BG_NOT_FOUND', 'FST_BG_START_TIMEOUT', 'FST_BG_CANCELLED', 'FST_BG_SHUTDOWN'].includes(code)
  return message === 'of the handler' || ('cause' in (error as Error) && cause === undefined)
}
