import type * as Bullmq from 'bullmq'
import type { Redis } from 'ioredis'
import { invalid } from '../../../common/check.ts'
import { loadByNode, nodeRequire } from '../../engines/index.ts'

// The optional packages. `bullmq()` loads them, and nothing else does. Each `require` is for bundlers: see engines/packages.ts.

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
    return loadByNode<IORedis>('bullmq()', 'ioredis', error, 'npm install ioredis; or pass a client of the package redis as "connection".').Redis
  }
}

function loadBullmq (): Engine {
  try {
    return require('bullmq') as Engine
  } catch (error) {
    return loadByNode<Engine>('bullmq()', 'bullmq', error, 'npm install bullmq ioredis')
  }
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
