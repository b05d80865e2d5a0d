/** How long to wait before another try. */
export interface Backoff {
  /** Milliseconds before the first. */
  delay: number
  /** How many times longer each wait is than the one before. */
  factor: number
  /** Milliseconds that no wait exceeds. */
  maxDelay: number
  /** Whether each wait is shortened by a random factor from 0.5 to 1, so that what failed together does not come back together. */
  jitter: boolean
}

/** The wait before try `n`, where 0 is the first that is not the original, in milliseconds. */
export function backoff (n: number, { delay, factor, maxDelay, jitter }: Backoff, random: () => number = Math.random): number {
  // The power is kept finite: 0 times Infinity is no number, and no time to wait for.
  const ms = Math.min(delay * Math.min(factor ** n, Number.MAX_VALUE), maxDelay)
  return jitter ? ms * (0.5 + random() / 2) : ms
}
