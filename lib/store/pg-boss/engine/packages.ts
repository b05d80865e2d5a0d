import nodeModule from 'node:module'
import type * as Pg from 'pg'
import type * as PgBossPackage from 'pg-boss'
import { invalid } from '../../../check.ts'
import { toError } from '../../../errors.ts'

// The optional packages. `pgBoss()` loads them, and nothing else does.
//
// As in bullmq(): a bundler takes a call of `require` with a literal name into its bundle, and forgives a missing package only inside of a `try`. Without a bundler there
// is no `require` in an ES module, and Node's own loads the package. pg-boss is an ES module: `require` takes one from the version of Node on that pg-boss needs anyway.

export type Engine = typeof PgBossPackage
interface Manifest { version: string, engines?: { node?: string } }

const MAJOR = 12
/** What pg-boss 12 says of Node, if it cannot be asked. */
const NODE = '22.12.0'

/** Throws `FST_BG_INVALID_OPTION` if pg-boss is not installed, is too old, or needs a newer Node than this one. */
export function loadEngine (): Engine {
  const manifest = manifestOf()
  const floor = /\d+(\.\d+)*/.exec(manifest?.engines?.node ?? '')?.[0] ?? NODE
  if (manifest !== undefined && parseInt(manifest.version, 10) < MAJOR) {
    throw invalid(`pgBoss() needs the package pg-boss from version ${MAJOR} on; installed is ${manifest.version}. Run: npm install pg-boss@${MAJOR}`)
  }
  if (isOlder(process.versions.node, floor)) {
    throw invalid(`pgBoss() needs Node ${floor} or later, as pg-boss does; this is Node ${process.versions.node}. Run a newer Node, or use bullmq() or the store in memory.`)
  }
  try {
    return require('pg-boss') as Engine
  } catch (error) {
    return loadByNode<Engine>('pg-boss', error, 'npm install pg-boss')
  }
}

/** The client of PostgreSQL that pg-boss brings along. */
export function loadPg (): typeof Pg {
  try {
    return require('pg') as typeof Pg
  } catch (error) {
    try {
      const require = nodeRequire(error)
      // It need not stand where this file could see it: it is a dependency of pg-boss.
      return nodeModule.createRequire(require.resolve('pg-boss'))('pg') as typeof Pg
    } catch {
      return loadByNode<typeof Pg>('pg', error, 'npm install pg')
    }
  }
}

/** Whether a version, such as that of Node, is below another one. */
export function isOlder (version: string, floor: string): boolean {
  const parts = (text: string): number[] => text.split('.').map(part => parseInt(part, 10))
  const [own, least] = [parts(version), parts(floor)]
  for (const [i, part] of least.entries()) {
    const difference = (own[i] ?? 0) - part
    if (difference !== 0) return difference < 0
  }
  return false
}

function manifestOf (): Manifest | undefined {
  try {
    return require('pg-boss/package.json') as Manifest
  } catch (error) {
    try {
      return nodeRequire(error)('pg-boss/package.json') as Manifest
    } catch {
      return undefined
    }
  }
}

/** `error` says why the bundle has none, `advice` what to run. */
function loadByNode<T> (name: string, error: unknown, advice: string): T {
  try {
    return nodeRequire(error)(name) as T
  } catch (cause) {
    const { code, message } = toError(cause) as Error & { code?: string }
    const why = code === 'MODULE_NOT_FOUND' && !message.includes(`'${name}'`) ? `cannot be loaded (${message.split('\n')[0]})` : 'is not installed'
    throw invalid(`pgBoss() needs the package ${name}, which ${why}. Run: ${advice}`, { cause })
  }
}

/** Node's `require` from this file. Throws `error` in a bundle in CommonJS, which has no address, and whose own `require` has just failed. */
function nodeRequire (error: unknown): NodeJS.Require {
  const { url } = import.meta as { url?: string }
  if (url === undefined) throw error
  return nodeModule.createRequire(url)
}
