// What tests of durable queues share: applications in this process that have a queue together with those in others.
import type { FastifyInstance } from 'fastify'
import type { Redis } from 'ioredis'
import type { BackgroundQueue, BackgroundTasksOptions, QueueOptions, Run, Store } from '../../lib/index.ts'
import { bullmq, type BullmqOptions } from '../../lib/store/bullmq/index.ts'
import type { Work } from '../fixtures/durable.ts'
import { build, deferred, type Line } from './helper.ts'

export interface Shared {
  app: FastifyInstance
  lines: Line[]
  queue: BackgroundQueue<Work>
  /** The first run that has begun here. */
  begun: Promise<Run<Work>>
}

/** An application in this process that shares the queue of the children: over Redis, or in the given store. */
export async function share (t: { teardown (callback: () => unknown): void }, store: BullmqOptions | Store, options: BackgroundTasksOptions = {}, of: QueueOptions<undefined> = {}, handler: (run: Run<Work>) => unknown = () => {}): Promise<Shared> {
  const { app, lines } = await build(t, { stores: { default: 'open' in store ? store : bullmq(store) }, ...options })
  const begun = deferred<Run<Work>>()
  const queue = app.addBackgroundQueue('work', of, (run: Run<Work>) => {
    begun.resolve(run)
    return handler(run)
  })
  await app.ready()
  return { app, lines, queue, begun: begun.promise }
}

/** What BullMQ has told of the jobs. */
export async function events (redis: Redis, prefix: string, ...names: string[]): Promise<string[][]> {
  const entries = await redis.xrange(`${prefix}:work:events`, '-', '+')
  return entries.map(([, fields]) => fields).filter(fields => names.includes(fields[fields.indexOf('event') + 1] as string))
}

/** Looks until it is so: for what a store keeps some time after it was told. The timeout of the test is the limit. */
export async function until (isSo: () => Promise<boolean>): Promise<void> {
  while (!await isSo()) await new Promise(resolve => { setTimeout(resolve, 20) })
}
