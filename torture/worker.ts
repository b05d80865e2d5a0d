// A process of the torture: an application with queues, cluster tasks and services on one server, that enqueues, works, and does what the monkey says.
// It writes into the journal what happens to its runs.
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify from 'fastify'
import backgroundTasks, { ticks, type BackgroundQueue, type Run } from '../lib/index.ts'
import { wholes } from '../test/support/random.ts'
import { engines, type EngineKind } from './engines/index.ts'
import { Journal } from './journal.ts'
import { GRID, KEYS, LEASE, queues, RATE, SCHEDULED, SCHEDULES, SHUTDOWN, type Answer, type Listed, type Order, type QueueName, type Work } from './rules.ts'

const [, , name = '', store = '', url = '', path = '', seed = '1'] = process.argv
const journal = new Journal(path, name)
const below = wholes(Number(seed))
const names = Object.keys(queues) as QueueName[]

process.on('unhandledRejection', error => { journal.write('unexpected', { text: `unhandled rejection: ${show(error)}` }) })
process.on('uncaughtException', error => { journal.write('unexpected', { text: `uncaught exception: ${show(error)}` }) })
// When the process is asked for more than it can give, leases are lost for a reason.
let beat = performance.now()
setInterval(() => {
  const late = performance.now() - beat - 100
  beat += late + 100
  if (late > LEASE / 4) journal.write('lag', { ms: late })
}, 100).unref()

/** Aborts when the process is to enqueue no more. */
const producing = new AbortController()
/** Resolves when this process has scheduled what there is to schedule. */
let scheduling = Promise.resolve()
/** How long a process may stay up when its application has closed, in milliseconds. */
const STAY = 3_000
/** How far the monkey has turned the clock of this process, in milliseconds. */
let turned = 0
const RealDate = Date
globalThis.Date = class extends RealDate {
  constructor (...args: [] | [number]) {
    super(args.length === 0 ? RealDate.now() + turned : args[0])
  }

  static override now (): number { return RealDate.now() + turned }
} as DateConstructor

const app = Fastify({
  logger: {
    level: 'info',
    stream: {
      write (line: string) {
        process.stdout.write(line)
        if (line.includes('run taken over')) journal.write('taken over', { id: (JSON.parse(line) as { run: string }).run })
      }
    }
  }
})
process.once('SIGTERM', () => {
  producing.abort()
  app.close().catch((error: unknown) => { journal.write('unexpected', { text: `close() rejected: ${show(error)}` }) }).finally(() => {
    process.disconnect()
    setTimeout(() => { journal.write('unexpected', { text: `is closed, and stays up for: ${process.getActiveResourcesInfo().join(', ')}` }) }, STAY).unref()
  })
})
await app.register(backgroundTasks, {
  shutdownTimeout: SHUTDOWN,
  stores: { default: (engines[store] as EngineKind).store(url) }
})

app.addBackgroundTask('hosted', {
  async start () { journal.write('hosted', { text: 'start' }) },
  async stop () { journal.write('hosted', { text: 'stop' }) }
})
app.addBackgroundTask('service', async ({ signal }: Run) => {
  for await (const tick of ticks(200, { signal })) app.log.debug({ tick }, 'service ticks')
})

const kept = { succeeded: { count: 1_000_000, age: '1d' }, failed: { count: 1_000_000, age: '1d' } }
const retry = (attempts: number): { limit: number, delay: number, maxDelay: number } => ({ limit: attempts - 1, delay: 200, maxDelay: 1_000 })
const open = Object.fromEntries(names.map(queue => [queue, app.addBackgroundQueue(queue, {
  concurrency: queue === 'plain' || queue === 'retrying' ? 6 : 2,
  grace: '1s',
  keep: kept,
  retry: retry(queues[queue]),
  ...queue === 'rated' && { rate: { limit: RATE, per: '1s' } }
}, async (run: Run<Work & { key?: string }>) => { await work(queue, run, run.payload) })])) as Record<QueueName, BackgroundQueue<Work & { key?: string }>>

app.addBackgroundTask('grid', { every: GRID, cluster: true, overlap: 'allow', misfire: 'all' }, async (run: Run) => {
  await work('grid', run, { ms: 10 + below(100), fails: 0, block: 0, deaf: false })
})
app.addBackgroundTask('single', { cron: '* * * * * *', timezone: 'UTC', cluster: true }, async (run: Run) => {
  await work('single', run, { ms: 50 + below(1_500), fails: 0, block: 0, deaf: below(4) === 0 })
})

const scheduled = app.addBackgroundQueue(SCHEDULED, { concurrency: 10, grace: '1s', keep: kept }, async (run: Run) => {
  await work(`${SCHEDULED}:${run.schedule}`, run, { ms: 10 + below(100), fails: 0, block: 0, deaf: false })
})

/** Schedules until the store has taken it: an equal schedule changes nothing. */
async function schedule (): Promise<void> {
  for (let i = 0; i < SCHEDULES && !producing.signal.aborted;) {
    try {
      await scheduled.schedule(`tenant ${i}`, { every: GRID, misfire: 'all', overlap: 'allow', payload: i, ...i % 2 === 1 && { priority: i } })
      i++
    } catch (error) {
      expect(error, 'schedule', ['FST_BG_STORE_UNAVAILABLE', 'FST_BG_CLOSING'])
      await sleep(500)
    }
  }
}

async function unschedule (): Promise<void> {
  for (let i = 0; i < SCHEDULES;) {
    try {
      await scheduled.unschedule(`tenant ${i}`)
      i++
    } catch (error) {
      expect(error, 'unschedule', ['FST_BG_STORE_UNAVAILABLE', 'FST_BG_CLOSING'])
      await sleep(500)
    }
  }
}

async function work (queue: string, { id, attempt, signal, dueAt, missed }: Run, { ms, fails, block, deaf, key }: Work & { key?: string }): Promise<void> {
  const which = { queue, id, attempt, key }
  journal.write('begin', { ...which, ...dueAt !== undefined && { dueAt: dueAt.getTime(), missed } })
  signal.addEventListener('abort', () => { journal.write('hears', { ...which, code: (signal.reason as { code: string }).code }) })
  try {
    if (block > 0) blockFor(block)
    await sleep(ms, undefined, deaf ? {} : { signal })
    if (attempt <= fails) throw new Error('told to fail')
    journal.write('end', { ...which, ok: true })
  } catch (error) {
    journal.write('end', { ...which, ok: false, text: (error as Error).message })
    throw error
  }
}

function blockFor (ms: number): void {
  const until = performance.now() + ms
  while (performance.now() < until);
  journal.write('blocked', { ms })
}

// It enqueues.

const accepted: Array<{ queue: QueueName, id: string }> = []

async function produce (): Promise<void> {
  while (!producing.signal.aborted) {
    await enqueue(names[below(names.length)] as QueueName)
    await sleep(10 + below(60))
  }
}

async function enqueue (queue: QueueName): Promise<void> {
  const key = queue === 'keyed' ? `key-${below(KEYS)}` : undefined
  const payload = {
    ms: below(10) === 0 ? below(3 * LEASE) : below(200),
    fails: queue === 'retrying' ? below(queues.retrying + 1) : 0,
    block: below(150) === 0 ? below(2 * LEASE) : 0,
    deaf: below(10) === 0,
    ...key !== undefined && { key }
  }
  try {
    const { id, duplicate } = await open[queue].enqueue(payload, { key, ...queue === 'delayed' && { delay: below(4_000) }, ...queue === 'prioritised' && { priority: below(5) } })
    if (duplicate) return
    journal.write('accepted', { queue, id })
    accepted.push({ queue, id })
    if (below(4) === 0) void wait(queue, id)
  } catch (error) {
    expect(error, 'enqueue', ['FST_BG_STORE_UNAVAILABLE', 'FST_BG_CLOSING'])
  }
}

/** Waits for a run, and notes what it is told. */
async function wait (queue: QueueName, id: string): Promise<void> {
  try {
    const { outcome, error } = await open[queue].finished(id, { timeout: '1m' })
    journal.write('told', { queue, id, text: outcome, ...error !== undefined && { code: error.message } })
  } catch (error) {
    const { code } = error as { code?: string }
    if (code === 'FST_BG_NOT_FOUND') journal.write('told', { queue, id, text: 'gone' })
    else expect(error, 'finished', ['FST_BG_STORE_UNAVAILABLE', 'FST_BG_CLOSING', 'FST_BG_TIMEOUT'])
  }
}

/** Notes an error that the call may not reject with. */
function expect (error: unknown, call: string, codes: string[]): void {
  const { code = '' } = error as { code?: string }
  if (codes.includes(code)) journal.write('refused', { code })
  else journal.write('unexpected', { text: `${call} rejected: ${show(error)}` })
}

function show (error: unknown): string {
  return error instanceof Error ? String(error.stack) : String(error)
}

// It obeys.

process.on('message', (order: Order) => { void obey(order) })

async function obey (order: Order): Promise<void> {
  switch (order.do) {
    case 'block': blockFor(order.ms); break
    case 'turn': turned = order.ms; break
    case 'quiet':
      producing.abort()
      await scheduling
      answer({ done: true })
      break
    case 'unschedule':
      await unschedule()
      answer({ done: true })
      break
    case 'cancel':
    case 'remove':
    case 'retryFailed':
    case 'pause': await operate(order.do); break
    case 'counts': answer(await counted(async () => ({ pending: await pending() }))); break
    case 'list': answer(await counted(async () => ({ listed: await listed() })))
  }
}

async function operate (what: 'cancel' | 'remove' | 'retryFailed' | 'pause'): Promise<void> {
  if (accepted.length === 0) return
  const { queue, id } = accepted[accepted.length - 1 - below(Math.min(accepted.length, 50))] as { queue: QueueName, id: string }
  journal.write('operate', { queue, id: what === 'cancel' || what === 'remove' ? id : '', text: what })
  try {
    if (what === 'cancel' || what === 'remove') {
      await open[queue][what](id)
    } else if (what === 'retryFailed') {
      await open[queue].retryFailed()
    } else {
      await open[queue].pause()
      await sleep(below(1_500))
      await open[queue].resume()
    }
  } catch (error) {
    expect(error, what, ['FST_BG_STORE_UNAVAILABLE', 'FST_BG_CLOSING', 'FST_BG_NOT_FOUND', 'FST_BG_INVALID_OPTION'])
  }
}

/** Asks the store again until it answers. */
async function counted (ask: () => Promise<Answer>): Promise<Answer> {
  for (;;) {
    try {
      return await ask()
    } catch (error) {
      expect(error, 'counts', ['FST_BG_STORE_UNAVAILABLE'])
      await sleep(500)
    }
  }
}

async function pending (): Promise<number> {
  for (const queue of names) await open[queue].resume()
  const counts = await Promise.all([...names.map(async queue => await open[queue].counts()), scheduled.counts()])
  return counts.reduce((sum, { waiting, delayed, active }) => sum + waiting + delayed + active, 0)
}

async function listed (): Promise<Listed[]> {
  const all: Listed[] = []
  for (const [queue, { list }] of [...Object.entries(open), [SCHEDULED, scheduled] as const].map(([name, queue]) => [name, { list: queue.list.bind(queue) as BackgroundQueue['list'] }] as const)) {
    for (const state of ['succeeded', 'failed'] as const) {
      let cursor: string | undefined
      do {
        const page = await list({ state, limit: 500, ...cursor !== undefined && { cursor } })
        for (const { id, error } of page.runs) all.push({ queue, state, id, message: error?.message })
        cursor = page.cursor
      } while (cursor !== undefined)
    }
  }
  return all
}

function answer (what: Answer): void {
  process.send?.(what)
}

await app.ready()
journal.write('up')
void produce()
scheduling = schedule()
