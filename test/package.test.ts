// The package as users get it: built, packed and installed. Needs the build, which `npm test` makes first; no network.
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, realpath, rm, symlink, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import Fastify from 'fastify'
import t from 'tap'

const run = promisify(execFile)
const require = createRequire(import.meta.url)
const root = fileURLToPath(new URL('..', import.meta.url))
const name = 'fastify-background-tasks'

interface Manifest { version: string, dependencies: Record<string, string>, peerDependencies: Record<string, string>, exports: Record<string, string | { default: string }> }
const manifest: Manifest = require('../package.json')

if (!existsSync(join(root, 'dist/index.js'))) throw new Error('dist/ is missing: run "npm run build" first')

t.test('require() gives what import gives', async t => {
  const imported = await import('fastify-background-tasks')
  const required: typeof imported = require(name)
  t.same(Object.keys(required).filter(key => key !== '__esModule').sort(), ['GiveUp', 'backgroundTasks', 'default', 'errorCodes', 'ticks'])
  t.equal(required.default, imported.default)
  t.equal(required.backgroundTasks, imported.backgroundTasks)
  t.equal(required.default, required.backgroundTasks, 'the default export has a name, too')
  t.equal(required.errorCodes, imported.errorCodes)
  t.equal(required.errorCodes.FST_BG_SHUTDOWN, imported.errorCodes.FST_BG_SHUTDOWN, 'one copy of each class')
})

t.test('fastify.register(require(name)) works without .default', async t => {
  const app = Fastify()
  await app.register(require(name), { shutdownTimeout: '1s' })
  t.teardown(async () => { await app.close() })
  const task = app.addBackgroundTask('some', { enabled: false }, () => {})
  await app.ready()
  t.equal(app.backgroundTasks.get('some'), task)
  t.ok(app.hasPlugin(name), 'registered under its name')
})

t.test('the tarball', async t => {
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'background-tasks-')))
  t.teardown(async () => { await rm(folder, { recursive: true, force: true }) })
  const { files, size } = await pack(folder)
  const installed = await install(folder)
  const ours = join(installed, 'node_modules', name)

  t.test('has the build, its sources, the whole book, and nothing else', async t => {
    // Each source has its declarations, and none is left over from a source that is gone.
    const sources = (await readdir(join(root, 'lib'), { recursive: true, withFileTypes: true }))
      .filter(entry => entry.isFile())
      .map(entry => posix.join(entry.parentPath.slice(root.length).replaceAll('\\', '/'), entry.name))
      // The build makes one module of what the page of the dashboard loads.
      .filter(source => !source.startsWith('lib/dashboard/client/'))
      .flatMap(source => [source, ...['.d.ts', '.d.ts.map'].map(end => `dist/${source.replace(/\.ts$/, end)}`)])
    // One file for each entry, one for what the main entry loads, and one for what the stores with an engine share.
    const entries = Object.values(manifest.exports).flatMap(entry => typeof entry === 'string' ? [] : [entry.default.slice('./'.length)])
    t.equal(entries.length, 7)
    const bundle = [...entries, 'dist/fastify-background-tasks.js', 'dist/engines.js', 'dist/thread-entry.js'].flatMap(file => [file, `${file}.map`])
    const vendor = ['dist/vendor/cronstrue.LICENSE', 'dist/vendor/cronstrue.cjs', 'dist/vendor/dashboard-client.js']
    const template = files.filter(file => /^dist\/pglite-[\d.]+\.tar\.br$/.test(file))
    t.equal(template.length, 1, 'and a template of the embedded store\'s database')
    const pages = (await readdir(join(root, 'docs'))).filter(file => /\.(md|yml|json)$/.test(file)).map(file => `docs/${file}`)
    t.same(files, [...sources, ...bundle, ...vendor, ...template, ...pages, 'package.json', 'README.md', 'LICENSE'].sort())
  })

  t.test('has the size and the dependencies that the README says', async t => {
    const readme = await readFile(join(ours, 'README.md'), 'utf8')
    const [, megabytes, dependencies] = /The package is ([\d.]+) MB packed, and has (\d+) dependencies\./.exec(readme) ?? []
    t.equal((size / 1e6).toFixed(1), megabytes)
    t.equal(Object.keys(manifest.dependencies).length, Number(dependencies))
  })

  t.test('has a main entry that loads no adapter, dashboard, metrics or worker, and no package of theirs', async t => {
    // A hook sees what import loads; what require loads is in its cache.
    const loaded = await program(installed, 'loaded.mjs', `
      import * as module from 'node:module'
      import { MessageChannel } from 'node:worker_threads'
      const { port1, port2 } = new MessageChannel()
      const urls = []
      port1.on('message', url => { urls.push(url) })
      if (module.registerHooks !== undefined) {
        module.registerHooks({ load: (url, context, next) => { urls.push(url); return next(url, context) } })
      } else {
        module.register('data:text/javascript,' + encodeURIComponent(\`
          let port
          export const initialize = given => { port = given }
          export const load = async (url, context, next) => { port.postMessage(url); return await next(url, context) }
        \`), { data: port2, transferList: [port2] })
      }
      await import('${name}')
      await new Promise(resolve => { setTimeout(resolve, 100) })
      port1.close()
      const required = Object.keys(module.createRequire(import.meta.url).cache)
      console.log(JSON.stringify([...urls, ...required].map(path => decodeURIComponent(path).replaceAll('\\\\', '/'))))
    `) as string[]
    const inside = loaded.filter(path => path.includes(`/${name}/dist/`)).map(path => path.slice(path.indexOf('/dist/') + '/dist/'.length))
    t.same(inside.sort(), ['fastify-background-tasks.js', 'index.js'], 'two files, as each costs a millisecond')
    const { sources } = JSON.parse(await readFile(join(ours, 'dist/fastify-background-tasks.js.map'), 'utf8')) as { sources: string[] }
    t.ok(sources.includes('../lib/app/plugin.ts'), 'what is in them is seen')
    t.same(sources.filter(path => /^..\/lib\/(store\/(bullmq|pg-boss|engines)|dashboard|metrics|worker|store-tests)\//.test(path)), [])
    const packages = new Set(loaded.map(path => /^.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1]))
    const optional = Object.keys(manifest.peerDependencies).filter(peer => peer !== 'fastify')
    t.same([...optional, '@opentelemetry/api', 'cronstrue', 'pg'].filter(peer => packages.has(peer)), [])
    t.ok(packages.has('croner') && packages.has('fastify-plugin'), 'what its dependencies load is seen')
  })

  t.test('has maps that lead to sources in it', async t => {
    for (const file of files.filter(file => file.endsWith('.map'))) {
      const map = JSON.parse(await readFile(join(ours, file), 'utf8')) as { sourceRoot?: string, sources: string[] }
      const sources = map.sources.map(source => posix.join(posix.dirname(file), map.sourceRoot ?? '', source))
      t.same(sources.filter(source => !files.includes(source)), [], file)
    }
  })

  t.test('names no path of the machine that built it', async t => {
    const texts = await Promise.all(files.map(async file => await readFile(join(ours, file), 'utf8')))
    t.same(files.filter((_, i) => texts[i]?.includes(root)), [])
  })

  // What each program prints: the life of a service and of a hosted service, and that both module systems share one copy.
  const lived = ['start', 'service', 'ready', 'FST_BG_SHUTDOWN', 'stop']
  const lifecycle = `
    const seen = []
    let up
    const running = new Promise(resolve => { up = resolve })
    const declare = () => {
      app.addBackgroundTask('hosted', {
        start () { seen.push('start') },
        stop () { seen.push('stop') }
      })
      app.addBackgroundTask('service', async function ({ signal }) {
        seen.push('service')
        up()
        await new Promise(resolve => { signal.addEventListener('abort', resolve) })
        seen.push(signal.reason.code)
        if (!(signal.reason instanceof errorCodes.FST_BG_SHUTDOWN)) seen.push('another class')
      })
    }
    const live = async () => {
      await app.ready()
      await running
      seen.push('ready')
      await app.close()
      console.log(JSON.stringify(seen))
    }`

  t.test('works in CommonJS', async t => {
    t.same(await program(installed, 'program.cjs', `
      const app = require('fastify')()
      app.register(require('${name}'), { shutdownTimeout: '5s' })
      const { errorCodes } = require('${name}')
      ${lifecycle}
      app.after(declare)
      live()
    `), lived)
  })

  t.test('works as an ES module', async t => {
    t.same(await program(installed, 'program.mjs', `
      import Fastify from 'fastify'
      import backgroundTasks, { errorCodes } from '${name}'
      const app = Fastify()
      await app.register(backgroundTasks, { shutdownTimeout: '5s' })
      ${lifecycle}
      declare()
      await live()
    `), lived)
  })

  t.test('works in both at once', async t => {
    t.same(await program(installed, 'both.mjs', `
      import { createRequire } from 'node:module'
      import Fastify from 'fastify'
      import { errorCodes } from '${name}'
      const app = Fastify()
      await app.register(createRequire(import.meta.url)('${name}'))
      ${lifecycle}
      declare()
      await live()
    `), lived)
  })

  t.test('has errors whose stacks begin above its own frames', async t => {
    const stack = await program(installed, 'stack.mjs', `
      import Fastify from 'fastify'
      import backgroundTasks from '${name}'
      const app = Fastify()
      await app.register(backgroundTasks)
      const slow = app.addBackgroundTask('slow', { every: '1h', timeout: 1 }, async ({ signal }) => {
        await new Promise(resolve => { signal.addEventListener('abort', resolve) })
        signal.throwIfAborted()
      })
      await app.ready()
      const { error } = await slow.trigger().finished
      await app.close()
      console.log(JSON.stringify(error.stack))
    `) as string
    t.match(stack, /did not end within 1ms/)
    t.notMatch(stack.split('\n')[1] ?? '', new RegExp(name))
  })

  t.test('shows package.json and hides what is inside', async t => {
    t.same(await program(installed, 'inside.mjs', `
      import manifest from '${name}/package.json' with { type: 'json' }
      const codes = await Promise.all(['lib/index.ts', 'dist/index.js', 'dist/fastify-background-tasks.js']
        .map(path => import('${name}/' + path).then(() => 'found', error => error.code)))
      console.log(JSON.stringify([manifest.version, ...codes]))
    `), [manifest.version, ...Array<string>(3).fill('ERR_PACKAGE_PATH_NOT_EXPORTED')])
  })

  t.test('type-checks in an ES module and in CommonJS, module nodenext', async t => {
    // Without skipLibCheck, so that our own declarations are checked.
    t.equal(await typeCheck(installed, 'nodenext', { module: 'nodenext', skipLibCheck: false }, {
      'esm.mts': consumer,
      'commonjs.cts': `
        import Fastify = require('fastify')
        import backgroundTasks = require('${name}')
        import { errorCodes, type Run } from '${name}'
        export const app = Fastify()
        app.register(backgroundTasks.default, { shutdownTimeout: '5s' })
        app.register(backgroundTasks.backgroundTasks)
        app.addBackgroundTask('some', async function ({ signal, log }) {
          this.log.info(log.level)
          if (signal.reason instanceof errorCodes.FST_BG_SHUTDOWN) signal.reason.code satisfies 'FST_BG_SHUTDOWN'
        })
        export const tenantOf = (run: Run): string => run.tenant
      `,
      // Sees the decorators although nothing in it names the package.
      'elsewhere.mts': `
        import type { FastifyInstance } from 'fastify'
        export const states = (app: FastifyInstance): string[] => [...app.backgroundTasks].map(task => task.state)
      `
    }), '')
  })

  t.test('type-checks for a bundler', async t => {
    t.equal(await typeCheck(installed, 'bundler', { module: 'esnext', moduleResolution: 'bundler', skipLibCheck: true }, { 'app.ts': consumer }), '')
  })
})

/** What a TypeScript user writes. The mistakes in it show that the types are seen at all: an `any` would take them. */
const consumer = `
  import Fastify, { type FastifyInstance } from 'fastify'
  import backgroundTasks, { backgroundTasks as named, errorCodes, type BackgroundTask, type Run, type TaskHandler } from '${name}'

  declare module 'fastify' {
    interface FastifyInstance { broker: { subscribe (topic: string, options: { signal: AbortSignal }): AsyncIterable<{ id: number }> } }
  }
  // What onRun puts on every run.
  declare module '${name}' {
    interface Run { tenant: string }
  }

  export const app = Fastify()
  await app.register(named, {
    shutdownTimeout: process.env.TIMEOUT ?? '8s',
    onRun: async (run, next) => {
      run.tenant = 'acme'
      return await next()
    }
  })
  export const task: BackgroundTask = app.addBackgroundTask('consume', { grace: '1s' }, async function ({ signal, log, tenant }) {
    for await (const { id } of this.broker.subscribe('orders', { signal })) log.info({ id, tenant: tenant.toUpperCase() }, 'order')
  })
  app.addBackgroundTask('hosted', {
    async start (run) { this.log.info(run.server.prefix + run.tenant) },
    stop: ({ tenant }) => tenant
  })
  app.addBackgroundTask('typo', {
    // @ts-expect-error: enabled
    enable: true
  }, async () => {})
  // @ts-expect-error: undefined where there is no task of that name
  app.backgroundTasks.get('consume').state
  // @ts-expect-error: a text
  app.addBackgroundTask('augmented', async ({ tenant }) => tenant.toFixed())
  export const handler: TaskHandler = async run => { run.tenant satisfies string }
  export const reference = async (run: Run): Promise<string> => run.tenant
  app.addBackgroundTask('reference', reference)
  export const plugin = async (child: FastifyInstance): Promise<void> => { child.addBackgroundTask('child', handler) }
  await app.register(backgroundTasks)
  errorCodes.FST_BG_CLOSING satisfies new (...args: any[]) => Error
`

/** Packs what was built; prepack would build again, under the feet of the tests that run beside this one. */
async function pack (folder: string): Promise<{ files: string[], size: number }> {
  // npm is a script of the shell on Windows.
  const shell = process.platform === 'win32'
  const { stdout } = await run('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', shell ? `"${folder}"` : folder], { cwd: root, shell })
  // npm 12 prints an object with the name as its key, earlier ones an array.
  const [packed] = Object.values(JSON.parse(stdout) as Array<{ filename: string, size: number, files: Array<{ path: string }> }>)
  if (packed === undefined) throw new Error('npm packed nothing')
  return { files: packed.files.map(file => file.path).sort(), size: packed.size }
}

/** Installs the tarball as npm would; its declared dependencies, and no others, are those of this project. */
async function install (folder: string): Promise<string> {
  const installed = join(folder, 'app')
  const modules = join(installed, 'node_modules')
  await mkdir(modules, { recursive: true })
  const tarball = `${name}-${manifest.version}.tgz`
  const ours = join(modules, name)
  await mkdir(ours)
  // A relative path: the tar of a Windows shell takes C: for a host.
  await run('tar', ['-xzf', `../../../${tarball}`, '--strip-components=1'], { cwd: ours })
  for (const dependency of [...Object.keys(manifest.dependencies), ...Object.keys(manifest.peerDependencies), '@types/node']) {
    await mkdir(dirname(join(modules, dependency)), { recursive: true })
    await symlink(join(root, 'node_modules', dependency), join(modules, dependency), 'junction')
  }
  return installed
}

/** Runs a program in the folder; returns the JSON that it prints. A warning on stderr is a failure. */
async function program (folder: string, file: string, text: string): Promise<unknown> {
  await writeFile(join(folder, file), text)
  const { stdout, stderr } = await run(process.execPath, [file], { cwd: folder })
  if (stderr !== '') throw new Error(stderr)
  return JSON.parse(stdout)
}

/** Checks a TypeScript project in the folder; returns what tsc says. */
async function typeCheck (folder: string, project: string, options: object, files: Record<string, string>): Promise<string> {
  const compilerOptions = { target: 'es2023', lib: ['es2023'], types: ['node'], noEmit: true, strict: true, exactOptionalPropertyTypes: true, ...options }
  await mkdir(join(folder, project))
  await writeFile(join(folder, project, 'tsconfig.json'), JSON.stringify({ compilerOptions }))
  for (const [file, text] of Object.entries(files)) await writeFile(join(folder, project, file), text)
  const tsc = run(process.execPath, [require.resolve('typescript/bin/tsc'), '-p', project], { cwd: folder })
  return await tsc.then(({ stdout }) => stdout, ({ stdout }: { stdout: string }) => stdout)
}
