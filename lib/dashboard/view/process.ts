import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { dirname, join } from 'node:path'
import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks'
import { afterRealTime, now } from '../../time/index.ts'

/** The process that answers. */
export interface ProcessInfo {
  /** Name of the application, from its package.json. */
  app: string | undefined
  /** Version of the application, from its package.json. */
  version: string | undefined
  host: string
  pid: number
  node: string
  /** Its time zone. */
  timezone: string
  /** Its clock. */
  now: Date
  /** For how long it runs, in seconds. */
  uptime: number
  /** The delay of the event loop that 99 % stayed below, in the last second or more, in milliseconds; undefined until that is known. */
  loopDelay: number | undefined
}

/** Tells about this process. It watches the event loop only while somebody asks. */
export class ProcessView {
  readonly #fixed: Pick<ProcessInfo, 'app' | 'version' | 'host' | 'pid' | 'node'>
  readonly #delay = new LoopDelay()
  readonly #wall: () => number

  constructor (wall: () => number) {
    this.#wall = wall
    this.#fixed = { ...application(), host: hostname(), pid: process.pid, node: process.version }
  }

  read (): ProcessInfo {
    const { timeZone } = Intl.DateTimeFormat().resolvedOptions()
    return { ...this.#fixed, timezone: timeZone, now: new Date(this.#wall()), uptime: Math.round(process.uptime()), loopDelay: this.#delay.read() }
  }

  close (): void {
    this.#delay.stop()
  }
}

/** How often the histogram looks, in milliseconds. Its values contain this. */
const RESOLUTION = 50
/** How long a sample lasts. */
const SAMPLE = 1_000
/** The watch ends when nobody has asked for this long. */
const FORGET = 60_000

class LoopDelay {
  #histogram: IntervalHistogram | undefined
  #since = 0
  #last: number | undefined
  #cancel: (() => void) | undefined

  read (): number | undefined {
    this.#cancel?.()
    this.#cancel = afterRealTime(FORGET, () => { this.stop() })
    if (this.#histogram === undefined) {
      this.#histogram = monitorEventLoopDelay({ resolution: RESOLUTION })
      this.#histogram.enable()
      this.#since = now()
    } else if (now() - this.#since >= SAMPLE) {
      this.#last = Math.max(0, Math.round((this.#histogram.percentile(99) / 1e6 - RESOLUTION) * 10) / 10)
      this.#histogram.reset()
      this.#since = now()
    }
    return this.#last
  }

  stop (): void {
    this.#cancel?.()
    this.#histogram?.disable()
    this.#histogram = undefined
    this.#last = undefined
  }
}

/** Name and version of the application: from the package.json next to its main file, or above it. */
function application (): Pick<ProcessInfo, 'app' | 'version'> {
  for (let folder = dirname(process.argv[1] ?? process.cwd()), above; folder !== above; [folder, above] = [dirname(folder), folder]) {
    try {
      const { name, version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { name?: unknown, version?: unknown }
      return { app: typeof name === 'string' ? name : undefined, version: typeof version === 'string' ? version : undefined }
    } catch {
      // None here.
    }
  }
  return { app: undefined, version: undefined }
}
