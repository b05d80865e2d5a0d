// The embedded database is killed, again and again: what it has acknowledged is there.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { built, Child } from '../../support/child.ts'
import { embedded, noEmbedded, rows, temporaryFolder } from '../../support/embedded.ts'

const program = noEmbedded === false ? built('embedded') : ''

t.test('20 kills during inserts lose nothing that was acknowledged', { skip: noEmbedded }, async t => {
  const folder = temporaryFolder(t)
  const acknowledged = new Set<number>()
  for (let kill = 0; kill < 20; kill++) {
    const child = new Child(t, program, [folder])
    await child.count('acknowledged', 1 + kill * 3)
    child.signal('SIGKILL')
    await child.exit
    for (const { msg, number } of child.lines) if (msg === 'acknowledged') acknowledged.add(number as number)
  }
  const { database } = embedded(t, folder)
  const found = new Set((await rows(database, 'SELECT number FROM numbers') as Array<{ number: number }>).map(({ number }) => number))
  t.ok(acknowledged.size >= 20 * 19 * 3 / 2)
  t.same([...acknowledged].filter(number => !found.has(number)), [])
  t.ok(found.size <= acknowledged.size + 20, 'and at most one more for each kill, written and not yet said')
})

t.test('a kill during the first start leaves nothing that is half made', { skip: noEmbedded }, async t => {
  for (const wait of [0, 40, 120, 250, 450]) {
    const folder = temporaryFolder(t)
    const child = new Child(t, program, [folder, 'hold'])
    await child.line('locked')
    await new Promise(resolve => { setTimeout(resolve, wait) })
    child.signal('SIGKILL')
    await child.exit
    const whole = existsSync(join(folder, 'postgres'))
    const { database } = embedded(t, folder)
    t.same(await rows(database, 'SELECT 1 AS one'), [{ one: 1 }], `after ${wait} ms, with ${whole ? 'a' : 'no'} database`)
    await database.close()
  }
})
