import { AsyncResource } from 'node:async_hooks'

// Created when this file is loaded, so that nothing of a request is in it. AsyncLocalStorage.snapshot() does the same, but a call takes ten times as
// long; and to have an AsyncLocalStorage of our own would make every await of the process slower on Node 20.
const resource = new AsyncResource('fastify-background-tasks')

/**
 * Calls `work` with no AsyncLocalStorage store: neither that of the request or run which is going on, nor one that an earlier call has entered.
 * What `work` starts, such as a timer, inherits none either.
 */
export function withoutStores<A, R> (work: (argument: A) => R, argument: A): R {
  // An object of its own for each call: before Node 24, enterWith() writes the store into the resource in which it is called, and every later call in
  // that resource would find it there. A new AsyncResource would inherit what goes on now, and costs more.
  return resource.runInAsyncScope.call(Object.create(resource), work as (argument: unknown) => R, undefined, argument) as R
}
