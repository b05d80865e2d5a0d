import type { FastifyInstance } from 'fastify'
import type { Task } from './task.ts'

/** How many timed tasks of one owner get hooks of their own: each hook costs as much as such a task. */
const OWN_HOOKS = 200
/** How many onReady hooks one owner gets at most: its hook runner calls itself for each, and the stack overflows at some thousands. */
const MOST_HOOKS = 2_000

/** What is done with tasks in their places: in the order of declaration, or the last first. */
export interface Phases {
  start (tasks: Task[]): Promise<void>
  end (tasks: Task[]): Promise<void>
}

/** The hooks of one owner. */
class Owner {
  /** For each of its onReady hooks: the tasks that it starts, in the groups that they were declared in. */
  readonly ready: Task[][][] = []
  timed = 0
}

/**
 * The places of tasks in the boot order of the server: hooks on their owners, added when they are declared. So a task starts after what
 * was registered before it is ready, and has ended before that is closed.
 *
 * Each task has hooks of its own, but for timed ones beyond some hundreds on one owner: those that are declared in one go share them. Beyond
 * thousands on one owner, all others share its last onReady hook.
 */
export class Hooks {
  readonly #phases: Phases
  readonly #owners = new WeakMap<FastifyInstance, Owner>()
  /** Tasks that are being declared in one go, and share hooks. */
  #together: { owner: FastifyInstance, tasks: Task[] } | undefined

  constructor (phases: Phases) {
    this.#phases = phases
  }

  /** Gives a task its place. For as long as plugins load. */
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
      // Sooner than what came in between, rather than not at all. They end in their place: of onClose hooks there can be any number.
      ready.at(-1)?.push(tasks)
    }
    owner.addHook('onClose', async () => { await this.#phases.end(tasks) })
  }
}
