import type { FastifyBaseLogger } from 'fastify'
import type { Clock, Timer } from '../../clock.ts'
import { errorCodes } from '../../errors.ts'
import type { Condition } from '../../health.ts'
import { List, type Linked } from '../../list.ts'
import { report, toError } from '../../report.ts'
import { command, withoutCommand, type Client } from './engine.ts'

/** How long whoever asks the store for something waits for the answer, in milliseconds. Below 5 s, whatever else is under way. */
const PATIENCE = 4_500

/** How long to wait before one that has refused is tried again, in milliseconds. */
const AGAIN = 1_000

/** What somebody asks the engine. */
class Call<T> implements Linked {
  previous: this | undefined = undefined
  next: this | undefined = undefined
  readonly answer: Promise<T>
  readonly work: () => Promise<T>
  /** When it was asked, by the clock. */
  readonly since: number
  /** Whether it was asked: what was under way when the connection was lost, the client sends again. */
  begun = false
  /** Whether it has been answered, or given up. */
  over = false
  resolve!: (value: T) => void
  reject!: (error: Error) => void

  constructor (work: () => Promise<T>, since: number) {
    this.work = work
    this.since = since
    this.answer = new Promise<T>((resolve, reject) => {
      this.resolve = resolve
      this.reject = reject
    })
  }
}

/** The connection to the engine: whether it is up, and calls that end in time, whether it is or not. */
export class Link {
  readonly client: Client
  readonly #clock: Clock
  readonly #log: FastifyBaseLogger
  /** Those that wait for an answer, or until they can ask; the oldest first. */
  readonly #calls = new List<Call<unknown>>()
  #watch: Timer | undefined
  readonly #onUp = new Set<() => void>()
  #up = false
  /** Whether the last call was answered in time, and not refused. */
  #answers = true
  #lost = false
  #ended = false
  /** Counts the connections: what comes of an earlier one is of no interest any more. */
  #life = 0
  #retry: Timer | undefined
  #checked = false
  #error: Error | undefined

  readonly #end: () => void

  constructor ({ client, end }: { client: Client, end (): void }, clock: Clock, log: FastifyBaseLogger) {
    this.client = client
    this.#end = end
    this.#clock = clock
    this.#log = log
    client.on('ready', () => { void this.#prove() })
    client.on('close', () => { this.#isDown() })
    client.on('error', (error: Error) => {
      this.#error = withoutCommand(error)
      this.#isDown()
    })
    // One of the package redis connects when it is told to; what it says of that comes as an event, too.
    if (client.status === 'wait') client.connect().catch(() => {})
  }

  get up (): boolean { return this.#up }

  get condition (): Condition {
    if (this.#up && this.#answers) return { status: 'ok' }
    return { status: 'degraded', reason: `the store cannot be reached: ${this.#why}` }
  }

  /** Calls `callback` whenever the connection is up: now, if it is, and after each loss. Returns what ends that. */
  onUp (callback: () => void): () => void {
    this.#onUp.add(callback)
    if (this.#up) callback()
    return () => { this.#onUp.delete(callback) }
  }

  /** What `work` resolves to. Rejects with `FST_BG_STORE_UNAVAILABLE` when the store is away or does not answer, in less than 5 s. */
  call<T> (work: () => Promise<T>): Promise<T> {
    if (this.#ended) return Promise.reject(this.#unavailable(undefined))
    const call = new Call(work, this.#clock.now())
    this.#calls.add(call as Call<unknown>)
    // One timer for all of them: they are many, and few are ever given up.
    this.#watch ??= this.#clock.after(PATIENCE, () => { this.#giveUpOld() })
    if (this.#up) this.#begin(call as Call<unknown>)
    return call.answer
  }

  /** Resolves when `work` has settled, or after `ms` milliseconds; at once while the connection is down. */
  async within (ms: number, work: Promise<unknown>): Promise<void> {
    await new Promise<void>(resolve => {
      const timer = this.#clock.after(this.#up ? ms : 0, resolve)
      const done = (): void => {
        timer.cancel()
        resolve()
      }
      work.then(done, done)
    })
  }

  /** Ends all connections, whatever is under way. */
  disconnect (): void {
    this.#ended = true
    this.#life++
    this.#lost = true
    this.#up = false
    while (this.#calls.first !== undefined) this.#giveUp(this.#calls.first)
    this.#watch?.cancel()
    this.#retry?.cancel()
    this.#end()
  }

  get #why (): string {
    if (this.#error !== undefined) return messageOf(this.#error)
    return this.#up ? 'it does not answer' : 'not connected'
  }

  #begin (call: Call<unknown>): void {
    call.begun = true
    call.work().then(value => {
      this.#done(call)
      this.#answers = true
      this.#error = undefined
      call.resolve(value)
    }, thrown => {
      this.#done(call)
      call.reject(isOurs(thrown) ? thrown as Error : this.#refused(withoutCommand(toError(thrown))))
    })
  }

  #done (call: Call<unknown>): void {
    if (call.over) return
    call.over = true
    this.#calls.remove(call)
  }

  /** Those that have waited for long enough. */
  #giveUpOld (): void {
    this.#watch = undefined
    const now = this.#clock.now()
    for (let call = this.#calls.first; call !== undefined; call = this.#calls.first) {
      const left = call.since + PATIENCE - now
      if (left > 0) {
        this.#watch = this.#clock.after(left, () => { this.#giveUpOld() })
        return
      }
      this.#answers = !this.#up
      this.#giveUp(call)
    }
  }

  #giveUp (call: Call<unknown>): void {
    this.#done(call)
    call.reject(this.#unavailable(this.#error))
  }

  #refused (error: Error): Error {
    this.#answers = false
    this.#error = error
    return this.#unavailable(error)
  }

  #unavailable (cause: Error | undefined): Error {
    // With nothing after what the message takes: it would stand at its end.
    return cause === undefined ? new errorCodes.FST_BG_STORE_UNAVAILABLE(this.#why) : new errorCodes.FST_BG_STORE_UNAVAILABLE(messageOf(cause), { cause })
  }

  /**
   * A connection is up when Redis answers on it. It may want a password, or refuse what BullMQ asks at first: BullMQ then takes what it has for
   * broken for good, and its worker goes round without ever letting go of the event loop.
   */
  async #prove (): Promise<void> {
    const life = ++this.#life
    try {
      await this.client.info()
    } catch (error) {
      if (life !== this.#life) return
      this.#error = withoutCommand(toError(error))
      this.#isDown()
      this.#retry = this.#clock.after(AGAIN, () => { void this.#prove() })
      return
    }
    if (life === this.#life) this.#isUp()
  }

  #isUp (): void {
    if (this.#lost) report.storeBack(this.#log)
    this.#lost = false
    this.#up = true
    this.#answers = true
    this.#error = undefined
    for (const call of this.#calls) if (!call.begun) this.#begin(call)
    for (const callback of this.#onUp) callback()
    if (!this.#checked) void this.#checkPersistence()
    this.#checked = true
  }

  #isDown (): void {
    this.#life++
    this.#retry?.cancel()
    this.#up = false
    if (this.#lost) return
    this.#lost = true
    report.storeLost(this.#log, this.#error)
  }

  /** Redis keeps nothing for certain unless it is told to; by default it has lost all of the last minutes after a crash. */
  async #checkPersistence (): Promise<void> {
    try {
      const appendonly = settingOf(await command(this.client, 'CONFIG', 'GET', 'appendonly'))
      if (appendonly === 'yes') return
      report.notPersisted(this.#log, settingOf(await command(this.client, 'CONFIG', 'GET', 'save')) !== '')
    } catch {
      // Not every server tells: a managed one may keep everything, and refuse CONFIG.
    }
  }
}

/** The value in the answer to CONFIG GET, which is a list, or an object. */
function settingOf (answer: unknown): unknown {
  return Array.isArray(answer) ? answer[1] : Object.values(answer as object)[0]
}

function isOurs (error: unknown): boolean {
  return String((error as { code?: unknown } | undefined)?.code).startsWith('FST_BG_')
}

/** The message; of an error that is several, such as one for each address that was tried, theirs. */
function messageOf (error: Error): string {
  const { message, errors = [] } = error as Error & { errors?: Error[] }
  return [message, ...errors.map(({ message }) => message)].filter(text => text !== '').join(', ')
}
