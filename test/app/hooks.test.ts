// The places of tasks in the boot order of the server, however many there are.
import type { FastifyInstance } from 'fastify'
import fastifyPlugin from 'fastify-plugin'
import t from 'tap'
import type { TaskHandler } from '../../lib/index.ts'
import { aborted, build, deferred, type Deferred } from '../support/helper.ts'

/** What is opened and closed with an instance. */
function open (app: FastifyInstance, name: string, events: string[]): void {
  app.addHook('onReady', async () => {
    await new Promise(resolve => { setImmediate(resolve) })
    events.push(`${name} opened`)
  })
  app.addHook('onClose', async () => { events.push(`${name} closed`) })
}

t.test('ten thousand services boot and close', async t => {
  const { app } = await build(t, {}, { logger: false })
  let began = 0
  let ended = 0
  const all = deferred()
  for (let i = 0; i < 10_000; i++) {
    app.addBackgroundTask(`task ${i}`, async ({ signal }) => {
      if (++began === 10_000) all.resolve()
      await aborted(signal)
      ended++
    })
  }
  await app.ready()
  await all.promise
  await app.close()
  t.equal(began, 10_000)
  t.equal(ended, 10_000)
})

t.test('ten thousand tasks boot and close also where they are declared one by one, with something in between', async t => {
  const { app } = await build(t, {}, { logger: false })
  const counts = { service: 0, hosted: 0 }
  const all = deferred()
  for (let i = 0; i < 10_000; i++) {
    await Promise.resolve()
    app.addBackgroundTask(`service ${i}`, async ({ signal }) => {
      if (++counts.service === 10_000) all.resolve()
      await aborted(signal)
      counts.service--
    })
    if (i % 10 === 0) app.addBackgroundTask(`hosted ${i}`, { start () { counts.hosted++ }, stop () { counts.hosted-- } })
  }
  await app.ready()
  await all.promise
  t.same(counts, { service: 10_000, hosted: 1_000 })
  await app.close()
  t.same(counts, { service: 0, hosted: 0 })
})

t.test('however many tasks there are, each starts after what was registered before its owner', async t => {
  const { app } = await build(t, {}, { logger: false })
  const events: string[] = []
  for (let i = 0; i < 600; i++) app.addBackgroundTask(`root ${i}`, async () => {})
  await app.register(fastifyPlugin(async app => { open(app, 'database', events) }))
  const called = deferred()
  app.register(async child => {
    for (let i = 0; i < 20; i++) {
      child.addBackgroundTask(`child ${i}`, async ({ signal }) => {
        if (i === 19) called.resolve()
        if (i === 0) events.push('first of the child')
        await aborted(signal)
        await new Promise(resolve => { setImmediate(resolve) })
        if (i === 0) events.push('first of the child ended')
      })
    }
  })
  await app.ready()
  await called.promise
  await app.close()
  t.same(events, ['database opened', 'first of the child', 'first of the child ended', 'database closed'])
})

/** A handler that works until it is told to end, and then takes a moment. */
function working (name: string, events: string[], begun: Deferred<void>): TaskHandler {
  return async ({ signal }) => {
    events.push(`${name} begins`)
    begun.resolve()
    await aborted(signal)
    await new Promise(resolve => { setImmediate(resolve) })
    events.push(`${name} ended`)
  }
}

for (const [what, count] of [['a few', 10], ['as many as have hooks of their own', 200], ['more', 450]] as const) {
  for (const where of ['the same instance', 'a child']) {
    t.test(`with ${what} timed tasks before it, a service of ${where} begins and ends in its place, in one go with what it uses`, async t => {
      const { app } = await build(t)
      const events: string[] = []
      const begun = deferred()
      for (let i = 0; i < count; i++) app.addBackgroundTask(`task ${i}`, { every: '1h' }, () => {})
      const declare = async (owner: FastifyInstance): Promise<void> => {
        owner.addBackgroundTask('before', { every: '1h' }, () => {})
        open(owner, 'database', events)
        owner.addBackgroundTask('service', working('service', events, begun))
        open(owner, 'cache', events)
      }
      if (where === 'a child') app.register(declare)
      else await declare(app)
      await app.ready()
      await begun.promise
      await app.close()
      t.same(events.filter(event => !event.startsWith('cache')), ['database opened', 'service begins', 'service ended', 'database closed'])
      t.ok(events.indexOf('cache closed') < events.indexOf('service ended'))
    })
  }
}

t.test('a timed task among hundreds of a plugin of its own has its place too', async t => {
  const { app } = await build(t)
  const events: string[] = []
  const begun = deferred()
  for (let i = 0; i < 450; i++) app.addBackgroundTask(`task ${i}`, { every: '1h' }, () => {})
  app.register(async child => {
    open(child, 'database', events)
    child.addBackgroundTask('timed', { every: '1h', immediate: true }, working('run', events, begun))
    open(child, 'cache', events)
  })
  await app.ready()
  await begun.promise
  await app.close()
  t.same(events.filter(event => event !== 'cache opened'), ['database opened', 'run begins', 'cache closed', 'run ended', 'database closed'])
})
