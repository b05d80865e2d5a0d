// The folder of an embedded store: who may open it, and what it says otherwise.
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { built, Child } from '../../support/child.ts'
import { embedded, noEmbedded, rows, temporaryFolder } from '../../support/embedded.ts'
import { refusal, rejection } from '../../support/helper.ts'

const program = noEmbedded === false ? built('embedded') : ''

t.test('a second process is refused, and told who has the folder; a killed one leaves no lock', { skip: noEmbedded }, async t => {
  const folder = temporaryFolder(t)
  const owner = new Child(t, program, [folder, 'hold'])
  await owner.line('open')
  const { pid } = JSON.parse(readFileSync(join(folder, 'owner.json'), 'utf8')) as { pid: number }

  const { code, message } = refusal(() => embedded(t, folder))
  t.equal(code, 'FST_BG_STORE_LOCKED')
  t.match(message, new RegExp(`folder ${folder} is in use: process ${pid} has opened it at 20..-.*fixtures/embedded\\.js.*stop that one, give this one a folder of its own, or use a PostgreSQL server`))
  const second = new Child(t, program, [folder])
  t.match(await second.line('failed'), { err: { code: 'FST_BG_STORE_LOCKED' } })
  await second.exit

  owner.signal('SIGKILL')
  await owner.exit
  const { database } = embedded(t, folder)
  t.same(await rows(database, 'SELECT count(*)::int AS count FROM numbers'), [{ count: 0 }])
  t.equal((JSON.parse(readFileSync(join(folder, 'owner.json'), 'utf8')) as { pid: number }).pid, process.pid)
})

t.test('of those that take over at once, one wins', { skip: noEmbedded }, async t => {
  const folder = temporaryFolder(t)
  for (let round = 0; round < 3; round++) {
    const children = Array.from({ length: 4 }, () => new Child(t, program, [folder, 'hold']))
    const first = await Promise.all(children.map(async child => (await child.line(({ msg }) => ['locked', 'failed'].includes(msg))).msg))
    t.same(first.sort(), ['failed', 'failed', 'failed', 'locked'])
    for (const child of children) child.signal('SIGKILL')
    await Promise.all(children.map(async child => await child.exit))
  }
})

t.test('one process opens a folder once, by whatever name', { skip: noEmbedded }, async t => {
  const folder = temporaryFolder(t)
  const { database } = embedded(t, folder)
  t.match(refusal(() => embedded(t, folder)), { code: 'FST_BG_STORE_LOCKED', message: new RegExp(`this process \\(${process.pid}\\) has opened it with another pgBoss\\(\\)`) })
  t.match(refusal(() => embedded(t, pathToFileURL(folder).href)), { code: 'FST_BG_STORE_LOCKED' })
  const link = join(temporaryFolder(t), 'link')
  symlinkSync(folder, link)
  t.match(refusal(() => embedded(t, link)), { code: 'FST_BG_STORE_LOCKED' })
  await database.close()

  const cwd = process.cwd()
  t.teardown(() => { process.chdir(cwd) })
  process.chdir(dirname(folder))
  const { database: again } = embedded(t, `./${basename(folder)}`)
  process.chdir(cwd)
  t.match(refusal(() => embedded(t, folder)), { code: 'FST_BG_STORE_LOCKED' }, 'a relative path is resolved at once')
  await again.close()
})

t.test('a folder that cannot be used is refused at once', { skip: noEmbedded }, async t => {
  const folder = temporaryFolder(t)
  const file = join(folder, 'file')
  writeFileSync(file, '')
  const refused = (dataDir: string, message: RegExp): void => { t.match(refusal(() => embedded(t, dataDir)), { code: 'FST_BG_INVALID_OPTION', message }) }
  refused(file, /the folder .*file \(option "dataDir"\) cannot be used: EEXIST.*Pass a folder into which this process may write/)
  refused(join(file, 'under'), /cannot be used: ENOTDIR/)
  refused('idb://data', /must be the path of a folder, its file: URL, or 'memory:\/\/'; received 'idb:\/\/data'/)
  refused('file://another-host/data', /is no address of a local folder/)

  const foreign = join(folder, 'foreign')
  mkdirSync(foreign)
  writeFileSync(join(foreign, 'PG_VERSION'), '18\n')
  refused(foreign, /is itself a database of PostgreSQL, which another program has made/)

  const old = join(folder, 'old')
  mkdirSync(join(old, 'postgres'), { recursive: true })
  writeFileSync(join(old, 'postgres/PG_VERSION'), '17\n')
  refused(old, /was written by PostgreSQL 17, and the installed @electric-sql\/pglite is PostgreSQL 18, which cannot read it\. Install the version/)
  refused(old, /PostgreSQL 17/)
})

t.test('a database that the engine cannot open fails every call, with the reason', { skip: noEmbedded }, async t => {
  const folder = temporaryFolder(t)
  mkdirSync(join(folder, 'postgres'))
  writeFileSync(join(folder, 'postgres/PG_VERSION'), '18\n')
  const { database } = embedded(t, folder)
  t.match(await rejection(database.executeSql('SELECT 1')), { message: /the embedded PostgreSQL has ended, since .*: .*pg_control/ })
  await database.close()
})
