// Bad input of worker(): what is refused at the call, and what fails the run.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { build, refusal, rejection } from '../support/helper.ts'
import { job, moduleOf, once } from '../support/worker.ts'
import { worker } from '../../lib/worker/index.ts'

const call = worker as (...given: unknown[]) => unknown

t.test('what is no URL of a file is refused at the call', async t => {
  for (const [given, message] of [
    [undefined, /^worker\(\) takes the URL of a module; received undefined\. Pass new URL\('\.\/file\.js', import\.meta\.url\), or pathToFileURL\(path\) in CommonJS\.$/],
    ['./job.js', /received '\.\/job\.js'/],
    [{}, /received \{\}/],
    [() => {}, /received \[Function/],
    [new URL('https://example.com/job.js'), /^worker\(\) takes the URL of a file; received 'https:\/\/example\.com\/job\.js'/],
    [new URL('data:text/javascript,'), /takes the URL of a file/],
    [new URL('file:///a%2Fb.js'), /takes the URL of a file; received 'file:\/\/\/a%2Fb\.js': /],
    [moduleOf('none.js'), /^worker\(\): there is no file .*none\.js\. The URL is relative to the file that names it; a bundler has to be told to build the module of a worker as well\.$/],
    [new URL('../../test/fixtures/worker/jobs.js', import.meta.url), /^worker\(\): there is no file .*jobs\.js\. There is .*jobs\.ts: name that one where Node runs TypeScript itself, or compile it\.$/],
    [moduleOf('.'), /^worker\(\): this is no file: /]
  ] as const) {
    t.match(refusal(() => call(given)), { code: 'FST_BG_INVALID_OPTION', message }, String(given))
  }
})

t.test('wrong options are refused at the call, with a suggestion', async t => {
  for (const [options, message] of [
    [{ thread: 2 }, /^worker\(\) of .*jobs\.js: unknown option "thread"\. Did you mean "threads"\? It takes threads, killAfter, memory\.$/],
    [{ threads: 0 }, /option "threads" must be a whole number from 1; received 0\.$/],
    [{ threads: 1.5 }, /"threads"/],
    [{ threads: '2' }, /"threads"/],
    [{ memory: 0 }, /"memory" must be a whole number from 1; received 0/],
    [{ memory: Infinity }, /"memory"/],
    [{ killAfter: -1 }, /"killAfter"/],
    [{ killAfter: 'soon' }, /"killAfter"/],
    [null, /options must be an object; received null/],
    [2, /options must be an object; received 2/]
  ] as const) {
    t.match(refusal(() => call(moduleOf('jobs.js'), options)), { code: 'FST_BG_INVALID_OPTION', message }, JSON.stringify(options))
  }
  t.doesNotThrow(() => call(moduleOf('jobs.js'), { threads: undefined, killAfter: '1m', memory: 64 }))
})

t.test('an export that is not there or no function fails the run, and says what there is', async t => {
  const { app } = await build(t)
  await app.ready()
  t.match((await once(app, 'none', job('none'))).error, { code: 'FST_BG_INVALID_OPTION', message: /^The worker .*jobs\.js of "none" has no export "none"\. It exports "abort", .*\. Export a function under that name, or name another one in the URL: new URL\('\.\/file\.js#name', import\.meta\.url\)\.$/ })
  t.match((await once(app, 'number', job('number'))).error, { code: 'FST_BG_INVALID_OPTION', message: /exports "number", which is no function but 3\. It exports/ })
  t.match((await once(app, 'default', worker(moduleOf('number.js')))).error, { code: 'FST_BG_INVALID_OPTION', message: /exports "default", which is no function but 3\. It exports "default"\./ })
  t.match(await once(app, 'good', job('where')), { outcome: 'succeeded' }, 'and the thread goes on')
})

t.test('a module that cannot be loaded fails the run, with the error as its cause', async t => {
  const { app } = await build(t)
  const folder = await mkdtemp(join(tmpdir(), 'worker-'))
  t.teardown(async () => { await rm(folder, { recursive: true }) })
  await app.ready()
  for (const [name, text, expected] of [
    ['syntax.mjs', 'export default () => {\n  const = 1\n}\n', { message: /syntax\.mjs of "syntax\.mjs" cannot be loaded: .*Unexpected token/, cause: { name: 'SyntaxError' } }],
    ['throws.mjs', 'throw Object.assign(new Error("on load"), { code: "E_LOAD" })', { message: /cannot be loaded: on load\.$/, cause: { message: 'on load', code: 'E_LOAD' } }],
    ['imports.mjs', 'import "./nowhere.mjs"', { message: /cannot be loaded: Cannot find module/, cause: { message: /nowhere/ } }]
  ] as const) {
    const file = join(folder, name)
    await writeFile(file, text)
    t.match(await once(app, name, worker(pathToFileURL(file))), { outcome: 'failed', error: { code: 'FST_BG_INVALID_OPTION', ...expected } }, name)
  }
})

t.test('a run without a server is refused', async t => {
  const handler = job('where') as (run: object) => Promise<unknown>
  t.match(await rejection(async () => await handler({ task: 'some' })), { code: 'FST_BG_INVALID_OPTION', message: 'A worker() of "some" was called with a run that has no "server" with fastify-background-tasks. Pass the run that your handler got.' })
})
