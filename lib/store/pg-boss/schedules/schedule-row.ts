/** A schedule, as the statements return it. A time that there is none of is infinite. */
export interface ScheduleRow { key: string, definition: string, generation: number, due: number | string, last: number | null }

/** The bytes of a key as hex. */
export function hexOf (key: string): string {
  return Buffer.from(key).toString('hex')
}

export function keyOf (hex: string): string {
  return Buffer.from(hex, 'hex').toString()
}

/** A time of a schedule; undefined if there is none. */
export function dateOf (time: number | string | null | undefined): Date | undefined {
  const date = new Date(Number(time ?? NaN))
  return Number.isNaN(date.getTime()) ? undefined : date
}
