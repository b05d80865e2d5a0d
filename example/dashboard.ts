// What the dashboard of the example shows: tasks of every kind, some of which fail now and then. server.ts registers it.
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import type { Run } from 'fastify-background-tasks'
import dashboard from 'fastify-background-tasks/dashboard'

interface Invoice { tenant: string, amount: number }

/** Tells how far it is. */
async function inSteps (steps: number, ms: number, { signal, progress }: Pick<Run, 'signal' | 'progress'>): Promise<void> {
  for (let i = 0; i < steps; i++) {
    progress(i / steps)
    await sleep(ms, undefined, { signal })
  }
  progress(1)
}

export default async function demo (app: FastifyInstance): Promise<void> {
  app.addBackgroundTask('purge-sessions', { every: '5s' }, async () => {
    await sleep(50 + Math.random() * 300)
    return Math.floor(Math.random() * 20)
  })

  app.addBackgroundTask('nightly-report', { cron: '0 2 * * *', timezone: 'Asia/Seoul', retry: 3 }, async run => { await inSteps(20, 500, run) })

  app.addBackgroundTask('rebuild-index', { every: '40s', immediate: true }, async run => { await inSteps(60, 500, run) })

  app.addBackgroundTask('sync-prices', { every: '7s', retry: { limit: 1, delay: '500ms' } }, async ({ log }) => {
    await sleep(200 + Math.random() * 800)
    if (Math.random() < 0.4) throw Object.assign(new Error('the price service answered 503'), { code: 'E_PRICES' })
    log.info('prices synchronised')
  })

  // A flaky service: it is restarted after each failure.
  app.addBackgroundTask('read-sensor', { restart: { maxDelay: '10s' } }, async ({ signal }) => {
    await sleep(25_000 + Math.random() * 30_000, undefined, { signal })
    throw new Error('the sensor has hung up')
  })

  const invoices = app.addBackgroundQueue('invoices', { concurrency: 3, retry: { limit: 1, delay: '2s' } }, async (run: Run<Invoice>) => {
    const { payload: { tenant, amount } } = run
    await inSteps(20, 200 + Math.random() * 200, run)
    if (tenant === 'initech' && Math.random() < 0.6) throw new Error(`the printer of ${tenant} is out of paper`)
    return { number: Math.floor(Math.random() * 1e6), amount }
  })

  // A schedule for each tenant, as data that can change at any time.
  app.addHook('onReady', async () => {
    for (const tenant of ['acme', 'globex', 'initech']) {
      await invoices.schedule(`monthly-${tenant}`, { cron: '0 6 1 * *', timezone: 'Europe/Berlin', payload: { tenant, amount: 0 } })
      await invoices.schedule(`trial-${tenant}`, { every: '12s', payload: { tenant, amount: Math.round(Math.random() * 10_000) / 100 }, overlap: 'allow' })
    }
    await invoices.enqueueMany(['acme', 'globex', 'initech', 'umbrella', 'hooli'].map(tenant => ({ payload: { tenant, amount: 99 }, key: `first-${tenant}` })))
  })

  app.get('/health', async () => await app.backgroundTasks.health())

  // The example listens on loopback only. What others can reach needs an `authorize`: docs/dashboard.md has recipes.
  await app.register(dashboard, { prefix: '/dashboard', authorize: false, redact: (payload, task) => task === 'mails' ? '(private)' : payload })
}
