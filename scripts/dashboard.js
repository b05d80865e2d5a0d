// Makes what the dashboard serves, and what it needs, into dist/vendor: its page, scripts and style as one module of texts, so that nothing is read
// from the disk and bundlers can take it; and a copy of cronstrue with its licence, so that users install nothing more.
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'

const root = fileURLToPath(new URL('..', import.meta.url))
const source = join(root, 'lib/dashboard/client')
const vendor = join(root, 'dist/vendor')
const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile)
const { options } = ts.convertCompilerOptionsFromJson(config.compilerOptions, root)
const compilerOptions = { ...options, module: ts.ModuleKind.ESNext, sourceMap: false, removeComments: true }

const files = {}
for (const file of readdirSync(source, { recursive: true }).map(name => name.replaceAll(sep, '/')).sort()) {
  if (/\.(html|css|svg)$/.test(file)) files[file] = readFileSync(join(source, file), 'utf8').replaceAll(/^ +/gm, '')
  if (!file.endsWith('.ts') || file.endsWith('.d.ts') || file === 'types.ts') continue
  const { outputText } = ts.transpileModule(readFileSync(join(source, file), 'utf8'), { fileName: file, compilerOptions })
  // Indentation is a tenth of what goes over the wire. No text in them has more than one line.
  files[file.replace(/\.ts$/, '.js')] = outputText.replaceAll(/^ +/gm, '')
}

mkdirSync(vendor, { recursive: true })
writeFileSync(join(vendor, 'dashboard-client.js'), `export default ${JSON.stringify(files, null, 2)}\n`)

const cronstrue = createRequire(import.meta.url).resolve('cronstrue/package.json')
copyFileSync(join(dirname(cronstrue), 'dist/cronstrue.min.js'), join(vendor, 'cronstrue.cjs'))
copyFileSync(join(dirname(cronstrue), 'LICENSE'), join(vendor, 'cronstrue.LICENSE'))
