// That documents and code agree: the programs in docs/ are type-checked and run as their readers would, and no option, method or example is left out.
import { execFile } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { build } from './support/helper.ts'

const run = promisify(execFile)
const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc')
const read = (path: string): string => readFileSync(new URL(path, import.meta.url), 'utf8').replaceAll('\r\n', '\n')

for (const page of ['testing', 'queues', 'stores', 'store-tests', 'worker', 'dashboard', 'metrics', 'tracing', 'migrating-from-fastify-schedule', 'recipes', 'lifecycle', 'deploying', 'coming-from-dotnet', 'migrating-from-bullmq']) {
  // In dist, where the package finds itself by its name.
  const folder = new URL(`../dist/docs-${page}/`, import.meta.url)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  t.teardown(() => { rmSync(folder, { recursive: true, force: true }) })

  // Each block is a file whose first line names it.
  const files = [...read(`../docs/${page}.md`).matchAll(/^```ts\n(.*?)^```$/gms)].map(([, text = '']) => ({ name: /^\/\/ ([\w-]+(\.test)?\.ts)\n/.exec(text)?.[1], text }))
  const names = files.map(({ name }) => name ?? '')
  const tests = names.filter(name => name.endsWith('.test.ts'))

  t.ok(names.length > 0, `there are programs in docs/${page}.md`)
  t.equal(tests.length > 0, page === 'testing', 'and tests where they are expected')
  t.notOk(names.includes(''), 'each block names its file in its first line')
  t.equal(new Set(names).size, names.length, 'each name stands for one file')

  for (const { name, text } of files) writeFileSync(new URL(name ?? '', folder), text)
  writeFileSync(new URL('tsconfig.json', folder), JSON.stringify({
    extends: '../../tsconfig.json',
    compilerOptions: { rootDir: '.', outDir: '.', declaration: false, declarationMap: false, sourceMap: false },
    include: ['.'],
    exclude: []
  }))

  t.test(`docs/${page}.md type-checks`, async t => {
    const said = run(process.execPath, [tsc, '-p', fileURLToPath(folder)])
    t.equal(await said.then(({ stdout }) => stdout, ({ stdout }: { stdout: string }) => stdout), '')
  })

  t.test(`the tests in docs/${page}.md pass`, async t => {
    const runs = tests.map(async name => {
      const file = fileURLToPath(new URL(name.replace('.ts', '.js'), folder))
      return await run(process.execPath, ['--test-reporter=tap', file]).then(({ stdout }) => stdout, ({ stdout }: { stdout: string }) => `failed: ${stdout}`)
    })
    for (const [i, said] of (await Promise.all(runs)).entries()) {
      t.match(said, /^# pass [1-9]/m, `${tests[i]} has tests`)
      t.notMatch(said, /^failed: /, `${tests[i]} passes`)
    }
  })
}

/** The keys in the first column of the table with that heading. */
function rowsOf (page: string, heading: string): string[] {
  const [, table = ''] = new RegExp(`^\\| ${heading} \\|.*\\n\\|[-|]+\\n((?:\\|.*\\n)+)`, 'm').exec(page) ?? []
  return [...table.matchAll(/^\| (`[^|]+) \|/gm)].flatMap(([, cell = '']) => [...cell.matchAll(/`(\w+)/g)].map(([, key = '']) => key))
}

/** What a call says it takes, when it is given an unknown option. */
async function taken (call: () => unknown): Promise<string[]> {
  const message = await Promise.resolve().then(call).then(() => '', (error: Error) => error.message)
  return (/It takes (.*)\.$/.exec(message)?.[1] ?? '').split(', ').sort()
}

t.test('docs/queues.md has every option of a queue and of enqueue, and no other', async t => {
  const { app } = await build(t)
  const page = read('../docs/queues.md')
  const declare = app.addBackgroundQueue as (...given: unknown[]) => unknown
  t.same(rowsOf(page, 'option of a queue').sort(), await taken(() => declare.call(app, 'bad', { xyzxyzxyz: 1 }, () => {})))
  const queue = app.addBackgroundQueue('mails', async () => {})
  t.same(rowsOf(page, 'option of `enqueue`').sort(), await taken(async () => await queue.enqueue({}, { xyzxyzxyz: 1 } as object)))
})

t.test('docs/queues.md has every method that a queue has besides those of a task', async t => {
  const [, table = ''] = /## The handle\n(.*?)\n## /s.exec(read('../docs/queues.md')) ?? []
  const [, declared = ''] = /export interface BackgroundQueue<.*?\{\n(.*?)^\}/ms.exec(read('../lib/queue/handle.ts')) ?? []
  const methods = [...declared.matchAll(/^ {2}(\w+) \(/gm)].map(([, name]) => name)
  t.ok(methods.length > 8)
  for (const name of methods) t.ok(table.includes(`\`${name}(`), `${name}()`)
})

t.test('the README links to every example, and it or another page to every page of docs/ by hand', async t => {
  const readme = read('../README.md')
  // What server.ts is made of, and what is written by a program.
  const parts = ['broker.ts', 'feed.ts', 'mails.ts', 'store.ts', 'hash.ts', 'dashboard.ts', 'metrics.ts', 'benchmarks.md', 'README.md']
  for (const [folder, ends] of [['example', '.ts'], ['docs', '.md']]) {
    const files = readdirSync(new URL(`../${folder}/`, import.meta.url)).filter(name => name.endsWith(ends as string) && !parts.includes(name))
    t.ok(files.length > 2)
    const pages = folder === 'docs' ? readdirSync(new URL('../docs/', import.meta.url)).filter(name => name.endsWith('.md')) : []
    const others = pages.map(file => ({ file, text: read(`../docs/${file}`) }))
    for (const file of files) {
      const linked = new RegExp(`\\]\\(${folder}/${file}[#)]`).test(readme) || others.some(other => other.file !== file && other.text.includes(`](${file}`))
      t.ok(linked, file)
    }
  }
})

t.test('every link within the documents leads to a heading that is there', async t => {
  const pages = ['README.md', 'docs/queues.md', 'docs/testing.md', 'docs/health.md', 'docs/worker.md', 'docs/stores.md', 'docs/metrics.md', 'docs/tracing.md', 'docs/dashboard.md']
  const anchors = (page: string): string[] => [...read(`../${page}`).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => heading.toLowerCase().replaceAll(/[^\w -]/g, '').replaceAll(' ', '-'))
  for (const page of pages) {
    for (const [, path = '', anchor] of read(`../${page}`).matchAll(/\]\((?!https?:)([^)#\s]*)#([\w-]+)\)/g)) {
      const target = path === '' ? page : new URL(path, `file:///${page}`).pathname.slice(1)
      t.ok(anchors(target).includes(anchor as string), `${page}: ${path}#${anchor}`)
    }
  }
})
