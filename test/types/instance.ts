// Compile-only: `this` and `run.server` are the instance that `addBackgroundTask` is called on, whatever its types are.
import { expectTypeOf } from 'expect-type'
import Fastify, {
  type FastifyBaseLogger, type FastifyInstance, type FastifyPluginAsync, type FastifyTypeProvider, type RawServerDefault
} from 'fastify'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Http2SecureServer, Http2Server } from 'node:http2'
import type { Server as HttpsServer } from 'node:https'
import { pino, type Bindings, type Logger } from 'pino'
import backgroundTasks, { type BackgroundTask, type HostedServiceOptions, type Run, type TaskHandler } from '../../lib/index.ts'

interface Postbox { send (to: string, options: { signal: AbortSignal }): Promise<void> }

declare module 'fastify' {
  interface FastifyInstance {
    // A decorator as users type theirs. Optional, as the apps of other tests do not have it.
    typeTestPostbox?: Postbox
  }
}

/** The handlers of every instance below: contextual types come from the instance and from nothing else. */
const app = Fastify()
await app.register(backgroundTasks)
await app.register(backgroundTasks, { shutdownTimeout: '8s' })

// A plain instance.
const task = app.addBackgroundTask('plain', async function (run) {
  expectTypeOf(this).toEqualTypeOf<typeof app>()
  expectTypeOf(run).toEqualTypeOf<Run<undefined, typeof app>>()
  expectTypeOf(run.server).toEqualTypeOf<typeof app>()
  expectTypeOf(run.payload).toEqualTypeOf<undefined>()
  expectTypeOf(run.log).toEqualTypeOf<FastifyBaseLogger>()
  expectTypeOf(run.signal).toEqualTypeOf<AbortSignal>()
  expectTypeOf(run.id).toEqualTypeOf<string>()
  expectTypeOf(run.task).toEqualTypeOf<string>()
  expectTypeOf(run.attempt).toEqualTypeOf<number>()
  // Decorators, by declaration merging.
  await this.typeTestPostbox?.send('them', { signal: run.signal })
  await run.server.typeTestPostbox?.send('them', { signal: run.signal })
})
expectTypeOf(task).toEqualTypeOf<BackgroundTask>()

app.addBackgroundTask('with options', { grace: '1s' }, async function (run) {
  expectTypeOf(this).toEqualTypeOf<typeof app>()
  expectTypeOf(run).toEqualTypeOf<Run<undefined, typeof app>>()
})

app.addBackgroundTask('hosted', {
  startTimeout: '5s',
  async start (run) {
    expectTypeOf(this).toEqualTypeOf<typeof app>()
    expectTypeOf(run).toEqualTypeOf<Run<undefined, typeof app>>()
    await this.typeTestPostbox?.send('them', { signal: run.signal })
  },
  async stop (run) {
    expectTypeOf(this).toEqualTypeOf<typeof app>()
    expectTypeOf(run).toEqualTypeOf<Run<undefined, typeof app>>()
  }
})

// The type that a plugin's author writes.
export const plugin: FastifyPluginAsync = async child => {
  child.addBackgroundTask('in a plugin', async function (run) {
    expectTypeOf(this).toEqualTypeOf<FastifyInstance>()
    expectTypeOf(run.server).toEqualTypeOf<FastifyInstance>()
    await this.typeTestPostbox?.send('them', { signal: run.signal })
  })
}

// A child, in the callback of register().
await app.register(async child => {
  child.addBackgroundTask('in a child', async function (run) {
    expectTypeOf(this).toEqualTypeOf<typeof child>()
    expectTypeOf(run.server).toEqualTypeOf<typeof child>()
  })
})
void app.register((child, options, done) => {
  child.addBackgroundTask('in a callback', function (run) {
    expectTypeOf(this).toEqualTypeOf<typeof child>()
    expectTypeOf(run.server).toEqualTypeOf<typeof child>()
  })
  done()
})

// In a route: late, and on the route's instance.
app.get('/', async function (request) {
  this.addBackgroundTask('this of a route', async function ({ server }) {
    expectTypeOf(this).toExtend<FastifyInstance>()
    expectTypeOf(server).toExtend<FastifyInstance>()
  })
  request.server.addBackgroundTask('request.server', async function ({ server }) {
    expectTypeOf(this).toExtend<FastifyInstance>()
    expectTypeOf(server).toExtend<FastifyInstance>()
  })
})

// In hooks.
app.addHook('onReady', async function () {
  this.addBackgroundTask('in onReady', async function () { expectTypeOf(this).toExtend<FastifyInstance>() })
})

// An instance with a decorator of its own, typed by an intersection.
const decorated = app as typeof app & { clock: { now (): number } }
decorated.addBackgroundTask('decorated', async function ({ server }) {
  expectTypeOf(this.clock.now()).toEqualTypeOf<number>()
  expectTypeOf(server.clock.now()).toEqualTypeOf<number>()
})

// A type provider.
interface Provider extends FastifyTypeProvider { validator: this['schema'] }
const provided = app.withTypeProvider<Provider>()
await provided.register(backgroundTasks)
provided.addBackgroundTask('type provider', async function ({ server }) {
  expectTypeOf(this).toEqualTypeOf<typeof provided>()
  expectTypeOf(server).toEqualTypeOf<typeof provided>()
})

// http2 and https.
const http2 = Fastify({ http2: true })
await http2.register(backgroundTasks, { autostart: false })
http2.addBackgroundTask('http2', async function (run) {
  expectTypeOf(this).toEqualTypeOf<typeof http2>()
  expectTypeOf(this.server).toEqualTypeOf<Http2Server>()
  expectTypeOf(run.server.server).toEqualTypeOf<Http2Server>()
})
const http2Secure = Fastify({ http2: true, https: {} })
await http2Secure.register(backgroundTasks, { autostart: false })
http2Secure.addBackgroundTask('http2 over TLS', {}, async function (run) {
  expectTypeOf(this.server).toEqualTypeOf<Http2SecureServer>()
  expectTypeOf(run.server.server).toEqualTypeOf<Http2SecureServer>()
})
const https = Fastify({ https: {} })
await https.register(backgroundTasks, { autostart: false })
https.addBackgroundTask('https', {
  async start (run) {
    expectTypeOf(this.server).toEqualTypeOf<HttpsServer>()
    expectTypeOf(run.server.server).toEqualTypeOf<HttpsServer>()
  }
})

// A logger with more to it than Fastify asks for: `this.log` has its type, `run.log` what every logger has.
const withPino = Fastify({ loggerInstance: pino() })
await withPino.register(backgroundTasks, { shutdownTimeout: 1_000 })
withPino.addBackgroundTask('pino', async function ({ log, server }) {
  expectTypeOf(this.log).toEqualTypeOf<Logger<never>>()
  expectTypeOf(server.log.bindings()).toEqualTypeOf<Bindings>()
  expectTypeOf(log).toEqualTypeOf<FastifyBaseLogger>()
  log.info({ some: 'thing' }, 'message')
})
class HouseLogger implements FastifyBaseLogger {
  level = 'info'
  readonly house: string = 'ours'
  info (): void {}
  error (): void {}
  debug (): void {}
  fatal (): void {}
  warn (): void {}
  trace (): void {}
  silent (): void {}
  child (): this { return this }
}
const withHouseLogger = Fastify({ loggerInstance: new HouseLogger() })
await withHouseLogger.register(backgroundTasks, { onRun: async (run, next) => await next() })
withHouseLogger.addBackgroundTask('house logger', {
  start (run) {
    expectTypeOf(this.log.house).toBeString()
    expectTypeOf(run.server.log.house).toBeString()
  }
})

// Handlers by reference: written for any server, or for the instance that they are given to.
const consume: TaskHandler = async function ({ signal, server }) {
  await this.typeTestPostbox?.send(server.prefix, { signal })
}
async function watch ({ signal, log }: Run): Promise<void> {
  log.info({ aborted: signal.aborted }, 'watching')
}
async function typed (this: FastifyInstance, { server }: Run<undefined, FastifyInstance>): Promise<void> {
  expectTypeOf(server).toEqualTypeOf<FastifyInstance>()
}
for (const handler of [consume, watch, typed]) app.addBackgroundTask('by reference', handler)
app.addBackgroundTask('consume', consume)
app.addBackgroundTask('watch', watch)
app.addBackgroundTask('typed', { grace: 1 }, typed)
app.addBackgroundTask('hosted, by reference', { start: consume, stop: watch })
decorated.addBackgroundTask('decorated consume', consume)
provided.addBackgroundTask('provided consume', consume)
withPino.addBackgroundTask('pino consume', consume)
withPino.addBackgroundTask('pino watch', watch)
withHouseLogger.addBackgroundTask('house watch', { start: watch, stop: consume })
provided.addBackgroundTask('provided watch', {}, watch)
provided.addBackgroundTask('provided typed', { start: typed })

type House = FastifyInstance<RawServerDefault, IncomingMessage, ServerResponse, HouseLogger>
const house: TaskHandler<House> = async function ({ server }) {
  expectTypeOf(this.log.house).toBeString()
  expectTypeOf(server).toEqualTypeOf<House>()
}
async function secure ({ server }: Run<undefined, typeof http2Secure>): Promise<void> {
  expectTypeOf(server.server).toEqualTypeOf<Http2SecureServer>()
}
const housed: HostedServiceOptions<House> = {
  startTimeout: '1s',
  start () { expectTypeOf(this).toEqualTypeOf<House>() },
  stop: house
}
withHouseLogger.addBackgroundTask('house', house)
withHouseLogger.addBackgroundTask('house, hosted', housed)
http2Secure.addBackgroundTask('secure', {}, secure)
