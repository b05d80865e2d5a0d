import type { FastifyInstance } from 'fastify'
import { ClusterTask } from './cluster.ts'
import { errorCodes } from './errors.ts'
import { HostedService } from './hosted.ts'
import { optionsOf, invalid, show } from './check.ts'
import { elsewhere, hostedOptions, isTimed, serviceOptions, timedOptions } from './options.ts'
import { Queue } from './queue.ts'
import { queueOptions } from './queue-options.ts'
import { report } from './report.ts'
import type { QueueHandler, TaskHandler } from './run.ts'
import type { Runtime } from './runtime.ts'
import { ByCron } from './schedule.ts'
import { Service } from './service.ts'
import type { Store } from './store.ts'
import type { Task } from './task.ts'
import { TimedTask } from './timed.ts'

/** Makes a task of what `addBackgroundTask` was called with. Checks everything before it changes anything. */
export function declareTask (runtime: Runtime, owner: unknown, given: readonly unknown[]): Task {
  return declare(runtime, 'addBackgroundTask()', owner, given, taskOf)
}

/** Makes a queue of what `addBackgroundQueue` was called with. Checks everything before it changes anything. */
export function declareQueue (runtime: Runtime, owner: unknown, given: readonly unknown[]): Queue {
  return declare(runtime, 'addBackgroundQueue()', owner, given, queueOf)
}

function declare<T extends Task> (runtime: Runtime, method: string, owner: unknown, given: readonly unknown[], make: Make<T>): T {
  if (!runtime.has(owner)) throw new errorCodes.FST_BG_INVALID_THIS(method, show(owner))
  const name = nameOf(method, given[0])
  if (runtime.closing) throw new errorCodes.FST_BG_CLOSING(`Background task "${name}" cannot be declared`)
  const taken = runtime.tasks.get(name)
  if (taken !== undefined) throw new errorCodes.FST_BG_DUPLICATE_NAME(name, taken.owner.pluginName)

  const task = make(runtime, owner, name, given)
  runtime.add(task)
  return task
}

type Make<T> = (runtime: Runtime, owner: FastifyInstance, name: string, given: readonly unknown[]) => T

function taskOf (runtime: Runtime, owner: FastifyInstance, name: string, given: readonly unknown[]): Task {
  const where = `Background task "${name}"`
  const [, second, third] = given
  // Told apart by how many there are, never by what is in them: a typo then has one meaning.
  if (given.length < 3 && typeof second !== 'function') {
    return new HostedService(name, owner, hostedOptions(where, optionsOf(where, second, ofAllKinds), owner), runtime)
  }
  const [options, handler] = given.length < 3 ? [{}, second] : [optionsOf(where, second, ofAllKinds), third]
  checkHandler(where, handler)
  if (isTimed(options)) {
    const checked = timedOptions(where, options, owner, runtime.clock.wall())
    const { cluster } = checked
    const task = cluster === undefined
      ? new TimedTask(name, owner, checked, handler as TaskHandler, runtime)
      : new ClusterTask(name, owner, checked, handler as TaskHandler, runtime, storeOf(runtime, name, cluster))
    const { schedule } = checked.ticker.options
    if (schedule instanceof ByCron && schedule.pattern.eitherDay) report.eitherDay(task.log, name, schedule.pattern.text)
    return task
  }
  return new Service(name, owner, serviceOptions(where, options, owner), handler as TaskHandler, runtime)
}

function queueOf (runtime: Runtime, owner: FastifyInstance, name: string, given: readonly unknown[]): Queue {
  const where = `Background queue "${name}"`
  const [, second, third] = given
  const [options, handler] = given.length < 3 ? [{}, second] : [optionsOf(where, second, ofAllKinds), third]
  checkHandler(where, handler)
  const checked = queueOptions(where, options, owner)
  const store = storeOf(runtime, name, checked.store ?? (runtime.stores.has('default') ? 'default' : 'memory'))
  return new Queue(name, owner, checked, handler as QueueHandler<never>, runtime, store)
}

const ofAllKinds = Object.keys(elsewhere)

function storeOf (runtime: Runtime, name: string, wanted: string): Store {
  const store = runtime.stores.get(wanted)
  if (store === undefined) throw new errorCodes.FST_BG_UNKNOWN_STORE(name, wanted, [...runtime.stores.keys()].join(', '))
  return store
}

function checkHandler (where: string, handler: unknown): void {
  if (typeof handler !== 'function') {
    throw invalid(`${where}: the handler must be a function, and the last argument; received ${show(handler)}.`)
  }
}

function nameOf (method: string, name: unknown): string {
  if (typeof name !== 'string' || name.trim() === '') {
    throw invalid(`${method}: the name must be a text that is not empty; received ${show(name)}.`)
  }
  return name
}
