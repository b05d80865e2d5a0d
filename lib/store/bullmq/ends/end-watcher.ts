import { EndListeners } from '../../end-listeners.ts'
import type { RunEnd } from '../../queued-run.ts'
import type { EndListener } from '../../store.ts'
import type { QueueContext } from '../context.ts'
import type { RunJob } from '../jobs/index.ts'
import { endByEvent, endOfFields, type Found } from './end.ts'
import { EventReader, type QueueEvent } from './event-reader.ts'

/** The most jobs of one look. */
const CHUNK = 500
/** How long a mark of a cancelled job lasts, in seconds: for those who were not connected when it was cancelled. */
const MARKED = 600

/**
 * Tells how jobs end, in whatever process.
 *
 * BullMQ writes every end into the queue's stream of events, in the same step that ends the job. While somebody waits, one connection of the queue
 * reads that stream. A look at the job comes after the stream has a position, so that no end falls between the two. After a lost connection, and where events
 * cannot say which jobs they concern, it looks at all jobs again, in a few requests however many wait.
 */
export class EndWatcher {
  readonly #context: QueueContext
  readonly #listeners = new EndListeners()
  readonly #reader: EventReader

  constructor (context: QueueContext) {
    this.#context = context
    this.#reader = new EventReader(context, {
      needed: () => this.#listeners.size > 0,
      hear: async events => await this.#hear(events),
      lookAgain: async () => await this.#lookAgain()
    })
  }

  add (id: string, listener: EndListener): () => void {
    const remove = this.#listeners.add(id, listener)
    void this.#look(id, listener, remove)
    return remove
  }

  /** A worker of this process has recorded the end of a job: tells it without the way through the stream, which may be too long when the application closes. */
  completed ({ id = '' }: RunJob, returned: unknown): void {
    if (this.#listeners.has(id)) this.#listeners.end(id, endByEvent({ event: 'completed', returnvalue: JSON.stringify(returned) }))
  }

  /** The same for one that has failed, unless it is retried. */
  failed ({ id = '', finishedOn, failedReason, stacktrace }: RunJob): void {
    if (finishedOn !== undefined && this.#listeners.has(id)) this.#tell([id], [['failed', failedReason, JSON.stringify(stacktrace)]])
  }

  /** Marks a job as cancelled before it is removed: of one that is gone nobody could tell any more why. */
  async mark (id: string): Promise<void> {
    const { redis } = this.#context
    await redis.call(async () => { await redis.client.set(`${this.#marks}${id}`, '1', { EX: MARKED }) })
  }

  stop (): void {
    this.#reader.stop()
  }

  get #marks (): string { return this.#context.toKey('cancelled:') }

  /** Looks at a job once the reader listens. */
  async #look (id: string, listener: EndListener, remove: () => void): Promise<void> {
    try {
      await this.#reader.listen()
      const [found] = await this.#find([id])
      if (found === undefined || found[0] === 'pending') return
      remove()
      const end = endOfFields(found, this.#context.leases.maxCrashes)
      // One that was cancelled before somebody waited for it is as unknown as one that never was.
      if (end === undefined || end.outcome === 'cancelled') listener.gone()
      else listener.ended(end)
    } catch (error) {
      remove()
      listener.failed(error as Error)
    }
  }

  /** Tells what events say. Returns whether it has to look at all jobs again. */
  async #hear (events: QueueEvent[]): Promise<boolean> {
    /** Jobs to look at, with what their event says. */
    const unclear = new Map<string, RunEnd | undefined>()
    let again = false
    for (const event of events) {
      const { jobId: id = '' } = event
      if (event.event === 'cleaned') again = true
      if (!this.#listeners.has(id)) continue
      if (event.event === 'completed') this.#listeners.end(id, endByEvent(event))
      // The job has more of its error than the event; a removed one may have been cancelled.
      else if (event.event === 'failed') unclear.set(id, endByEvent(event))
      else if (event.event === 'removed') unclear.set(id, unclear.get(id))
    }
    if (unclear.size > 0) this.#tell([...unclear.keys()], await this.#find([...unclear.keys()]), unclear)
    return again
  }

  /** Looks at all jobs. Returns a function that tells what is gone: to call when all events until now have been heard, as these say more. */
  async #lookAgain (): Promise<() => void> {
    const { ids } = this.#listeners
    const found: Found[] = []
    for (let i = 0; i < ids.length; i += CHUNK) found.push(...await this.#find(ids.slice(i, i + CHUNK)))
    const isGone = (i: number): boolean => found[i]?.[0] === 'gone' || found[i]?.[0] === 'cancelled'
    this.#tell(ids.filter((_, i) => !isGone(i)), found.filter((_, i) => !isGone(i)))
    return () => { this.#tell(ids.filter((_, i) => isGone(i)), found.filter((_, i) => isGone(i))) }
  }

  #tell (ids: string[], found: Found[], events = new Map<string, RunEnd | undefined>()): void {
    for (const [i, id] of ids.entries()) {
      const one = found[i] as Found
      if (one[0] === 'pending') continue
      const end = endOfFields(one, this.#context.leases.maxCrashes) ?? events.get(id)
      if (end === undefined) this.#listeners.lose(id)
      else this.#listeners.end(id, end)
    }
  }

  async #find (ids: string[]): Promise<Found[]> {
    const { redis, toKey } = this.#context
    return await redis.call(async () => await redis.client.runCommand('fbtEnds', [toKey('completed'), toKey('failed'), toKey(''), this.#marks, ...ids])) as Found[]
  }
}
