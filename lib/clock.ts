import { setImmediate } from 'node:timers'

// The only file that reads a clock or touches a timer. The globals are looked up at each call, so that fake clocks move it.

/** The longest delay that `setTimeout` takes; beyond it, it fires at once. */
const LONGEST = 2 ** 31 - 1

/** Something that is due at a later time, and can be called off. */
export interface Timer {
  /** Calls it off; does nothing once it has fired. */
  cancel (): void
}

/** Milliseconds on a clock that is never set: for durations and deadlines. */
export function now (): number {
  return performance.now()
}

/** Calls `callback` once, `ms` milliseconds from now; any length works, and one that is not finite never comes. */
export function after (ms: number, callback: () => void): Timer {
  const due = now() + ms
  let timer: NodeJS.Timeout | undefined
  const arm = (): void => {
    const rest = due - now()
    // Rounded up: setTimeout cuts fractions off and would fire early.
    timer = setTimeout(rest > LONGEST ? arm : callback, Math.min(Math.ceil(rest), LONGEST))
  }
  if (ms !== Infinity) arm()
  return { cancel: () => { clearTimeout(timer) } }
}

/** Calls `callback` in a later macrotask: after the code that runs now, and what it awaits without I/O. */
export function soon (callback: () => void): void {
  setImmediate(callback)
}
