// That the programs in the documents are right: each block of the README and of docs/ type-checks, those with their output below print it, and the tests among them pass.
import { execFile } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import ts from 'typescript'
import { noEmbedded } from '../support/embedded.ts'
import { noSignals } from '../support/child.ts'
import { blocksOf, normal, pages, read, runProgram } from '../support/pages.ts'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../../', import.meta.url))
const base = new URL('../../dist/docs/', import.meta.url)

const { config } = ts.readConfigFile(`${root}tsconfig.json`, ts.sys.readFile)
const { options } = ts.convertCompilerOptionsFromJson(config.compilerOptions, root)

// What all pages import is read once.
const sources = new Map<string, ts.SourceFile | undefined>()
const host = ts.createCompilerHost(options)
const readSource = host.getSourceFile
host.getSourceFile = (name, ...rest) => {
  if (name.includes('/dist/docs/')) return readSource(name, ...rest)
  if (!sources.has(name)) sources.set(name, readSource(name, ...rest))
  return sources.get(name)
}

/** Where a program is compiled to: `app.ts` and `app.js` of a page are two. */
const outOf = (name: string): string => name.endsWith('.ts') ? 'ts' : 'js'

/** What the compiler says about the files of one language. In JavaScript nobody is asked for types, nor for what `unknown` is. */
function compile (folder: string, names: string[], out: string): string {
  const program = ts.createProgram(names.map(name => folder + name), {
    ...options, allowJs: true, checkJs: true, rootDir: folder, outDir: folder + out, declaration: false, declarationMap: false, sourceMap: false
  }, host)
  const emitted = program.emit()
  const found = [...ts.getPreEmitDiagnostics(program), ...emitted.diagnostics]
    .filter(({ file, code }) => !(/\.c?js$/.test(file?.fileName ?? '') && (code === 18046 || (code >= 7000 && code < 8000))))
  return ts.formatDiagnostics(found, { getCurrentDirectory: () => folder, getCanonicalFileName: name => name, getNewLine: () => '\n' })
}

for (const page of pages) {
  const blocks = blocksOf(read(page))
  if (blocks.length === 0) continue
  const names = blocks.map(({ name }) => name ?? '')
  // In dist, where the package finds itself by its name.
  const url = new URL(`${page.replaceAll(/[^\w-]/g, '-')}/`, base)
  const folder = fileURLToPath(url)

  t.test(page, async t => {
    t.notOk(names.includes(''), 'each block names its file in its first line')
    t.equal(new Set(names).size, names.length, 'each name stands for one file')

    rmSync(url, { recursive: true, force: true })
    mkdirSync(url, { recursive: true })
    t.teardown(() => { rmSync(url, { recursive: true, force: true }) })
    for (const { name, text } of blocks) writeFileSync(new URL(name ?? 'unnamed.ts', url), text)
    for (const out of ['ts', 'js']) t.equal(compile(folder, names.filter(name => outOf(name) === out), out), '', `its ${out} blocks type-check`)

    const built = (name: string): string => name.replace(/\.ts$/, '.js')
    for (const { name = '', text, output } of blocks) {
      if (output !== undefined) {
        const skip = (text.includes('fastify-background-tasks/pg-boss') && noEmbedded) || (output.includes('^C\n') && noSignals)
        t.test(`${name} prints what the page says`, { skip }, async t => {
          const ran = await runProgram(folder + outOf(name), built(name), output)
          t.equal(ran.output, normal(output))
          t.equal(ran.errors, '')
          t.ok(ran.code === 0 || ran.signal === 'SIGKILL', `ends with ${ran.code ?? ran.signal}`)
          if (output.includes('^C\n')) t.equal(ran.code, 0, 'ends well')
        })
      } else if (name.endsWith('.test.ts')) {
        t.test(`${name} passes`, async t => {
          const said = await run(process.execPath, ['--test-reporter=tap', built(name)], { cwd: folder + outOf(name) }).then(({ stdout }) => stdout, ({ stdout }: { stdout: string }) => `failed: ${stdout}`)
          t.match(said, /^# pass [1-9]/m, 'it has tests')
          t.notMatch(said, /^failed: /)
        })
      }
    }
  })
}

t.test('the pages are found, with programs that run', async t => {
  t.ok(pages.length > 15)
  const ran = pages.flatMap(page => blocksOf(read(page))).filter(({ output }) => output !== undefined)
  t.ok(ran.length > 20)
})
