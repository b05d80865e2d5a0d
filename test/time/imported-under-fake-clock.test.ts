// The package is loaded while node:test's clock is installed, as in a test file that enables it first.
import { mock } from 'node:test'
import t from 'tap'

mock.timers.enable({ apis: ['setTimeout', 'Date'] })
const { default: Fastify } = await import('fastify')
const { default: backgroundTasks } = await import('../../lib/index.ts')

t.test('eight ticks of ten minutes are eight runs, also of a task that is declared later', async t => {
  t.teardown(() => { mock.timers.reset() })
  const app = Fastify()
  await app.register(backgroundTasks)
  const early = app.addBackgroundTask('early', { every: '10m' }, async () => {})
  await app.ready()
  const late = app.addBackgroundTask('late', { every: '10m' }, async () => {})
  for (let i = 1; i <= 8; i++) {
    mock.timers.tick(600_000)
    await app.backgroundTasks.drain()
    t.same([early.stats.succeeded, late.stats.succeeded], [i, i])
  }
  await app.close()
})
