// The module of the worker in 12-worker.ts: it runs in a thread. It computes, and tells how far it is.
import { createHash } from 'node:crypto'
import type { WorkerRun } from 'fastify-background-tasks/worker'

export default ({ payload, signal, progress, log }: WorkerRun<{ rounds: number }>): string => {
  log.info(`hashing ${payload.rounds} rounds`)
  let digest = 'seed'
  for (let round = 1; round <= payload.rounds; round++) {
    digest = createHash('sha256').update(digest).digest('hex')
    // A loop that never awaits sees the end of its run, too.
    if (round % 1_000 === 0) {
      signal.throwIfAborted()
      progress(round / payload.rounds)
    }
  }
  return digest
}

/** Another worker of the same file: `hash.js#forever`. It hears of nothing. */
export const forever = (): void => {
  for (;;);
}
