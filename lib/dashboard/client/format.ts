// Times and numbers in the viewer's language.

const relative = new Intl.RelativeTimeFormat(undefined, { numeric: 'auto', style: 'short' })
const whole = new Intl.NumberFormat()
const units: Array<[Intl.RelativeTimeFormatUnit, number]> = [['day', 86_400_000], ['hour', 3_600_000], ['minute', 60_000], ['second', 1_000]]
const cached = new Map<string, unknown>()

/** How far the viewer's clock is behind that of the server, in milliseconds. */
let behind = 0

export function setClock (server: string): void {
  behind = Date.parse(server) - Date.now()
}

/** The server's time. */
export function now (): number {
  return Date.now() + behind
}

export function count (value: number): string {
  return whole.format(value)
}

/** `1 run`, `3 runs`. */
export function counted (value: number, one: string, more = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : more}`
}

/** How long ago, or in how long. */
export function ago (time: string): string {
  const ms = Date.parse(time) - now()
  const [unit, size] = units.find(([, size]) => Math.abs(ms) >= size) ?? ['second', 1_000]
  return Math.abs(ms) < 1_000 ? 'now' : relative.format(Math.trunc(ms / size), unit)
}

/** A length of time: `480 ms`, `12.3 s`, `3 min`. */
export function duration (ms: number): string {
  if (ms < 10) return unit(Math.round(ms * 10) / 10, 'millisecond')
  if (ms < 1_000) return unit(Math.round(ms), 'millisecond')
  if (ms < 60_000) return unit(Math.round(ms / 100) / 10, 'second')
  const parts = [['day', 86_400_000], ['hour', 3_600_000], ['minute', 60_000], ['second', 1_000]] as const
  const first = parts.findIndex(([, size]) => ms >= size)
  let rest = Math.round(ms / 1_000) * 1_000
  return parts.slice(first, first + 2).flatMap(([name, size]) => {
    const n = Math.floor(rest / size)
    rest -= n * size
    return n > 0 ? [unit(n, name)] : []
  }).join(' ')
}

/** A period as a schedule: `every 10 minutes`. */
export function every (ms: number): string {
  const [name, size] = units.find(([, size]) => ms >= size && ms % size === 0) ?? ['millisecond', 1]
  return ms === size ? `every ${name}` : `every ${memo(`long ${name}`, () => new Intl.NumberFormat(undefined, { style: 'unit', unit: name, unitDisplay: 'long' })).format(ms / size)}`
}

/** Date and time in a zone: the viewer's, if none is given. */
export function at (time: string, timeZone?: string): string {
  return memo(`at ${timeZone ?? ''}`, () => format(timeZone)).format(new Date(time))
}

export const viewerZone: string = Intl.DateTimeFormat().resolvedOptions().timeZone

export function bytes (size: number): string {
  return size < 1_000 ? `${size} bytes` : `${count(Math.round(size / 100) / 10)} kB`
}

function format (timeZone: string | undefined): Intl.DateTimeFormat {
  const options: Intl.DateTimeFormatOptions = { dateStyle: 'medium', timeStyle: 'medium' }
  try {
    return new Intl.DateTimeFormat(undefined, { ...options, timeZone })
  } catch {
    // A zone that this browser does not know.
    return new Intl.DateTimeFormat(undefined, options)
  }
}

function unit (value: number, name: string): string {
  return memo(name, () => new Intl.NumberFormat(undefined, { style: 'unit', unit: name, unitDisplay: 'short' })).format(value)
}

function memo<T> (key: string, make: () => T): T {
  if (!cached.has(key)) cached.set(key, make())
  return cached.get(key) as T
}
