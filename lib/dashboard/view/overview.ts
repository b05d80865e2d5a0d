import type { ActiveRun, ActivityMinute, BackgroundQueue, BackgroundTasks, HealthStatus, StoredError, TaskKind, TaskState } from '../../index.ts'
import { storedError } from '../../store/index.ts'
import { cut, progressOf, shortError } from './content.ts'
import type { ProcessInfo, ProcessView } from './process.ts'
import { isQueue, type QueueLoad, type QueueLoads } from './queues.ts'
import { sliced } from './sliced.ts'

/** Something that is wrong, and the tasks that it concerns. */
interface Problem {
  status: 'degraded' | 'failing'
  reason: string
  /** Names of the first five tasks. */
  tasks: string[]
  /** The number of tasks. */
  count: number
}

/** An active run, for display. */
export interface ShownActive extends Omit<ActiveRun, 'progress'> {
  progress: number | string | undefined
}

/** The whole at a glance. */
export interface Overview {
  process: ProcessInfo
  health: { status: HealthStatus } & Record<HealthStatus, number>
  /** The worst first, at most 20. */
  problems: Problem[]
  /** The number of tasks of each kind. */
  tasks: Record<TaskKind, number>
  /** The first 50: services last, and otherwise those that have run for longest first. */
  active: Array<ShownActive & { kind: TaskKind | 'background' }>
  activeCount: number
  /** The last runs that failed for good, the newest first. */
  failures: Array<{ task: string, id: string, at: Date, error: StoredError }>
  /** The minutes of the last hour in which a run has ended. */
  throughput: ActivityMinute[]
  queues: Array<QueueLoad & { name: string, state: TaskState }>
}

/** A run that waits longer than this is a problem, in milliseconds. */
const BEHIND = 60_000
const PROBLEMS = 20
const ACTIVE = 50
const NAMES = 5

/** An active run, for display. */
export function activeOf (run: ActiveRun): ShownActive {
  return { ...run, progress: progressOf(run.progress) }
}

/** Makes the overview. All who ask at the same time get the same one. */
export class Overviews {
  readonly #tasks: BackgroundTasks
  readonly #process: ProcessView
  readonly #loads: QueueLoads
  #current: Promise<Overview> | undefined

  constructor (tasks: BackgroundTasks, process: ProcessView, loads: QueueLoads) {
    this.#tasks = tasks
    this.#process = process
    this.#loads = loads
  }

  async read (): Promise<Overview> {
    this.#current ??= this.#make().finally(() => { this.#current = undefined })
    return await this.#current
  }

  async #make (): Promise<Overview> {
    const health = { ok: 0, degraded: 0, failing: 0 }
    const kinds = { service: 0, hosted: 0, timed: 0, queue: 0 }
    const problems = new Problems()
    const queues: BackgroundQueue[] = []
    await sliced(this.#tasks, task => {
      const { status, reason = '' } = task.condition
      health[status]++
      kinds[task.kind]++
      if (status !== 'ok') problems.add(status, reason, task.name)
      if (isQueue(task)) queues.push(task)
    })
    const process = this.#process.read()
    const loads = await Promise.all(queues.map(async queue => ({ name: queue.name, state: queue.state, ...await this.#loads.read(queue, queues.length) })))
    for (const load of loads) problems.addBehind(load, process.now)
    const { minutes, failures, active } = this.#tasks.activity()
    return {
      process,
      health: { status: health.failing > 0 ? 'failing' : health.degraded > 0 ? 'degraded' : 'ok', ...health },
      problems: problems.worst,
      tasks: kinds,
      active: this.#mostTelling(active),
      activeCount: active.length,
      failures: failures.map(({ error, ...failure }) => ({ ...failure, error: shortError(storedError(error)) })),
      throughput: minutes,
      queues: loads
    }
  }

  #mostTelling (active: ActiveRun[]): Overview['active'] {
    const withKind = active.map(run => ({ run, kind: this.#tasks.get(run.task)?.kind ?? 'background' as const }))
    withKind.sort((one, other) => Number(one.kind === 'service') - Number(other.kind === 'service') || one.run.startedAt.getTime() - other.run.startedAt.getTime())
    return withKind.slice(0, ACTIVE).map(({ run, kind }) => ({ ...activeOf(run), kind }))
  }
}

/** Problems of many tasks, those alike together: a store that is away concerns all that use it. */
class Problems {
  readonly #alike = new Map<string, Problem>()

  add (status: Problem['status'], reason: string, task: string): void {
    // What differs between tasks: ids, times and numbers.
    const key = `${status} ${reason.replaceAll(/[\da-f]{8}-[\da-f-]{27}|\d{4}-\d\d-\d\dT[\d:.]+Z|\d+(\.\d+)?/g, '…')}`
    const problem = this.#alike.get(key) ?? { status, reason: cut(reason, 1_000), tasks: [], count: 0 }
    this.#alike.set(key, problem)
    problem.count++
    if (problem.tasks.length < NAMES) problem.tasks.push(task)
  }

  /** A queue whose next run has waited for long, although nobody has paused it. */
  addBehind ({ name, state, oldestWaiting }: Overview['queues'][number], now: Date): void {
    const waits = now.getTime() - (oldestWaiting ?? now).getTime()
    if (state === 'running' && waits > BEHIND) this.add('degraded', `behind: a run has waited for ${Math.floor(waits / BEHIND)} min`, name)
  }

  get worst (): Problem[] {
    return [...this.#alike.values()].sort((one, other) => Number(other.status === 'failing') - Number(one.status === 'failing')).slice(0, PROBLEMS)
  }
}
