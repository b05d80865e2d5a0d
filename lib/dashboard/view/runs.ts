import type { FastifyBaseLogger } from 'fastify'
import type { BackgroundQueue, ListedState, QueuedRun, QueueSchedule, StoredError } from '../../index.ts'
import { type Content, contentOf, cut, type Payloads, progressOf, shortError, wholeError } from './content.ts'
import { allWords } from './words.ts'

/** A run of a queue in a list. */
interface ListedRun extends Omit<QueuedRun, 'payload' | 'value' | 'progress' | 'error'> {
  progress: number | string | undefined
  error: StoredError | undefined
}

/** A page of runs. */
export interface RunPage {
  runs: ListedRun[]
  /** For the next page; undefined on the last one. */
  cursor: string | undefined
  /** How many runs were looked at; only of a search. */
  searched?: number
}

/** A run of a queue in full. */
export interface RunDetails extends ListedRun {
  payload: Content | undefined
  value: Content | undefined
}

/** A page of the schedules of a queue. */
export interface ShownSchedules {
  schedules: Array<Omit<QueueSchedule, 'payload'> & { payload: Content | undefined }>
  cursor: string | undefined
  words: Record<string, string>
}

/** Which runs to list. */
export interface RunFilter { state: ListedState, limit?: number, cursor?: string, search?: string }

/** The most runs that one search looks at: the cursor goes on from there. */
const SEARCHED = 5_000

/** A page of the runs in a state. A search looks at ids, keys and errors; an exact id is found in any state. */
export async function runsOf (queue: BackgroundQueue, { state, limit = 50, cursor, search = '' }: RunFilter): Promise<RunPage> {
  if (search === '') {
    const page = await queue.list({ state, limit, cursor })
    return { runs: page.runs.map(listed), cursor: page.cursor }
  }
  const exact = cursor === undefined ? await queue.get(search) : undefined
  if (exact !== undefined) return { runs: [listed(exact)], cursor: undefined, searched: 1 }
  const wanted = search.toLowerCase()
  const runs: ListedRun[] = []
  let searched = 0
  do {
    const page = await queue.list({ state, limit: Math.max(limit, 200), cursor })
    cursor = page.cursor
    searched += page.runs.length
    runs.push(...page.runs.filter(run => isWanted(run, wanted)).map(listed))
    // All of a page or nothing: the cursor stands at its end.
  } while (cursor !== undefined && runs.length < limit && searched < SEARCHED)
  return { runs, cursor, searched }
}

/** All about a run. */
export async function runDetails (queue: BackgroundQueue, run: QueuedRun, payloads: Payloads, log: FastifyBaseLogger): Promise<RunDetails> {
  return {
    ...listed(run),
    error: run.error && wholeError(run.error),
    payload: await payloads.show(run.payload, queue.name, log),
    value: contentOf(run.value)
  }
}

/** A page of the schedules, with their payloads. */
export async function schedulesOf (queue: BackgroundQueue, filter: { limit?: number, cursor?: string, prefix?: string }, payloads: Payloads, log: FastifyBaseLogger): Promise<ShownSchedules> {
  const { schedules, cursor } = await queue.schedules(filter)
  return {
    schedules: await Promise.all(schedules.map(async ({ payload, ...schedule }) => ({ ...schedule, payload: await payloads.show(payload, queue.name, log) }))),
    cursor,
    words: allWords(schedules.map(({ cron }) => cron))
  }
}

function listed ({ payload, value, progress, error, ...run }: QueuedRun): ListedRun {
  return { ...run, key: run.key === undefined ? undefined : cut(run.key, 1_000), progress: progressOf(progress), error: error && shortError(error) }
}

function isWanted ({ id, key = '', error }: QueuedRun, wanted: string): boolean {
  return [id, key, error?.name, error?.code, error?.message].some(text => text?.toLowerCase().includes(wanted))
}
