// When a cron expression fires, worked out from the rule in the most literal way: walk through time minute by minute, as a
// cron daemon does, and look at the wall clock. It shares nothing with lib/ or with croner. The wall clock is Intl's, read at
// both ends of each UTC day and, where they differ, each quarter of an hour: the zones of these tests change on a quarter.

const MINUTE = 60_000
const QUARTER = 15 * MINUTE
const DAY = 24 * 60 * MINUTE
/** A gap up to this is a change of the clocks; beyond, days were left out. */
const LONGEST_GAP = 180 * MINUTE
/** Every 29 February that is a Monday, and every fifth Monday of a February, comes again within 28 years. */
const REACH = 30 * 366

const nicknames: Record<string, string> = {
  '@yearly': '0 0 1 1 *',
  '@annually': '0 0 1 1 *',
  '@monthly': '0 0 1 * *',
  '@weekly': '0 0 * * 0',
  '@daily': '0 0 * * *',
  '@midnight': '0 0 * * *',
  '@hourly': '0 * * * *'
}
const months = ['JAN', 'FEB', 'MAR', 'APR', 'MAY', 'JUN', 'JUL', 'AUG', 'SEP', 'OCT', 'NOV', 'DEC']
const weekdays = ['SUN', 'MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT']

const clocks = new Map<string, Intl.DateTimeFormat>()
const days = new Map<string, Map<number, Int32Array>>()

/** What the wall clock of a zone is ahead of UTC at an instant, in milliseconds, as Intl tells it. */
export function offsetAt (zone: string, time: number): number {
  let clock = clocks.get(zone)
  if (clock === undefined) {
    clock = new Intl.DateTimeFormat('en-US', { timeZone: zone, hourCycle: 'h23', year: 'numeric', month: 'numeric', day: 'numeric', hour: 'numeric', minute: 'numeric', second: 'numeric' })
    clocks.set(zone, clock)
  }
  const [month = 0, day, year = 0, hour, minute, second] = clock.format(time).split(/\D+/).map(Number)
  return Date.UTC(year, month - 1, day, hour, minute, second) - Math.floor(time / 1_000) * 1_000
}

/** The offsets of a UTC day, one for each quarter of an hour. */
function offsetsOf (zone: string, day: number): Int32Array {
  let known = days.get(zone)
  if (known === undefined) days.set(zone, known = new Map())
  let offsets = known.get(day)
  if (offsets === undefined) {
    const start = day * DAY
    const first = offsetAt(zone, start)
    const steady = first === offsetAt(zone, start + DAY)
    offsets = Int32Array.from({ length: DAY / QUARTER }, (_, quarter) => steady ? first : offsetAt(zone, start + quarter * QUARTER))
    known.set(day, offsets)
  }
  return offsets
}

/** The instants at which an expression fires in a zone. */
export class Oracle {
  readonly #zone: string
  readonly #seconds: number[]
  /** Of each minute of a day: whether the minute and the hour field match. */
  readonly #minutes: Uint8Array
  readonly #months: Set<number>
  readonly #onDay: DateTest
  readonly #onWeekday: DateTest
  /** Whether both day fields are restricted. */
  readonly #either: boolean
  /** Whether it names fixed times of the day; else it follows elapsed time. */
  readonly #fixed: boolean
  readonly #dates = new Map<number, boolean>()

  constructor (text: string, zone: string) {
    this.#zone = zone
    const fields = (nicknames[text.toLowerCase()] ?? text).split(' ')
    if (fields.length === 5) fields.unshift('0')
    const [second = '', minute = '', hour = '', day = '', month = '', weekday = ''] = fields.map(field => field.replace('?', '*').toUpperCase())
    this.#seconds = [...numbers(second, 0, 59)].sort((a, b) => a - b)
    const inMinute = numbers(minute, 0, 59)
    const inHour = numbers(hour, 0, 23)
    this.#minutes = Uint8Array.from({ length: 1_440 }, (_, i) => Number(inHour.has(Math.floor(i / 60)) && inMinute.has(i % 60)))
    this.#months = numbers(month, 1, 12, months)
    this.#onDay = dayTest(day)
    this.#onWeekday = weekdayTest(weekday)
    this.#either = !day.startsWith('*') && !weekday.startsWith('*')
    this.#fixed = !/[*/]/.test(second + minute + hour)
  }

  /** The first firing after `time`. */
  next (time: number): number | undefined {
    const today = Math.floor(time / DAY)
    for (let day = today; day < today + REACH; day++) {
      const found = this.#firings(day).find(firing => firing > time)
      if (found !== undefined) return found
    }
    return undefined
  }

  /** The last firing before `time`. */
  previous (time: number): number | undefined {
    const today = Math.floor(time / DAY)
    for (let day = today; day > today - REACH; day--) {
      const found = this.#firings(day).findLast(firing => firing < time)
      if (found !== undefined) return found
    }
    return undefined
  }

  /** The firings from `from` on and before `to`. */
  between (from: number, to: number): number[] {
    const found: number[] = []
    for (let day = Math.floor(from / DAY); day * DAY < to; day++) found.push(...this.#firings(day))
    return found.filter(firing => firing >= from && firing < to)
  }

  /** The firings within a UTC day. */
  #firings (day: number): number[] {
    if (!this.#isOn(day - 1) && !this.#isOn(day) && !this.#isOn(day + 1)) return []
    const firings: number[] = []
    const before = offsetsOf(this.#zone, day - 1)
    const offsets = offsetsOf(this.#zone, day)
    // Where the clocks have not changed since a day ago, that day has no say in this one.
    const first = before.every(offset => offset === offsets[0]) ? 95 : 0
    let wall = (day - 1) * DAY + first * QUARTER + (before[first] as number)
    let latest = wall
    for (let quarter = first; quarter < 192; quarter++) {
      const offset = (quarter < 96 ? before[quarter] : offsets[quarter - 96]) as number
      const start = (day - 1) * DAY + quarter * QUARTER
      for (let time = start; time < start + QUARTER; time += MINUTE) {
        const last = wall
        wall = time + offset
        if (time >= day * DAY) {
          let fires = this.#matches(wall) && !(this.#fixed && wall <= latest)
          let seconds = this.#seconds
          if (this.#fixed && wall - last > MINUTE && wall - last - MINUTE <= LONGEST_GAP) {
            for (let lost = last + MINUTE; lost < wall; lost += MINUTE) {
              if (this.#matches(lost)) {
                if (!fires || seconds[0] !== 0) seconds = fires ? [0, ...seconds] : [0]
                fires = true
                break
              }
            }
          }
          if (fires) for (const second of seconds) firings.push(time + second * 1_000)
        }
        latest = Math.max(latest, wall)
      }
    }
    return firings
  }

  #matches (wall: number): boolean {
    return this.#minutes[wall % DAY / MINUTE] === 1 && this.#isOn(Math.floor(wall / DAY))
  }

  /** Whether the day, month and weekday fields match a date, counted in days from the epoch. */
  #isOn (date: number): boolean {
    let on = this.#dates.get(date)
    if (on === undefined) this.#dates.set(date, on = this.#isDate(new Date(date * DAY)))
    return on
  }

  #isDate (date: Date): boolean {
    if (!this.#months.has(date.getUTCMonth() + 1)) return false
    const [day, weekday] = [date.getUTCDate(), date.getUTCDay()]
    const onDay = this.#onDay(day, weekday, date)
    const onWeekday = this.#onWeekday(day, weekday, date)
    return this.#either ? onDay || onWeekday : onDay && onWeekday
  }
}

/** The numbers that a field of values, ranges and steps stands for. */
function numbers (field: string, min: number, max: number, names: string[] = []): Set<number> {
  const number = (text: string): number => names.includes(text) ? names.indexOf(text) + min : Number(text)
  const found = new Set<number>()
  for (const part of field.split(',')) {
    const [range = '', step = '1'] = part.split('/')
    const [from = min, to = from] = range === '*' ? [min, max] : range.split('-').map(number)
    // FRI-SUN: as the end of a range, Sunday is the seventh day.
    for (let value = from; value <= (to < from ? to + 7 : to); value += Number(step)) found.add(value)
  }
  return found
}

type DateTest = (day: number, weekday: number, date: Date) => boolean

function dayTest (field: string): DateTest {
  const tests = field.split(',').map((part): DateTest => {
    if (part === 'L') return (day, _, date) => day === lastOf(date)
    if (part.endsWith('W')) return (day, _, date) => day === nearestWorkingDay(part === 'LW' ? lastOf(date) : Number(part.slice(0, -1)), date)
    const values = numbers(part, 1, 31)
    return day => values.has(day)
  })
  return (day, weekday, date) => tests.some(test => test(day, weekday, date))
}

function weekdayTest (field: string): DateTest {
  const tests = field.split(',').map((part): DateTest => {
    const [, which = '', nth] = /^(.*?)(?:#(\d)|L)?$/.exec(part) ?? []
    const values = new Set([...numbers(which, 0, 7, weekdays)].map(value => value % 7))
    if (part.endsWith('L')) return (day, weekday, date) => values.has(weekday) && day > lastOf(date) - 7
    return (day, weekday) => values.has(weekday) && (nth === undefined || Math.ceil(day / 7) === Number(nth))
  })
  return (day, weekday, date) => tests.some(test => test(day, weekday, date))
}

function lastOf (date: Date): number {
  return new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate()
}

/** The working day that is nearest to a day, in the same month. */
function nearestWorkingDay (wanted: number, date: Date): number | undefined {
  const last = lastOf(date)
  const working = Array.from({ length: last }, (_, i) => i + 1).filter(day => {
    const weekday = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), day)).getUTCDay()
    return weekday > 0 && weekday < 6
  })
  return wanted > last ? undefined : working.sort((a, b) => Math.abs(a - wanted) - Math.abs(b - wanted))[0]
}
