// Torments several processes on one Redis, or one PostgreSQL, for some time, and checks that every promise was kept: npm run torture -- --store redis --minutes 2 --seed 1.
// docs/reliability.md says what it does and what it has found.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { wholes } from '../test/support/random.ts'
import { check, figures } from './checks.ts'
import { engines } from './engines/index.ts'
import { readJournal } from './journal.ts'
import { torment } from './monkey.ts'
import { World } from './world.ts'

/** How long the workers may end nothing of what is left, in milliseconds. */
const REST = 60_000

const { values } = parseArgs({ options: { store: { type: 'string', default: 'redis' }, minutes: { type: 'string', default: '2' }, seed: { type: 'string', default: String(Math.floor(Math.random() * 1e9)) } } })
const [minutes, seed] = [Number(values.minutes), Number(values.seed)]
if (!(minutes > 0) || !Number.isInteger(seed)) throw new Error(`--minutes takes a number above 0, --seed a whole number; received ${values.minutes} and ${values.seed}`)
const { store } = values
const kind = Object.hasOwn(engines, store) ? engines[store] : undefined
if (kind === undefined) throw new Error(`--store takes ${Object.keys(engines).join(' or ')}; received ${store}`)
const why = kind.unfit()
if (why !== undefined) {
  console.error(`The torture over ${store} cannot begin: ${why}. To take a newer Node: npx -y -p node@24 -c 'npm run torture -- --store ${store}'`)
  process.exit(1)
}

const dir = await mkdtemp(join(tmpdir(), 'torture-'))
console.log(`Torture over ${store} for ${minutes} minutes with seed ${seed}. Journal and logs: ${dir}`)
const world = await World.create(store, dir)
const found: string[] = []
try {
  const did = await torment(world, wholes(seed), minutes * 60_000)
  console.log(`The monkey did: ${Object.entries(did).map(([name, count]) => `${name} ${count}`).join(', ')}`)
  found.push(...await settle())
  const [worker] = world.alive
  if (worker === undefined) throw new Error('no worker is alive')
  const answer = await world.ask(worker, { do: 'list' })
  const listed = 'listed' in answer ? answer.listed : []
  for (const each of world.alive) world.terminate(each)
  await Promise.race([Promise.all([...world.workers].map(async ({ exited }) => { await exited })), sleep(30_000, undefined, { ref: false })])
  const journal = readJournal(join(dir, 'journal'))
  found.push(...check(journal, listed), ...await world.engine.leftovers(listed))
  console.log(Object.entries(figures(journal)).map(([name, count]) => `${name}: ${count}`).join('\n'))
} finally {
  await world.destroy()
}

if (found.length === 0) {
  await rm(dir, { recursive: true, force: true })
  console.log('Nothing found.')
} else {
  console.error(`Found ${found.length}:\n${found.slice(0, 50).map(what => `- ${what}`).join('\n')}`)
  console.error(`Repeat with: npm run torture -- --store ${store} --minutes ${minutes} --seed ${seed}`)
  process.exitCode = 1
}

/** Waits until nothing waits or runs any more, as long as it becomes less. */
async function settle (): Promise<string[]> {
  let least = Infinity
  let since = performance.now()
  for (;;) {
    const [worker] = world.alive
    if (worker === undefined) return ['no worker is alive']
    const answer = await world.ask(worker, { do: 'counts' })
    const pending = 'pending' in answer ? answer.pending : Infinity
    if (pending === 0) return []
    if (pending < least) {
      least = pending
      since = performance.now()
    } else if (performance.now() - since > REST) {
      return [`${pending} runs do not end: their number has not become less for ${REST} ms`]
    }
    await sleep(500)
  }
}
