import { readFile } from 'node:fs/promises'
import t from 'tap'
import { transitions } from '../../lib/task/states.ts'

t.test('every state that one can come to is a state, and each can be reached from idle', async t => {
  const reached = new Set<string>(['idle'])
  for (const state of reached) {
    for (const next of transitions[state as keyof typeof transitions]) reached.add(next)
  }
  t.same([...reached].sort(), Object.keys(transitions).sort())
})

t.test('docs/tasks.md has the same table of states as the code', async t => {
  const page = await readFile(new URL('../../docs/tasks.md', import.meta.url), 'utf8')
  const rows = [...page.matchAll(/^\| `(\w+)` \| [^|]+ \| ((?:`\w+`(?:, )?)+) \|$/gm)]
  const table = Object.fromEntries(rows.map(([, state, next]) => [state, next?.replaceAll('`', '').split(', ')]))
  t.same(table, transitions)
})
