import type { BackgroundTask, BackgroundTasks, HealthStatus, RunRecord, StoredError, TaskJson } from '../../index.ts'
import { storedError } from '../../store/index.ts'
import { wholeError } from './content.ts'
import { activeOf, type ShownActive } from './overview.ts'
import { isQueue, type QueueLoad, type QueueLoads } from './queues.ts'
import { sliced } from './sliced.ts'
import { allWords } from './words.ts'

/** A page of tasks. */
export interface TaskPage {
  /** Each as `JSON.stringify` writes its handle. */
  tasks: TaskJson[]
  /** The number of tasks that match. */
  total: number
  /** For the next page; undefined on the last one. */
  cursor: string | undefined
  /** Cron expressions in words. */
  words: Record<string, string>
}

/** A task in full. */
export interface TaskDetails {
  task: TaskJson
  settings: Record<string, unknown>
  nextRuns: Date[]
  active: ShownActive[]
  /** The last 30 runs of this process, the newest first. */
  history: Array<Omit<RunRecord, 'error'> & { error: StoredError | undefined }>
  /** How long the last 30 runs took that began, in milliseconds; undefined if there are none. */
  durations: { p50: number, p95: number, runs: number } | undefined
  words: Record<string, string>
  /** Of a queue. */
  queue: QueueLoad | undefined
}

/** Which tasks to list. */
export interface TaskFilter { search?: string, status?: HealthStatus, limit?: number, cursor?: string }

/** A page of the tasks, in the order of their declaration. */
export async function pageOf (tasks: BackgroundTasks, { search = '', status, limit = 100, cursor = '0' }: TaskFilter): Promise<TaskPage> {
  const from = Number(cursor)
  const wanted = search.toLowerCase()
  const page: TaskJson[] = []
  let total = 0
  await sliced(tasks, task => {
    if (wanted !== '' && !task.name.toLowerCase().includes(wanted)) return
    if (status !== undefined && task.condition.status !== status) return
    if (total >= from && total < from + limit) page.push(task.toJSON())
    total++
  })
  return {
    tasks: page,
    total,
    cursor: from + limit < total ? String(from + limit) : undefined,
    words: allWords(page.map(({ timing }) => timing?.cron))
  }
}

/** All about a task. */
export async function detailsOf (task: BackgroundTask, loads: QueueLoads): Promise<TaskDetails> {
  const { history } = task
  return {
    task: task.toJSON(),
    settings: task.settings,
    nextRuns: task.nextRuns(5),
    active: task.activeRuns.slice(0, 100).map(activeOf),
    history: history.map(({ error, ...run }) => ({ ...run, error: error !== undefined || run.outcome === 'failed' ? wholeError(storedError(error)) : undefined })),
    durations: durationsOf(history),
    words: allWords([task.timing?.cron]),
    queue: isQueue(task) ? await loads.read(task) : undefined
  }
}

function durationsOf (history: RunRecord[]): TaskDetails['durations'] {
  const durations = history.filter(({ attempts }) => attempts > 0).map(({ duration }) => duration).sort((one, other) => one - other)
  if (durations.length === 0) return undefined
  // The nearest rank: a duration that was measured.
  const at = (part: number): number => durations[Math.ceil(part * durations.length) - 1] as number
  return { p50: at(0.5), p95: at(0.95), runs: durations.length }
}
