// Who gets in: every route of the dashboard against every answer of `authorize`.
import Fastify, { type FastifyInstance } from 'fastify'
import t from 'tap'
import dashboard, { type DashboardOptions } from '../../lib/dashboard/index.ts'
import backgroundTasks from '../../lib/index.ts'
import { fake } from '../support/fakes.ts'
import { act, type Route, withDashboard } from '../support/dashboard.ts'
import { build, deferred, logged, rejection } from '../support/helper.ts'

const secret = 'S3CRET'

/** A route with its parameters filled in. */
function urlOf ({ url }: Route): string {
  return url.replace(':name', 'mails').replace(':id', 'no-run').replace(':action', url.includes('/queues/') ? 'retryFailed' : url.includes('/runs/') ? 'retry' : 'pause')
}

async function ask (app: FastifyInstance, route: Route, headers: Record<string, string> = {}, given: Record<string, string> = { 'content-type': 'application/json' }): Promise<{ status: number, body: string, headers: Record<string, unknown> }> {
  // The stream never ends: it is enough that it begins.
  if (route.url.endsWith('/events')) {
    const response = await app.inject({ url: urlOf(route), headers, payloadAsStream: true })
    response.stream().destroy()
    return { status: response.statusCode, body: '', headers: response.headers }
  }
  const query = route.url.endsWith('/runs') ? '?state=failed' : ''
  const { statusCode, body, headers: answered } = await app.inject({ method: route.method, url: urlOf(route) + query, headers: route.method === 'POST' ? { ...given, ...headers } : headers, ...route.method === 'POST' && { payload: '{}' } })
  return { status: statusCode, body, headers: answered }
}

interface Case {
  name: string
  authorize: DashboardOptions['authorize']
  headers?: Record<string, string>
  given?: Record<string, string>
  get: number
  post: number
}

const garbage = [undefined, null, 0, 1, '', 'Full', 'yes', {}, [], { access: 'full' }, { access: 'admin', name: 'ada' }, { access: 'read', name: 5 }, () => true, Symbol('full'), { get access (): never { throw new Error(secret) } }]

/** 0: whatever a handler answers that was reached. */
const cases: Case[] = [
  { name: 'false', authorize: () => false, get: 401, post: 401 },
  { name: 'a promise of false', authorize: async () => false, get: 401, post: 401 },
  { name: 'an error', authorize: () => { throw new Error(secret) }, get: 500, post: 500 },
  { name: 'an error with a status', authorize: async () => { throw Object.assign(new Error(secret), { statusCode: 418 }) }, get: 418, post: 418 },
  { name: 'an error with a status that is none', authorize: async () => { throw Object.assign(new Error(secret), { statusCode: 200 }) }, get: 500, post: 500 },
  { name: 'an error that throws when it is looked at', authorize: async () => { throw new Proxy({}, { get () { throw new Error(secret) } }) }, get: 500, post: 500 },
  { name: 'read', authorize: () => 'read', get: 200, post: 403 },
  { name: 'read with a name', authorize: async () => ({ access: 'read', name: 'ada' }), get: 200, post: 403 },
  { name: 'true', authorize: () => true, get: 200, post: 0 },
  { name: 'full', authorize: async () => 'full' as const, get: 200, post: 0 },
  { name: 'full with a name', authorize: () => ({ access: 'full', name: 'ada' }), get: 200, post: 0 },
  { name: 'full, from another site', authorize: () => true, headers: { 'sec-fetch-site': 'cross-site' }, get: 200, post: 403 },
  { name: 'full, from the same site and another origin', authorize: () => true, headers: { 'sec-fetch-site': 'same-site' }, get: 200, post: 403 },
  { name: 'full, from its own page', authorize: () => true, headers: { 'sec-fetch-site': 'same-origin' }, get: 200, post: 0 },
  { name: 'full, of a form', authorize: () => true, given: { 'content-type': 'application/x-www-form-urlencoded' }, get: 200, post: 415 },
  { name: 'full, of plain text', authorize: () => true, given: { 'content-type': 'text/plain' }, get: 200, post: 415 },
  { name: 'full, of a type that only begins like JSON', authorize: () => true, given: { 'content-type': 'application/json5' }, get: 200, post: 415 },
  { name: 'full, without a type', authorize: () => true, given: {}, get: 200, post: 415 },
  ...garbage.map((answer, i): Case => ({ name: `garbage ${i}: ${typeof answer}`, authorize: (() => answer) as never, get: i === garbage.length - 1 ? 500 : 401, post: i === garbage.length - 1 ? 500 : 401 }))
]

for (const { name, authorize, headers, given, get, post } of cases) {
  t.test(`every route, when authorize answers ${name}`, async t => {
    let paused = false
    const { app, routes } = await withDashboard(t, { authorize })
    const queue = app.addBackgroundQueue('mails', async () => {})
    const { pause } = queue
    queue.pause = async () => { paused = true; await pause.call(queue) }
    await app.ready()
    t.ok(routes.filter(({ method }) => method === 'POST').length >= 3 && routes.length > 20, 'the list of routes')
    for (const route of routes) {
      const { status, body, headers: answered } = await ask(app, route, headers, given)
      const expected = route.method === 'GET' ? get : post
      const where = `${route.method} ${route.url}`
      if (expected === 200) {
        t.equal(status, route.url.endsWith('/runs/:id') ? 404 : route.url === '/tasks' ? 302 : 200, where)
      } else if (expected === 0) {
        t.equal(status, route.url.includes('/runs/') ? 404 : 200, where)
      } else {
        t.equal(status, expected, where)
        t.notMatch(body, secret, `${where} shows nothing of what was thrown`)
        if (body !== '') t.same(Object.keys(JSON.parse(body) as object), ['statusCode', 'message'], where)
      }
      t.match(answered['content-security-policy'], /^default-src 'none'; .*frame-ancestors 'none'$/, `${where} is strict`)
      t.match(answered, { 'x-content-type-options': 'nosniff', 'referrer-policy': 'no-referrer', 'cache-control': 'no-store' }, where)
    }
    t.equal(paused, post === 0)
  })
}

t.test('without authorize it refuses to register, and says what to do', async t => {
  for (const options of [undefined, {}, { authorize: undefined }]) {
    const { app } = await build(t)
    const { code, message } = await rejection(async () => { await app.register(dashboard, options as never) })
    t.equal(code, 'FST_BG_INVALID_OPTION')
    t.match(message, /option "authorize" is missing.*Pass a function/)
  }
  for (const authorize of [true, 'full', null, {}]) {
    const { app } = await build(t)
    t.match(await rejection(async () => { await app.register(dashboard, { authorize } as never) }), { code: 'FST_BG_INVALID_OPTION', message: /"authorize" must be a function/ })
  }
  const { app } = await build(t)
  t.match(await rejection(async () => { await app.register(dashboard, { authorise: () => true } as never) }), { message: /Did you mean "authorize"/ })
  const { app: other } = await build(t)
  t.match(await rejection(async () => { await other.register(dashboard, { authorize: false, redact: 5 } as never) }), { message: /"redact" must be a function/ })
})

t.test('it needs the plugin before it', async t => {
  const app = Fastify()
  t.teardown(async () => { await app.close() })
  t.match(await rejection(async () => { await app.register(dashboard, { authorize: false }) }), { code: 'FST_BG_INVALID_OPTION', message: /register fastify-background-tasks before it/ })
})

t.test('the literal false opens it, and is said once at start', async t => {
  const { app, lines } = await withDashboard(t, { authorize: false })
  await app.ready()
  t.equal((await app.inject('/tasks/api/overview')).statusCode, 200)
  t.match(lines.filter(({ level }) => level === 'warn'), [{ prefix: '/tasks', msg: /open to everybody/ }])
  t.equal(lines.filter(({ level }) => level === 'warn').length, 1)
})

t.test('an authorize that hangs is a refusal after ten seconds, and what it answers then is of no effect', async t => {
  const clock = fake(t)
  const asked = deferred<boolean>()
  const { app } = await withDashboard(t, { authorize: async () => await asked.promise })
  app.addBackgroundTask('a', { every: '1h' }, () => {})
  await app.ready()
  const answer = app.inject('/tasks/api/tasks')
  await clock.tickAsync(9_999)
  await clock.tickAsync(2)
  const { statusCode, body } = await answer
  t.equal(statusCode, 503)
  t.same(Object.keys(JSON.parse(body) as object), ['statusCode', 'message'])
  asked.resolve(true)
})

t.test('close does not wait for an authorize that hangs', async t => {
  const asked = deferred()
  const { app } = await withDashboard(t, { authorize: async () => { asked.resolve(); return await new Promise(() => {}) } })
  const address = await app.listen({ port: 0 })
  const answer = fetch(`${address}/tasks/api/overview`)
  await asked.promise
  const began = performance.now()
  await app.close()
  t.ok(performance.now() - began < 5_000)
  t.equal((await answer).status, 503)
})

t.test('what authorize throws stays in the log, and an unclear answer is told once', async t => {
  const { app, lines } = await withDashboard(t, { authorize: request => { if (request.headers.x === '1') throw new Error(secret); return 'maybe' as never } })
  await app.inject({ url: '/tasks/', headers: { x: '1' } })
  t.match(await logged(lines, 'the option "authorize" of the dashboard threw: the request is refused'), { err: { message: secret } })
  await app.inject('/tasks/')
  await app.inject('/tasks/')
  t.equal(lines.filter(({ msg }) => msg.startsWith('the option "authorize" of the dashboard answered')).length, 1)
})

t.test('authorize may answer by itself, such as with a redirect to a login', async t => {
  const { app, lines } = await withDashboard(t, { authorize: async (_request, reply) => { await reply.redirect('/login'); return false } })
  const { statusCode, headers } = await app.inject('/tasks/')
  t.equal(statusCode, 302)
  t.equal(headers.location, '/login')
  t.same(lines.filter(({ level }) => level === 'warn' || level === 'error'), [], 'nothing is sent a second time')
})

t.test('headers that authorize sets are sent, such as the question for a password', async t => {
  const { app } = await withDashboard(t, { authorize: (_request, reply) => { reply.header('www-authenticate', 'Basic'); throw Object.assign(new Error('no'), { statusCode: 401 }) } })
  t.match(await app.inject('/tasks/'), { statusCode: 401, headers: { 'www-authenticate': 'Basic' } })
})

t.test('what the application has set for its own routes does not concern it', async t => {
  const app = Fastify()
  t.teardown(async () => { await app.close() })
  app.setValidatorCompiler(() => () => ({ error: new Error('refused by the application') }))
  app.setSerializerCompiler(() => () => '"by the application"')
  app.removeAllContentTypeParsers()
  app.setErrorHandler((error, _request, reply) => reply.send(`by the application: ${String(error)}`))
  await app.register(backgroundTasks)
  await app.register(dashboard, { prefix: '/tasks', authorize: () => true })
  app.addBackgroundTask('a', { every: '1h' }, () => {})
  t.equal((await app.inject('/tasks/api/tasks')).json<{ total: number }>().total, 1)
  t.match((await act(app, 'tasks/a/actions/pause')).json(), { message: '"a" is paused.' })
  t.match((await app.inject('/tasks/api/tasks/nothing')).json(), { statusCode: 404, code: 'FST_BG_NOT_FOUND' })
})
