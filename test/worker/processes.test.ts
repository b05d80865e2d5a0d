// worker() in programs of their own: in both module systems, from odd paths, in TypeScript, and in a bundle. Needs the build.
import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, readdir, realpath, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../..', import.meta.url))

/** A folder with an odd path, in which the packages are installed. Of ours, the file `left` is left out. */
async function folderOf (t: Test, left?: string): Promise<string> {
  const base = await realpath(await mkdtemp(join(tmpdir(), 'worker-')))
  t.teardown(async () => { await rm(base, { recursive: true, force: true }) })
  const folder = join(base, 'a b %20 #c ?d'.replace('?', process.platform === 'win32' ? '' : '?'))
  const modules = join(folder, 'node_modules')
  await mkdir(join(modules, '@fastify'), { recursive: true })
  for (const name of ['fastify', 'fastify-plugin', 'piscina', 'croner', 'leven', '@fastify/error', '@fastify/ajv-compiler']) await symlink(join(root, 'node_modules', name), join(modules, name), 'junction')
  const ours = join(modules, 'fastify-background-tasks')
  await mkdir(ours)
  await cp(join(root, 'package.json'), join(ours, 'package.json'))
  for (const file of (await readdir(join(root, 'dist'))).filter(file => file.endsWith('.js') && left !== file)) await cp(join(root, 'dist', file), join(ours, 'dist', file))
  return folder
}

/** Runs a program with plain node, and returns the JSON that it prints. */
async function program (folder: string, file: string, files: Record<string, string>): Promise<unknown> {
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text)
  const { stdout, stderr } = await run(process.execPath, [file], { cwd: folder, env: { ...process.env, NODE_OPTIONS: '' }, timeout: 30_000 })
  if (stderr !== '') throw new Error(stderr)
  return JSON.parse(stdout)
}

const body = (job: string): string => `
  const once = async handler => {
    const { outcome, value, error } = await app.addBackgroundTask(String(Math.random()), { every: '1h' }, handler).trigger().finished
    return error === undefined ? value : error.message
  }
  const all = async () => {
    await app.ready()
    const values = [await once(worker(${job})), await once(worker(new URL(String(${job}) + '#named')))]
    await app.close()
    console.log(JSON.stringify(values))
  }`

const esm = (job: string): string => `
  import Fastify from 'fastify'
  import backgroundTasks from 'fastify-background-tasks'
  import { worker } from 'fastify-background-tasks/worker'
  const app = Fastify()
  await app.register(backgroundTasks)
  ${body(`new URL('./${job}', import.meta.url)`)}
  await all()`

const job = 'export default ({ task }) => typeof task\nexport const named = async () => "named"\n'

t.test('an ES module, from a path with spaces, % and #', async t => {
  const folder = await folderOf(t)
  t.same(await program(folder, 'app.mjs', { 'app.mjs': esm('job.mjs'), 'job.mjs': job }), ['string', 'named'])
})

t.test('CommonJS, with jobs in both module systems', async t => {
  const folder = await folderOf(t)
  const app = (name: string): string => `
    const { pathToFileURL } = require('node:url')
    const app = require('fastify')()
    const { worker } = require('fastify-background-tasks/worker')
    app.register(require('fastify-background-tasks'))
    ${body(`pathToFileURL(require('node:path').join(__dirname, '${name}'))`)}
    all()`
  t.same(await program(folder, 'app.cjs', { 'app.cjs': app('job.mjs'), 'job.mjs': job }), ['string', 'named'])
  t.same(await program(folder, 'app2.cjs', { 'app2.cjs': app('job.cjs'), 'job.cjs': 'module.exports = run => typeof run.task\nmodule.exports.named = () => "named"' }), ['string', 'named'])
  t.same(await program(folder, 'app3.cjs', { 'app3.cjs': app('compiled.cjs'), 'compiled.cjs': 'exports.__esModule = true\nfor (const name of ["default", "named"]) exports[name] = run => name === "default" ? typeof run.task : name' }), ['string', 'named'])
})

t.test('in a bundle, where no file of ours is beside the program', async t => {
  const folder = await folderOf(t, 'thread-entry.js')
  t.same(await program(folder, 'app.mjs', { 'app.mjs': esm('job.mjs'), 'job.mjs': job }), ['string', 'named'])
})

t.test('TypeScript, where Node runs it; elsewhere the error says what to do', async t => {
  const folder = await folderOf(t)
  const typed = 'import type { WorkerRun } from "fastify-background-tasks/worker"\nexport default ({ task }: WorkerRun): string => typeof task\nexport const named = async (): Promise<string> => "named"\n'
  const { typescript } = process.features as { typescript?: string | false }
  const values = await program(folder, 'app.mjs', { 'app.mjs': esm('job.ts'), 'job.ts': typed, 'package.json': '{"type":"module"}' }).catch((error: Error) => /ExperimentalWarning/.test(error.message) ? ['string', 'named'] : error)
  if (typescript !== undefined && typescript !== false) t.same(values, ['string', 'named'])
  else t.match(values, [/cannot be loaded: .*\.ts.*\. Node runs TypeScript by itself from 22\.18 on: before that, compile the file, and name the result\.$/, String])
})

t.test('a syntax error in the module: the run says how to find it', async t => {
  const folder = await folderOf(t)
  const [message] = await program(folder, 'app.mjs', { 'app.mjs': esm('syntax.mjs'), 'syntax.mjs': 'export default () => {\n  const = 1\n}\n' }) as [string]
  t.match(message, /^The worker .*syntax\.mjs of ".*" cannot be loaded: Unexpected token '='\. To see where, run: node --check ".*syntax\.mjs"$/)
})

t.test('without piscina worker() says what to install, and the rest of the package needs none', async t => {
  const folder = await folderOf(t)
  await rm(join(folder, 'node_modules/piscina'), { recursive: true })
  t.match(await program(folder, 'app.mjs', {
    'job.mjs': job,
    'app.mjs': `
      import { worker } from 'fastify-background-tasks/worker'
      import 'fastify-background-tasks'
      try { worker(new URL('./job.mjs', import.meta.url)) } catch ({ code, message }) { console.log(JSON.stringify({ code, message })) }`
  }), { code: 'FST_BG_INVALID_OPTION', message: 'worker() needs the package piscina, which is not installed. Run: npm install piscina' })
})

t.test('the main entry loads neither the code of workers nor piscina', async t => {
  const folder = await folderOf(t, 'worker.js')
  await rm(join(folder, 'node_modules/piscina'), { recursive: true })
  t.equal(await program(folder, 'app.mjs', {
    'app.mjs': `
      import Fastify from 'fastify'
      import backgroundTasks from 'fastify-background-tasks'
      const app = Fastify()
      await app.register(backgroundTasks)
      const { value } = await app.addBackgroundTask('a', { every: '1h' }, () => 'ran').trigger().finished
      await app.close()
      console.log(JSON.stringify(value))`
  }), 'ran')
})

t.test('a process that only waits for a thread lives until the run has ended, and idle threads keep none alive', async t => {
  const folder = await folderOf(t)
  t.same(await program(folder, 'app.mjs', {
    'job.mjs': 'export default async () => { await new Promise(resolve => { setTimeout(resolve, 100) }); return "done" }',
    'app.mjs': `
      import Fastify from 'fastify'
      import backgroundTasks from 'fastify-background-tasks'
      import { worker } from 'fastify-background-tasks/worker'
      const app = Fastify()
      await app.register(backgroundTasks)
      await app.ready()
      app.runInBackground(worker(new URL('./job.mjs', import.meta.url))).finished.then(({ value }) => { console.log(JSON.stringify(value)) })`
  }), 'done')
})
