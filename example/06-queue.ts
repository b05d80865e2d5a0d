// A queue is a function that is fed: `enqueue` adds a payload and resolves once it is accepted, and the handler is called with each. What is no
// payload is refused at once, a run that fails is tried again, and one that has failed for good is kept, to be looked at and run again.
import Fastify from 'fastify'
import backgroundTasks, { GiveUp, type Run } from 'fastify-background-tasks'

interface Mail { to: string }

const app = Fastify()
await app.register(backgroundTasks)

const faults = ['is busy', undefined, 'has closed the account']

const mails = app.addBackgroundQueue('mails', {
  schema: { payload: { type: 'object', required: ['to'], properties: { to: { type: 'string', minLength: 3 } } } },
  concurrency: 1, // the default: one after another. More, and this many run beside one another
  retry: { limit: 3, delay: '20ms' }
}, async ({ payload, attempt }: Run<Mail>) => {
  const fault = faults.shift()
  console.log(`to ${payload.to}, attempt ${attempt}: ${fault === undefined ? 'sent' : `the mail server ${fault}`}`)
  if (fault === 'is busy') throw new Error(`the mail server ${fault}`)
  if (fault !== undefined) throw new GiveUp(`the mail server ${fault}`) // another attempt is of no use
})

app.post<{ Params: Mail }>('/mails/:to', async (request, reply) => {
  // At most one mail to the same address waits, or is being sent.
  const enqueued = await mails.enqueue({ to: request.params.to }, { key: request.params.to })
  return await reply.code(202).send(enqueued)
})

for (const to of ['ada', 'bob', 'ada']) {
  const response = await app.inject({ method: 'POST', url: `/mails/${to}` })
  const { duplicate } = response.json<{ id: string, duplicate: boolean }>()
  console.log(`${to}: ${response.statusCode}, ${duplicate ? 'one waits already' : 'accepted'}`)
}

await mails.enqueue({ to: '?' }).catch(error => { console.log(error.message) })

await mails.drain()
console.log(await mails.counts())
const { runs: [failed] } = await mails.list({ state: 'failed' })
if (failed !== undefined) {
  console.log(failed.payload, `has failed: ${failed.error?.message}`)
  await mails.retry(failed.id)
}

// What was accepted is finished first: the app closes when the mail has been sent.
await app.close()
console.log(`the app is closed: ${mails.stats.succeeded} succeeded`)

// Output:
// ada: 202, accepted
// bob: 202, accepted
// ada: 202, one waits already
// The payload for background queue "mails" does not match its schema: payload/to must NOT have fewer than 3 characters.
// to ada, attempt 1: the mail server is busy
// to bob, attempt 1: sent
// to ada, attempt 2: the mail server has closed the account
// { waiting: 0, delayed: 0, active: 0, succeeded: 1, failed: 1 }
// { to: 'ada' } has failed: the mail server has closed the account
// to ada, attempt 3: sent
// the app is closed: 2 succeeded
