// A task that fails is tried again: a service is restarted, a run is retried. When that does not help, it is given up, and
// somebody hears of it. `health` says how all tasks are: what failed is degraded until it succeeds again, and a service until a
// life of it has lasted a minute.
import { EventEmitter, once } from 'node:events'
import Fastify from 'fastify'
import backgroundTasks, { GiveUp } from 'fastify-background-tasks'

const app = Fastify()
await app.register(backgroundTasks)

const broker = new EventEmitter()
const connected = once(broker, 'connected')
let lives = 0

app.addBackgroundTask('read-broker', { restart: { delay: '10ms' } }, async ({ task, signal }) => {
  console.log(`${task} begins its life ${++lives}`)
  if (lives < 3) throw new Error('the broker is away')
  broker.emit('connected')
  if (!signal.aborted) await once(signal, 'abort')
})

const faults = ['hangs', 'is busy', 'has closed the account']

const invoices = app.addBackgroundTask('send-invoices', {
  every: '1h',
  timeout: '50ms', // of one attempt
  retry: { limit: 5, delay: '10ms' },
  onGiveUp (error) { console.log(`call somebody: ${error.message}`) } // the default of a timed task is 'log', of a service 'close'
}, async ({ task, attempt, signal }) => {
  const fault = faults.shift()
  console.log(`${task}, attempt ${attempt}: the mail server ${fault ?? 'is well'}`)
  if (fault === 'hangs') {
    await once(signal, 'abort')
    throw signal.reason // an FST_BG_TIMEOUT
  }
  if (fault === 'is busy') throw new Error(`the mail server ${fault}`)
  if (fault !== undefined) throw new GiveUp(`the mail server ${fault}`) // another attempt is of no use
})

async function show (when: string): Promise<void> {
  const { status, tasks } = await app.backgroundTasks.health()
  console.log(`${when}: ${status} (${tasks.map(({ name, status, reason = 'well' }) => `${name} ${status}: ${reason}`).join('; ')})`)
}

await show('at first')
await app.ready()
await connected
for (const when of ['after a failure', 'after a success']) {
  const { outcome } = await invoices.trigger().finished
  console.log(`the run has ${outcome}`)
  await show(when)
}
await app.close()
console.log(`${invoices.stats.succeeded} run succeeded, ${invoices.stats.failed} failed`)

// Output:
// at first: ok (read-broker ok: well; send-invoices ok: well)
// read-broker begins its life 1
// read-broker begins its life 2
// read-broker begins its life 3
// send-invoices, attempt 1: the mail server hangs
// send-invoices, attempt 2: the mail server is busy
// send-invoices, attempt 3: the mail server has closed the account
// call somebody: the mail server has closed the account
// the run has failed
// after a failure: degraded (read-broker degraded: the last run failed; send-invoices degraded: the last run failed)
// send-invoices, attempt 1: the mail server is well
// the run has succeeded
// after a success: degraded (read-broker degraded: the last run failed; send-invoices ok: well)
// 1 run succeeded, 1 failed
