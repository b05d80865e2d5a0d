import { cursorOf, positionOf } from '../../cursor.ts'
import { decode } from '../../codec.ts'
import { decodeDefinition, encodeDefinition, type QueueSchedule, type ScheduleDefinition, scheduleOf, type SchedulePage } from '../../schedules/index.ts'
import type { ScheduleStore } from '../../store.ts'
import type { QueueContext } from '../context.ts'
import { dateOf, readState, scheduleKeys } from './schedule-state.ts'
import type { ScheduleTicker } from './schedule-ticker.ts'

/** The schedules of a queue, which stand in Redis. */
export class BullmqSchedules implements ScheduleStore {
  readonly #context: QueueContext
  readonly #ticker: ScheduleTicker

  constructor (context: QueueContext, ticker: ScheduleTicker) {
    this.#context = context
    this.#ticker = ticker
  }

  async set (key: string, definition: ScheduleDefinition): Promise<Date | undefined> {
    const { control, options: { clock, name } } = this.#context
    const now = clock.wall()
    const due = scheduleOf(definition, true, now).next(now, 0)
    const at = due + (definition.jitter > 0 ? Math.random() * definition.jitter : 0)
    const [next, isFirst] = await this.#run('fbtSchedule', key, encodeDefinition(definition), String(due), at) as [string, number]
    if (isFirst === 1) {
      this.#ticker.wake()
      // The others look by themselves, too, only later.
      await this.#context.redis.call(async () => { await control.publish(name, { type: 'scheduled', id: '' }) }).catch(() => {})
    }
    return dateOf(next)
  }

  async delete (key: string): Promise<boolean> {
    return await this.#run('fbtUnschedule', key) === 1
  }

  async list (prefix: string, cursor: string | undefined, limit: number): Promise<SchedulePage> {
    const after = cursor === undefined ? [] : [positionOf(this.#context.options.name, 'schedules', cursor, (key): key is string => typeof key === 'string')]
    const rows = await this.#run('fbtSchedules', prefix, limit + 1, ...after) as Array<[key: string, definition: string, state: string]>
    const last = rows.length > limit ? rows[limit - 1] : undefined
    return { schedules: rows.slice(0, limit).map(row => shown(...row)), cursor: last && cursorOf('schedules', last[0]) }
  }

  async #run (script: string, ...args: Array<string | number>): Promise<unknown> {
    const { redis } = this.#context
    return await redis.call(async () => await redis.client.runCommand(script, [...scheduleKeys(this.#context), ...args]))
  }
}

function shown (key: string, text: string, stored: string): QueueSchedule {
  const { due, last } = readState(stored)
  const times = { nextRunAt: dateOf(due), lastRunAt: dateOf(last) }
  try {
    const { every, cron, timezone, payload } = decodeDefinition(text)
    return { key, every, cron, timezone, payload: decode(payload), ...times }
  } catch {
    // Of a newer version, or of another program: it is listed all the same, so that it can be removed.
    return { key, every: undefined, cron: undefined, timezone: undefined, payload: undefined, ...times }
  }
}
