import type { QueueContext } from '../context.ts'

/** The keys in Redis of a queue's schedules: times, names, definitions, states. */
export function scheduleKeys ({ toKey }: QueueContext): string[] {
  return ['schedules', 'schedules:names', 'schedules:definitions', 'schedules:states'].map(toKey)
}

/** State of a schedule, as texts. */
export interface ScheduleState { generation: string, due: string, last: string }

export function readState (text: string): ScheduleState {
  const [generation = '', due = '', last = '-'] = text.split(' ')
  return { generation, due, last }
}

/** A time of a state; undefined if there is none. */
export function dateOf (text: string): Date | undefined {
  const date = new Date(Number(text))
  return Number.isNaN(date.getTime()) ? undefined : date
}
