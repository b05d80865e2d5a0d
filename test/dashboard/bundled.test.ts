// The dashboard in an application that esbuild has put into one file, in a folder with nothing else in it. Needs the build, which `npm test` makes first.
import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { build } from 'esbuild-wasm'
import t from 'tap'

const program = `
  import Fastify from 'fastify'
  import backgroundTasks from 'fastify-background-tasks'
  import dashboard from 'fastify-background-tasks/dashboard'

  const main = async () => {
    const app = Fastify()
    await app.register(backgroundTasks)
    await app.register(dashboard, { prefix: '/tasks', authorize: () => true })
    app.addBackgroundTask('report', { cron: '0 2 * * *', timezone: 'UTC' }, async () => {})
    const script = await app.inject('/tasks/client/main.js')
    const tasks = await app.inject('/tasks/api/tasks')
    console.log(script.statusCode, script.body.length > 1000, JSON.stringify(tasks.json().words))
    await app.close()
  }
  main()`

for (const format of ['esm', 'cjs'] as const) {
  t.test(`it works bundled as ${format}`, async t => {
    const folder = await mkdtemp(join(tmpdir(), 'background-tasks-'))
    t.teardown(async () => { await rm(folder, { recursive: true, force: true }) })
    const outfile = join(folder, format === 'esm' ? 'app.mjs' : 'app.cjs')
    await build({
      stdin: { contents: program, resolveDir: fileURLToPath(new URL('../..', import.meta.url)) },
      bundle: true,
      platform: 'node',
      format,
      outfile,
      logLevel: 'silent',
      // Fastify itself calls `require` for what Node has built in.
      ...format === 'esm' && { banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" } }
    })
    const { stdout } = await promisify(execFile)(process.execPath, [outfile], { cwd: folder })
    t.equal(stdout.trim(), '200 true {"0 2 * * *":"At 02:00"}')
  })
}
