import type { FastifyInstance } from 'fastify'
import files from '#dashboard-client'

const types: Record<string, string> = {
  js: 'text/javascript; charset=utf-8',
  css: 'text/css; charset=utf-8',
  svg: 'image/svg+xml',
  html: 'text/html; charset=utf-8'
}

/** The page, its scripts and its style. All addresses in them are relative, so that they work under any prefix, and behind a proxy that strips a part of the path. */
export function addAssets (fastify: FastifyInstance): void {
  for (const [name, text] of Object.entries(files)) {
    const type = types[name.slice(name.lastIndexOf('.') + 1)] as string
    if (name === 'index.html') {
      fastify.get('/', { schema: { hide: true } }, async (request, reply) => {
        const [path = '', query] = request.originalUrl.split('?', 2)
        // Relative addresses need the slash. Only the last part of the path is known: a proxy may have stripped those before.
        if (!path.endsWith('/')) return reply.redirect(`./${path.slice(path.lastIndexOf('/') + 1)}/${query === undefined ? '' : `?${query}`}`)
        return await reply.type(type).send(text)
      })
    } else {
      fastify.get(`/client/${name}`, { schema: { hide: true } }, async (_request, reply) => await reply.type(type).send(text))
    }
  }
}
