// The programs in docs/testing.md, type-checked and run as their readers would.
import { execFile } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'

const run = promisify(execFile)
const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc')
const page = readFileSync(new URL('../docs/testing.md', import.meta.url), 'utf8').replaceAll('\r\n', '\n')

// In dist, where the package finds itself by its name.
const folder = new URL('../dist/docs-testing/', import.meta.url)
rmSync(folder, { recursive: true, force: true })
mkdirSync(folder, { recursive: true })
t.teardown(() => { rmSync(folder, { recursive: true, force: true }) })

// Each block is a file whose first line names it.
const files = [...page.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, text = '']) => ({ name: /^\/\/ ([\w-]+(\.test)?\.ts)\n/.exec(text)?.[1], text }))
const names = files.map(({ name }) => name ?? '')
const tests = names.filter(name => name.endsWith('.test.ts'))

t.ok(tests.length > 0, 'there are tests on the page')
t.notOk(names.includes(''), 'each block names its file in its first line')
t.equal(new Set(names).size, names.length, 'each name stands for one file')

for (const { name, text } of files) writeFileSync(new URL(name ?? '', folder), text)
writeFileSync(new URL('tsconfig.json', folder), JSON.stringify({
  extends: '../../tsconfig.json',
  compilerOptions: { rootDir: '.', outDir: '.', declaration: false, declarationMap: false, sourceMap: false },
  include: ['.'],
  exclude: []
}))

t.test('the page type-checks', async t => {
  const said = run(process.execPath, [tsc, '-p', fileURLToPath(folder)])
  t.equal(await said.then(({ stdout }) => stdout, ({ stdout }: { stdout: string }) => stdout), '')
})

t.test('the tests on the page pass', async t => {
  const runs = tests.map(async name => {
    const file = fileURLToPath(new URL(name.replace('.ts', '.js'), folder))
    return await run(process.execPath, ['--test-reporter=tap', file]).then(({ stdout }) => stdout, ({ stdout }: { stdout: string }) => `failed: ${stdout}`)
  })
  for (const [i, said] of (await Promise.all(runs)).entries()) {
    t.match(said, /^# pass [1-9]/m, `${tests[i]} has tests`)
    t.notMatch(said, /^failed: /, `${tests[i]} passes`)
  }
})
