// Applications that esbuild has put into one file, in a folder with nothing else in it. Needs the build, which `npm test` makes first.
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
// Compiled to WebAssembly: the package esbuild has a script that runs when it is installed.
import { build, type BuildOptions } from 'esbuild-wasm'
import t, { type Test } from 'tap'
import { built } from './support/child.ts'
import { needsRedis, redisUrl } from './support/redis.ts'

const run = promisify(execFile)
const root = fileURLToPath(new URL('..', import.meta.url))
built('durable')

/** Fastify itself calls `require` for what Node has built in. */
const banner = "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);"

const app = `
  import Fastify from 'fastify'
  import backgroundTasks from 'fastify-background-tasks'
  import { bullmq } from 'fastify-background-tasks/bullmq'

  const main = async connection => {
    const app = Fastify()
    const done = []
    let over
    const ran = new Promise(resolve => { over = resolve })
    const handler = async ({ task, payload }) => {
      done.push(task + ' ' + payload)
      if (done.length === 2) over()
    }
    await app.register(backgroundTasks, { stores: { redis: bullmq({ connection, prefix: process.argv[3] }) } })
    const queues = [app.addBackgroundQueue('memory', handler), app.addBackgroundQueue('stored', { store: 'redis' }, handler)]
    await app.ready()
    for (const queue of queues) await queue.enqueue(1)
    await ran
    await app.close()
    return done.sort().join(', ')
  }`
const start = (connection: string): string => `\n  main(${connection}).then(console.log, error => { console.log(error.code, error.message) })`
const programs = {
  'a URL': app + start('process.argv[2]'),
  'a client of redis': `import { createClient } from 'redis'; ${app}${start('createClient({ url: process.argv[2] })')}`
}

/** What the program prints when it runs as one file; `packages` are those that it finds beside it. */
async function bundled (t: Test, program: keyof typeof programs, format: 'esm' | 'cjs', options: BuildOptions = {}, packages: string[] = []): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'background-tasks-'))
  t.teardown(async () => { await rm(folder, { recursive: true, force: true }) })
  const outfile = join(folder, format === 'esm' ? 'app.mjs' : 'app.cjs')
  await build({
    stdin: { contents: programs[program], resolveDir: root },
    bundle: true,
    platform: 'node',
    format,
    outfile,
    logLevel: 'silent',
    ...format === 'esm' && { banner: { js: banner } },
    ...options
  })
  if (packages.length > 0) await mkdir(join(folder, 'node_modules'))
  for (const name of packages) await symlink(join(root, 'node_modules', name), join(folder, 'node_modules', name), 'junction')
  const url = needs.skip === undefined ? await redisUrl(t) : 'redis://127.0.0.1:1'
  const { stdout, stderr } = await run(process.execPath, [outfile, url, `bundled-${Math.random()}`], { cwd: folder })
  t.equal(stderr, '')
  return stdout.trim()
}

const needs = needsRedis()
const works = 'memory 1, stored 1'

t.test('an app in one file has a queue in memory and one on BullMQ', needs, async t => {
  t.equal(await bundled(t, 'a URL', 'esm'), works, 'as an ES module')
  t.equal(await bundled(t, 'a URL', 'cjs', { minify: true }), works, 'in CommonJS, minified')
})

t.test('with a client of the package redis it needs no ioredis', needs, async t => {
  // Left out, and not there when it runs: as if it had not been there when the bundle was made.
  t.equal(await bundled(t, 'a client of redis', 'esm', { external: ['ioredis'] }), works)
})

t.test('packages that are left out of the bundle are found beside it', needs, async t => {
  const external = ['bullmq', 'ioredis']
  t.equal(await bundled(t, 'a URL', 'esm', { external }, external), works)
})

t.test('where the packages are missing, the error says which command to run', async t => {
  t.equal(await bundled(t, 'a URL', 'esm', { external: ['bullmq'] }), 'FST_BG_INVALID_OPTION bullmq() needs the package bullmq, which is not installed. Run: npm install bullmq ioredis')
  t.match(await bundled(t, 'a URL', 'cjs', { external: ['ioredis'] }), /^FST_BG_INVALID_OPTION bullmq\(\) needs the package ioredis, which is not installed. Run: npm install ioredis; or pass a client/)
})

t.test('an app in one file computes in threads, whose code is in that file', async t => {
  const contents = `
    import { join } from 'node:path'
    import { pathToFileURL } from 'node:url'
    import Fastify from 'fastify'
    import backgroundTasks from 'fastify-background-tasks'
    import { worker } from 'fastify-background-tasks/worker'
    const main = async () => {
      const app = Fastify()
      await app.register(backgroundTasks)
      const task = app.addBackgroundTask('hash', { every: '1h' }, worker(pathToFileURL(join(process.argv[2], 'job.mjs')), { threads: 1 }))
      await app.ready()
      const { value, error } = await task.trigger().finished
      await app.close()
      console.log(error ?? value)
    }
    main()`
  const folder = await mkdtemp(join(tmpdir(), 'background-tasks-'))
  t.teardown(async () => { await rm(folder, { recursive: true, force: true }) })
  await mkdir(join(folder, 'node_modules'))
  await symlink(join(root, 'node_modules/piscina'), join(folder, 'node_modules/piscina'), 'junction')
  await writeFile(join(folder, 'job.mjs'), "import { isMainThread } from 'node:worker_threads'\nexport default ({ signal, task }) => [task, isMainThread, signal.aborted].join(' ')\n")
  for (const format of ['esm', 'cjs'] as const) {
    for (const how of [{}, { minify: true }, { keepNames: true }, { keepNames: true, minify: true }]) {
      const outfile = join(folder, format === 'esm' ? 'app.mjs' : 'app.cjs')
      await build({ stdin: { contents, resolveDir: root }, bundle: true, platform: 'node', format, outfile, external: ['piscina'], logLevel: 'silent', ...format === 'esm' && { banner: { js: banner } }, ...how })
      const { stdout, stderr } = await run(process.execPath, [outfile, folder], { cwd: folder })
      t.same([stdout.trim(), stderr], ['hash false false', ''], `${format} ${JSON.stringify(how)}`)
    }
  }
})
