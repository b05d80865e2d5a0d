// Applications with pgBoss() that esbuild has put into one file. Needs the build, which `npm test` makes first.
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { build, type BuildOptions } from 'esbuild-wasm'
import t, { type Test } from 'tap'
import { built } from '../../support/child.ts'
import { noEmbedded } from '../../support/embedded.ts'
import { freshSchema, needsPostgres, postgresUrl } from '../../support/postgres.ts'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../../..', import.meta.url))
built('durable')

/** Fastify itself calls `require` for what Node has built in. */
const banner = "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);"
const contents = `
  import Fastify from 'fastify'
  import backgroundTasks from 'fastify-background-tasks'
  import { pgBoss } from 'fastify-background-tasks/pg-boss'

  const app = Fastify()
  const main = async options => {
    await app.register(backgroundTasks, { stores: { default: pgBoss(options) } })
    const queue = app.addBackgroundQueue('stored', async ({ payload }) => payload * 2)
    await app.ready()
    const { id } = await queue.enqueue(21)
    const { value } = await queue.finished(id)
    await app.close()
    return value
  }
  main(JSON.parse(process.argv[2])).then(console.log, async error => {
    console.log(error.code, error.message)
    await app.close()
  })`

/** What the program prints when it runs as one file; `packages` are left out of it, and `installed` are found beside it. */
async function bundled (t: Test, options: (folder: string) => object, format: 'esm' | 'cjs', packages: string[] = [], installed = packages, how: BuildOptions = {}): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'background-tasks-'))
  t.teardown(async () => { await rm(folder, { recursive: true, force: true }) })
  const outfile = join(folder, format === 'esm' ? 'app.mjs' : 'app.cjs')
  await build({
    stdin: { contents, resolveDir: root },
    bundle: true,
    platform: 'node',
    format,
    outfile,
    logLevel: 'silent',
    // A part of pg that is written in C, and that nobody needs.
    external: [...packages, 'pg-native'],
    ...format === 'esm' && { banner: { js: banner } },
    ...how
  })
  for (const name of installed) {
    await mkdir(join(folder, 'node_modules', name, '..'), { recursive: true })
    await symlink(join(root, 'node_modules', name), join(folder, 'node_modules', name), 'junction')
  }
  const { stdout, stderr } = await run(process.execPath, [outfile, JSON.stringify(options(folder))], { cwd: folder })
  t.equal(stderr, '')
  return stdout.trim()
}

t.test('an app in one file has a queue in PostgreSQL', needsPostgres(), async t => {
  const options = { connectionString: await postgresUrl(t), schema: freshSchema() }
  t.equal(await bundled(t, () => options, 'esm'), '42', 'as an ES module')
  t.equal(await bundled(t, () => options, 'cjs', [], [], { minify: true }), '42', 'in CommonJS, minified')
  t.equal(await bundled(t, () => options, 'esm', ['pg-boss']), '42', 'with pg-boss beside it')
  t.match(await bundled(t, () => options, 'esm', ['pg-boss'], []), /^FST_BG_INVALID_OPTION pgBoss\(\) needs the package pg-boss, which is not installed\. Run: npm install pg-boss/)
})

t.test('an app in one file has an embedded store, with the engine beside it', { skip: noEmbedded }, async t => {
  const options = (folder: string): object => ({ dataDir: join(folder, '.data') })
  const engine = '@electric-sql/pglite'
  t.equal(await bundled(t, options, 'esm', [engine]), '42', 'as an ES module')
  t.equal(await bundled(t, options, 'cjs', [engine]), '42', 'in CommonJS')
  t.match(await bundled(t, options, 'esm', [engine], []), /^FST_BG_INVALID_OPTION pgBoss\(\{ dataDir \}\) needs the package @electric-sql\/pglite, which is not installed/)
})
