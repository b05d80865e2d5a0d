import type { FastifyInstance } from 'fastify'

/**
 * Whether the plugins of the server are loaded. From then on its onReady hooks run or have run, and one added to them never
 * would. An instance can be awaited until then, and loses its `then` at that moment: Fastify says it nowhere else.
 */
export function isBooted (server: FastifyInstance): boolean {
  return (server as { then?: unknown }).then === undefined
}
