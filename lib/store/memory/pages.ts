import { cursorOf, positionOf } from '../cursor.ts'
import type { ListedState, RunPage } from '../queued-run.ts'
import { type Entry, recordOf } from './entry.ts'

/** The numbers by which the runs in a state are in order, the first number first. No two runs of a state have the same. */
type Position = number[]

/** A page of the runs in a state, which are given in order. Throws `FST_BG_INVALID_OPTION` for a cursor that is none of this state. */
export function pageOf (queue: string, state: ListedState, entries: Entry[], cursor: string | undefined, limit: number): RunPage {
  const from = cursor === undefined ? 0 : firstBehind(entries, state, positionOf(queue, state, cursor, isPosition(state)))
  const page = entries.slice(from, from + limit)
  const last = page.at(-1)
  const goesOn = from + limit < entries.length && last !== undefined
  return { runs: page.map(entry => recordOf(entry)), cursor: goesOn ? cursorOf(state, placeOf(last, state)) : undefined }
}

/** The position of a run, which it has as long as it is in its state. */
function placeOf ({ priority, order, startedAt = 0, more }: Entry, state: ListedState): Position {
  switch (state) {
    case 'waiting':
      // Interrupted runs go back to the front of their priority, by the start of their attempts.
      return more?.interrupted === true ? [priority, 0, startedAt, order] : [priority, 1, 0, order]
    case 'delayed':
      return [Number(more?.runAt), order]
    case 'active':
      return [order]
    case 'succeeded':
    case 'failed':
      // The newest first.
      return [-order]
  }
}

const lengths = { waiting: 4, delayed: 2, active: 1, succeeded: 1, failed: 1 }

function isPosition (state: ListedState): (value: unknown) => value is Position {
  return (value): value is Position => Array.isArray(value) && value.length === lengths[state] && value.every(one => Number.isFinite(one))
}

/** Index of the first run behind a position. */
function firstBehind (entries: Entry[], state: ListedState, position: Position): number {
  let [from, to] = [0, entries.length]
  while (from < to) {
    const middle = (from + to) >> 1
    if (compare(placeOf(entries[middle] as Entry, state), position) > 0) to = middle
    else from = middle + 1
  }
  return from
}

function compare (a: Position, b: Position): number {
  const differing = a.findIndex((one, i) => one !== b[i])
  return differing === -1 ? 0 : (a[differing] as number) - (b[differing] as number)
}
