import type { FastifyInstance, FastifyServerOptions, LightMyRequestResponse } from 'fastify'
import { dashboard, type DashboardOptions } from '../../lib/dashboard/index.ts'
import type { BackgroundTasksOptions } from '../../lib/index.ts'
import { build, type Line } from './helper.ts'

/** A route of the dashboard. */
export interface Route { method: 'GET' | 'POST', url: string }

/** An application with the dashboard under /tasks, its routes, and its log. */
export async function withDashboard (t: { teardown (callback: () => unknown): void }, options: Partial<DashboardOptions> & { prefix?: string } = {}, tasks: BackgroundTasksOptions = {}, server: FastifyServerOptions = {}): Promise<{ app: FastifyInstance, lines: Line[], routes: Route[] }> {
  const { app, lines } = await build(t, tasks, server)
  const routes: Route[] = []
  app.addHook('onRoute', ({ method, url }) => { if (method === 'GET' || method === 'POST') routes.push({ method, url } as Route) })
  await app.register(dashboard, { prefix: '/tasks', authorize: () => true, ...options })
  return { app, lines, routes }
}

/** Sends an action as the page does. */
export async function act (app: FastifyInstance, path: string, body: object | string = {}, headers: Record<string, string> = {}): Promise<LightMyRequestResponse> {
  return await app.inject({ method: 'POST', url: `/tasks/api/${path}`, headers: { 'content-type': 'application/json', ...headers }, payload: typeof body === 'string' ? body : JSON.stringify(body) })
}

/** The JSON of a GET, which must succeed. */
export async function read<T = any> (app: FastifyInstance, path: string): Promise<T> {
  const response = await app.inject(`/tasks/api/${path}`)
  if (response.statusCode !== 200) throw new Error(`${path} answered ${response.statusCode}: ${response.body}`)
  return response.json<T>()
}
