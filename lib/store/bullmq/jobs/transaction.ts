import type { Queue } from 'bullmq'
import type { NewRun } from '../../store.ts'
import type { QueueContext } from '../context.ts'
import { queueCommand, scriptsOf } from '../redis/client.ts'
import type { JobData } from '../../engines/index.ts'
import { jobOf, plainDataOf } from './job.ts'

/** The part of BullMQ's Redis backend that adds a job to a transaction. It has that for flows, which span queues; `addBulk` is no transaction. */
interface Backend { addJobToTransaction (transaction: Script, job: unknown, id: string): Promise<unknown> }

/** What a transaction is made of: commands that run scripts. */
interface Script { runCommand (name: string, args: unknown[]): unknown }

/** The most jobs of one script. */
const CHUNK = 1_000

/** Adds jobs, and whatever else, in one transaction of Redis: all of it happens or nothing. */
export class JobTransaction {
  readonly #context: QueueContext
  readonly #queue: () => Queue<JobData, unknown>

  constructor (context: QueueContext, queue: () => Queue<JobData, unknown>) {
    this.#context = context
    this.#queue = queue
  }

  /** Adds jobs, in this order. Resolves to the id of each; for a duplicate, that of the earlier job with its key. */
  async addAll (runs: NewRun[]): Promise<string[]> {
    const { toKey, options: { name, clock } } = this.#context
    /** The runs whose id BullMQ answers, by the number of their command. */
    const answered: number[] = []
    const answers = await this.run((transaction, add) => {
      const now = clock.wall()
      let plain: string[] = []
      answered.length = 0
      let commands = 0
      const flush = (): void => {
        if (plain.length === 0) return
        transaction.runCommand('fbtAddPlain', [toKey('wait'), toKey('marker'), toKey(''), name, now, ...plain])
        commands++
        plain = []
      }
      for (const [i, run] of runs.entries()) {
        const data = plainDataOf(run, now)
        if (data === undefined) {
          flush()
          answered[commands++] = i
          add(run)
        } else {
          plain.push(run.id, data)
          if (plain.length === 2 * CHUNK) flush()
        }
      }
      flush()
    })
    const ids = runs.map(({ id }) => id)
    answered.forEach((i, command) => { ids[i] = String(answers[command]) })
    return ids
  }

  /**
   * Resolves to the answers, one for each command that `fill` adds.
   *
   * The transaction begins with loading its scripts. A Redis that was restarted knows none of them, or those that another process has used since, and a transaction
   * goes on after a script that is not known: it would claim a tick, say, and add no job.
   */
  async run (fill: (transaction: Script, add: (run: NewRun) => void) => void): Promise<unknown[]> {
    return await this.#context.redis.call(async () => {
      const queue = this.#queue()
      await queue.waitUntilReady()
      const { client } = this.#context.redis
      const transaction = client.multi()
      const commands = this.#commandsOf(fill)
      const scripts = new Set(commands.map(([name]) => name))
      const sources = scriptsOf(client)
      for (const name of scripts) queueCommand(transaction, 'SCRIPT', 'LOAD', sources(name))
      for (const [name, args] of commands) transaction.runCommand(name, args as never)
      // The package redis rejects with an error of its own, which has those of the commands.
      const answers = await transaction.exec().catch((error: Error & { replies?: unknown[] }) => { throw error.replies?.find(reply => reply instanceof Error) ?? error }) as Array<[error: Error | null, answer: unknown]>
      for (const [error] of answers) if (error !== null) throw error
      return answers.slice(scripts.size).map(([, answer]) => answer)
    })
  }

  #commandsOf (fill: (transaction: Script, add: (run: NewRun) => void) => void): Array<[name: string, args: unknown[]]> {
    const { engine, options: { name, clock } } = this.#context
    const queue = this.#queue()
    const { backend } = queue as unknown as { backend: Backend }
    const commands: Array<[name: string, args: unknown[]]> = []
    const script: Script = { runCommand: (name, args) => commands.push([name, args]) }
    const now = clock.wall()
    fill(script, run => {
      const { data, opts } = jobOf(run, now)
      const job = new engine.Job(queue, name, data, opts, run.id)
      // It adds the command at once, and rejects for none of our jobs.
      void backend.addJobToTransaction(script, job.asJSON(), run.id)
    })
    return commands
  }
}
