import type { BackgroundQueue, BackgroundTask } from '../../index.ts'
import { defer } from '../../time/index.ts'
import { cut } from '../view/content.ts'
import { isQueue } from '../view/queues.ts'
import { Refused } from './errors.ts'

/** What an action did, in a sentence. */
export interface Done { message: string, run?: string, count?: number }

/** A state that can be cleared. */
export type ClearedState = 'waiting' | 'delayed' | 'succeeded' | 'failed'

type TaskAction = (task: BackgroundTask) => Promise<Done>
type RunAction = (task: BackgroundTask, id: string) => Promise<Done>
type QueueAction = (queue: BackgroundQueue, state: ClearedState | undefined) => Promise<Done>

export const taskActions: Record<string, TaskAction> = {
  async trigger (task) {
    if (isQueue(task)) throw new Refused(404, `${name(task)} is a queue: it runs payloads, and has no run of its own to start.`)
    const { id, finished } = task.trigger()
    const outcome = await Promise.race([finished.then(({ outcome }) => outcome), new Promise<undefined>(resolve => { defer(() => { resolve(undefined) }) })])
    if (outcome === 'skipped') return { message: `${name(task)} runs already: the new run was skipped.`, run: id }
    return { message: `A run of ${name(task)} has been started.`, run: id }
  },
  async pause (task) {
    await task.pause()
    if (task.state !== 'paused') throw new Refused(409, `${name(task)} cannot be paused: it is ${task.state}.`)
    return { message: isQueue(task) ? `${name(task)} is paused, in all processes.` : `${name(task)} is paused.` }
  },
  async resume (task) {
    const { state } = task
    await task.resume()
    if (state !== 'paused') throw new Refused(409, `${name(task)} is not paused: it is ${state}.`)
    return { message: `${name(task)} goes on.` }
  },
  async start (task) {
    await task.start()
    return { message: `${name(task)} has been started.` }
  },
  async stop (task) {
    await task.stop()
    return { message: `${name(task)} has stopped, in this process.` }
  }
}

export const runActions: Record<string, RunAction> = {
  async cancel (task, id) {
    await task.cancel(id)
    return { message: `Run ${cut(id, 100)} has been cancelled.`, run: id }
  },
  async retry (task, id) {
    await queueOf(task, 'retried').retry(id)
    return { message: `Run ${cut(id, 100)} waits for a further attempt.`, run: id }
  },
  async remove (task, id) {
    await queueOf(task, 'removed').remove(id)
    return { message: `Run ${cut(id, 100)} has been removed.`, run: id }
  }
}

export const queueActions: Record<string, QueueAction> = {
  async retryFailed (queue) {
    const count = await queue.retryFailed()
    return { message: `${runs(count)} of ${name(queue)} ${count === 1 ? 'waits' : 'wait'} for a further attempt.`, count }
  },
  async clear (queue, state) {
    if (state === undefined) throw new Refused(400, 'Name the state to clear: { "state": "waiting" }, delayed, succeeded or failed.')
    const count = await queue.clear(state)
    return { message: `${runs(count)} that ${count === 1 ? 'was' : 'were'} ${state} ${count === 1 ? 'has' : 'have'} been removed from ${name(queue)}.`, count }
  }
}

function queueOf (task: BackgroundTask, what: string): BackgroundQueue {
  if (!isQueue(task)) throw new Refused(404, `A run of ${name(task)} cannot be ${what}: that is for runs of queues. Run the task again instead.`)
  return task
}

function name (task: BackgroundTask): string {
  return `"${cut(task.name, 100)}"`
}

function runs (count: number): string {
  return count === 1 ? '1 run' : `${count} runs`
}
