// Compile-only: the options of the dashboard.
import { expectTypeOf } from 'expect-type'
import Fastify, { type FastifyPluginAsync } from 'fastify'
import dashboard, { type Authorization, type Authorize, dashboard as named, type DashboardOptions } from '../../lib/dashboard/index.ts'

const app = Fastify()
expectTypeOf(dashboard).toEqualTypeOf<FastifyPluginAsync<DashboardOptions>>()
expectTypeOf(named).toEqualTypeOf(dashboard)
expectTypeOf<Authorization>().toEqualTypeOf<boolean | 'read' | 'full' | { access: 'read' | 'full', name: string }>()

await app.register(dashboard, { prefix: '/tasks', authorize: false })
await app.register(dashboard, { prefix: '/tasks', authorize: () => true })
await app.register(dashboard, { prefix: '/tasks', authorize: async ({ headers }) => headers.authorization === 'secret' ? 'full' : 'read' })
await app.register(dashboard, { authorize: request => ({ access: 'read', name: request.ip }), redact: (payload, task) => task === 'mails' ? undefined : payload })
// @ts-expect-error: it is closed by default
await app.register(dashboard, { prefix: '/tasks' })
// @ts-expect-error: only the literal false opens it
await app.register(dashboard, { authorize: true })
// @ts-expect-error: no such access
await app.register(dashboard, { authorize: () => 'admin' })
// @ts-expect-error: a visitor with an access has a name
await app.register(dashboard, { authorize: () => ({ access: 'full' }) })
// @ts-expect-error: a forgotten answer
await app.register(dashboard, { authorize: () => {} })

expectTypeOf<Authorize>().returns.toEqualTypeOf<Authorization | Promise<Authorization>>()
