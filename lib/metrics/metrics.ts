import { Counter, Gauge, Histogram, type Registry } from 'prom-client'
import { invalid } from '../common/check.ts'
import type { HealthStatus } from '../common/health.ts'
import type { Queue } from '../queue/index.ts'
import type { ObservedTask, RunObserver, RunOutcome } from '../run/index.ts'
import type { Task } from '../task/index.ts'
import { type ObservedApp, QueueSampler } from './sample.ts'

const NAMES = [
  'background_runs_total', 'background_run_duration_seconds', 'background_runs_active', 'background_attempts_failed_total', 'background_restarts_total',
  'background_tick_lateness_seconds', 'background_queue_runs', 'background_queue_oldest_waiting_seconds', 'background_health'
] as const

/** Bounds of the durations, in seconds: from a job that sends a message to one that works for half an hour. */
const BUCKETS = [0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1_800]
const HEALTH: Record<HealthStatus, number> = { ok: 0, degraded: 1, failing: 2 }
const BACKGROUND = 'background'
const KINDS = ['service', 'hosted', 'timed', 'queue', BACKGROUND]
const OUTCOMES: RunOutcome[] = ['succeeded', 'failed', 'cancelled', 'skipped']

/**
 * The metrics in one registry, of all applications that have it.
 *
 * What happens is counted when it happens. The state of things (gauges) is read when somebody scrapes, once for all metrics; scrapes at the same time share it.
 */
export class Metrics implements RunObserver {
  readonly runs: Counter<'task' | 'kind' | 'outcome'>
  readonly #durations: Histogram<'task'>
  readonly #active: Gauge<'task'>
  readonly #attemptsFailed: Counter<'task'>
  readonly #restarts: Counter<'task'>
  readonly #lateness: Gauge<'task'>
  readonly #queueRuns: Gauge<'queue' | 'state'>
  readonly #oldest: Gauge<'queue'>
  readonly #health: Gauge<'task'>
  readonly #apps = new Set<ObservedApp>()
  readonly #sampler = new QueueSampler()
  /** The tasks that have series. */
  readonly #known = new Set<string>()
  /** Those of them that were gone at the last scrape, which has seen their last counts. */
  readonly #gone = new Set<string>()
  /** How late the last tick of a task began, in seconds. */
  readonly #lastLateness = new Map<string, number>()
  #scraping: Promise<void> | undefined

  constructor (registry: Registry) {
    const collect = async (): Promise<void> => { await this.#scrape() }
    const metric = <Label extends string>(name: typeof NAMES[number], help: string, ...labelNames: Label[]) => ({ name, help, labelNames, registers: [registry], collect })
    this.runs = new Counter(metric('background_runs_total', 'Runs that have ended, by outcome', 'task', 'kind', 'outcome'))
    this.#durations = new Histogram({ ...metric('background_run_duration_seconds', 'How long runs took; of a queue, their last attempt', 'task'), buckets: BUCKETS })
    this.#active = new Gauge(metric('background_runs_active', 'Runs that are active in this process', 'task'))
    this.#attemptsFailed = new Counter(metric('background_attempts_failed_total', 'Attempts that have failed, whether or not another one followed', 'task'))
    this.#restarts = new Counter(metric('background_restarts_total', 'Restarts of a service', 'task'))
    this.#lateness = new Gauge({ ...metric('background_tick_lateness_seconds', 'How late the tick is that waits to run; if none waits, how late the last one began', 'task'), aggregator: 'max' })
    this.#queueRuns = new Gauge(metric('background_queue_runs', 'Runs of a queue in each state; of a stored queue, in all processes', 'queue', 'state'))
    this.#oldest = new Gauge({ ...metric('background_queue_oldest_waiting_seconds', 'How long the run waits that has waited longest; 0 if none waits', 'queue'), aggregator: 'max' })
    this.#health = new Gauge({ ...metric('background_health', 'Health of a task: 0 ok, 1 degraded, 2 failing', 'task'), aggregator: 'max' })
  }

  add (app: ObservedApp): void { this.#apps.add(app) }

  remove (app: ObservedApp): void { this.#apps.delete(app) }

  runsEnded (of: ObservedTask, outcome: RunOutcome, duration: number, count: number): void {
    const task = this.#know(of)
    this.runs.inc({ task, kind: of.kind, outcome }, count)
    // One that never began took no time.
    if (duration > 0) this.#durations.observe({ task }, duration / 1_000)
  }

  attemptFailed (of: ObservedTask): void {
    this.#attemptsFailed.inc({ task: this.#know(of) })
  }

  restarted (of: ObservedTask): void {
    this.#restarts.inc({ task: this.#know(of) })
  }

  tickBegan (of: ObservedTask, lateness: number): void {
    this.#lastLateness.set(this.#know(of), lateness / 1_000)
  }

  /** The label of a task. The first time it makes the counters of the task 0: a counter that appears with 1 has not increased, to Prometheus. */
  #know ({ name: task, kind }: ObservedTask): string {
    if (this.#known.has(task)) return task
    this.#known.add(task)
    for (const outcome of ['succeeded', 'failed']) this.runs.inc({ task, kind, outcome }, 0)
    this.#attemptsFailed.inc({ task }, 0)
    if (kind === 'service') this.#restarts.inc({ task }, 0)
    return task
  }

  #scrape (): Promise<void> {
    this.#scraping ??= this.#collect().finally(() => { this.#scraping = undefined })
    return this.#scraping
  }

  async #collect (): Promise<void> {
    const tasks = [...this.#apps].flatMap(app => [...app.tasks])
    this.#collectTasks(tasks)
    this.#forget(new Set(tasks.map(({ name }) => name)))
    await this.#collectQueues(tasks.filter((task): task is Queue => task.kind === 'queue'))
  }

  /** Several applications may have tasks of one name. */
  #collectTasks (tasks: Task[]): void {
    const [lateness, health] = [new Map<string, number>(), new Map<string, number>()]
    this.#active.reset()
    for (const task of tasks) {
      const name = this.#know(task)
      this.#active.inc({ task: name }, task.stats.active)
      raise(health, name, HEALTH[task.condition.status])
      const late = task.overdue === undefined ? this.#lastLateness.get(name) : task.overdue / 1_000
      if (late !== undefined) raise(lateness, name, late)
    }
    for (const { host } of this.#apps) this.#active.inc({ task: BACKGROUND }, host.activeInBackground)
    for (const [gauge, values] of [[this.#lateness, lateness], [this.#health, health]] as const) {
      gauge.reset()
      for (const [task, value] of values) gauge.set({ task }, value)
    }
  }

  async #collectQueues (queues: Queue[]): Promise<void> {
    const samples = await this.#sampler.sample(queues)
    const oldest = new Map<string, number>()
    this.#queueRuns.reset()
    this.#oldest.reset()
    for (const { name: queue, durable, counts, waited } of samples) {
      for (const [state, count] of Object.entries(counts)) {
        // Applications that share a stored queue say the same of it.
        if (durable) this.#queueRuns.set({ queue, state }, count)
        else this.#queueRuns.inc({ queue, state }, count)
      }
      raise(oldest, queue, waited)
    }
    for (const [queue, waited] of oldest) this.#oldest.set({ queue }, waited)
  }

  /** Removes the series of tasks that were removed, or whose application has closed: one scrape later, so that their last counts are seen. */
  #forget (live: Set<string>): void {
    if (this.#apps.size > 0) live.add(BACKGROUND)
    for (const task of this.#known) {
      if (live.has(task)) {
        this.#gone.delete(task)
      } else if (!this.#gone.has(task)) {
        this.#gone.add(task)
      } else {
        this.#gone.delete(task)
        this.#known.delete(task)
        this.#lastLateness.delete(task)
        for (const kind of KINDS) for (const outcome of OUTCOMES) this.runs.remove({ task, kind, outcome })
        for (const one of [this.#durations, this.#attemptsFailed, this.#restarts]) one.remove({ task })
      }
    }
  }
}

function raise (values: Map<string, number>, name: string, value: number): void {
  values.set(name, Math.max(value, values.get(name) ?? value))
}

/** Where a registry has the metrics: every copy of this package finds them. */
const key: unique symbol = Symbol.for('fastify-background-tasks.metrics') as never

/** The metrics in a registry: those that are there, or new ones. Throws `FST_BG_INVALID_OPTION`. */
export function metricsOf (where: string, registry: Registry & { [key]?: Metrics }): Metrics {
  const found = registry[key]
  // Somebody may have cleared the registry since.
  if (found !== undefined && registry.getSingleMetric(NAMES[0]) === found.runs) return found
  const taken = NAMES.find(name => registry.getSingleMetric(name) !== undefined)
  if (taken !== undefined) throw invalid(`${where}: the registry has a metric "${taken}" of somebody else. Pass another registry.`)
  const metrics = new Metrics(registry)
  Object.defineProperty(registry, key, { value: metrics, configurable: true })
  return metrics
}
