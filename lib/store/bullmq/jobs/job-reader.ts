import type { Job, Worker } from 'bullmq'
import { fieldsOf } from '../redis/fields.ts'
import { lossIn, NO_JSON } from './job.ts'

/** The stand-in for data that cannot be read. No handler sees it: the run fails. */
const NOTHING = 'null'
/** The commands of BullMQ that hand out a job. */
const fetching = new Set(['moveToActive', 'moveToFinished', 'moveToDelayed'])

/** The parts of a worker that read a job. */
interface Reading {
  backend: { execCommand (client: unknown, name: string, args: unknown[]): unknown }
  createJob (data: { data: string }, id: string): Job
}

/**
 * Lets a BullMQ worker fetch jobs of which not all can be read.
 *
 * BullMQ throws on a job that is no JSON, after it has taken it: the worker then fetches it after each lease, for ever, and the job that ended
 * before it does not end. A job whose data Redis has evicted looks to BullMQ like one with empty data. The reader remembers
 * which jobs cannot be read, and why, and gives BullMQ a stand-in, so that such a job fails like any failed job.
 */
export class JobReader {
  /** What is lost, by id of the job, until the processor asks. */
  readonly #losses = new Map<string, string>()

  /** Reads for a worker from now on. */
  readFor (worker: Worker<never, never>): void {
    const { backend } = worker as unknown as Reading
    const { execCommand } = backend
    backend.execCommand = (client, name, args) => {
      const result = execCommand.call(backend, client, name, args)
      return fetching.has(name) ? Promise.resolve(result).then(found => this.#read(found)) : result
    }
    const reading = worker as unknown as Reading
    const { createJob } = reading
    reading.createJob = (data, id) => {
      try {
        return createJob.call(worker, data, id)
      } catch {
        this.#losses.set(id, NO_JSON)
        return createJob.call(worker, { ...data, data: NOTHING }, id)
      }
    }
  }

  /** What of a fetched job could not be read, once. */
  lossOf (id: string): string | undefined {
    if (this.#losses.size === 0) return undefined
    const loss = this.#losses.get(id)
    this.#losses.delete(id)
    return loss
  }

  /** Reads what a command has returned: the fields of the next job, if there is one, and its id. */
  #read (found: unknown): unknown {
    if (!Array.isArray(found) || !Array.isArray(found[0])) return found
    const [flat, id] = found as [string[], string]
    const fields = fieldsOf(flat)
    const loss = lossIn(fields)
    if (loss === undefined) return found
    this.#losses.set(String(id), loss)
    return [Object.entries({ ...fields, opts: '{}', progress: '0', parent: '', data: fields['data'] ?? NOTHING }).flat(), ...found.slice(1) as unknown[]]
  }
}
