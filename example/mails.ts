// A queue: what is to be mailed waits in the store, and is sent two at a time. In memory, what was accepted is sent before the app closes; in a folder, what waits is sent after the next
// start.
import { setTimeout as sleep } from 'node:timers/promises'
import fp from 'fastify-plugin'
import type { BackgroundQueue, Run } from 'fastify-background-tasks'

export interface Mail { to: string }

declare module 'fastify' {
  interface FastifyInstance { mails: BackgroundQueue<Mail> }
}

export const schema = { type: 'object', required: ['to'], properties: { to: { type: 'string', format: 'email' } } }

export default fp(async fastify => {
  fastify.decorate('mails', fastify.addBackgroundQueue('mails', {
    schema: { payload: schema },
    concurrency: 2,
    retry: 3,
    keep: { succeeded: { count: 10 } } // of those that failed, the last 100 are kept
  }, async ({ payload, signal, log }: Run<Mail>) => {
    log.info({ to: payload.to }, 'mail in hand')
    await sleep(1500, undefined, { signal }) // the work. The signal aborts 5 s after the shutdown has begun
    log.info({ to: payload.to }, 'mail sent')
  }))
}, { name: 'mails', dependencies: ['fastify-background-tasks'] })
