import { type Check, wrong } from '../common/check.ts'

const units = { w: 604_800_000, d: 86_400_000, h: 3_600_000, m: 60_000, s: 1_000, ms: 1 } as const

// Descending units, each at most once, nothing between them: '1h30m'. Libraries for durations are less strict: they read '1 month' as
// a minute, '5 parsecs' as 5, and accept '-1s'.
const pattern = /^(?:(?<w>\d+)w)?(?:(?<d>\d+)d)?(?:(?<h>\d+)h)?(?:(?<m>\d+)m)?(?:(?<s>\d+)s)?(?:(?<ms>\d+)ms)?$/

/** A time span: milliseconds, or a string such as `'500ms'`, `'30s'` or `'1h30m'` (units ms s m h d w, descending, once each). */
export type Duration = number | string

/** The milliseconds of a duration; undefined if the value is none, or negative. */
export function parseDuration (value: unknown): number | undefined {
  const ms = typeof value === 'string' ? parseText(value) : value
  return typeof ms === 'number' && ms >= 0 && ms <= Number.MAX_SAFE_INTEGER ? ms : undefined
}

function parseText (text: string): number | undefined {
  const parts = text === '' ? undefined : pattern.exec(text)?.groups
  if (parts === undefined) return undefined
  return Object.entries(units).reduce((sum, [unit, ms]) => sum + Number(parts[unit] ?? 0) * ms, 0)
}

/** Milliseconds as a person reads them: `8s`, `1h30m`, `250ms`. */
export function formatDuration (ms: number): string {
  let rest = Math.round(ms)
  const parts = Object.entries(units).map(([unit, size]) => {
    const count = Math.floor(rest / size)
    rest -= count * size
    return count > 0 ? `${count}${unit}` : ''
  })
  return parts.join('') || '0ms'
}

/** How error messages describe a duration. */
export const durationText = "a duration: milliseconds, or a string such as '500ms', '30s' or '1h30m' (units w d h m s ms, descending, once each)"

export const duration: Check<number> = value => {
  const ms = parseDuration(value)
  if (ms === undefined) throw wrong(durationText, value)
  return ms
}
export const positiveDuration: Check<number> = value => {
  const ms = parseDuration(value)
  if (ms === undefined || ms === 0) throw wrong(`${durationText}, above 0`, value)
  return ms
}
/** A period of 1 ms or more: setTimeout has no fractions of a millisecond. */
export const period: Check<number> = value => {
  const ms = parseDuration(value)
  if (ms === undefined || ms < 1) throw wrong(`${durationText}, 1 ms or more`, value)
  return ms
}
