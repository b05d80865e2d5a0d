import { cursorOf, positionOf } from '../../cursor.ts'
import type { ListedState, QueuedRun, RunPage } from '../../queued-run.ts'
import type { QueueContext } from '../context.ts'
import { type JobRow, recordOf } from './job.ts'
import { isUuid } from './names.ts'

/** A place in the order of a state: its time in microseconds, the id of the run, and of a waiting one its priority. */
type Position = [time: number, id: string, priority: number]

const isPosition = (value: unknown): value is Position =>
  Array.isArray(value) && value.length === 3 && Number.isSafeInteger(value[0]) && isUuid(value[1]) && Number.isSafeInteger(value[2]) && Math.abs(value[2] as number) < 2 ** 31

/** A page of the runs in a state: by the order of their rows, so that a position stays what it is, whatever comes and goes. */
export async function pageOf ({ name, options, sql, call }: QueueContext, state: ListedState, cursor: string | undefined, limit: number): Promise<RunPage> {
  const from = cursor === undefined ? undefined : positionOf(options.name, state, cursor, isPosition)
  const text = from === undefined ? sql.page.first[state] : sql.page.next[state]
  // The statement of waiting runs has one parameter more.
  const values = [name, limit + 1, ...from === undefined ? [] : state === 'waiting' ? [String(from[0]), from[1], from[2]] : [String(from[0]), from[1]]]
  const { rows } = await call(async db => await db.executeSql(text, values)) as { rows: JobRow[] }
  const last = rows.length > limit ? rows[limit - 1] : undefined
  return { runs: rows.slice(0, limit).map(recordOf).filter((run): run is QueuedRun => run !== undefined), cursor: last && cursorOf(state, positionIn(last, state)) }
}

function positionIn (row: JobRow, state: ListedState): Position {
  const times = { waiting: row.created, delayed: row.due, active: row.started, succeeded: row.completed, failed: row.completed }
  return [Number(times[state]), row.id, row.priority]
}
