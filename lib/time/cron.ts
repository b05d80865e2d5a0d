import { Cron, type CronOptions } from 'croner'
import { invalid, show } from '../common/check.ts'

/** A parsed cron expression. Times are milliseconds since the epoch. */
export interface CronPattern {
  /** The first tick after `time`; Infinity if there is none. */
  next (time: number): number
  /** The last tick before `time`; undefined if there is none. */
  previous (time: number): number | undefined
  /** Whether the expression restricts both day fields, so that a day which matches either is taken. */
  readonly eitherDay: boolean
  readonly text: string
  /** The IANA zone of its wall times. */
  readonly timezone: string
}

// A parsed expression takes 83 kB and 0.2 ms, so all tasks with the same text and zone share one.
const patterns = new Map<string, WeakRef<CronerPattern>>()
const unused = new FinalizationRegistry<string>(key => {
  if (patterns.get(key)?.deref() === undefined) patterns.delete(key)
})

/** The JavaScript engine does not know the time zone. */
class UnknownZone extends Error {}

/**
 * Parses a cron expression with five fields, or six with seconds, or a nickname such as `@daily`.
 * Without a zone it means the zone of the process at this moment. Throws an Error that says what is wrong.
 */
export function parseCron (text: string, timezone: string | undefined, now: number): CronPattern {
  const key = `${text} ${timezone ?? ''} ${timezone === undefined ? process.env.TZ ?? '' : ''}`
  const known = patterns.get(key)?.deref()
  if (known !== undefined) return known
  // Checking a zone takes 70 µs: do it only for a new expression.
  if (timezone !== undefined) checkZone(timezone)
  const pattern = new CronerPattern(text.trim(), timezone ?? processZone(), now)
  patterns.set(key, new WeakRef(pattern))
  unused.register(pattern, key)
  return pattern
}

/** The same as `parseCron`, for options. Throws `FST_BG_INVALID_OPTION`. */
export function cronOf (where: string, cron: string, timezone: string | undefined, now: number): CronPattern {
  try {
    return parseCron(cron, timezone, now)
  } catch (error) {
    if (error instanceof UnknownZone) {
      throw invalid(`${where}: option "timezone" must be an IANA time zone, such as 'Europe/Berlin' or 'UTC'; received ${show(timezone)}.`)
    }
    throw invalid(`${where}: option "cron" must be a cron expression, such as '0 2 * * *' or '@daily'; received ${show(cron)}: ${(error as Error).message}.`)
  }
}

class CronerPattern implements CronPattern {
  readonly eitherDay: boolean
  readonly text: string
  readonly timezone: string
  readonly #options: CronOptions
  /** Computes in the zone of the process, with the local time functions of Date, which are four times faster. */
  readonly #local: Cron | undefined
  /** `process.env.TZ` at the declaration: a program that sets it changes the zone of Date's local time functions. */
  readonly #env = process.env.TZ
  #zoned: Cron | undefined
  /** There is no tick between `from` and `next`: a cache, as tasks that share an expression ask about the same time. */
  #from = Infinity
  #next = -Infinity

  constructor (text: string, timezone: string, now: number) {
    this.text = text
    this.timezone = timezone
    const hint = hintFor(text)
    if (hint !== undefined) throw new Error(hint)
    const fields = text.split(/\s+/)
    // croner reads a text with a colon as a date, such as 'Mon Jan 5 2026 10:00', and fires once.
    if (text.includes(':')) throw new Error('it has no colon; a date is not an expression')
    if (!text.startsWith('@') && (fields.length < 5 || fields.length > 6)) throw new Error('it takes 5 fields, or 6 with the seconds first')
    const [day, , weekday] = fields.slice(-3)
    this.eitherDay = fields.length > 1 && isRestricted(day) && isRestricted(weekday) && !weekday?.includes('+')
    // croner only computes times here. As a scheduler it drifts, awaits nothing, and turns a rejection into an unhandled one.
    this.#options = {
      paused: true,
      mode: '5-or-6-parts',
      fixedTimeRule: 'no-wildcard',
      // As in crontab, a field that starts with '*' is no restriction. By default croner treats '*/2' as one.
      domAndDow: !this.eitherDay
    }
    if (timezone === processZone()) this.#local = parse(text, this.#options)
    // croner parses an impossible date, and finds no tick for it.
    if (this.next(now) === Infinity) throw new Error('no date ever matches it')
  }

  next (time: number): number {
    if (time >= this.#from && time < this.#next) return this.#next
    this.#from = time
    this.#next = withinReach(() => this.#cron.nextRun(new Date(time))?.getTime()) ?? Infinity
    return this.#next
  }

  previous (time: number): number | undefined {
    return withinReach(() => this.#cron.previousRuns(1, new Date(time))[0]?.getTime())
  }

  get #cron (): Cron {
    if (this.#local !== undefined && process.env.TZ === this.#env) return this.#local
    this.#zoned ??= parse(this.text, { ...this.#options, timezone: this.timezone })
    return this.#zoned
  }
}

function processZone (): string {
  return Intl.DateTimeFormat().resolvedOptions().timeZone
}

/** What croner computes; undefined where it throws, as it does for times after the year 3000. */
function withinReach (compute: () => number | undefined): number | undefined {
  try {
    return compute()
  } catch {
    return undefined
  }
}

/** Parses with croner. Its messages start with its class name, and show days and months less one, as it counts from 0: reword them. */
function parse (text: string, options: CronOptions): Cron {
  try {
    return new Cron(text, options)
  } catch (error) {
    const message = (error as Error).message.replace(/^CronPattern: /, '').replace(/^Invalid value for (\w+).*/, 'a value for $1 is out of range').replace(/\.$/, '')
    throw new Error(message, { cause: error })
  }
}

/** What to write instead of the spellings of other cron programs. */
function hintFor (text: string): string | undefined {
  const [, period] = /^@every\s+(\S+)/i.exec(text) ?? []
  if (period !== undefined) return `for a period, write every: '${period}' instead of "cron"`
  if (/^@reboot\b/i.test(text)) return 'for a run at the start, write immediate: true, or a service'
  const [, zone, rest] = /^(?:CRON_)?TZ=(\S+)\s+(.*)/.exec(text) ?? []
  if (zone !== undefined) return `write the zone as an option of its own: cron: '${rest}', timezone: '${zone}'`
  const fields = text.split(/\s+/)
  if (fields.length === 7) return 'it has no field for the year: write the other six, and leave years out with "exclude"'
  const [field, from, step] = fields.map(one => /^(\d+)\/(\d+)$/.exec(one) ?? []).find(([one]) => one !== undefined) ?? []
  if (field === undefined) return undefined
  const last = [59, 59, 23, 31, 12, 7].slice(-fields.length)[fields.indexOf(field)]
  return `a step needs a range: write '${from}-${last}/${step}' instead of '${field}'`
}

function checkZone (timezone: string): void {
  try {
    Intl.DateTimeFormat('en', { timeZone: timezone })
  } catch (cause) {
    throw new UnknownZone(timezone, { cause })
  }
}

function isRestricted (field: string | undefined): boolean {
  return field !== undefined && !/^[*?]/.test(field)
}
