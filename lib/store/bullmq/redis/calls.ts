import { type LinkedItem, LinkedList } from '../../../run/index.ts'
import type { Clock, Timer } from '../../../time/index.ts'

/** Limit of a call, in milliseconds: below the 5 s that the store promises. */
const CALL_TIMEOUT = 4_500

/** What becomes of calls is told to the connection. */
export interface CallListener {
  /** Redis has answered. */
  answered (): void
  /** Redis, or the client, has refused a command. Returns the error that the caller gets; undefined if the call is to be sent again when the connection is up. */
  refused (thrown: unknown, isOver: boolean): Error | undefined
  /** A call has waited for too long. Returns the error that the caller gets. */
  timedOut (wasSent: boolean): Error
}

/** A call to Redis. */
class Call<T> implements LinkedItem {
  previous: this | undefined = undefined
  next: this | undefined = undefined
  readonly answer: Promise<T>
  readonly work: () => Promise<T>
  /** When it was made, on the monotonic timeline. */
  readonly since: number
  /** Whether it was sent. If the connection is lost then, the client sends it again. */
  sent = false
  /** Whether it was answered, or has timed out. */
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

/** The calls to Redis that have no answer yet: they wait while the connection is down, and end in time whether it comes up or not. */
export class Calls {
  readonly #clock: Clock
  readonly #listener: CallListener
  /** The oldest first. */
  readonly #calls = new LinkedList<Call<unknown>>()
  #watch: Timer | undefined

  constructor (clock: Clock, listener: CallListener) {
    this.#clock = clock
    this.#listener = listener
  }

  /** Resolves to the result of `work`, which begins now if the connection is up, else with `sendWaiting`. */
  add<T> (work: () => Promise<T>, connected: boolean): Promise<T> {
    const call = new Call(work, this.#clock.now())
    this.#calls.add(call as Call<unknown>)
    // One timer for all calls: they are many, and few ever time out.
    this.#watch ??= this.#clock.after(CALL_TIMEOUT, () => { this.#timeOutOld() })
    if (connected) this.#send(call as Call<unknown>)
    return call.answer
  }

  /** The connection is up. */
  sendWaiting (): void {
    for (const call of this.#calls) if (!call.sent) this.#send(call)
  }

  /** Rejects all calls. */
  end (): void {
    while (this.#calls.first !== undefined) this.#timeOut(this.#calls.first)
    this.#watch?.cancel()
  }

  #send (call: Call<unknown>): void {
    call.sent = true
    call.work().then(value => {
      this.#done(call)
      this.#listener.answered()
      call.resolve(value)
    }, thrown => {
      const error = this.#listener.refused(thrown, call.over)
      if (error === undefined) {
        call.sent = false
        return
      }
      this.#done(call)
      call.reject(error)
    })
  }

  #done (call: Call<unknown>): void {
    if (call.over) return
    call.over = true
    this.#calls.remove(call)
  }

  /** Rejects the calls that have waited for too long. */
  #timeOutOld (): void {
    this.#watch = undefined
    const now = this.#clock.now()
    for (let call = this.#calls.first; call !== undefined; call = this.#calls.first) {
      const left = call.since + CALL_TIMEOUT - now
      if (left > 0) {
        this.#watch = this.#clock.after(left, () => { this.#timeOutOld() })
        return
      }
      this.#timeOut(call)
    }
  }

  #timeOut (call: Call<unknown>): void {
    this.#done(call)
    call.reject(this.#listener.timedOut(call.sent))
  }
}
