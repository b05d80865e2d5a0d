const units = { w: 604_800_000, d: 86_400_000, h: 3_600_000, m: 60_000, s: 1_000, ms: 1 } as const

// Descending, each unit at most once, nothing between them: '1h30m'. Stricter than the libraries for it, which read
// '1 month' as a minute, '5 parsecs' as 5, or '-1s' as a time in the past.
const pattern = /^(?:(?<w>\d+)w)?(?:(?<d>\d+)d)?(?:(?<h>\d+)h)?(?:(?<m>\d+)m)?(?:(?<s>\d+)s)?(?:(?<ms>\d+)ms)?$/

/** A time span: milliseconds, or a text such as `'500ms'`, `'30s'` or `'1h30m'` (units ms s m h d w, descending, once each). */
export type Duration = number | string

/** The milliseconds of a duration that is not negative, or undefined if it is no such duration. */
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
