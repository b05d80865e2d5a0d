import type { FastifyInstance } from 'fastify'
import type { Task } from '../task/index.ts'

/** How many timed tasks of one owner get hooks of their own: a hook takes as much memory as the task. */
const OWN_HOOKS = 200
/** The most onReady hooks of one owner: Fastify's hook runner is recursive, and overflows the stack at some thousands. */
const MOST_HOOKS = 2_000

/** What the hooks do with their tasks. */
export interface Phases {
  start (tasks: Task[]): Promise<void>
  end (tasks: Task[]): Promise<void>
}

/** The hooks of one owner. */
class Owner {
  /** For each onReady hook, the groups of tasks that it starts. */
  readonly ready: Task[][][] = []
  timed = 0
}

/**
 * The places of tasks in the boot order: hooks on their owners, added when a task is declared. So a task starts when everything registered before
 * it is ready, and ends before that is closed.
 *
 * Each task has hooks of its own. Beyond 200 timed tasks on one owner, those that are declared in one synchronous stretch share hooks. Beyond 2,000
 * onReady hooks on one owner, further tasks share the last one.
 */
export class Hooks {
  readonly #phases: Phases
  readonly #owners = new WeakMap<FastifyInstance, Owner>()
  /** The tasks that are being declared in one synchronous stretch, and share hooks. */
  #together: { owner: FastifyInstance, tasks: Task[] } | undefined

  constructor (phases: Phases) {
    this.#phases = phases
  }

  /** Gives a task its place. Only while plugins load. */
  add (task: Task): void {
    const { owner, kind } = task
    const hooks = this.#of(owner)
    if (kind !== 'timed' || ++hooks.timed <= OWN_HOOKS) {
      this.#together = undefined
      this.#addFor(owner, hooks, [task])
    } else if (this.#together?.owner === owner) {
      this.#together.tasks.push(task)
    } else {
      const together = { owner, tasks: [task] }
      this.#together = together
      queueMicrotask(() => { if (this.#together === together) this.#together = undefined })
      this.#addFor(owner, hooks, together.tasks)
    }
  }

  #of (owner: FastifyInstance): Owner {
    const hooks = this.#owners.get(owner) ?? new Owner()
    this.#owners.set(owner, hooks)
    return hooks
  }

  #addFor (owner: FastifyInstance, { ready }: Owner, tasks: Task[]): void {
    if (ready.length < MOST_HOOKS) {
      const all = [tasks]
      ready.push(all)
      owner.addHook('onReady', async () => {
        for (const tasks of all) await this.#phases.start(tasks)
      })
    } else {
      // These start sooner than their place, rather than not at all. They end in their place: onClose hooks have no such limit.
      ready.at(-1)?.push(tasks)
    }
    owner.addHook('onClose', async () => { await this.#phases.end(tasks) })
  }
}
