import { invalid, show } from '../common/check.ts'

/** A position in a list (a state, or the schedules), as a text that means something only to its store. */
export function cursorOf (state: string, position: unknown): string {
  return Buffer.from(JSON.stringify([state, position])).toString('base64url')
}

/** The position of a cursor. Throws `FST_BG_INVALID_OPTION` if it is none of that list. */
export function positionOf <P> (queue: string, state: string, cursor: string, isPosition: (position: unknown) => position is P): P {
  try {
    const [of, position] = JSON.parse(Buffer.from(cursor, 'base64url').toString()) as unknown[]
    if (of === state && isPosition(position)) return position
  } catch {
    // No JSON, or no list.
  }
  throw invalid(`${state === 'schedules' ? 'schedules' : 'list'}() of background queue "${queue}": option "cursor" must be what the page before gave; received ${show(cursor)}.`)
}
