// Random sequences of what can be asked of a queue in memory, and of what can happen to its runs. One that breaks a promise is cut
// down as far as it still does, and printed with its seed; to replay it: SEED=7 npx tap --disable-coverage test/queue/property.test.ts
import { setImmediate } from 'node:timers/promises'
import FakeTimers from '@sinonjs/fake-timers'
import Fastify from 'fastify'
import t from 'tap'
import backgroundTasks, { GiveUp, type BackgroundQueue, type ListedState, type QueuedRun, type Run } from '../../lib/index.ts'
import { START, turns } from '../support/fakes.ts'
import { capture, deferred, watchUnhandled, type Deferred, type Line } from '../support/helper.ts'
import { generator } from '../support/random.ts'
import { seededRandom, sequence, watchTasks, type Seen, type Step } from '../support/sequences.ts'

const SEQUENCES = Number(process.env.SEQUENCES ?? 400)
const LENGTH = 60
const SHUTDOWN_TIMEOUT = 3_000
const RETRIES = 2
const STATES: readonly ListedState[] = ['waiting', 'delayed', 'active', 'succeeded', 'failed']

type Op = 'enqueue' | 'succeed' | 'fail' | 'give up' | 'pass' | 'turn' | 'look' | 'drain' | 'close' |
  'start' | 'stop' | 'pause' | 'resume' | 'cancel' | 'retry' | 'retryFailed' | 'removeRun' | 'clear' | 'remove'

/** The ops, each as often as it is to come up. */
const lottery: readonly Op[] = [
  ...Array<Op>(36).fill('enqueue'), ...Array<Op>(16).fill('succeed'), ...Array<Op>(8).fill('fail'), ...Array<Op>(16).fill('pass'),
  ...Array<Op>(8).fill('turn'), ...Array<Op>(8).fill('look'), ...Array<Op>(4).fill('cancel'), ...Array<Op>(3).fill('retry'),
  ...Array<Op>(7).fill('resume'), ...Array<Op>(7).fill('start'),
  'give up', 'give up', 'stop', 'stop', 'pause', 'pause', 'retryFailed', 'removeRun', 'removeRun', 'clear', 'drain', 'close', 'remove'
]

/** What a call of the handler does. What is held ends when a step says so, or when its signal aborts; what hangs, only when a step says so. */
const behaviours = [
  'returns', 'returns', 'returns', 'throws', 'throws', 'gives up', 'holds', 'holds', 'holds', 'holds', 'holds',
  'holds, and returns when aborted', 'hangs', 'cancels itself', 'stops the queue', 'pauses the queue', 'enqueues'
] as const

/** What is known of one payload, from outside. */
interface Known {
  /** Which it was to be accepted, if nothing has moved it since. */
  order: number | undefined
  priority: number
  id: string | undefined
  attempt: number
  limit: number
  key: string | undefined
  active: boolean
  /** Whether it was to be taken out. */
  cancelled: boolean
  forgotten: boolean
  /** Which attempt may come next; none once it has ended. */
  next: readonly number[]
  ended: 'succeeded' | 'failed' | 'unknown' | undefined
  /** Of its last attempt. What has failed may have been told to end before the queue heard of it. */
  signal: AbortSignal | undefined
}

t.test('no run is lost, none runs twice unless it is tried again, and all is in order, whatever is asked and whatever happens', async t => {
  const seen: Seen = { states: new Set(), outcomes: new Set(), runs: 0 }
  const { SEED } = process.env
  const seeds = SEED === undefined ? Array.from({ length: SEQUENCES }, (_, i) => i + 1) : [Number(SEED)]
  for (const seed of seeds) {
    const steps = sequence(seed, LENGTH, lottery)
    const broken = await play(seed, steps, seen)
    if (broken.length === 0) continue
    let shortest = steps
    for (let size = 8; size >= 1; size = Math.floor(size / 2)) {
      for (let i = shortest.length - size; i >= 0; i--) {
        const fewer = shortest.toSpliced(i, size)
        if ((await play(seed, fewer)).length > 0) shortest = fewer
      }
    }
    const story: string[] = []
    t.fail(`SEED=${seed}: ${(await play(seed, shortest, seen, story)).join('; ')}`, { at: null, story, first: broken })
    return
  }
  t.pass(`${seeds.length} sequences of ${LENGTH} steps, ${seen.runs} attempts`)
  if (SEED !== undefined) return
  t.ok(seen.runs > seeds.length * 5, 'there were runs', { runs: seen.runs })
  t.same(['idle', 'running', 'paused', 'stopping', 'stopped'].filter(state => !seen.states.has(state as never)), [], 'the states have come up')
  t.same(['succeeded', 'failed', 'cancelled'].filter(outcome => !seen.outcomes.has(outcome)), [], 'the outcomes have come up')
})

/** Plays one sequence on a server of its own, to its close. Returns what has been broken. */
async function play (seed: number, steps: Array<Step<Op>>, seen?: Seen, story: string[] = []): Promise<string[]> {
  const broken: string[] = []
  const clock = FakeTimers.install({ now: START, toFake: ['setTimeout', 'clearTimeout', 'Date', 'performance'] })
  const restore = [() => { clock.uninstall() }, watchUnhandled(error => { broken.push(`unhandled: ${String(error)}`) }), seededRandom(seed), watchTasks(broken, seen).restore]
  const say = (what: string): void => { story.push(`${clock.now - START} ms, ${queue?.state}: ${what}`) }
  // Of its own, so that a sequence with a step less goes on as before.
  const random = generator(seed)
  const pick = <T>(all: readonly T[], n = random()): T => all[Math.floor(n * all.length)] as T

  const known: Known[] = []
  let accepted = 0
  let retried = 0
  const held: Array<{ n: number, id: string, gate: Deferred<void> }> = []
  const starts: number[] = []
  const duplicates: Array<{ id: string, key: string | undefined }> = []

  // What has been asked, and has to come to an end.
  const pending = new Map<object, string>()
  const track = <T>(what: string, work: PromiseLike<T>, done?: (value: T) => void): void => {
    const key = {}
    pending.set(key, what)
    work.then(value => {
      pending.delete(key)
      done?.(value)
    }, (error: unknown) => {
      pending.delete(key)
      const { code } = error as { code?: string }
      const mayBe = ['FST_BG_CLOSING', 'FST_BG_NOT_FOUND', 'FST_BG_QUEUE_FULL'].includes(String(code)) || (what === 'retry' && code === 'FST_BG_INVALID_OPTION')
      if (!mayBe) broken.push(`${what} rejected with ${String(error)}`)
    })
  }

  const concurrency = pick([1, 1, 2, 3])
  const rate = random() < 0.15 ? { limit: 2, per: 400 } : undefined
  const maxSize = random() < 0.3 ? 4 : undefined
  const timeout = random() < 0.2 ? 1_000 : undefined

  const enqueue = (n = random()): void => {
    const limit = pick([0, 1, RETRIES])
    const one: Known = { order: undefined, priority: pick([0, 0, 0, 1, 2]), id: undefined, attempt: 0, limit, key: random() < 0.2 ? pick(['x', 'y']) : undefined, active: false, cancelled: false, forgotten: false, next: [1], ended: undefined, signal: undefined }
    const when = n < 0.15 ? { delay: Math.ceil(n * 4_000) } : n < 0.2 ? { runAt: new Date(Date.now() + Math.ceil(n * 4_000) - 700) } : {}
    const at = known.push(one) - 1
    say(`enqueue ${at} ${JSON.stringify({ priority: one.priority, key: one.key, limit, ...when })}`)
    const retry = limit === RETRIES ? {} : { retry: limit === 0 ? 0 : { limit, delay: 200 } }
    track('enqueue', queue.enqueue(at, { priority: one.priority, key: one.key, ...when, ...retry }), ({ id, duplicate }) => {
      if (duplicate) {
        duplicates.push({ id, key: one.key })
        one.forgotten = true
        return
      }
      one.id = id
      accepted++
      if (Object.keys(when).length === 0 && one.attempt === 0) one.order = at
    })
  }

  let active = 0
  const handler = async (run: Run<number>): Promise<void> => {
    if (seen !== undefined) seen.runs++
    const one = known[run.payload] as Known
    const behaviour = pick(behaviours)
    say(`${run.payload} is run, attempt ${run.attempt}, which ${behaviour}`)
    if (++active > concurrency) broken.push(`${active} runs are active, of at most ${concurrency}`)
    if (one.active) broken.push(`${run.payload} runs twice at a time`)
    if (one.id !== undefined && one.id !== run.id) broken.push(`${run.payload} has another id`)
    const again = one.ended === 'failed' || one.ended === undefined ? one.signal?.aborted === true && run.attempt === one.attempt : false
    if (!one.next.includes(run.attempt) && !again) broken.push(`${run.payload} has attempt ${run.attempt}, and may have ${String(one.next)}`)
    one.id = run.id
    one.attempt = run.attempt
    one.signal = run.signal
    one.active = true
    starts.push(clock.now)
    if (rate !== undefined && starts.length > rate.limit && clock.now - (starts.at(-1 - rate.limit) as number) < rate.per) broken.push('the rate is exceeded')
    // The list is of this moment, as a store in memory makes it before it returns. One that has waited for room may just have come in.
    const here = new Set(known.filter(({ id }) => id !== undefined))
    queue.list({ state: 'waiting' }).then(({ runs }) => {
      for (const { payload, priority } of runs) {
        const other = known[payload as number] as Known
        const inOrder = !here.has(other) || priority > one.priority || (priority === one.priority && (other.order === undefined || order === undefined || other.order > order))
        if (!inOrder) broken.push(`${run.payload} is run before ${String(payload)}`)
      }
    }, (error: unknown) => { broken.push(`list rejected with ${String(error)}`) })
    const { order } = one
    one.order = undefined
    const gate = deferred()
    gate.promise.catch(() => {})
    const own = { n: run.payload, id: run.id, gate }
    held.push(own)
    const over = (next: readonly number[], ended?: 'succeeded' | 'failed' | 'unknown'): void => {
      one.next = next
      one.ended = ended
    }
    try {
      await behave(run, behaviour, gate)
      over([], 'succeeded')
    } catch (error) {
      const { code } = run.signal.aborted ? run.signal.reason as { code: string } : { code: undefined }
      const failed = error instanceof GiveUp || run.attempt > one.limit ? [] : [run.attempt + 1]
      if (code === undefined) over(failed, failed.length === 0 ? 'failed' : undefined)
      // Past its time it has failed; or it was interrupted since.
      else if (code === 'FST_BG_TIMEOUT') over([run.attempt, ...failed], 'unknown')
      else over([run.attempt])
      throw error
    } finally {
      active--
      one.active = false
      held.splice(held.indexOf(own), 1)
    }
  }
  const behave = async (run: Run<number>, behaviour: typeof behaviours[number], { promise, resolve, reject }: Deferred<void>): Promise<void> => {
    switch (behaviour) {
      case 'returns': return
      case 'throws': throw new Error('of the handler')
      case 'gives up': throw new GiveUp('of the handler')
      case 'hangs': return await promise
      case 'holds, and returns when aborted':
        run.signal.addEventListener('abort', () => { resolve() })
        return run.signal.aborted ? undefined : await promise
      case 'cancels itself':
        cancel(run.payload)
        return await promise
      case 'stops the queue':
        track('stop', queue.stop())
        break
      case 'pauses the queue':
        track('pause', queue.pause())
        return
      case 'enqueues':
        enqueue(0.5)
        return
      case 'holds':
    }
    run.signal.addEventListener('abort', () => { reject(run.signal.reason) })
    if (run.signal.aborted) throw run.signal.reason
    await promise
  }

  const cancel = (n: number): void => {
    const one = known[n]
    if (one === undefined || one.active) {
      track('cancel', queue.cancel(one?.id ?? 'unknown'), () => { if (one !== undefined && one.ended !== 'succeeded') over(one) })
      return
    }
    track('cancel', queue.cancel(one.id ?? 'unknown'), () => { over(one) })
  }
  const over = (one: Known): void => {
    one.cancelled = true
    one.next = []
  }

  const lines: Line[] = []
  const app = Fastify({ logger: capture(lines) })
  let closing = false
  let closed = false
  const close = (): void => {
    if (closing) return
    closing = true
    app.close().then(() => { closed = true }, (error: unknown) => { broken.push(`close rejected with ${String(error)}`) })
  }
  /** Lets time pass, and the tasks work. */
  const pass = async (ms: number): Promise<void> => {
    await turns(5)
    const end = clock.now + ms
    setTimeout(() => {}, ms)
    while (clock.now < end) {
      clock.next()
      await setImmediate()
      await setImmediate()
    }
  }

  /** What is listed and what is known, at the same time. */
  const look = async (): Promise<void> => {
    await turns(2)
    if (queue.state === 'stopped' && removed) return
    const asked = [queue.counts(), ...STATES.map(async state => await queue.list({ state, limit: 1_000 }))] as const
    const then = known.map(one => ({ ...one }))
    const [counts, ...pages] = await Promise.all(asked) as [Record<ListedState, number>, ...Array<{ runs: QueuedRun[] }>]
    const where = new Map<string, ListedState>()
    STATES.forEach((state, i) => {
      const { runs } = pages[i] as { runs: QueuedRun[] }
      if (counts[state] !== runs.length) broken.push(`${counts[state]} are ${state}, and ${runs.length} listed`)
      for (const { id } of runs) {
        if (where.has(id)) broken.push(`${id} is in two states`)
        where.set(id, state)
      }
      if (state === 'waiting' && runs.some(({ priority }, i) => i > 0 && priority < (runs[i - 1] as QueuedRun).priority)) broken.push('those that wait are not listed in order')
    })
    const keys = then.filter(({ id, key }) => key !== undefined && ['waiting', 'delayed', 'active'].includes(String(where.get(String(id))))).map(({ key }) => key)
    if (new Set(keys).size < keys.length) broken.push('two runs have one key')
    then.forEach(({ id, active, ended, cancelled, forgotten, signal }, n) => {
      if (id === undefined || forgotten || cancelled || removed) return
      const state = where.get(id)
      const expected: ListedState[] = active ? ['active'] : ended === 'unknown' || (ended === 'failed' && signal?.aborted === true) ? [...STATES] : ended !== undefined ? [ended] : ['waiting', 'delayed']
      // What the close leaves is gone.
      if (closing && !active && ended !== 'succeeded' && state === undefined) return
      if (state === undefined || !expected.includes(state)) broken.push(`${n} is ${String(state)}, and should be ${expected.join(' or ')}`)
    })
  }

  await app.register(backgroundTasks, { autostart: random() < 0.8, shutdownTimeout: SHUTDOWN_TIMEOUT })
  const queue: BackgroundQueue<number> = app.addBackgroundQueue('q', {
    enabled: random() < 0.9,
    concurrency,
    rate,
    maxSize,
    onFull: pick(['reject', 'wait'] as const),
    timeout,
    grace: pick([0, 500, 5_000]),
    retry: { limit: RETRIES, delay: 300, maxDelay: 1_000 },
    keep: { succeeded: { count: 1_000 }, failed: { count: 1_000 } }
  }, handler)
  let removed = false
  track('ready', app.ready())
  try {
    for (const { op, n } of steps) {
      const one = pick(known, n)
      if (op !== 'enqueue') say(`${op} ${n.toFixed(3)}`)
      switch (op) {
        case 'enqueue':
          enqueue(n)
          break
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
          await pass(Math.ceil(n * 1_500))
          break
        case 'turn':
          await setImmediate()
          break
        case 'look':
          await look()
          break
        case 'drain':
          track('drain', queue.drain())
          break
        case 'close':
          if (n < 0.3) close()
          break
        case 'cancel':
          await setImmediate()
          cancel(Math.floor(n * known.length))
          break
        case 'retry':
          await setImmediate()
          if (one?.id !== undefined && !one.active) {
            track('retry', queue.retry(one.id), () => {
              retried++
              if (!one.active) one.next = [...one.next, one.attempt + 1]
              one.ended = undefined
            })
          }
          break
        case 'retryFailed': {
          await setImmediate()
          const { runs } = await queue.list({ state: 'failed' })
          for (const { payload } of runs) {
            const failed = known[payload as number] as Known
            failed.next = [failed.attempt + 1]
            // One whose key another has stays where it is; and all do once the application closes.
            failed.ended = 'unknown'
          }
          track('retryFailed', queue.retryFailed(), count => { retried += count })
          break
        }
        case 'removeRun':
          await setImmediate()
          if (one?.id !== undefined) {
            one.forgotten = true
            track('remove', queue.remove(one.id), () => { over(one) })
          }
          break
        case 'clear': {
          await setImmediate()
          const state = pick(['waiting', 'delayed', 'succeeded', 'failed'] as const, n)
          const { runs } = await queue.list({ state })
          for (const { payload } of runs) over(known[payload as number] as Known)
          track('clear', queue.clear(state))
          break
        }
        case 'remove':
          if (n > 0.2) break
          removed = true
          track('remove', queue.remove())
          break
        case 'start':
        case 'stop':
        case 'pause':
        case 'resume':
          track(op, queue[op]())
      }
      if (n * 1_000 % 2 < 1) await setImmediate()
      if (queue.stats.active < active) broken.push(`${active} handlers run, and ${queue.stats.active} runs are active`)
      if (broken.length > 0) return broken
    }
    await look()

    say('end: close')
    close()
    await pass(2 * SHUTDOWN_TIMEOUT)
    if (!closed) broken.push('close() did not resolve')
    if (clock.countTimers() > 0) broken.push(`${clock.countTimers()} timers are armed after close`)
    say('end: what hangs ends')
    for (let i = 0; i < 10 && held.length > 0; i++) {
      for (const { gate } of [...held]) gate.resolve()
      await setImmediate()
    }
    await pass(SHUTDOWN_TIMEOUT + 1_000)
    if (active > 0) broken.push(`${active} have not ended`)
    if (clock.countTimers() > 0) broken.push(`${clock.countTimers()} timers are armed at the end`)
    if (pending.size > 0) broken.push(`never ended: ${[...pending.values()].join(', ')}`)
    if (queue.state !== 'stopped') broken.push(`the state is ${queue.state} at the end`)
    const { waiting, delayed, active: inHand } = await queue.counts()
    if (waiting + delayed + inHand > 0) broken.push(`${waiting} wait, ${delayed} are delayed and ${inHand} active at the end`)
    const { active: runs, skipped, succeeded, failed, cancelled } = queue.stats
    if (runs + skipped > 0) broken.push(`${runs} runs are active at the end, ${skipped} were skipped`)
    if (succeeded + failed + cancelled !== accepted + retried) broken.push(`${accepted} were accepted and ${retried} retried; ${succeeded} succeeded, ${failed} failed, and ${cancelled} were cancelled`)
    for (const { id, key } of duplicates) {
      if (key === undefined || !known.some(one => one.id === id && one.key === key)) broken.push(`${id} has no duplicate`)
    }
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
