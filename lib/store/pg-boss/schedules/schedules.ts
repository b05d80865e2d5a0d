import { cursorOf, positionOf } from '../../cursor.ts'
import { decode } from '../../codec.ts'
import { decodeDefinition, encodeDefinition, type QueueSchedule, type ScheduleDefinition, scheduleOf, type SchedulePage } from '../../schedules/index.ts'
import type { ScheduleStore } from '../../store.ts'
import type { QueueContext } from '../context.ts'
import { dateOf, hexOf, keyOf, type ScheduleRow } from './schedule-row.ts'
import type { ScheduleTicker } from './schedule-ticker.ts'

/** The schedules of a queue, which stand in PostgreSQL. */
export class PgBossSchedules implements ScheduleStore {
  readonly #context: QueueContext
  readonly #ticker: ScheduleTicker

  constructor (context: QueueContext, ticker: ScheduleTicker) {
    this.#context = context
    this.#ticker = ticker
  }

  async set (key: string, definition: ScheduleDefinition): Promise<Date | undefined> {
    const { call, name, scheduleSql, options: { clock } } = this.#context
    // A definition is JSON, in which NUL is escaped.
    const text = encodeDefinition(definition)
    const { rows: [row] } = await call(async db => {
      const now = clock.wall()
      const due = scheduleOf(definition, true, now).next(now, 0)
      const at = due + (definition.jitter > 0 ? Math.random() * definition.jitter : 0)
      return await db.executeSql(scheduleSql.set, [name, hexOf(key), text, String(due), String(at)])
    }) as { rows: Array<{ due: number, first: number }> }
    // The others hear of it by a message; without messages they look by themselves.
    if (row?.first === 1) this.#ticker.wake()
    return dateOf(row?.due)
  }

  async delete (key: string): Promise<boolean> {
    const { call, name, scheduleSql } = this.#context
    const { rows } = await call(async db => await db.executeSql(scheduleSql.delete, [name, hexOf(key)]))
    return rows.length > 0
  }

  async list (prefix: string, cursor: string | undefined, limit: number): Promise<SchedulePage> {
    const { call, name, scheduleSql, options } = this.#context
    const after = cursor === undefined ? undefined : positionOf(options.name, 'schedules', cursor, (key): key is string => typeof key === 'string')
    const { rows } = await call(async db => await db.executeSql(scheduleSql.list, [name, limit + 1, hexOf(prefix), after === undefined ? null : hexOf(after)])) as { rows: ScheduleRow[] }
    const last = rows.length > limit ? rows[limit - 1] : undefined
    return { schedules: rows.slice(0, limit).map(shown), cursor: last && cursorOf('schedules', keyOf(last.key)) }
  }
}

function shown ({ key: hex, definition, due, last }: ScheduleRow): QueueSchedule {
  const key = keyOf(hex)
  const times = { nextRunAt: dateOf(due), lastRunAt: dateOf(last) }
  try {
    const { every, cron, timezone, payload } = decodeDefinition(definition)
    return { key, every, cron, timezone, payload: decode(payload), ...times }
  } catch {
    // Of a newer version, or of another program: it is listed all the same, so that it can be removed.
    return { key, every: undefined, cron: undefined, timezone: undefined, payload: undefined, ...times }
  }
}
