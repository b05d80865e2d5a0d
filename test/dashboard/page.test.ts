// The page, its scripts and its style: where they are, what they weigh, and what they do not contain.
import helmet from '@fastify/helmet'
import swagger from '@fastify/swagger'
import Fastify, { type FastifyInstance } from 'fastify'
import t from 'tap'
import dashboard from '../../lib/dashboard/index.ts'
import backgroundTasks from '../../lib/index.ts'
import { withDashboard } from '../support/dashboard.ts'

/** Everything that a browser loads for the page, by its address. */
async function loaded (app: FastifyInstance, page: string): Promise<Map<string, string>> {
  const found = new Map<string, string>()
  const pending = [page]
  for (let url = pending.pop(); url !== undefined; url = pending.pop()) {
    if (found.has(url)) continue
    const { statusCode, body } = await app.inject(url)
    if (statusCode !== 200) throw new Error(`${url} answered ${statusCode}`)
    found.set(url, body)
    const links = url === page ? body.matchAll(/(?:src|href)="([^"#]+)"/g) : body.matchAll(/\bfrom ["']([^"']+)["']/g)
    for (const [, link = ''] of links) pending.push(new URL(link, `http://host${url}`).pathname)
  }
  return found
}

t.test('page, script and style weigh at most 60 KB', async t => {
  const { app } = await withDashboard(t)
  const files = await loaded(app, '/tasks/')
  t.ok(files.size > 10)
  const bytes = [...files.values()].reduce((sum, text) => sum + Buffer.byteLength(text), 0)
  t.comment(`${bytes} bytes`)
  t.ok(bytes <= 60_000, `${bytes} bytes`)
})

t.test('no script or style is inline, nothing comes from elsewhere, and no markup is made of text', async t => {
  const { app } = await withDashboard(t)
  for (const [url, text] of await loaded(app, '/tasks/')) {
    if (url === '/tasks/') {
      t.notMatch(text, /<script(?![^>]*\bsrc=)/, 'no inline script')
      t.notMatch(text, /<style|\sstyle=|\son\w+=/, 'no inline style or handler')
      t.notMatch(text, /(?:src|href)="(?:\/|https?:)/, 'relative addresses only')
    }
    t.notMatch(text.replaceAll('http://www.w3.org/', ''), /https?:\/\//, `${url} names no other host`)
    t.notMatch(text, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\.style\b/, url)
  }
})

t.test('each file has its type', async t => {
  const { app } = await withDashboard(t)
  for (const [path, type] of [['', 'text/html; charset=utf-8'], ['client/main.js', 'text/javascript; charset=utf-8'], ['client/style.css', 'text/css; charset=utf-8'], ['client/icon.svg', 'image/svg+xml']]) {
    t.equal((await app.inject(`/tasks/${path}`)).headers['content-type'], type)
  }
  for (const path of ['client/', 'client/nothing.js', 'client/../../package.json', 'client/%2e%2e/package.json', 'client/pages']) t.equal((await app.inject(`/tasks/${path}`)).statusCode, 404, path)
})

for (const prefix of ['', '/', '/tasks', '/tasks/', '/a/deep/path', '/:tenant/tasks', '/with space']) {
  t.test(`it works under the prefix ${JSON.stringify(prefix)}`, async t => {
    const { app } = await withDashboard(t, { prefix })
    const base = encodeURI(prefix.replace(':tenant', 'acme').replace(/\/$/, ''))
    const { statusCode, headers } = await app.inject(`${base === '' ? '/' : base}?a=1`)
    // Under a prefix that ends with a slash Fastify has no route without it.
    if (!prefix.endsWith('/') && prefix !== '') {
      t.equal(statusCode, 302)
      // As behind a proxy that has stripped a part of the path before.
      t.equal(new URL(String(headers.location), `http://host/public${base}`).pathname, `/public${base}/`)
      t.match(headers.location, /^\.\/[^/]+\/\?a=1$/, 'relative, with the query')
    }
    t.ok((await loaded(app, `${base}/`)).has(`${base}/client/pages/overview.js`))
    t.equal((await app.inject(`${base}/api/overview`)).statusCode, 200)
  })
}

for (const server of [{ ignoreTrailingSlash: true }, { ignoreDuplicateSlashes: true }, { caseSensitive: false }]) {
  t.test(`it works with ${JSON.stringify(server)}`, async t => {
    const { app } = await withDashboard(t, {}, {}, { routerOptions: server })
    t.equal((await app.inject('/tasks')).statusCode, 302)
    t.equal((await app.inject('/tasks/')).statusCode, 200)
  })
}

t.test('it redirects by the address that the client sees', async t => {
  const { app } = await withDashboard(t, {}, {}, { rewriteUrl: ({ url = '' }) => url.replace('/ops', '/tasks') })
  t.equal((await app.inject('/ops')).headers.location, './ops/')
})

t.test('beside @fastify/helmet its own headers are sent, and beside @fastify/swagger its routes are hidden', async t => {
  const app = Fastify()
  t.teardown(async () => { await app.close() })
  await app.register(helmet)
  await app.register(swagger, { openapi: {} })
  await app.register(backgroundTasks)
  await app.register(dashboard, { prefix: '/tasks', authorize: () => true })
  app.get('/own', { schema: { response: { 200: { type: 'string' } } } }, async () => 'own')
  await app.ready()
  const { headers } = await app.inject('/tasks/')
  t.match(headers['content-security-policy'], /^default-src 'none'; script-src 'self';.*frame-ancestors 'none'$/)
  t.equal(headers['referrer-policy'], 'no-referrer')
  t.match((await app.inject('/own')).headers['content-security-policy'], /upgrade-insecure-requests/, 'of other routes helmet\'s')
  t.same(Object.keys((app as unknown as { swagger (): { paths: object } }).swagger().paths), ['/own'])
})

t.test('two dashboards, each with its own authorization', async t => {
  const { app } = await withDashboard(t, { authorize: () => 'read' })
  await app.register(dashboard, { prefix: '/admin', authorize: () => false })
  t.equal((await app.inject('/tasks/api/overview')).statusCode, 200)
  t.equal((await app.inject('/admin/api/overview')).statusCode, 401)
})
