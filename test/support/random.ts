/** Numbers from 0 to 1 that are always the same (mulberry32). */
export function generator (seed: number): () => number {
  let state = seed * 0x9e3779b9 | 0
  return () => {
    state = state + 0x6d2b79f5 | 0
    let mixed = Math.imul(state ^ state >>> 15, 1 | state)
    mixed = mixed + Math.imul(mixed ^ mixed >>> 7, 61 | mixed) ^ mixed
    return ((mixed ^ mixed >>> 14) >>> 0) / 2 ** 32
  }
}

/** Whole numbers in [0, below) that are always the same. */
export function wholes (seed: number): (below: number) => number {
  const next = generator(seed)
  return below => Math.floor(next() * below)
}
