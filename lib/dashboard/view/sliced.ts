import { defer, now } from '../../time/index.ts'

/** How long to work before others get their turn, in milliseconds. */
const SLICE = 5

/** Calls `visit` for each item, and lets the event loop turn every few milliseconds. Stops when `visit` returns false. */
export async function sliced<T> (items: Iterable<T>, visit: (item: T) => boolean | void): Promise<void> {
  let began = now()
  for (const item of items) {
    if (visit(item) === false) return
    if (now() - began < SLICE) continue
    await new Promise<void>(resolve => { defer(resolve) })
    began = now()
  }
}
