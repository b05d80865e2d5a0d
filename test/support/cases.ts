// Random cron expressions, from a seed.

type Random = (below: number) => number

const months = ['JAN', 'feb', 'Mar', 'APR', 'may', 'JUN', 'JUL', 'aug', 'SEP', 'OCT', 'nov', 'DEC']
const weekdays = ['SUN', 'mon', 'Tue', 'WED', 'thu', 'FRI', 'SAT']
const nicknames = ['@yearly', '@annually', '@monthly', '@weekly', '@daily', '@midnight', '@hourly', '@Daily']

/** Ordinary ones: values, lists, ranges, steps, names, both day fields, months, seconds, nicknames. */
export function expression (random: Random): string {
  if (random(40) === 0) return pick(random, nicknames)
  const time = [random(4) > 0 ? field(random, 0, 59, 4) : '0', field(random, 0, 23, 3)]
  if (random(6) === 0) time.unshift(field(random, 0, 59, 5))
  return [
    ...time,
    random(5) < 3 ? pick(random, ['*', '*', '*', '*', '?']) : random(8) > 0 ? field(random, 1, 31, 9) : pick(random, ['L', 'LW', '15W', '1W', '31W', '1,L', '1,15W']),
    random(4) > 0 ? '*' : field(random, 1, 12, 9, months),
    random(5) < 3 ? pick(random, ['*', '*', '*', '*', '?']) : random(8) > 0 ? field(random, 0, 7, 9, weekdays) : pick(random, ['5L', 'MON#1', '2#3', 'FRI#5', '1#2,3#4', '0L'])
  ].join(' ')
}

/** A time of day in the small hours, where the clocks change, in each form that a field can have. */
export function nightly (random: Random): string {
  const hours = ['0', '1', '2', '3', '23', '1,2', '2,3', '0-3', '1-4', '*', '*/2', '*/3', '0-4/2', '1-3/1', '22-23', '0,23']
  const minutes = ['0', '15', '30', '45', '59', '0,30', '10-20', '0,15,30,45', '*/15', '*/30', '*/7', '*', '0-30/10']
  const seconds = random(6) === 0 ? `${pick(random, ['30', '0,30', '*/20', '59'])} ` : ''
  const day = random(4) === 0 ? field(random, 1, 31, 9) : '*'
  const weekday = random(4) === 0 ? field(random, 0, 7, 9, weekdays) : '*'
  return `${seconds}${pick(random, minutes)} ${pick(random, hours)} ${day} * ${weekday}`
}

/** One field; `few` says how seldom it is a wildcard. */
function field (random: Random, min: number, max: number, few: number, names?: string[]): string {
  switch (random(few)) {
    case 0: return random(2) === 0 ? '*' : `*/${1 + random(Math.min(max - min, 20))}`
    case 1: return Array.from({ length: 2 + random(3) }, () => random(3) === 0 ? range(random, min, max, names) : name(random, min, max, names)).join(',')
    case 2: return range(random, min, max, names)
    default: return name(random, min, max, names)
  }
}

function range (random: Random, min: number, max: number, names?: string[]): string {
  const from = min + random(max - min)
  const to = from + random(max - from + 1)
  if (names !== undefined && to > from && to - from < names.length && random(2) === 0) return `${names[from - min] as string}-${names[(to - min) % names.length] as string}`
  return random(4) === 0 ? `${from}-${to}/${1 + random(7)}` : `${from}-${to}`
}

function name (random: Random, min: number, max: number, names?: string[]): string {
  const value = random(max - min + 1)
  return names !== undefined && random(2) === 0 ? pick(random, names) : String(min + value)
}

/** One of a list. */
export function pick<T> (random: Random, list: readonly T[]): T {
  return list[random(list.length)] as T
}
