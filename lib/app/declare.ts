import type { FastifyInstance } from 'fastify'
import { checkHandler, invalid, plainOptions, show } from '../common/check.ts'
import { errorCodes } from '../common/errors.ts'
import { report } from '../common/log.ts'
import { taskKeys } from '../common/option-names.ts'
import { Queue, queueOptions } from '../queue/index.ts'
import { declaredKey, type DeclaredHandler, type QueueHandler, type TaskHandler } from '../run/index.ts'
import type { Store } from '../store/index.ts'
import { ClusterTask, hostedOptions, HostedService, isTimed, Service, serviceOptions, Task, timedOptions, TimedTask } from '../task/index.ts'
import { ByCron } from '../time/index.ts'
import type { Lifecycle } from './lifecycle.ts'
import { longestGrace } from './shutdown.ts'

/** Makes a task from the arguments of `addBackgroundTask`. Checks everything before it changes anything. */
export function declareTask (lifecycle: Lifecycle, owner: unknown, given: readonly unknown[]): Task {
  return declare(lifecycle, 'addBackgroundTask()', owner, given, taskOf)
}

/** Makes a queue from the arguments of `addBackgroundQueue`. Checks everything before it changes anything. */
export function declareQueue (lifecycle: Lifecycle, owner: unknown, given: readonly unknown[]): Queue {
  return declare(lifecycle, 'addBackgroundQueue()', owner, given, queueOf)
}

function declare<T extends Task> (lifecycle: Lifecycle, method: string, owner: unknown, given: readonly unknown[], make: Make<T>): T {
  if (!lifecycle.has(owner)) throw new errorCodes.FST_BG_INVALID_THIS(method, show(owner))
  const name = nameOf(method, given[0])
  if (lifecycle.isClosedTo(owner)) throw new errorCodes.FST_BG_CLOSING(`Background task "${name}" cannot be declared`)
  const taken = lifecycle.tasks.get(name)
  if (taken !== undefined) throw new errorCodes.FST_BG_DUPLICATE_NAME(name, taken.owner.pluginName)

  const task = make(lifecycle, owner, name, given)
  lifecycle.add(task)
  return task
}

type Make<T> = (lifecycle: Lifecycle, owner: FastifyInstance, name: string, given: readonly unknown[]) => T

function taskOf (lifecycle: Lifecycle, owner: FastifyInstance, name: string, given: readonly unknown[]): Task {
  const where = `Background task "${name}"`
  const [, second, third] = given
  // The number of arguments selects the overload, never their content, so that a typo has only one meaning.
  if (given.length < 3 && typeof second !== 'function') {
    const options = plainOptions(where, second, taskKeys)
    return withGrace(new HostedService(name, owner, hostedOptions(where, options, owner), lifecycle), options)
  }
  const [options, handler] = given.length < 3 ? [{}, second] : [plainOptions(where, second, taskKeys), third]
  declareHandler(where, handler, lifecycle)
  if (isTimed(options)) {
    const checked = timedOptions(where, options, owner, lifecycle.clock.wall())
    const { cluster } = checked
    const task = cluster === undefined
      ? new TimedTask(name, owner, checked, handler as TaskHandler, lifecycle)
      : new ClusterTask(name, owner, checked, handler as TaskHandler, lifecycle, storeOf(lifecycle, name, cluster))
    const { schedule } = checked.ticker.options
    if (schedule instanceof ByCron && schedule.pattern.eitherDay) report.eitherDay(task.log, name, schedule.pattern.text)
    return withGrace(task, options)
  }
  return withGrace(new Service(name, owner, serviceOptions(where, options, owner), handler as TaskHandler, lifecycle), options)
}

function queueOf (lifecycle: Lifecycle, owner: FastifyInstance, name: string, given: readonly unknown[]): Queue {
  const where = `Background queue "${name}"`
  const [, second, third] = given
  const [options, handler] = given.length < 3 ? [{}, second] : [plainOptions(where, second, taskKeys), third]
  declareHandler(where, handler, lifecycle)
  const checked = queueOptions(where, options, owner)
  const store = storeOf(lifecycle, name, checked.store ?? (lifecycle.stores.has('default') ? 'default' : 'memory'))
  return withGrace(new Queue(name, owner, checked, handler as QueueHandler<never>, lifecycle, store), options)
}

/** Says so if the shutdown will cut the `grace` that the user has given. */
function withGrace<T extends Task> (task: T, given: unknown): T {
  const { grace } = task.options
  const longest = longestGrace(task.host.shutdownTimeout)
  if (grace > longest && (given as { grace?: unknown }).grace !== undefined) report.graceCut(task.log, task.name, grace, longest)
  return task
}

function storeOf (lifecycle: Lifecycle, name: string, request: string): Store {
  const store = lifecycle.stores.get(request)
  if (store === undefined) throw new errorCodes.FST_BG_UNKNOWN_STORE(name, request, [...lifecycle.stores.keys()].join(', '))
  return store
}

function declareHandler (where: string, handler: unknown, lifecycle: Lifecycle): void {
  checkHandler(where, handler)
  ;(handler as DeclaredHandler)[declaredKey]?.(where, lifecycle)
}

function nameOf (method: string, name: unknown): string {
  if (typeof name !== 'string' || name.trim() === '') {
    throw invalid(`${method}: the name must be a non-empty string; received ${show(name)}.`)
  }
  return name
}
