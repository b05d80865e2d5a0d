// Work that computes: handlers that run in threads. An export path of its own, so that an application without threads loads none of it.
import { invalid } from '../common/check.ts'
import { type AnyInstance, declaredKey, type DeclaredHandler, type HandlerHost, hostKey, type Run } from '../run/index.ts'
import { type Definition, definition, type WorkerOptions } from './options.ts'
import { loadPiscina } from './engine.ts'
import { Threads } from './threads.ts'

export type { WorkerOptions } from './options.ts'
export type { WorkerLog, WorkerRun } from './worker-run.ts'

/** A handler for `addBackgroundTask`, `addBackgroundQueue` and `runInBackground` that runs in a thread. */
export type WorkerHandler<Payload = unknown> = (this: AnyInstance, run: Run<Payload>) => Promise<unknown>

/** The threads of each application, by the address of the module. */
const threads = new WeakMap<HandlerHost, Map<string, Threads>>()

/**
 * A handler that calls a module in a thread, so that the event loop stays free: its default export, or the one that `#name` in the URL names. What it returns
 * is the value of the run, what it throws is its error. Needs the package piscina.
 *
 * Throws `FST_BG_INVALID_OPTION`. So does the run whose module cannot be loaded, or exports no such function.
 *
 * @example
 * ```ts
 * app.addBackgroundQueue('thumbnails', { concurrency: 3, timeout: '30s' }, worker<{ path: string }>(new URL('./thumbnail.js', import.meta.url)))
 * ```
 */
export function worker<Payload = unknown> (url: URL, options: WorkerOptions = {}): WorkerHandler<Payload> {
  const worker = definition(url, options)
  loadPiscina(worker.href)
  // Not async, which would cost a twentieth of a short run.
  const handler: WorkerHandler<Payload> & DeclaredHandler = run => {
    try {
      return threadsOf(hostOf(run), worker).run(run, worker)
    } catch (error) {
      return rejected(error)
    }
  }
  handler[declaredKey] = (where, host) => { threadsOf(host, worker).join(where, worker) }
  return handler
}

async function rejected (error: unknown): Promise<never> {
  throw error
}

/** The application of a run. */
function hostOf ({ server, task }: Run): HandlerHost {
  const host = (server as { [hostKey]?: HandlerHost } | undefined)?.[hostKey]
  if (host === undefined) throw invalid(`A worker() of "${task}" was called with a run that has no "server" with fastify-background-tasks. Pass the run that your handler got.`)
  return host
}

/** The threads of a module in an application: those that are there, or new ones. */
function threadsOf (host: HandlerHost, { href }: Definition): Threads {
  let all = threads.get(host)
  if (all === undefined) threads.set(host, all = new Map())
  let found = all.get(href)
  if (found === undefined) {
    found = new Threads(host, href)
    all.set(href, found)
    host.stopLast(found)
  }
  return found
}
