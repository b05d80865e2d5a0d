// The programs in docs/dashboard.md do what their readers expect. test/docs.test.ts checks their types.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { request } from 'node:http'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import ts from 'typescript'

// In dist, where the package finds itself by its name.
const folder = new URL('../../dist/docs-recipes/', import.meta.url)
rmSync(folder, { recursive: true, force: true })
mkdirSync(folder, { recursive: true })
t.teardown(() => { rmSync(folder, { recursive: true, force: true }) })
const page = readFileSync(new URL('../../docs/dashboard.md', import.meta.url), 'utf8').replaceAll('\r\n', '\n')
for (const [, text = '', name = ''] of page.matchAll(/^```ts\n(\/\/ (\w+)\.ts\n.*?)^```$/gms)) {
  const { outputText } = ts.transpileModule(text, { compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 } })
  writeFileSync(new URL(`${name}.js`, folder), outputText)
}

async function recipe<A = FastifyInstance> (name: string, ...given: unknown[]): Promise<A> {
  const { build } = await import(new URL(`${name}.js`, folder).href) as { build (...given: unknown[]): Promise<A> }
  return await build(...given)
}

async function asked (app: FastifyInstance, headers: Record<string, string> = {}): Promise<number> {
  return (await app.inject({ url: '/tasks/api/overview', headers })).statusCode
}

async function acts (app: FastifyInstance, headers: Record<string, string>): Promise<number> {
  return (await app.inject({ method: 'POST', url: '/tasks/api/tasks/nothing/actions/pause', headers: { 'content-type': 'application/json', ...headers }, payload: '{}' })).statusCode
}

t.test('register.ts', async t => {
  const app = await recipe('register')
  t.teardown(async () => { await app.close() })
  t.equal(await asked(app), 200)
  t.equal((await app.inject({ url: '/tasks/api/overview', remoteAddress: '10.0.0.1' })).statusCode, 401)
})

t.test('basic.ts asks for a password', async t => {
  const app = await recipe('basic', 'pässword')
  t.teardown(async () => { await app.close() })
  const of = (text: string): Record<string, string> => ({ authorization: `Basic ${Buffer.from(text).toString('base64')}` })
  const refused = await app.inject('/tasks/')
  t.equal(refused.statusCode, 401)
  t.match(refused.headers['www-authenticate'], /^Basic realm="background tasks"/)
  t.equal(await asked(app, of('operator:wrong')), 401)
  t.equal(await asked(app, of('somebody:pässword')), 401)
  t.equal(await asked(app, of('operator:pässword')), 200)
  t.equal(await acts(app, of('operator:pässword')), 404, 'it was let in')
})

t.test('session.ts goes by a signed cookie', async t => {
  const app = await recipe('session', 'a secret of thirty-two characters')
  t.teardown(async () => { await app.close() })
  const signIn = async (user: string): Promise<Record<string, string>> => {
    const { cookies: [cookie] } = await app.inject({ method: 'POST', url: `/login/${user}` })
    return { cookie: `user=${cookie?.value as string}` }
  }
  t.equal(await asked(app), 401)
  t.equal(await asked(app, { cookie: 'user=ada' }), 401, 'one that is not signed')
  t.match(await app.inject({ url: '/tasks/', headers: { 'sec-fetch-mode': 'navigate' } }), { statusCode: 302, headers: { location: '/login' } })
  const [ada, bob] = [await signIn('ada'), await signIn('bob')]
  t.equal(await asked(app, ada), 200)
  t.equal(await acts(app, ada), 404)
  t.equal(await asked(app, bob), 200)
  t.equal(await acts(app, bob), 403)
})

t.test('token.ts goes by a token', async t => {
  const app = await recipe('token', 'abc')
  t.teardown(async () => { await app.close() })
  t.equal(await asked(app), 401)
  t.equal(await asked(app, { authorization: 'Bearer abcd' }), 401)
  t.equal(await asked(app, { authorization: 'Bearer abc' }), 200)
  t.equal(await acts(app, { authorization: 'Bearer abc' }), 404)
})

t.test('proxy.ts goes by the headers of a proxy', async t => {
  const app = await recipe('proxy', 'shared')
  t.teardown(async () => { await app.close() })
  const ada = { 'x-forwarded-email': 'ada@example.com', 'x-forwarded-groups': 'staff,operators' }
  t.equal(await asked(app, ada), 401, 'past the proxy')
  t.equal(await asked(app, { 'x-proxy-secret': 'shared' }), 401)
  t.equal(await asked(app, { ...ada, 'x-proxy-secret': 'shared' }), 200)
  t.equal(await acts(app, { ...ada, 'x-proxy-secret': 'shared' }), 404)
  t.equal(await acts(app, { ...ada, 'x-proxy-secret': 'shared', 'x-forwarded-groups': 'staff' }), 403)
})

t.test('redact.ts hides an address', async t => {
  const app = await recipe('redact')
  t.teardown(async () => { await app.close() })
  const mails = app.addBackgroundQueue('mails', { enabled: false }, async () => {})
  await app.ready()
  const { id } = await mails.enqueue({ to: 'ada@example.com' })
  const { body } = await app.inject(`/tasks/api/queues/mails/runs/${id}`)
  t.notMatch(body, 'ada@example.com')
  t.match(body, '***')
})

t.test('port.ts serves it on a port of its own, and ends with the application', async t => {
  const { app, admin } = await recipe<{ app: FastifyInstance, admin: FastifyInstance }>('port', { port: 0 })
  t.teardown(async () => { await app.close() })
  await app.listen({ port: 0 })
  const { port } = admin.server.address() as { port: number }
  const response = await fetch(`http://127.0.0.1:${port}/api/overview`)
  t.match(await response.json(), { tasks: { hosted: 1 } })
  t.equal((await app.inject('/api/overview')).statusCode, 404)
  await app.close()
  t.equal(admin.server.listening, false)
})

t.test('port.ts serves it on a unix socket', { skip: process.platform === 'win32' && 'Windows has pipes instead' }, async t => {
  const path = join(tmpdir(), `background-tasks-${process.pid}.sock`)
  const { app } = await recipe<{ app: FastifyInstance }>('port', { path })
  t.teardown(async () => { await app.close() })
  await app.ready()
  const status = await new Promise<number | undefined>((resolve, reject) => {
    request({ socketPath: path, path: '/' }, response => {
      response.resume()
      resolve(response.statusCode)
    }).on('error', reject).end()
  })
  t.equal(status, 200)
})
