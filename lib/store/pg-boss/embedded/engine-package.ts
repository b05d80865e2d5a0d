import { readFileSync } from 'node:fs'
import nodeModule from 'node:module'
import { dirname, join } from 'node:path'
import { invalid } from '../../../common/check.ts'

// The optional package @electric-sql/pglite. Only the thread loads it: here it is looked up.

const NAME = '@electric-sql/pglite'

/** The major of PostgreSQL in each version of PGlite that is known; a folder of another one cannot be opened. */
const majors: Record<string, string> = { 0.5: '18' }
/** The first version that works. */
const FIRST = 0.5

export interface EnginePackage {
  /** The file that the thread imports. */
  path: string
  /** The part of its version that decides about the form of its data, such as `0.5`. */
  series: string
  /** The major of PostgreSQL in it; undefined if it is later than this package. */
  major: string | undefined
}

/** Throws `FST_BG_INVALID_OPTION` if PGlite is not installed, or too old. */
export function findEngine (): EnginePackage {
  const path = find()
  const version = versionOf(path)
  const series = /^\d+\.\d+/.exec(version)?.[0] ?? version
  if (parseFloat(series) < FIRST) throw invalid(`pgBoss({ dataDir }) needs the package ${NAME} from version ${FIRST} on; installed is ${version}. Run: npm install ${NAME}@latest`)
  return { path, series, major: majors[series] }
}

function find (): string {
  try {
    return require.resolve('@electric-sql/pglite')
  } catch (error) {
    try {
      // An ES module has no `require`, and a bundle in CommonJS no address.
      const { url } = import.meta as { url?: string }
      if (url === undefined) throw error
      return nodeModule.createRequire(url).resolve(NAME)
    } catch (cause) {
      throw invalid(`pgBoss({ dataDir }) needs the package ${NAME}, which is not installed. Run: npm install ${NAME}`, { cause })
    }
  }
}

/** Its manifest is in the folder above that of its files; it exports neither that nor its version. */
function versionOf (path: string): string {
  for (let folder = dirname(path); folder !== dirname(folder); folder = dirname(folder)) {
    try {
      const { name, version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { name?: string, version?: string }
      if (name === NAME && version !== undefined) return version
    } catch {
      // A folder without a manifest.
    }
  }
  return '(unknown)'
}
