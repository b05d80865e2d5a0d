// The rooms of lib/: what may import what. ARCHITECTURE.md draws the same picture.
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

/**
 * The rooms, from the ground up. `common` is the ground, which has no face; index.ts is the roof. The rooms of metrics and of threads are at the top, so that no other
 * room can import them: an application without them loads none of their code.
 */
const rooms = ['common', 'time', 'run', 'store', 'task', 'queue', 'app', 'dashboard', 'metrics', 'worker', 'store-tests']

/** Imports past a face that have a reason. */
const allowed = [
  // Users augment `Run` by the name of the package. TypeScript merges that only through `export *`, and the face of the room exports more.
  'index.ts -> run/run.ts'
]

type Graph = Map<string, string[]>

/** Every file with the files that it imports or exports from, types included. */
function graphOf (root: string): Graph {
  const files = readdirSync(root, { recursive: true }).map(String).filter(file => file.endsWith('.ts')).map(file => file.replaceAll(sep, '/'))
  return new Map(files.map(file => {
    const source = readFileSync(join(root, file), 'utf8')
    const imports = [...source.matchAll(/(?:\bfrom|\bimport\()\s*'(\.{1,2}\/[^']+)'/g)].map(([, path = '']) => normalize(join(dirname(file), path)).replaceAll(sep, '/'))
    return [file, imports]
  }))
}

function roomOf (file: string): string {
  return file.includes('/') ? file.slice(0, file.indexOf('/')) : ''
}

/** The files of one cycle; undefined if there is none. */
function cycleIn (graph: Graph): string[] | undefined {
  const done = new Set<string>()
  const visit = (file: string, path: string[]): string[] | undefined => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file]
    if (done.has(file)) return undefined
    for (const next of graph.get(file) ?? []) {
      const found = visit(next, [...path, file])
      if (found !== undefined) return found
    }
    done.add(file)
    return undefined
  }
  for (const file of graph.keys()) {
    const found = visit(file, [])
    if (found !== undefined) return found
  }
  return undefined
}

/** The imports of a room that lies above, and those past the face of another room. */
function misplaced (graph: Graph): string[] {
  return [...graph].flatMap(([file, imports]) => imports.filter(target => {
    const [from, to] = [roomOf(file), roomOf(target)]
    // The roof sees every room, and the topmost has no other face than it.
    if (file === 'index.ts') return to !== 'common' && to !== 'app' && target !== `${to}/index.ts`
    // What stands above the plugin uses the package as any user does.
    if (target === 'index.ts') return rooms.indexOf(from) <= rooms.indexOf('app')
    return rooms.indexOf(to) > rooms.indexOf(from) || (to !== 'common' && to !== from && target !== `${to}/index.ts`)
  }).map(target => `${file} -> ${target}`)).filter(arrow => !allowed.includes(arrow))
}

const lib = graphOf(fileURLToPath(new URL('../lib', import.meta.url)))

t.test('no file imports itself by way of others', async t => {
  t.equal(cycleIn(lib), undefined)
})

t.test('a room imports only rooms below it, and these by their faces', async t => {
  t.same(misplaced(lib), [])
})

t.test('nothing imports the code of threads, and that needs only what is below a task', async t => {
  t.same([...lib].filter(([file, imports]) => roomOf(file) !== 'worker' && imports.some(target => roomOf(target) === 'worker')), [])
  t.same(new Set([...lib].filter(([file]) => roomOf(file) === 'worker').flatMap(([, imports]) => imports.map(roomOf))), new Set(['common', 'time', 'run', 'worker']))
})

t.test('every import leads to a file, and every room is known', async t => {
  t.same([...lib.values()].flat().filter(target => !lib.has(target)), [])
  t.same([...new Set([...lib.keys()].map(roomOf))].sort(), [...rooms, ''].sort())
})

t.test('no folder has more than twelve entries', async t => {
  const folders = new Map<string, Set<string>>()
  for (const file of lib.keys()) {
    for (let path = file; path !== '.'; path = dirname(path)) {
      const entries = folders.get(dirname(path)) ?? new Set()
      folders.set(dirname(path), entries.add(path))
    }
  }
  t.same([...folders].filter(([, entries]) => entries.size > 12).map(([folder]) => folder), [])
})

t.test('the checks find what they look for', async t => {
  t.same(cycleIn(new Map([['a', ['b']], ['b', ['c']], ['c', ['b']]])), ['b', 'c', 'b'])
  t.same(misplaced(new Map([
    ['run/run.ts', ['task/index.ts', 'time/clock.ts', 'time/index.ts', 'common/errors.ts', 'run/uuid.ts']],
    ['common/errors.ts', ['time/index.ts']],
    ['app/plugin.ts', ['index.ts']],
    ['index.ts', ['task/states.ts', 'app/plugin.ts', 'task/index.ts']]
  ])), ['run/run.ts -> task/index.ts', 'run/run.ts -> time/clock.ts', 'common/errors.ts -> time/index.ts', 'app/plugin.ts -> index.ts', 'index.ts -> task/states.ts'])
})
