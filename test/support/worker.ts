import type { FastifyInstance } from 'fastify'
import type { RunResult } from '../../lib/index.ts'
import { worker, type WorkerHandler, type WorkerOptions } from '../../lib/worker/index.ts'

/** The build of test/fixtures/worker/jobs.ts: a thread of its own would strip its types anew each time. */
const built = new URL('../../dist/test/fixtures/worker/', import.meta.url)

/** A worker that calls an export of jobs.ts. */
export function job (name = '', options: WorkerOptions = {}): WorkerHandler<any> {
  return worker(new URL(`jobs.js${name === '' ? '' : `#${name}`}`, built), options)
}

/** A module of the fixtures. */
export function moduleOf (name: string): URL {
  return new URL(name, built)
}

/** Runs a handler once, as a task of that name. */
export async function once (app: FastifyInstance, name: string, handler: WorkerHandler<any>, options: object = {}): Promise<RunResult> {
  return await app.addBackgroundTask(name, { every: '1h', ...options }, handler).trigger().finished
}
