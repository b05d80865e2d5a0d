// What tests of connections share: an application with one queue, and how long it takes until it works again.
import type { FastifyInstance } from 'fastify'
import type { BackgroundQueue, QueueOptions } from '../../lib/index.ts'
import { bullmq, type BullmqOptions } from '../../lib/store/bullmq/index.ts'
import { build, deferred, type Line } from './helper.ts'

/** What is needed of a tap test. */
interface Test { teardown (callback: () => unknown): void }

export interface Opened {
  app: FastifyInstance
  lines: Line[]
  queue: BackgroundQueue<unknown>
  /** Enqueues a payload; resolves when its run has begun. */
  run (payload: unknown): Promise<void>
}

/** An application with one queue. */
export async function open (t: Test, connection: BullmqOptions['connection'], store: Partial<BullmqOptions> = {}, options: QueueOptions<undefined> = {}): Promise<Opened> {
  const { app, lines } = await build(t, { stores: { default: bullmq({ connection, prefix: `{test-${Math.random()}}`, ...store }) } })
  const waiting = new Map<unknown, () => void>()
  const queue: BackgroundQueue<unknown> = app.addBackgroundQueue('work', options, async ({ payload }) => { waiting.get(payload)?.() })
  await app.ready()
  const run = async (payload: unknown): Promise<void> => {
    const ran = deferred()
    waiting.set(payload, ran.resolve)
    await queue.enqueue(payload)
    await ran.promise
  }
  return { app, lines, queue, run }
}

/** Tries it again while the store is unavailable; resolves to how many milliseconds it took until it succeeded. */
export async function timeUntil (work: () => Promise<unknown>): Promise<number> {
  const began = performance.now()
  for (;;) {
    try {
      await work()
      return performance.now() - began
    } catch (error) {
      if ((error as { code?: string }).code !== 'FST_BG_STORE_UNAVAILABLE') throw error
      await new Promise(resolve => { setTimeout(resolve, 50) })
    }
  }
}
