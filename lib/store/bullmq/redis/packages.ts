import type * as Bullmq from 'bullmq'
import type { Redis } from 'ioredis'
import nodeModule from 'node:module'
import { invalid } from '../../../check.ts'
import { toError } from '../../../errors.ts'

// The optional packages. `bullmq()` loads them, and nothing else does.
//
// A bundler puts into its bundle what a call of `require` with a literal name needs, and it takes a package that is not there for an error of run
// time if the call is inside of a `try`. An `import` would be asynchronous, and fails the whole file where the package is missing. Without a
// bundler there is no `require` in an ES module: then, and where a bundler was told to leave the package out, Node's own loads it.

export type Engine = typeof Bullmq
interface IORedis { Redis: typeof Redis }
interface Manifest { version: string }

const MAJOR = 6

/**
 * What we use of BullMQ that its types hide, or that a later version may drop: by class, so that no connection is needed to look.
 * LeaseKeeper calls `moveStalledJobsToWait`, and JobReader replaces the other two.
 */
const needed = {
  Worker: ['createJob', 'moveStalledJobsToWait'],
  RedisQueueBackend: ['execCommand']
} as const

/** Throws `FST_BG_INVALID_OPTION` if BullMQ is not installed, or is a version that we cannot use. */
export function loadEngine (): Engine {
  const version = versionOfBullmq()
  if (parseInt(version, 10) < MAJOR) throw invalid(`bullmq() needs the package bullmq from version ${MAJOR} on; installed is ${version}. Run: npm install bullmq@latest`)
  const engine = loadBullmq()
  checkEngine(engine, version)
  return engine
}

export function loadIORedis (): typeof Redis {
  try {
    return (require('ioredis') as IORedis).Redis
  } catch (error) {
    return loadByNode<IORedis>('ioredis', error, 'npm install ioredis; or pass a client of the package redis as "connection".').Redis
  }
}

function loadBullmq (): Engine {
  try {
    return require('bullmq') as Engine
  } catch (error) {
    return loadByNode<Engine>('bullmq', error, 'npm install bullmq ioredis')
  }
}

/** `error` says why the bundle has none, `advice` what to run. */
function loadByNode<T> (name: string, error: unknown, advice: string): T {
  try {
    return nodeRequire(error)(name) as T
  } catch (cause) {
    const { code, message } = toError(cause) as Error & { code?: string }
    // The packages that it needs itself may be missing, too.
    const why = code === 'MODULE_NOT_FOUND' && !message.includes(`'${name}'`) ? `cannot be loaded (${message.split('\n')[0]})` : 'is not installed'
    throw invalid(`bullmq() needs the package ${name}, which ${why}. Run: ${advice}`, { cause })
  }
}

/** Node's `require` from this file. Throws `error` in a bundle in CommonJS, which has no address, and whose own `require` has just failed. */
function nodeRequire (error: unknown): NodeJS.Require {
  const { url } = import.meta as { url?: string }
  if (url === undefined) throw error
  // Not by its name, which the banner of many a bundle declares.
  return nodeModule.createRequire(url)
}

function checkEngine (engine: Engine, version: string): void {
  const classes = engine as unknown as Record<string, { prototype: Record<string, unknown> } | undefined>
  const missing = Object.entries(needed).flatMap(([name, methods]) => methods
    .filter(method => typeof classes[name]?.prototype[method] !== 'function')
    .map(method => `${name}.${method}`))
  if (missing.length === 0) return
  throw invalid(`bullmq() needs ${missing.join(' and ')} of BullMQ, which the installed version ${version} does not have. Run: npm install bullmq@${MAJOR}; or update fastify-background-tasks.`)
}

/** Only for what we say, and for versions that are known to be too old. */
function versionOfBullmq (): string {
  try {
    return (require('bullmq/package.json') as Manifest).version
  } catch (error) {
    try {
      return (nodeRequire(error)('bullmq/package.json') as Manifest).version
    } catch {
      return '(unknown)'
    }
  }
}
