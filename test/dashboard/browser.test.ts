// The pages in a real browser: what an operator sees and does there.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import type { DashboardOptions } from '../../lib/dashboard/index.ts'
import type { BackgroundQueue } from '../../lib/index.ts'
import { type Browser, browse, needsBrowser, type Page } from '../support/browser.ts'
import { withDashboard } from '../support/dashboard.ts'
import { turns } from '../support/fakes.ts'
import { deferred } from '../support/helper.ts'
import { evil } from '../support/evil.ts'

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

let browser: Browser
t.before(async () => { if (needsBrowser.skip === undefined) browser = await browse(t) })

interface Site {
  app: FastifyInstance
  address: string
  /** Opens a page, and fails the test for what the browser complains about. */
  open (hash?: string, options?: { dark?: boolean, width?: number }): Promise<Page>
  /** Lets the runs go on that wait. */
  end (): void
  mails: BackgroundQueue
}

/** An application with a task of every kind, some well and some not. */
async function site (t: Test, options: Partial<DashboardOptions> = {}): Promise<Site> {
  const { app } = await withDashboard(t, options)
  const waits = deferred()
  app.addBackgroundTask('purge', { every: '1h' }, async () => {})
  app.addBackgroundTask('report', { cron: '0 2 * * *', timezone: 'Asia/Seoul' }, async ({ progress }) => {
    progress(0.4)
    await waits.promise
  })
  app.addBackgroundTask('prices', { every: '1h' }, async () => { throw Object.assign(new Error('the price service is away'), { code: 'E_PRICES' }) })
  app.addBackgroundTask('sensor', { restart: 'never', onGiveUp: 'log' }, async () => { throw new Error('the sensor has hung up') })
  app.addBackgroundTask('listener', async ({ signal }) => { await new Promise(resolve => { signal.addEventListener('abort', resolve) }) })
  app.addBackgroundTask('cache', { start () {} })
  const mails = app.addBackgroundQueue('mails', async (run: { payload: { to: string } }) => {
    if (run.payload.to !== 'fine') throw new Error(`no mailbox ${run.payload.to}`)
    return { sent: true }
  }) as unknown as BackgroundQueue
  const address = await app.listen({ port: 0 })
  await mails.schedule('tenant-1', { cron: '0 7 * * MON-FRI', timezone: 'Europe/Berlin', payload: { tenant: 1 } })
  await mails.enqueueMany(['a', 'b', 'c', 'fine'].map(to => ({ payload: { to }, key: `key-${to}` })))
  await mails.drain()
  await app.backgroundTasks.get('prices')?.trigger().finished
  app.backgroundTasks.get('report')?.trigger()
  while (app.backgroundTasks.get('sensor')?.state !== 'failed' || app.backgroundTasks.get('report')?.activeRuns[0]?.progress === undefined) await turns()
  t.teardown(() => { waits.resolve() })
  return {
    app,
    address,
    mails,
    end: () => { waits.resolve() },
    async open (hash = '#/', { dark = false, width = 1200 } = {}) {
      const page = await browser.newPage({ colorScheme: dark ? 'dark' : 'light', viewport: { width, height: 800 }, locale: 'en', timezoneId: 'America/New_York' })
      t.teardown(async () => { await page.close() })
      page.on('pageerror', error => { t.fail(`the page throws: ${error.message}`) })
      page.on('console', message => { if (message.type() === 'error' && !/Failed to load resource/.test(message.text())) t.fail(`the console says: ${message.text()}`) })
      await page.goto(`${address}/tasks/${hash}`)
      await page.locator('main h1').first().waitFor()
      return page
    }
  }
}

const text = async (page: Page, selector = 'main'): Promise<string> => await page.locator(selector).first().innerText()
const said = async (page: Page, wanted: RegExp): Promise<void> => { await page.locator('#said', { hasText: wanted }).waitFor() }

t.test('the overview says in one line whether all is well, and what is not', needsBrowser, async t => {
  const { open } = await site(t)
  const page = await open()
  // More may be degraded: a machine under load blocks the event loop while runs are active, which health remembers.
  t.match(await text(page, 'h1'), /^1 task is failing, (1 task is|\d tasks are) degraded$/)
  const all = await text(page)
  for (const wanted of ['failed for good', 'the last run failed', 'Running now', 'report', '40 %', 'the sensor has hung up', 'the price service is away', '3 failed', 'runs by minute, in this process']) t.ok(all.includes(wanted), wanted)
  t.match(await text(page, 'footer'), new RegExp(`process ${process.pid}.*Node ${process.version}.*up .*event loop delay`, 's'), 'which process answers')
  t.match(await page.title(), /^\(failing\) Overview/)
})

t.test('tasks: state, schedule in words, next run in both zones, last run, strip; filtered and searched', needsBrowser, async t => {
  const { open } = await site(t)
  const page = await open('#/tasks')
  const row = (name: string) => page.locator('.task', { has: page.locator(`h2 a:text-is("${name}")`) })
  const report = await row('report').innerText()
  for (const wanted of ['running', 'At 02:00', 'Asia/Seoul', '2:00:00', 'here']) t.ok(report.includes(wanted), wanted)
  t.equal(await row('prices').locator('svg.strip').getAttribute('aria-label'), 'Last 1 run: 1 failed')
  t.ok((await row('purge').innerText()).includes('every hour'))
  await page.getByRole('button', { name: 'failing' }).click()
  await page.locator('.task').nth(1).waitFor({ state: 'detached' })
  t.ok(await row('sensor').isVisible())
  await page.getByRole('button', { name: 'all', exact: true }).click()
  await page.getByLabel('Search tasks by name').pressSequentially('LISTEN')
  await page.locator('.task').nth(1).waitFor({ state: 'detached' })
  t.ok(await row('listener').isVisible())
  t.equal(await page.getByLabel('Search tasks by name').inputValue(), 'LISTEN', 'what was typed stays while the page goes on')
})

t.test('a task: next five runs, active run, history, error with stack, options', needsBrowser, async t => {
  const { app, open } = await site(t)
  const page = await open('#/tasks/report')
  t.equal(await page.locator('ol.rows li').count(), 5)
  const all = await text(page)
  for (const wanted of ['At 02:00', '0 2 * * *', 'Asia/Seoul', 'America/New_York', '40 %', 'Options in effect']) t.ok(all.includes(wanted), wanted)
  await page.goto(page.url().replace('report', 'prices'))
  await page.locator('h1:text-is("prices")').waitFor()
  await page.getByText('Stack', { exact: true }).click()
  await page.locator('pre', { hasText: 'Error: the price service is away' }).waitFor()
  t.match(await text(page), /p50 and p95 of the last 1 run, in this process/)
  const id = app.backgroundTasks.get('prices')?.lastRun?.id as string
  await page.locator(`a:has-text("${id}")`).click()
  await page.locator('h1:has-text("Run of prices")').waitFor()
  t.match(await text(page), /E_PRICES/)
})

t.test('a queue: counts, runs by state, search, schedules; and a run in full', needsBrowser, async t => {
  const { open } = await site(t)
  const page = await open('#/queues/mails')
  const all = await text(page)
  for (const wanted of ['no mailbox a', 'no mailbox b', 'key key-c', 'tenant-1', 'At 07:00, Monday through Friday', 'of all processes that share it']) t.ok(all.includes(wanted), wanted)
  await page.getByLabel('Search runs by id, key or error').fill('mailbox b')
  await page.locator('section[aria-label^=Runs] .rows > li').nth(1).waitFor({ state: 'detached' })
  await page.getByLabel('Search runs by id, key or error').fill('')
  await page.getByRole('button', { name: /^succeeded/ }).click()
  await page.locator('section[aria-label="Runs: succeeded"] a').click()
  await page.locator('h1:has-text("Run of mails")').waitFor()
  const run = await text(page)
  for (const wanted of ['enqueued', 'attempt 1 began', 'succeeded', '"to": "fine"', '"sent": true', 'key-fine']) t.ok(run.includes(wanted), wanted)
})

t.test('actions on a task: run now, pause, resume, stop with a question, start', needsBrowser, async t => {
  const { app, open } = await site(t)
  const page = await open('#/tasks/purge')
  const task = app.backgroundTasks.get('purge')
  await page.getByRole('button', { name: 'Run now' }).click()
  await said(page, /A run of "purge" has been started/)
  t.equal(task?.stats.succeeded, 1)
  await page.getByRole('button', { name: 'Pause' }).click()
  await said(page, /"purge" is paused/)
  await page.getByRole('button', { name: 'Resume' }).click()
  await said(page, /"purge" goes on/)
  await page.getByRole('button', { name: 'Stop' }).click()
  await page.getByRole('button', { name: 'Leave it' }).click()
  t.equal(task?.state, 'idle', 'nothing is done without a yes')
  await page.getByRole('button', { name: 'Stop' }).click()
  await page.locator('dialog').getByRole('button', { name: 'Stop' }).click()
  await said(page, /"purge" has stopped/)
  t.equal(task?.state, 'stopped')
  await page.getByRole('button', { name: 'Start' }).click()
  await said(page, /"purge" has been started/)
  t.equal(task?.state, 'idle')
})

t.test('actions on runs: what destroys asks first, with the number it concerns', needsBrowser, async t => {
  const { app, mails, open, end } = await site(t)
  const page = await open('#/queues/mails')
  await mails.pause()
  await page.getByRole('button', { name: /^Retry: run/ }).first().click()
  await said(page, /waits for a further attempt/)
  t.match(await mails.counts(), { waiting: 1, failed: 2 })
  await page.getByRole('button', { name: /^Remove: run/ }).first().click()
  await page.getByRole('button', { name: 'Remove 1 run' }).click()
  await said(page, /has been removed/)
  t.match(await mails.counts(), { failed: 1 })
  await page.getByRole('button', { name: /^Retry all failed/ }).click()
  await page.getByRole('button', { name: 'Retry 1 run' }).click()
  await said(page, /1 run of "mails" waits/)
  await page.getByRole('button', { name: /^waiting/ }).click()
  await page.getByRole('button', { name: /^Clear waiting/ }).click()
  t.equal(await text(page, 'dialog p'), 'Remove 2 runs of "mails" that are waiting? They cannot be brought back.')
  await page.getByRole('button', { name: 'Remove 2 runs' }).click()
  await said(page, /2 runs that were waiting have been removed/)
  t.match(await mails.counts(), { waiting: 0, failed: 0 })

  await page.goto(page.url().replace(/#.*/, '#/tasks/report'))
  await page.locator('h1:text-is("report")').waitFor()
  await page.getByRole('button', { name: /^Cancel: run/ }).click()
  await page.getByRole('button', { name: 'Cancel the run' }).click()
  // Not before it has arrived: a run that has ended cannot be cancelled.
  await said(page, /has been told/)
  end()
  while (app.backgroundTasks.get('report')?.activeRuns.length !== 0) await turns()
})

t.test('an action that comes too late is a sentence', needsBrowser, async t => {
  const { mails, open } = await site(t)
  const page = await open('#/queues/mails')
  const [run] = (await mails.list({ state: 'failed' })).runs
  const button = page.locator(`li[data-key="${run?.id as string}"]`).getByRole('button', { name: /^Retry/ })
  await button.waitFor()
  await mails.remove(run?.id as string)
  await button.click()
  await page.locator('#said.failed', { hasText: 'has no run' }).waitFor()
  t.equal(await text(page, 'h1'), 'mails')
})

t.test('who may only look has no buttons that act', needsBrowser, async t => {
  const { open } = await site(t, { authorize: () => ({ access: 'read', name: 'ada' }) })
  for (const hash of ['#/', '#/tasks', '#/tasks/purge', '#/queues/mails']) {
    const page = await open(hash)
    await page.locator('header', { hasText: 'read only' }).waitFor()
    t.equal(await page.locator('.actions button').count(), 0, hash)
    await page.locator('footer', { hasText: 'you are ada' }).waitFor()
  }
})

t.test('the page changes without a reload', needsBrowser, async t => {
  const { app, open } = await site(t)
  const page = await open()
  await page.evaluate('window.same = true')
  await page.locator('.connection', { hasText: 'live' }).waitFor()
  app.addBackgroundTask('late', { restart: 'never', onGiveUp: 'log' }, async () => { throw new Error('it is late') })
  await page.locator('h1:has-text("2 tasks are failing")').waitFor()
  await page.locator('main', { hasText: 'it is late' }).waitFor()
  t.equal(await page.evaluate('window.same'), true)
})

t.test('the server closes while the page is open, within a second, and comes back', needsBrowser, async t => {
  const first = await site(t)
  const pages = await Promise.all([0, 1, 2, 3, 4].map(async () => await first.open()))
  await Promise.all(pages.map(async page => { await page.locator('.connection', { hasText: 'live' }).waitFor() }))
  const port = Number(new URL(first.address).port)
  first.end()
  const began = performance.now()
  await first.app.close()
  const took = performance.now() - began
  t.ok(took < 1_000, `close took ${took} ms`)
  const [page] = pages as [Page]
  await page.locator('main [role=alert]', { hasText: 'The server does not answer' }).waitFor()
  t.ok((await text(page)).includes('the sensor has hung up'), 'what was known stays')
  const { app } = await withDashboard(t)
  app.addBackgroundTask('alone', { every: '1h' }, async () => {})
  await app.listen({ port })
  await page.locator('h1', { hasText: /^(The|1) task is/ }).waitFor()
  await page.locator('.connection', { hasText: 'live' }).waitFor()
  t.equal(await page.locator('main [role=alert]').count(), 0)
})

t.test('by the keyboard alone: find a task, pause it, leave a dialog', needsBrowser, async t => {
  const { app, open } = await site(t)
  const page = await open()
  const focused = async (): Promise<string> => await page.evaluate('document.activeElement.getAttribute("aria-label") || document.activeElement.textContent') as string
  const tabTo = async (wanted: RegExp): Promise<void> => {
    for (let i = 0; i < 80; i++) {
      await page.keyboard.press('Tab')
      if (wanted.test(await focused())) return
    }
    throw new Error(`the keyboard does not reach ${String(wanted)}`)
  }
  await page.evaluate('document.activeElement.blur()')
  await tabTo(/^Tasks$/)
  await page.keyboard.press('Enter')
  await page.locator('h1:has-text("Tasks")').waitFor()
  await page.locator('h1:focus').waitFor()
  await tabTo(/^purge$/)
  await page.keyboard.press('Enter')
  await page.locator('h1:text-is("purge")').waitFor()
  await page.locator('h1:focus').waitFor()
  await tabTo(/^Pause: purge$/)
  await page.keyboard.press('Enter')
  await said(page, /"purge" is paused/)
  t.equal(app.backgroundTasks.get('purge')?.state, 'paused')
  await tabTo(/^Stop: purge$/)
  await page.keyboard.press('Enter')
  await page.locator('dialog[open]').waitFor()
  t.equal(await focused(), 'Leave it', 'the harmless button has the focus')
  await page.keyboard.press('Escape')
  await page.locator('dialog').waitFor({ state: 'detached' })
  t.equal(app.backgroundTasks.get('purge')?.state, 'paused')
  t.match(await focused(), /^Stop: purge$/, 'the focus is where it was')
})

t.test('at 360 px nothing stands beside the screen', needsBrowser, async t => {
  const { app, open, mails } = await site(t)
  app.addBackgroundTask('a-name-that-is-long-and-has-no-space-'.repeat(3).slice(0, 100), { every: '1h' }, async () => {})
  const [run] = (await mails.list({ state: 'failed' })).runs
  for (const hash of ['#/', '#/tasks', '#/tasks/report', '#/tasks/prices', '#/queues/mails', `#/queues/mails/runs/${run?.id as string}`]) {
    const page = await open(hash, { width: 360 })
    t.equal(await page.evaluate('document.documentElement.scrollWidth'), 360, hash)
  }
})

t.test('it is dark where the viewer likes that', needsBrowser, async t => {
  const { open } = await site(t)
  const colour = async (dark: boolean): Promise<number[]> => {
    const page = await open('#/', { dark })
    return (await page.evaluate('getComputedStyle(document.body).backgroundColor') as string).match(/\d+/g)?.map(Number) ?? []
  }
  t.ok((await colour(false)).every(part => part > 200))
  t.ok((await colour(true)).every(part => part < 60))
})

t.test('axe finds nothing serious on any page, light or dark, wide or narrow', needsBrowser, async t => {
  const { app, mails, open } = await site(t)
  const [run] = (await mails.list({ state: 'failed' })).runs
  const id = app.backgroundTasks.get('prices')?.lastRun?.id as string
  for (const dark of [false, true]) {
    for (const hash of ['#/', '#/tasks', '#/tasks/report', '#/tasks/sensor', `#/tasks/prices/runs/${id}`, '#/queues/mails', '#/queues/mails?state=waiting', `#/queues/mails/runs/${run?.id as string}`, '#/tasks/nothing']) {
      const page = await open(hash, { dark, width: dark ? 360 : 1200 })
      if (hash === '#/tasks/report') await page.getByText('Options in effect').click()
      await page.evaluate(axe)
      const found = await page.evaluate('axe.run().then(({ violations }) => violations.filter(({ impact }) => impact === "serious" || impact === "critical").map(({ id, nodes }) => id + ": " + nodes.map(node => node.html).slice(0, 3).join(" ")))')
      t.same(found, [], `${hash} ${dark ? 'dark' : 'light'}`)
    }
  }
})

t.test('script in every field is text', needsBrowser, async t => {
  const { app } = await withDashboard(t)
  const end = deferred()
  for (const name of evil) {
    app.addBackgroundTask(name, { every: '1h' }, async () => { throw Object.assign(new Error(name), { name, code: name }) })
    app.addBackgroundQueue(`queue ${name}`, async ({ progress, payload }: { progress (value: object): void, payload: unknown }) => {
      progress({ [name]: name })
      if (payload === name) throw Object.assign(new Error(name), { name, code: name })
      await end.promise
      return name
    })
  }
  const address = await app.listen({ port: 0 })
  const page = await browser.newPage()
  t.teardown(async () => { await page.close() })
  let alerts = 0
  page.on('dialog', dialog => { alerts++; void dialog.dismiss() })
  page.on('pageerror', error => { t.fail(error.message) })
  for (const name of evil) {
    await app.backgroundTasks.get(name)?.trigger().finished
    const queue = app.backgroundTasks.get(`queue ${name}`) as BackgroundQueue
    await queue.enqueue(name, { key: name, reqId: name })
    await queue.drain()
    await queue.enqueue({ [name]: name }, { key: name })
    await queue.schedule(name, { every: '1h', payload: name })
  }
  const marked = async (): Promise<unknown> => await page.evaluate('[document.querySelectorAll("main script, main img, main iframe, main [onerror]").length, document.querySelectorAll("script").length]')
  for (const hash of ['#/', '#/tasks', ...evil.flatMap(name => [`#/tasks/${encoded(name)}`, `#/queues/${encoded(`queue ${name}`)}`, `#/queues/${encoded(`queue ${name}`)}?state=active`])]) {
    await page.goto(`${address}/tasks/${hash}`)
    await page.locator('main h1').first().waitFor()
    t.same(await marked(), [0, 1], hash)
  }
  await page.goto(`${address}/tasks/#/tasks/${encoded(evil[0] as string)}`)
  await page.locator('h1', { hasText: evil[0] as string }).waitFor()
  t.match(await text(page), evil[0] as string)
  t.equal(alerts, 0)
  end.resolve()
})

t.test('where there is nothing yet, the page teaches with code', needsBrowser, async t => {
  const { app } = await withDashboard(t)
  const address = await app.listen({ port: 0 })
  const page = await browser.newPage()
  t.teardown(async () => { await page.close() })
  await page.goto(`${address}/tasks/`)
  await page.locator('pre', { hasText: 'app.addBackgroundTask(' }).waitFor()
  app.addBackgroundQueue('mails', async () => {})
  await page.goto(`${address}/tasks/#/queues/mails?state=waiting`)
  await page.locator('pre', { hasText: '.enqueue(' }).waitFor()
  await page.locator('pre', { hasText: 'queue.schedule(' }).waitFor()
  await page.goto(`${address}/tasks/#/tasks/nothing`)
  await page.locator('h1:text-is("Not found")').waitFor()
  await page.locator('main', { hasText: 'There is no background task "nothing".' }).waitFor()
})

t.test('behind a proxy that strips a part of the path', needsBrowser, async t => {
  const { address } = await site(t)
  const { default: Fastify } = await import('fastify')
  const proxy = Fastify()
  t.teardown(async () => { await proxy.close() })
  proxy.all('/public/*', async (request, reply) => {
    const { status, headers, body } = await fetch(address + request.url.replace('/public', ''), { redirect: 'manual' })
    reply.code(status)
    for (const name of ['content-type', 'location', 'content-security-policy']) if (headers.get(name) !== null) reply.header(name, headers.get(name))
    return await reply.send(body === null ? '' : (await import('node:stream')).Readable.fromWeb(body as never))
  })
  const front = await proxy.listen({ port: 0 })
  const page = await browser.newPage()
  await page.goto(`${front}/public/tasks`)
  await page.locator('h1:has-text("failing")').waitFor()
  await page.locator('.connection', { hasText: 'live' }).waitFor()
  t.equal(new URL(page.url()).pathname, '/public/tasks/')
  await page.close()
})

function encoded (name: string): string {
  return encodeURIComponent(name.replaceAll(/[\uD800-\uDBFF](?![\uDC00-\uDFFF])/g, '\uFFFD'))
}
