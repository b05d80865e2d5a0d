import type { FastifyInstance } from 'fastify'

// What Fastify tells no hook: that somebody has called close(), that the boot has failed, and that close has drained HTTP.

/** The root instance of an application. A child instance inherits from its parent. Two applications may share one `http.Server`. */
export function rootOf (instance: object): object {
  let root = instance
  for (let parent: object | null = root; parent !== null && parent !== Object.prototype; parent = Object.getPrototypeOf(parent) as object | null) root = parent
  return root
}

/**
 * Whether the plugins of the application have loaded. From then on Fastify runs the onReady hooks, and one that is added now never runs. Fastify
 * shows this only by one thing: an instance can be awaited while plugins load, and loses its `then` afterwards.
 */
export function isBooted (server: FastifyInstance): boolean {
  return (server as { then?: unknown }).then === undefined
}

/** The methods of the root that are replaced by ones that tell, too. */
interface Root {
  close (...args: unknown[]): unknown
  ready (callback?: (error: Error | null, server?: unknown) => unknown): Promise<unknown> | undefined
}

/** Calls `called` whenever somebody calls `close()`. Fastify runs its preClose hooks only after the boot, however long a `start` or an onReady hook takes. */
export function onCloseCall (server: FastifyInstance, called: () => void): void {
  const root = rootOf(server) as Root
  const { close } = root
  root.close = function (...args) {
    // First Fastify's own: it throws if the arguments are wrong.
    const result = close.apply(this, args)
    called()
    return result
  }
}

/** Calls `failed` when the boot has failed, and lets `ready()` reject only when the promise that it returns has settled. */
export function onBootFailure (server: FastifyInstance, failed: () => Promise<void>): void {
  const root = rootOf(server) as Root
  const { ready } = root
  root.ready = function (callback) {
    const booted = (ready.call(this) as Promise<unknown>).catch(async (error: unknown) => {
      await failed()
      throw error
    })
    if (callback === undefined) return booted
    booted.then(() => callback(null, root), callback)
  }
  // Whoever called ready() or listen() before this plugin was loaded called Fastify's own. While the hooks run it only returns its promise.
  server.addHook('onReady', async () => { ready.call(root)?.catch(async () => { await failed() }) })
}

/** avvio's `onClose`, which takes a hook at any time, and runs the last one first. Fastify's types have only `addHook`. */
interface Closeable { onClose (hook: () => Promise<void>): void }

/** Runs a hook before all onClose hooks that are there. Only once Fastify has begun to close: before, the hook would run while HTTP is open. */
export function runFirstOnClose (server: FastifyInstance, hook: () => Promise<void>): void {
  (server as unknown as Closeable).onClose(hook)
}
