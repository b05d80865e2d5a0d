// The modules of bench/worker.js.
import { createHash } from 'node:crypto'

/** Computes for so many milliseconds. */
export function compute (ms) {
  const until = performance.now() + ms
  let digest = 'seed'
  while (performance.now() < until) digest = createHash('sha256').update(digest).digest('hex')
  return digest.length
}

export const busy = () => compute(200)
export const millisecond = () => compute(1)
export const nothing = () => {}
