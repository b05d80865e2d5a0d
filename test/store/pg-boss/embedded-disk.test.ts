// The disk of an embedded store: it is full, and has space again; or its folder cannot be written.
import { execFileSync, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmodSync, chownSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Run } from '../../../lib/index.ts'
import { pgBoss } from '../../../lib/store/pg-boss/index.ts'
import { embedded, noEmbedded, temporaryFolder } from '../../support/embedded.ts'
import { build, refusal } from '../../support/helper.ts'
import { until } from '../../support/queues.ts'

const noLimits = spawnSync('prlimit', ['--version']).status !== 0 && 'NOT TESTED: there is no prlimit, which limits the size of files of a process'
const NOBODY = 65_534
const isRoot = process.getuid?.() === 0
const noUsers = process.platform === 'win32' && 'NOT TESTED on Windows: files have other rights there'

/** No file of this process grows above so many bytes: the disk is full as far as PostgreSQL knows, without a disk of our own, which only root could mount. */
function limitFiles (bytes: number | 'unlimited'): void {
  execFileSync('prlimit', ['--pid', String(process.pid), `--fsize=${bytes}:`])
}

t.test('a full disk', { skip: noEmbedded || noLimits }, async t => {
  // Node ignores this signal, and tap ends the process by it unless somebody else listens.
  const ignore = (): void => {}
  process.on('SIGXFSZ', ignore)
  t.teardown(() => {
    limitFiles('unlimited')
    process.off('SIGXFSZ', ignore)
  })
  const { app, lines } = await build(t, { stores: { default: pgBoss({ dataDir: temporaryFolder(t) }) } })
  const ran = new Set<string>()
  const queue = app.addBackgroundQueue('mails', ({ id }: Run<string>) => { ran.add(id) })
  await app.ready()
  const accepted = [(await queue.enqueue('before')).id]
  await queue.drain()

  const ways = [
    { full: 'the log of PostgreSQL cannot be written', bytes: 8_192, payload: 'short', message: /the embedded PostgreSQL has ended, since (PostgreSQL has given up|PGlite failed to initialize properly): .*File too large/ },
    { full: 'a table cannot grow', bytes: 2 ** 20, payload: randomBytes(60_000).toString('base64'), message: /cannot be reached: could not extend file .*File too large\. Check free disk space\. It reconnects by itself: try again later/ }
  ]
  for (const { full, bytes, payload, message } of ways) {
    t.test(`${full}: an enqueue is refused and told why, what was accepted is kept, and all goes on when there is space`, async t => {
      await queue.pause()
      limitFiles(bytes)
      let refused: unknown
      while (refused === undefined) await queue.enqueue(payload).then(({ id }) => { accepted.push(id) }, (error: unknown) => { refused = error })
      t.match(refused, { code: 'FST_BG_STORE_UNAVAILABLE', statusCode: 503, message })
      t.match(await app.backgroundTasks.health(), { status: 'degraded', tasks: [{ reason: /File too large/ }] })
      limitFiles('unlimited')
      await until(async () => await queue.enqueue('after').then(({ id }) => accepted.push(id) > 0, () => false))
      await queue.resume()
      await queue.drain()
      t.same(accepted.filter(id => !ran.has(id)), [])
      t.match(await app.backgroundTasks.health(), { status: 'ok' })
      t.same(lines.filter(({ level }) => level === 'fatal'), [])
    })
  }
})

t.test('a folder that this process may not write is refused at once, and not locked by that', { skip: noEmbedded || noUsers }, async t => {
  const refused = { code: 'FST_BG_INVALID_OPTION', message: /the folder .* \(option "dataDir"\) cannot be used: .*Pass a folder into which this process may write/ }
  const folder = temporaryFolder(t)
  if (isRoot) chownSync(folder, NOBODY, NOBODY)
  const opened = (): { code: string, message: string } => refusal(() => asUser(() => embedded(t, folder)))

  chmodSync(folder, 0o500)
  t.match(opened(), refused)

  chmodSync(folder, 0o700)
  const { database } = asUser(() => embedded(t, folder))
  await database.close()
  chmodSync(join(folder, 'owner.json'), 0o400)
  t.match(opened(), refused)
  t.match(opened(), refused, 'and not because it had been locked before')

  chmodSync(join(folder, 'owner.json'), 0o600)
  const { database: again } = asUser(() => embedded(t, folder))
  await again.close()
})

/** Does something with the rights of a user: root may write everything. */
function asUser<T> (work: () => T): T {
  if (!isRoot) return work()
  process.seteuid?.(NOBODY)
  try {
    return work()
  } finally {
    process.seteuid?.(0)
  }
}
