// `npm start`: builds the library and the example, and runs the example. It strips the types without checking them, which takes a second;
// `npm run build` checks everything.
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

console.log('Building the library and the example …')
await import('./dashboard.js')
const { default: ts } = await import('typescript')

const root = fileURLToPath(new URL('..', import.meta.url))
const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile)
const { options: compilerOptions } = ts.convertCompilerOptionsFromJson(config.compilerOptions, root)

for (const folder of ['lib', 'example']) {
  for (const file of readdirSync(join(root, folder), { recursive: true }).filter(file => file.endsWith('.ts') && !file.endsWith('.d.ts'))) {
    const source = join(root, folder, file)
    const output = join(root, 'dist', folder, file.replace(/\.ts$/, '.js'))
    const { outputText } = ts.transpileModule(readFileSync(source, 'utf8'), { fileName: source, compilerOptions: { ...compilerOptions, module: ts.ModuleKind.ESNext, sourceMap: false } })
    mkdirSync(dirname(output), { recursive: true })
    writeFileSync(output, outputText)
  }
}

// Where the bundle of `npm run build` would be, which takes two seconds: a line that leads to the file of the entry.
rmSync(join(root, 'dist/fastify-background-tasks.js'), { force: true })
const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
for (const { types, default: file } of Object.values(exports)) {
  if (types === undefined) continue
  const source = types.replace('./dist/', './').replace(/\.d\.ts$/, '.js')
  writeFileSync(join(root, file), `export * from '${source}'\nimport * as all from '${source}'\nexport default all.default\n`)
}

const port = process.env.PORT ?? 3000
await import('../dist/example/server.js')

console.log(`
The example listens on http://127.0.0.1:${port}, and its dashboard is on http://127.0.0.1:${port}/dashboard. Try in another terminal:

  curl -H 'content-type: application/json' -d '{"item":"tea"}' http://127.0.0.1:${port}/orders
  curl -H 'content-type: application/json' -d '{"to":"ada@example.com"}' http://127.0.0.1:${port}/mails
  curl http://127.0.0.1:${port}/tasks

Then press Ctrl-C here, and read in the log what ends after what. Or send many mails, and kill it with SIGKILL: kill -9 ${process.pid}
The log says where the mails wait: in a folder, they are sent after the next start.
`)
