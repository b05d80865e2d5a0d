import nodeModule from 'node:module'
import type * as Pg from 'pg'
import type * as PgBossPackage from 'pg-boss'
import { invalid } from '../../../common/check.ts'
import { loadByNode, nodeRequire } from '../../engines/index.ts'

// The optional packages. `pgBoss()` loads them, and nothing else does. Each `require` is for bundlers: see engines/packages.ts. pg-boss is an ES module: `require` takes one from the
// version of Node on that pg-boss needs anyway.

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
    return loadByNode<Engine>('pgBoss()', 'pg-boss', error, 'npm install pg-boss')
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
      return loadByNode<typeof Pg>('pgBoss()', 'pg', error, 'npm install pg')
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
