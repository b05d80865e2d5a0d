// Work that computes runs in a thread, so that the event loop of the server stays free. `worker()` is a handler like any: the run in the thread has its
// signal, its log and its progress, and a timeout ends even an endless loop.
import { EventEmitter, once } from 'node:events'
import Fastify from 'fastify'
import backgroundTasks from 'fastify-background-tasks'
import { worker } from 'fastify-background-tasks/worker'

// What the module logs goes through the logger of the server.
const logged = new EventEmitter()
const app = Fastify({ logger: { stream: { write: line => { logged.emit(JSON.parse(line).msg) } } } })
logged.on('hashing 300000 rounds', () => { console.log('the thread hashes') })
await app.register(backgroundTasks)

const hash = new URL('./hash.js', import.meta.url)
const hashes = app.addBackgroundQueue('hashes', { timeout: '1m' }, worker<{ rounds: number }>(hash))
const stuck = app.addBackgroundTask('stuck', { every: '1h', timeout: '100ms' }, worker(new URL('#forever', hash), { killAfter: '50ms' }))
app.get('/', async () => 'the server answers')
await app.ready()

await hashes.enqueue({ rounds: 300_000 })
// While a thread computes, the loop turns.
console.log((await app.inject('/')).body)
await hashes.drain()
console.log(hashes.lastRun?.outcome)

const { outcome, error } = await stuck.trigger().finished
console.log(outcome, (error as Error).message)

const begun = once(logged, 'hashing 1000000000 rounds')
const { id } = await hashes.enqueue({ rounds: 1_000_000_000 })
const ended = hashes.finished(id)
await begun
// The loop in the thread hears of it.
await hashes.cancel(id)
console.log((await ended).outcome)

await app.close()

// Output:
// the server answers
// the thread hashes
// succeeded
// failed Background task "stuck" did not end within 100ms.
// cancelled
