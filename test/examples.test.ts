// The examples as their readers run them: built, and with plain node.
import { execFile } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { Child, noSignals } from './child.ts'

const run = promisify(execFile)
const sources = new URL('../example/', import.meta.url)
const built = new URL('../dist/example/', import.meta.url)

/** The application that `npm start` runs; every other example prints what its last lines say. */
const application = ['broker.ts', 'feed.ts', 'mails.ts', 'server.ts']

for (const file of readdirSync(sources).filter(name => !application.includes(name))) {
  t.test(`example/${file} prints what it says it prints`, async t => {
    const [, block] = readFileSync(new URL(file, sources), 'utf8').split('\n// Output:\n')
    const expected = block?.replaceAll(/^\/\/ /gm, '')
    const { stdout, stderr } = await run(process.execPath, [fileURLToPath(new URL(file.replace('.ts', '.js'), built))])
    t.equal(stdout, expected)
    t.equal(stderr, '')
  })
}

t.test('example/server.ts handles orders and sends mails, and on SIGTERM finishes the order in hand and all mails before anything they need is closed', { skip: noSignals }, async t => {
  const child = new Child(t, '../dist/example/server.js', [], { PORT: '0' })
  const address = await child.address()
  const post = async (body: object, path = '/orders'): Promise<Response> => await fetch(`${address}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body)
  })
  const read = async (path: string): Promise<unknown> => await (await fetch(`${address}${path}`)).json()

  t.same(await read('/tasks'), [
    { name: 'feed', kind: 'hosted', state: 'running' },
    { name: 'mails', kind: 'queue', state: 'running' },
    { name: 'handle-orders', kind: 'service', state: 'running' }
  ])

  const accepted = await post({ item: 'tea' })
  t.equal(accepted.status, 202)
  t.same(await accepted.json(), { id: 1, item: 'tea' })
  t.equal((await post({})).status, 400)
  await child.line('order handled')
  t.same(await read('/orders'), [{ id: 1, item: 'tea' }])

  const mail = await post({ to: 'ada@example.com' }, '/mails')
  t.equal(mail.status, 202)
  t.match(await mail.json(), { id: String, duplicate: false })
  t.equal((await post({ to: 'nobody' }, '/mails')).status, 400)
  await child.line('mail sent')
  t.same(await read('/mails'), { waiting: 0, delayed: 0, active: 0, succeeded: 1, failed: 0 })

  await Promise.all([post({ item: 'cake' }), post({ item: 'pie' })])
  for (const to of ['bob@example.com', 'eve@example.com', 'joe@example.com']) t.equal((await post({ to }, '/mails')).status, 202)
  await child.line(({ msg, order }) => msg === 'order in hand' && (order as { id: number }).id === 2)
  child.signal('SIGTERM')
  t.same(await child.exit, { code: 0, signal: null })
  const { messages } = child
  const closing = messages.slice(messages.indexOf('closing because of a signal'))
  // Two mails are in hand beside the order, and the third waits for one of them.
  const ofMails = /^mail (in hand|sent)$/
  t.equal(messages.filter(msg => msg === 'mail sent').length, 4)
  t.same(closing.slice(0, -4).filter(msg => !ofMails.test(msg) && msg !== 'run succeeded'), [
    'closing because of a signal',
    'order handled',
    'no more orders are taken'
  ])
  t.same(closing.slice(-4), [
    'feed closing',
    'feed closed',
    'broker closed',
    'closed'
  ])
  t.match(await child.line('broker closed'), { unread: 1 })
  t.equal(child.rest, '')
})
